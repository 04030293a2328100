//! A release as its users get it: the binary on a Debian 12 with nothing but the Docker Engine, and the image.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use test_support::{Engine, Http, eventually_within, run};

/// What deploy/release.sh made: the newest binary and the name of the image.
struct Release {
    binary: PathBuf,
    image: String,
}

impl Release {
    fn make() -> Self {
        Engine::shared();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        run(&mut Command::new(root.join("deploy/release.sh")));
        let dist = root.join("dist");
        run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&dist));
        let version = env!("CARGO_PKG_VERSION");
        let binary = dist.join(format!("berth-{version}-linux-{}", std::env::consts::ARCH));
        assert!(run(Command::new(&binary).arg("--version")).contains(version));
        Self { binary, image: format!("berth:{version}") }
    }
}

/// The root of a Debian 12 on which docker.io was installed, and what that brings along.
struct Debian(TempDir);

impl Debian {
    fn install() -> Self {
        let dir = tempfile::Builder::new().prefix("debian").tempdir().unwrap();
        let root = dir.path();
        run(Command::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(root));
        let _ = std::fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf"));
        let install = "apt-get install -y -qq --no-install-recommends docker.io >/tmp/apt.log 2>&1";
        let mut chroot = Command::new("chroot");
        run(chroot.arg(root).args(["sh", "-c", install]).env("DEBIAN_FRONTEND", "noninteractive"));
        Self(dir)
    }

    /// Runs a script in namespaces of its own, with an engine beside it; everything ends with the script.
    fn run(&self, script: &str) -> String {
        let inside = format!(
            "dockerd --iptables=false >/var/log/dockerd.log 2>&1 &\n\
             for attempt in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.1; done\n\
             docker version >/dev/null || {{ tail /var/log/dockerd.log; exit 1; }}\n{script}"
        );
        std::fs::write(self.0.path().join("script"), inside).unwrap();
        let outside = "ip link set lo up && mount --make-rprivate / && cd \"$1\" && \
                       mount --rbind /sys sys && mount --rbind /dev dev && mount -t proc proc proc && \
                       mount -t tmpfs tmpfs run && exec chroot . sh -e /script";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", outside, "sh"]);
        command
            .arg(self.0.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root");
        run(&mut command)
    }
}

#[test]
#[ignore = "long: builds a release, and installs a Debian to start it on"]
fn a_release_starts_on_a_bare_debian_and_as_an_image() {
    let release = Release::make();
    let debian = Debian::install();
    std::fs::copy(&release.binary, debian.0.path().join("usr/local/bin/berth")).unwrap();
    // The binary knows no other way to ask than its own commands: there is no curl on this machine.
    let printed = debian.run(
        "berth up >/var/log/berth.log 2>&1 &\n\
         for attempt in $(seq 600); do\n\
             berth instance list 2>/dev/null | grep -q connected && exec berth instance list\n\
             sleep 0.1\n\
         done\n\
         cat /var/log/berth.log; exit 1",
    );
    assert!(printed.contains("ACTIVE") && printed.contains("connected"), "{printed}");

    let engine = Engine::shared();
    let container = Container(run(engine.docker().args([
        "run",
        "--detach",
        "--network=host",
        "--env",
        "BERTH_LISTEN=127.0.0.1:5997",
        &release.image,
    ])));
    let http = Http::new("http://127.0.0.1:5997");
    eventually_within(Duration::from_secs(60), "the image answers /readyz", || {
        (http.try_get("/readyz")?.status == 200).then_some(())
    });
    // Other machines are served over TLS, without a setting.
    let published = Container(run(engine.docker().args([
        "run",
        "--detach",
        "--publish",
        "127.0.0.1::5000",
        &release.image,
    ])));
    let port = run(engine.docker().args(["port", &published.0, "5000"]));
    eventually_within(Duration::from_secs(60), "the image answers over TLS", || {
        let mut curl = Command::new("curl");
        curl.args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", &format!("https://{port}/readyz")]);
        (test_support::try_run(&mut curl).ok()? == "200").then_some(())
    });
    drop((container, published));
}

/// A container that goes with its test.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        run(Engine::shared().docker().args(["rm", "--force", "--volumes", &self.0]));
    }
}
