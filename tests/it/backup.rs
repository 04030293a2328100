//! Backup, restore, upgrade: what was acknowledged is there again, and what is wrong with a file is told.

mod changes;
mod interrupted;
mod refusals;
mod restore;
mod upgrade;

use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::{Http, Server, aws, run, sha256};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// `berth ARGS`, without a server.
pub(crate) fn berth<'a>(server: &Server, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(server.berth([]).get_program());
    command.args(args);
    command
}

/// A manifest of an empty configuration that differs by `note`.
pub(crate) fn manifest(note: &str) -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:{}","size":2}},"layers":[],"annotations":{{"note":"{note}"}}}}"#,
        sha256(b"{}")
    )
    .into_bytes()
}

/// Puts a manifest; true when it was acknowledged.
pub(crate) fn put(http: &Http, repository: &str, tag: &str, manifest: &[u8]) -> bool {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let answer = http.try_send("PUT", &path, &[("content-type", OCI_MANIFEST)], manifest);
    answer.is_ok_and(|answer| answer.status == 201)
}

/// The recovery key of a server, in a file beside nothing else.
pub(crate) fn recovery_key(server: &Server, dir: &Path) -> PathBuf {
    let path = dir.join("recovery.txt");
    run(server.berth(["key", "export"]).arg("--output").arg(&path));
    path
}

/// What `/readyz` tells the operator.
pub(crate) fn problems(server: &Server) -> Vec<String> {
    let answer = server.anonymous().get("/readyz").json();
    let found = answer["problems"].as_array().cloned().unwrap_or_default();
    found.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// Number of running tasks of a service.
pub(crate) fn running(server: &Server, service: &str) -> i64 {
    let described = aws(server, ["ecs", "describe-services", "--services", service]).unwrap();
    described["services"][0]["runningCount"].as_i64().unwrap()
}
