//! Docker Engines: the machine's own, and private ones that stand for several hosts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::command::{run, try_run};
use crate::network::{Namespace, in_namespace};
use crate::process::Process;
use crate::wait::eventually_within;

/// A Docker Engine that answers.
pub struct Engine {
    host: Option<String>,
    private: Option<Private>,
}

/// What a private engine has to be cleaned of.
struct Private {
    daemon: Option<Process>,
    bridge: String,
    dir: TempDir,
    /// Where it runs when that is not the machine itself.
    network: Option<PathBuf>,
}

impl Engine {
    /// The machine's engine; started by hand, and left running, where none answers.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Engine> = OnceLock::new();
        SHARED.get_or_init(|| {
            let engine = Self { host: None, private: None };
            if try_run(engine.docker().arg("version")).is_err() {
                run(Command::new("sh")
                    .args(["-c", "setsid nohup dockerd >/var/log/dockerd.log 2>&1 </dev/null &"]));
                engine.wait_until_it_answers();
            }
            engine
        })
    }

    /// An engine of its own: data, socket and bridge apart from every other, gone on drop.
    pub fn start() -> Self {
        Self::start_on(None)
    }

    /// The same on a machine of a network of its own.
    pub fn start_in(namespace: &Namespace) -> Self {
        Self::start_on(Some(namespace.path()))
    }

    fn start_on(network: Option<PathBuf>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() * 16 + NEXT.fetch_add(1, Ordering::Relaxed)) % 60_000;
        let bridge = format!("bt{number}");
        let ip = |args: &[&str]| run(within(network.as_deref(), "ip").args(args));
        // A bridge without an address of its own takes one of its ports', and another when that container ends:
        // the others then cannot reach it until they forget the old one.
        let hardware = format!("02:42:0a:{:02x}:{:02x}:01", number >> 8 & 0xff, number & 0xff);
        ip(&["link", "add", "name", &bridge, "address", &hardware, "type", "bridge"]);
        let address = format!("10.{}.{}.1/24", 130 + number / 256 % 100, number % 256);
        ip(&["addr", "add", &address, "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        let dir = tempfile::Builder::new().prefix("engine").tempdir().unwrap();
        let host = format!("unix://{}", dir.path().join("docker.sock").display());
        let mut engine =
            Self { host: Some(host), private: Some(Private { daemon: None, bridge, dir, network }) };
        engine.start_daemon();
        engine
    }

    fn start_daemon(&mut self) {
        let host = self.host.clone().expect("a private engine has a socket of its own");
        let private = self.private.as_mut().expect("only private engines are started here");
        let path = private.dir.path();
        let mut command = within(private.network.as_deref(), "dockerd");
        command
            .arg("--data-root")
            .arg(path.join("data"))
            .arg("--exec-root")
            .arg(path.join("exec"))
            .arg("--pidfile")
            .arg(path.join("docker.pid"))
            .args(["-H", &host, "--bridge", &private.bridge, "--iptables=false", "--ip-masq=false"]);
        private.daemon = Some(Process::start(&mut command, &path.join("dockerd.log")));
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        eventually_within(Duration::from_secs(60), "the Docker Engine answers", || {
            try_run(self.docker().arg("version")).ok()
        });
    }

    /// SIGKILL for the daemon (its containers die with it or not, as live-restore says), then a new one.
    pub fn restart(&mut self) {
        if let Some(daemon) = self.private.as_mut().and_then(|private| private.daemon.as_mut()) {
            daemon.terminate();
        }
        self.start_daemon();
    }

    /// The value of `DOCKER_HOST` for this engine; `None` for the machine's own.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// A `docker` command against this engine with a configuration folder of its own.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    /// Builds an image from nothing but the static busybox; its files are /bin/busybox and `extra`.
    pub fn build_busybox(&self, name: &str, extra: &[(&str, &[u8])]) {
        let context = tempfile::tempdir().unwrap();
        busybox_context(context.path(), extra);
        run(self.docker().args(["build", "--quiet", "--tag", name]).arg(context.path()));
    }

    /// Ids of the containers that run and bear `label`.
    pub fn containers(&self, label: &str) -> Vec<String> {
        let output =
            run(self.docker().args(["ps", "--no-trunc", "--quiet", "--filter", &format!("label={label}")]));
        output.lines().map(str::to_owned).collect()
    }

    /// One field of `docker inspect`, by Go template.
    pub fn inspect(&self, id: &str, template: &str) -> String {
        run(self.docker().args(["inspect", "--format", template, id]))
    }
}

/// A program on the machine itself, or in a network namespace.
fn within(network: Option<&Path>, program: &str) -> Command {
    match network {
        None => Command::new(program),
        Some(path) => in_namespace(path, program),
    }
}

/// Writes a Dockerfile with busybox as its only program into `context`.
fn busybox_context(context: &Path, extra: &[(&str, &[u8])]) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists());
    let busybox = busybox.expect("the static busybox is installed (apt-get install busybox-static)");
    std::fs::copy(busybox, context.join("busybox")).unwrap();
    let mut dockerfile = String::from("FROM scratch\nCOPY busybox /bin/busybox\n");
    for (index, (path, bytes)) in extra.iter().enumerate() {
        std::fs::write(context.join(format!("file{index}")), bytes).unwrap();
        dockerfile.push_str(&format!("COPY file{index} {path}\n"));
    }
    dockerfile.push_str("ENTRYPOINT [\"/bin/busybox\"]\nCMD [\"sleep\", \"1000000\"]\n");
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.private.is_none() {
            return;
        }
        let _ = try_run(
            Command::new("sh")
                .args(["-c", "docker ps -aq | xargs -r docker rm -f -v"])
                .env("DOCKER_HOST", self.host.as_deref().unwrap_or_default()),
        );
        let Some(private) = self.private.as_mut() else { return };
        if let Some(daemon) = private.daemon.as_mut() {
            daemon.terminate();
        }
        let _ = try_run(within(private.network.as_deref(), "ip").args(["link", "del", &private.bridge]));
        // The engine leaves mounts of its exec root behind when it is stopped by force.
        let _ = try_run(Command::new("sh").args([
            "-c",
            "grep -o \" $0[^ ]*\" /proc/mounts | sort -r | xargs -r umount -l",
            &private.dir.path().display().to_string(),
        ]));
    }
}
