//! A throw-away PostgreSQL of Debian's package, with databases for tests.
//!
//! It runs as the user `postgres` (the server refuses root) and ends with the process that asked for it, however
//! that ends. Its language orders text otherwise than by bytes, so that nothing relies on the order of bytes by
//! accident.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::geteuid;

use crate::command::{run, try_run};
use crate::wait::eventually_within;

/// Runs the server until its input ends, which it does with the process that holds the other end, or until it is
/// told to stop; then the data stay.
const KEEPER: &str = r#"
"$0" "$@" >>"$FOLDER/log" 2>&1 </dev/null &
server=$!
read -r order
kill -QUIT $server
wait $server
[ "$order" = stop ] || rm -rf "$FOLDER"
"#;

/// A running server.
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    /// A shell that stops the server and removes its folder when its input ends.
    keeper: Option<Child>,
    databases: AtomicU32,
}

impl Postgres {
    /// The one server that all tests of this process share. It syncs nothing.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED
            .get_or_init(|| Postgres::start(&["fsync=off", "synchronous_commit=off", "full_page_writes=off"]))
    }

    /// A server of its own, with settings such as `ssl=on`, on a socket in its folder and a port of 127.0.0.1.
    pub fn start(settings: &[&str]) -> Postgres {
        let mut server = Postgres::made(settings);
        server.start_again();
        server
    }

    /// A server of its own with this certificate and key (PEM), which refuses connections over a network that are
    /// not over TLS.
    pub fn start_over_tls(certificate: &str, key: &str) -> Postgres {
        let mut server = Postgres::made(&["ssl=on", "fsync=off"]);
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        for (name, text) in [("server.crt", certificate), ("server.key", key), ("pg_hba.conf", rules)] {
            let path = server.folder.join("data").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            give_to_postgres(&path);
        }
        server.start_again();
        server
    }

    fn made(settings: &[&str]) -> Postgres {
        let folder = tempfile::Builder::new().prefix("postgres").tempdir().unwrap().keep();
        give_to_postgres(&folder);
        let data = folder.join("data");
        run(as_postgres(&program("initdb")).arg("-D").arg(&data).args([
            "--auth=trust",
            "--username=postgres",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--locale-provider=icu",
            "--icu-locale=en-US",
        ]));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Postgres { folder, port, settings, keeper: None, databases: AtomicU32::new(0) }
    }

    /// The address of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The address of a database, over the socket.
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{folder}:{}/{database}", self.port)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder that the server runs in; its data lie in `data`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `sql` gives, columns divided by `|`, a line for each row.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        run(&mut self.psql_command(database, sql))
    }

    fn psql_command(&self, database: &str, sql: &str) -> Command {
        let mut command = Command::new(program("psql"));
        command.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"]);
        command.arg(&self.folder).args(["-p", &self.port.to_string(), "-d", database, "-c", sql]);
        command
    }

    /// Ends the server and all its connections at once, as a crash would. The data stay.
    pub fn stop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            keeper.stdin.take().unwrap().write_all(b"stop\n").unwrap();
            keeper.wait().unwrap();
        }
    }

    /// Starts it again on the same data, socket and port.
    pub fn start_again(&mut self) {
        let mut command = as_postgres(Path::new("sh"));
        command.args(["-c", KEEPER]).arg(program("postgres")).arg("-D");
        command.arg(self.folder.join("data")).arg("-k").arg(&self.folder);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-c", "max_connections=200"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.env("FOLDER", &self.folder).current_dir(&self.folder);
        // Of its own group, so that an interrupt at the terminal does not reach it before its clients.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.keeper = Some(command.spawn().unwrap());
        eventually_within(Duration::from_secs(30), "PostgreSQL answers", || {
            try_run(&mut self.psql_command("postgres", "SELECT 1")).ok()
        });
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Where a test's database is, that lives in `folder` as far as the test can see: a SQLite file, or with
/// `BERTH_TEST_DATABASE=postgres` in the environment a database of the shared PostgreSQL, the same for the same
/// folder.
pub fn database_in(folder: &Path) -> String {
    if !use_postgres() {
        return folder.join("berth.db").to_str().expect("a path in UTF-8").to_owned();
    }
    let note = folder.join("database");
    if let Ok(url) = std::fs::read_to_string(&note) {
        return url;
    }
    let url = Postgres::shared().database();
    std::fs::write(note, &url).unwrap();
    url
}

/// Whether tests that would do with either engine are to use PostgreSQL.
pub(crate) fn use_postgres() -> bool {
    std::env::var("BERTH_TEST_DATABASE").is_ok_and(|engine| engine == "postgres")
}

/// The server does not run as root.
fn give_to_postgres(path: &Path) {
    if geteuid().is_root() {
        let user = |what| run(Command::new("id").args([what, "postgres"])).parse().unwrap();
        chown(path, Some(user("-u")), Some(user("-g"))).unwrap();
    }
}

/// Debian keeps the server's programs off the PATH.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).max();
    found.unwrap_or_else(|| PathBuf::from(name))
}

fn as_postgres(program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
    command
}
