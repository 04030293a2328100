//! A server on a machine of its own, reached through a network by others.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use test_support::{Http, Namespace, Process, binary, eventually_within, run};

/// A server that listens for other machines.
pub(super) struct Site {
    data: TempDir,
    process: Process,
    pub(super) host: String,
    pub(super) access_key_id: String,
    pub(super) secret: String,
}

impl Site {
    /// `berth serve` on every address of `machine`, with further lines of configuration.
    pub(super) fn start(machine: &Namespace, listen: &str, config: &str) -> Self {
        let data = tempfile::Builder::new().prefix("site").tempdir().unwrap();
        let file = data.path().join("test.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = machine.command(binary());
        command.args(["serve", "--listen", listen, "--data"]).arg(data.path()).arg("--config").arg(file);
        let mut process = Process::start(&mut command, &data.path().join("server.log"));
        let endpoint = eventually_within(Duration::from_secs(20), "the server answers", || {
            assert!(process.exited().is_none(), "the server ended:\n{}", process.log());
            let endpoint = std::fs::read_to_string(data.path().join("endpoint")).ok()?;
            let answer = machine.within(|| Http::new(&endpoint).try_get("/readyz"))?;
            (answer.status == 200).then_some(endpoint)
        });
        assert!(
            endpoint.starts_with("http://127.0.0.1:"),
            "what stays on the machine is in clear: {endpoint}"
        );
        let credentials = std::fs::read_to_string(data.path().join("credentials")).unwrap();
        let field = |name: &str| {
            let line = credentials.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_once('=').unwrap().1.trim().to_owned()
        };
        let (access_key_id, secret) = (field("aws_access_key_id"), field("aws_secret_access_key"));
        Self { data, process, host: machine.address().to_string(), access_key_id, secret }
    }

    pub(super) fn data(&self) -> &Path {
        self.data.path()
    }

    /// The line that the server prints for other machines, without the program's name.
    pub(super) fn trust_line(&self) -> Vec<String> {
        let log = self.process.log();
        let (_, line) = log.split_once("after: berth ").expect("the server says how it is trusted");
        line.split_whitespace().take(4).map(str::to_owned).collect()
    }

    pub(super) fn log(&self) -> String {
        self.process.log()
    }

    /// `aws ARGS` on `machine` against this server by https, with the CA that `berth trust` left there.
    pub(super) fn aws(&self, machine: &Namespace, args: &[&str]) -> String {
        let mut command = machine.command("aws");
        run(self
            .credentials(&mut command)
            .env("AWS_ENDPOINT_URL", format!("https://{}", self.host))
            .env("AWS_CA_BUNDLE", format!("/etc/berth/trust/{}.pem", self.host))
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .args(args))
    }

    /// Gives a command the administrator's key, and no configuration of this machine's user.
    pub(super) fn credentials<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("AWS_ACCESS_KEY_ID", &self.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
    }
}

/// What `berth trust` wrote, taken away again however the test ends.
pub(super) struct Trusted<'a> {
    pub(super) machine: &'a Namespace,
    pub(super) host: String,
}

impl Drop for Trusted<'_> {
    fn drop(&mut self) {
        let _ = self.machine.command(binary()).args(["trust", &self.host, "--remove"]).output();
    }
}
