//! The servers that are compared: Berth, and others that are named by path.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use test_support::{Process, Server, eventually};

use crate::client::Connection;

/// One running server with data of its own.
pub(crate) struct Peer {
    name: String,
    authority: String,
    running: Running,
}

enum Running {
    Berth(Box<std::cell::RefCell<Server>>),
    Other { process: Process, _data: TempDir },
}

impl Peer {
    pub(crate) fn berth() -> Self {
        let server = Server::start();
        let authority = server.authority().to_owned();
        Self { name: "berth".to_owned(), authority, running: Running::Berth(Box::new(server.into())) }
    }

    /// distribution in any version: Debian's docker-registry 2.8, or the upstream binary.
    pub(crate) fn distribution(name: &str, path: &str) -> Self {
        Self::start(name, path, "config.yml", &["serve"], |data, port| {
            format!(
                "version: 0.1\nlog:\n  accesslog:\n    disabled: true\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n  cache:\n    blobdescriptor: inmemory\nhttp:\n  addr: 127.0.0.1:{port}\n",
                data.display()
            )
        })
    }

    pub(crate) fn zot(path: &str) -> Self {
        Self::start("zot", path, "config.json", &["serve"], |data, port| {
            format!(
                r#"{{"distSpecVersion":"1.1.0","storage":{{"rootDirectory":"{}","gc":false}},"http":{{"address":"127.0.0.1","port":"{port}"}},"log":{{"level":"error"}}}}"#,
                data.display()
            )
        })
    }

    fn start(
        name: &str,
        path: &str,
        file: &str,
        arguments: &[&str],
        config: impl Fn(&Path, u16) -> String,
    ) -> Self {
        assert!(Path::new(path).exists(), "{path} is missing; deploy/test.sh installs docker-registry");
        let data = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = data.path().join(file);
        std::fs::write(&file, config(&data.path().join("data"), port)).unwrap();
        let process = Process::start(Command::new(path).args(arguments).arg(&file), &data.path().join("log"));
        let authority = format!("127.0.0.1:{port}");
        eventually(name, || TcpStream::connect(&authority).ok());
        Self { name: name.to_owned(), authority, running: Running::Other { process, _data: data } }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A new connection, for Berth with a fresh Bearer token for everything the benchmark does.
    pub(crate) fn connect(&self) -> Connection {
        let authorization = match &self.running {
            Running::Berth(server) => {
                let scopes = "scope=repository:bench/app:pull,push&scope=repository:bench/tags:pull,push";
                let answer = server.borrow().http().get(&format!("/token?service=berth&{scopes}"));
                Some(format!("Bearer {}", answer.json()["token"].as_str().unwrap()))
            }
            Running::Other { .. } => None,
        };
        Connection::open(&self.authority, authorization)
    }

    pub(crate) fn cpu(&self) -> Duration {
        match &self.running {
            Running::Berth(server) => server.borrow_mut().process().cpu(),
            Running::Other { process, .. } => process.cpu(),
        }
    }

    /// Resident memory in KiB: now, and the highest so far.
    pub(crate) fn memory_kib(&self) -> (u64, u64) {
        match &self.running {
            Running::Berth(server) => server.borrow_mut().process().memory_kib(),
            Running::Other { process, .. } => process.memory_kib(),
        }
    }
}
