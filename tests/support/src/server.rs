//! Server and agent processes of the real binary.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use crate::command::{run, run_with_input};
use crate::engine::Engine;
use crate::http::Http;
use crate::process::Process;
use crate::wait::eventually_within;

/// The binary under test stands beside the folder of the test's own binary.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join("berth");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

/// How a server is to be started.
pub struct ServerBuilder {
    command: &'static str,
    listen: String,
    config: String,
    environment: Vec<(String, String)>,
    data: TempDir,
}

impl ServerBuilder {
    /// Adds lines to the configuration file.
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another address to listen on than a free port of 127.0.0.1.
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// `berth up` instead of `berth serve`, with the agent on `engine`.
    pub fn with_agent(mut self, engine: &Engine) -> Self {
        self.command = "up";
        if let Some(host) = engine.host() {
            self = self.env("BERTH_DOCKER_HOST", host);
        }
        self
    }

    /// The data directory, to be filled before the first start.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    pub fn start(self) -> Server {
        let mut server = Server {
            builder: self,
            process: None,
            endpoint: String::new(),
            access_key_id: String::new(),
            secret: String::new(),
        };
        server.launch();
        server
    }
}

/// A running `berth serve` or `berth up` on loopback, with a data directory of its own.
pub struct Server {
    /// Dropped first: it shows its log, which lies in the data directory.
    process: Option<Process>,
    builder: ServerBuilder,
    endpoint: String,
    access_key_id: String,
    secret: String,
}

impl Server {
    /// `berth serve` with the default configuration.
    pub fn start() -> Self {
        Self::builder().start()
    }

    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            command: "serve",
            listen: "127.0.0.1:0".to_owned(),
            config: String::new(),
            environment: Vec::new(),
            data: tempfile::Builder::new().prefix("berth").tempdir().unwrap(),
        }
    }

    fn launch(&mut self) {
        let data = self.builder.data.path();
        let config = data.join("test.toml");
        std::fs::write(&config, &self.builder.config).unwrap();
        let _ = std::fs::remove_file(data.join("endpoint"));
        let mut command = Command::new(binary());
        command.arg(self.builder.command).arg("--data").arg(data).args(["--listen", &self.builder.listen]);
        command
            .arg("--config")
            .arg(&config)
            .envs(self.builder.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(&mut command, &self.log_path());
        self.endpoint = eventually_within(Duration::from_secs(60), "the server answers /readyz", || {
            if let Some(status) = process.exited() {
                panic!("the server ended with {status}:\n{}", process.log());
            }
            let endpoint = std::fs::read_to_string(data.join("endpoint")).ok()?;
            let ready = std::panic::catch_unwind(|| Http::new(&endpoint).get("/readyz").status == 200);
            ready.is_ok_and(|ready| ready).then_some(endpoint)
        });
        self.process = Some(process);
        let credentials = std::fs::read_to_string(data.join("credentials")).unwrap_or_default();
        let field = |name: &str| {
            let line = credentials.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once('=').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        self.access_key_id = field("aws_access_key_id");
        self.secret = field("aws_secret_access_key");
        // A restarted server must be found where its agents and clients look for it.
        self.builder.listen = self.authority().to_owned();
    }

    fn log_path(&self) -> PathBuf {
        self.builder.data.path().join("server.log")
    }

    /// What the process printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// SIGTERM; the exit status.
    pub fn stop(&mut self) -> ExitStatus {
        let status = self.process().terminate();
        self.process = None;
        status
    }

    /// Starts the server again on the same data and port.
    pub fn start_again(&mut self) {
        self.launch();
    }

    pub fn data(&self) -> &Path {
        self.builder.data.path()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `127.0.0.1:PORT`, as it stands in image names.
    pub fn authority(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    pub fn port(&self) -> u16 {
        self.authority().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// An HTTP client without credentials.
    pub fn anonymous(&self) -> Http {
        Http::new(&self.endpoint)
    }

    /// An HTTP client with the administrator's access key by Basic.
    pub fn http(&self) -> Http {
        self.anonymous().basic(&self.access_key_id, &self.secret)
    }

    /// The AWS CLI pointed at this server, as its administrator.
    pub fn aws_command(&self) -> Command {
        self.aws_command_as(&self.access_key_id, &self.secret)
    }

    /// The AWS CLI pointed at this server with other credentials.
    pub fn aws_command_as(&self, access_key_id: &str, secret: &str) -> Command {
        let mut command = Command::new("aws");
        command
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .args(["--output", "json"]);
        command
    }

    /// `berth ARGS --data DIR` against this server.
    pub fn berth<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(binary());
        command.args(args).arg("--data").arg(self.data());
        // Whom the shell of whoever runs the tests speaks to is nobody else's business.
        for name in
            ["ENDPOINT_URL", "PROFILE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "CA_BUNDLE"]
        {
            command.env_remove(format!("AWS_{name}"));
        }
        command
    }

    /// Logs `docker` in and gives back a command that keeps the login to itself.
    pub fn docker(&self, engine: &Engine) -> Command {
        self.docker_as(engine, &self.access_key_id, &self.secret)
    }

    /// Like [`Server::docker`] with other credentials.
    pub fn docker_as(&self, engine: &Engine, user: &str, password: &str) -> Command {
        let config = self.data().join(format!("docker-{user}"));
        let mut login = engine.docker();
        login.arg("--config").arg(&config).args([
            "login",
            "--username",
            user,
            "--password-stdin",
            self.authority(),
        ]);
        run_with_input(&mut login, password.as_bytes());
        let mut command = engine.docker();
        command.arg("--config").arg(&config);
        command
    }

    /// `127.0.0.1:PORT/NAME`.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.authority())
    }

    /// Joins a host: an agent process on `engine` in the cluster `default`.
    pub fn join(&self, engine: &Engine) -> Agent {
        self.join_with(engine, "")
    }

    /// Like [`Server::join`] with lines of the section `[agent]` in the host's configuration.
    pub fn join_with(&self, engine: &Engine, settings: &str) -> Agent {
        let printed = run(&mut self.berth(["cluster", "join-token", "default", "--output", "json"]));
        let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let token = printed["token"].as_str().expect("the join token").to_owned();
        let data = tempfile::Builder::new().prefix("agent").tempdir().unwrap();
        std::fs::write(data.path().join("agent.toml"), format!("[agent]\n{settings}\n")).unwrap();
        let mut agent = Agent { data, docker_host: engine.host().map(str::to_owned), process: None };
        agent.start(&["--server", &self.endpoint, "--join", &token]);
        agent
    }
}

/// A running `berth agent`.
pub struct Agent {
    process: Option<Process>,
    data: TempDir,
    docker_host: Option<String>,
}

impl Agent {
    fn start(&mut self, args: &[&str]) {
        let mut command = Command::new(binary());
        command.arg("agent").arg("--data").arg(self.data.path()).args(args);
        command.arg("--config").arg(self.data.path().join("agent.toml"));
        if let Some(host) = &self.docker_host {
            command.env("BERTH_DOCKER_HOST", host);
        }
        self.process = Some(Process::start(&mut command, &self.data.path().join("agent.log")));
    }

    pub fn data(&self) -> &Path {
        self.data.path()
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Starts the agent again; it keeps its identity, so it needs no token.
    pub fn start_again(&mut self) {
        self.start(&[]);
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("agent.log")).unwrap_or_default()
    }
}
