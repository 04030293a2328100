//! An S3 service on this machine, with one bucket.

use std::process::Command;

use test_support::{Process, eventually, go_tool, run};

/// A bucket `bucket` of a real S3 server over a folder.
pub(crate) struct Bucket {
    process: Process,
    pub(crate) folder: tempfile::TempDir,
    port: u16,
}

impl Bucket {
    /// Serves for as long as this lives.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(go_tool("versitygw"));
        command.args(["--quiet", "--access", "test", "--secret", "CANARY-s3-secret-41", "--port"]);
        command.arg(format!("127.0.0.1:{port}")).arg("--access-log").arg(folder.path().join("access.log"));
        command.arg("posix").arg(folder.path());
        let process = Process::start(&mut command, &folder.path().join("log"));
        eventually("versitygw listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { process, folder, port }
    }

    /// Lines of the configuration for this service.
    pub(crate) fn config(&self) -> String {
        format!(
            "[s3]\nendpoint = \"http://127.0.0.1:{}\"\npath_style = true\naccess_key_id = \"test\"\n\
             secret_access_key = \"CANARY-s3-secret-41\"",
            self.port
        )
    }

    /// Ends the service; what the bucket holds stays.
    pub(crate) fn stop(&mut self) {
        self.process.kill();
    }

    pub(crate) fn signal(&self, signal: &str) {
        run(Command::new("kill").args([signal, &self.process.id().to_string()]));
    }
}
