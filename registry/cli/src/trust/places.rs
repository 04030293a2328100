//! Where the programs of a machine look for a registry's CA, and what Berth has put there.
//!
//! Every file bears a mark in its first line. Invariant: a file without the mark is somebody else's, and is
//! neither replaced nor removed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use registry_runtime::tls::{Certificate, Trust};
use registry_runtime::{durable, home_dir};

const MARK: &str = "# Written by `berth trust";

/// The folders of one user, or of all.
pub(crate) struct Places {
    docker: PathBuf,
    containers: PathBuf,
    bundles: PathBuf,
    for_everybody: bool,
}

impl Places {
    /// Everybody's for root, else this user's own.
    pub(crate) fn of_this_user() -> Option<Self> {
        if registry_runtime::is_root() {
            return Some(Self::of_everybody(Path::new("/etc")));
        }
        let config = home_dir()?.join(".config");
        Some(Self {
            docker: config.join("docker/certs.d"),
            containers: config.join("containers/certs.d"),
            bundles: config.join("berth/trust"),
            for_everybody: false,
        })
    }

    fn of_everybody(etc: &Path) -> Self {
        Self {
            docker: etc.join("docker/certs.d"),
            containers: etc.join("containers/certs.d"),
            bundles: etc.join("berth/trust"),
            for_everybody: true,
        }
    }

    pub(crate) fn for_everybody(&self) -> bool {
        self.for_everybody
    }

    /// The CA followed by what this machine trusts anyway: `AWS_CA_BUNDLE` stands in for all of that.
    pub(crate) fn bundle(&self, host: &str) -> PathBuf {
        self.bundles.join(format!("{}.pem", names(host)[0]))
    }

    /// The CA that was installed for the server at `https://HOST[:PORT]`.
    pub(crate) fn ca_of(&self, url: &str) -> Option<Certificate> {
        let host = url.strip_prefix("https://")?.trim_end_matches('/');
        let mut found =
            Certificate::all_from_file(&self.containers.join(&names(host)[0]).join("ca.crt")).ok()?;
        Some(found.swap_remove(0))
    }

    fn files(&self, host: &str) -> Vec<(PathBuf, &'static str)> {
        let mut files = Vec::new();
        for name in names(host) {
            files.push((self.docker.join(&name).join("ca.crt"), "docker"));
            files.push((self.containers.join(&name).join("ca.crt"), "podman, buildah, skopeo and berth"));
        }
        files.push((self.bundle(host), "AWS tools"));
        files
    }

    /// Writes every file; tells which, and for whom.
    pub(crate) fn install(&self, host: &str, ca: &Certificate) -> Result<Vec<(PathBuf, &'static str)>> {
        let files = self.files(host);
        if let Some((path, _)) = files.iter().find(|(path, _)| path.exists() && !is_ours(path)) {
            bail!(
                "{} exists, and `berth trust` did not write it: move it away first; nothing was written",
                path.display()
            );
        }
        let bundle = self.bundle(host);
        for (path, _) in &files {
            let mut text = format!("{MARK} {host}`: CA {}\n{}", ca.fingerprint(), ca.pem());
            if *path == bundle {
                text.extend(Trust::system_certificates().iter().map(Certificate::pem));
            }
            let folder = path.parent().context("a file in a folder")?;
            let written = durable::create_directory(folder, 0o755)
                .and_then(|()| durable::write_file_atomically(path, text.as_bytes(), 0o644));
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(files)
    }

    /// Removes what [`Self::install`] wrote; tells what that was.
    pub(crate) fn remove(&self, host: &str) -> Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        for (path, _) in self.files(host) {
            if !is_ours(&path) {
                continue;
            }
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            // Only a folder that is empty goes: others may keep client certificates there.
            if let Some(folder) = path.parent() {
                let _ = std::fs::remove_dir(folder);
            }
            removed.push(path);
        }
        Ok(removed)
    }
}

fn is_ours(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(MARK.as_bytes()))
}

/// The names under which clients look a server up: with port 443 both with and without it.
fn names(host: &str) -> Vec<String> {
    let port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    match port {
        Some((bare, "443")) => vec![bare.to_owned(), host.to_owned()],
        Some(_) => vec![host.to_owned()],
        None => vec![host.to_owned(), format!("{host}:443")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = include_str!("testdata/ca.pem");

    #[test]
    fn what_was_written_is_read_and_taken_away_again() {
        let etc = tempfile::tempdir().unwrap();
        let places = Places::of_everybody(etc.path());
        let ca = Certificate::all_from_pem(PEM.as_bytes()).unwrap().swap_remove(0);
        for host in ["registry.example:5000", "registry.example", "[2001:db8::1]:5000"] {
            let written = places.install(host, &ca).unwrap();
            assert_eq!(places.ca_of(&format!("https://{host}")).as_ref(), Some(&ca), "{host}");
            // Again, as after a new CA.
            assert_eq!(places.install(host, &ca).unwrap(), written);
            let removed = places.remove(host).unwrap();
            assert_eq!(removed, written.into_iter().map(|(path, _)| path).collect::<Vec<_>>());
            assert_eq!(places.ca_of(&format!("https://{host}")), None);
            assert_eq!(places.remove(host).unwrap(), Vec::<PathBuf>::new());
        }
        assert!(etc.path().join("docker/certs.d").read_dir().unwrap().next().is_none());
    }

    #[test]
    fn the_files_of_others_stay() {
        let etc = tempfile::tempdir().unwrap();
        let places = Places::of_everybody(etc.path());
        let ca = Certificate::all_from_pem(PEM.as_bytes()).unwrap().swap_remove(0);
        let foreign = etc.path().join("docker/certs.d/a:1/ca.crt");
        std::fs::create_dir_all(foreign.parent().unwrap()).unwrap();
        std::fs::write(&foreign, PEM).unwrap();
        let error = places.install("a:1", &ca).unwrap_err().to_string();
        assert!(error.contains("did not write it"), "{error}");
        assert!(!etc.path().join("containers").exists(), "nothing was written");
        assert!(places.remove("a:1").unwrap().is_empty() && foreign.exists());
    }

    #[test]
    fn port_443_has_two_names() {
        assert_eq!(names("a"), ["a", "a:443"]);
        assert_eq!(names("a:443"), ["a", "a:443"]);
        assert_eq!(names("a:5000"), ["a:5000"]);
    }
}
