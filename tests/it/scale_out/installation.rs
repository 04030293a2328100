//! Servers of one installation, and a load balancer before them that knows nothing of sessions.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;
use test_support::{Engine, Http, Postgres, Server, ServerBuilder, run_with_input};

use crate::bucket::Bucket;
use crate::signed::Signer;

pub(super) const ACCESS_KEY_ID: &str = "BERTHADMIN0000001";
pub(super) const SECRET: &str = "a-secret-of-forty-characters-for-testing";

/// What the servers of an installation share.
pub(super) struct Installation {
    shared: TempDir,
    database: String,
    /// The service, where the content lies in a bucket rather than in a shared folder.
    bucket: Option<String>,
}

impl Installation {
    pub(super) fn new() -> Self {
        Self::on(Postgres::shared())
    }

    pub(super) fn on(postgres: &Postgres) -> Self {
        let shared = tempfile::Builder::new().prefix("shared").tempdir().unwrap();
        Self { shared, database: postgres.database(), bucket: None }
    }

    /// With the content in a bucket.
    pub(super) fn over(bucket: &Bucket) -> Self {
        Self { bucket: Some(bucket.config()), ..Self::new() }
    }

    /// With a database at this address.
    pub(super) fn at(database: String) -> Self {
        Self { database, ..Self::new() }
    }

    pub(super) fn keys(&self) -> std::path::PathBuf {
        self.shared.path().join("keys")
    }

    pub(super) fn content(&self) -> std::path::PathBuf {
        self.shared.path().join("content")
    }

    /// The name of the database on its server.
    pub(super) fn database(&self) -> &str {
        self.database.rsplit('/').next().unwrap()
    }

    /// One more server, not started.
    pub(super) fn builder(&self) -> ServerBuilder {
        self.builder_with_keys(&self.keys())
    }

    pub(super) fn builder_with_keys(&self, keys: &Path) -> ServerBuilder {
        let replicas = match self.bucket {
            Some(_) => "replicas = [\"s3://bucket\"]".to_owned(),
            None => format!("shared_filesystem = true\nreplicas = [{:?}]", self.content()),
        };
        let builder = Server::builder()
            .config(&format!("database = {:?}", self.database))
            .config(&replicas)
            .config(&format!("key_dir = {keys:?}"))
            .config("shutdown_grace = 1")
            .env("BERTH_BOOTSTRAP_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("BERTH_BOOTSTRAP_SECRET_ACCESS_KEY", SECRET);
        match &self.bucket {
            Some(service) => builder.config(service),
            None => builder,
        }
    }

    /// Starts `count` servers, all for the first time and at once.
    pub(super) fn start(&self, count: usize) -> Vec<Server> {
        let starting: Vec<_> = (0..count)
            .map(|_| {
                let builder = self.builder();
                thread::spawn(move || builder.start())
            })
            .collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    }
}

/// The administrator of the installation on one of its servers.
pub(super) fn admin(server: &Server) -> Http {
    server.anonymous().basic(ACCESS_KEY_ID, SECRET)
}

/// The administrator on one of the servers, signing what it sends.
pub(super) fn signer(server: &Server) -> Signer {
    Signer::new(server.endpoint(), Some((ACCESS_KEY_ID, SECRET)))
}

/// Puts the administrator's key where commands on the server's machine look for it: only the server that made the
/// account has done so.
pub(super) fn keep_credentials(server: &Server) {
    let text = format!("[default]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(server.data().join("credentials"), text).unwrap();
}

/// `aws ARGS` as the administrator; the JSON it prints (null for nothing), or what it printed when it failed.
pub(super) fn aws(server: &Server, args: &[&str]) -> Result<serde_json::Value, String> {
    let output = test_support::try_run(server.aws_command_as(ACCESS_KEY_ID, SECRET).args(args))?;
    Ok(if output.is_empty() { serde_json::Value::Null } else { serde_json::from_str(&output).unwrap() })
}

/// Sends every request to the next server in turn.
pub(super) struct RoundRobin {
    authority: String,
    requests: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl RoundRobin {
    pub(super) fn before(servers: &[Server]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let servers: Vec<String> = servers.iter().map(|server| server.authority().to_owned()).collect();
        let (requests, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, over) = (Arc::clone(&requests), Arc::clone(&ended));
        thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (servers, counted) = (servers.clone(), Arc::clone(&counted));
                thread::spawn(move || pass_on(client.unwrap(), &servers, &counted));
            }
        });
        Self { authority, requests, ended }
    }

    /// `127.0.0.1:PORT`.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn http(&self) -> Http {
        Http::new(&format!("http://{}", self.authority)).basic(ACCESS_KEY_ID, SECRET)
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// `docker`, logged in as the administrator, its configuration in `folder`.
    pub(super) fn docker(&self, engine: &Engine, folder: &Path) -> Command {
        let mut login = engine.docker();
        login.arg("--config").arg(folder);
        login.args(["login", "--username", ACCESS_KEY_ID, "--password-stdin", &self.authority]);
        run_with_input(&mut login, SECRET.as_bytes());
        let mut command = engine.docker();
        command.arg("--config").arg(folder);
        command
    }
}

impl Drop for RoundRobin {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(&self.authority));
    }
}

/// One request and its answer; the connection ends with it, so that the next request meets another server.
fn pass_on(mut client: TcpStream, servers: &[String], counted: &AtomicUsize) {
    let Some((head, rest)) = read_head(&mut client) else { return };
    let number = counted.fetch_add(1, Ordering::Relaxed);
    let mut server = TcpStream::connect(&servers[number % servers.len()]).unwrap();
    let mut lines = head.split("\r\n");
    let mut sent = format!("{}\r\nConnection: close\r\n", lines.next().unwrap());
    for line in lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:")) {
        sent.push_str(line);
        sent.push_str("\r\n");
    }
    sent.push_str("\r\n");
    let (mut to_server, mut from_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    if to_server.write_all(sent.as_bytes()).and_then(|()| to_server.write_all(&rest)).is_err() {
        return;
    }
    let sending = thread::spawn(move || drop(std::io::copy(&mut from_client, &mut to_server)));
    drop(std::io::copy(&mut server, &mut client));
    for stream in [&client, &server] {
        drop(stream.shutdown(Shutdown::Both));
    }
    sending.join().unwrap();
}

/// The head of a request without its empty line, and what came after it.
fn read_head(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let mut buffer = [0; 16384];
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            read.truncate(end);
            return Some((String::from_utf8(read).unwrap(), rest));
        }
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&buffer[..count]);
    }
}

/// The answer to an IAM request that must succeed.
pub(super) fn iam(administrator: &Signer, form: &str) -> String {
    let answer = administrator.query("iam", "2010-05-08", form);
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{form}: {body}");
    body
}

/// What the first element of a name holds.
pub(super) fn between<'a>(text: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).unwrap().0
}
