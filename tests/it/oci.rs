//! The OCI protocol item by item, where naive servers go wrong, over the real server.
//!
//! The conformance program covers the common paths; here stands what it leaves out: error codes, headers, limits,
//! pagination, namespaces, fallback tags, and what stays of a session after an error.

use serde_json::{Value, json};
use test_support::{Http, Server, sha256};

mod artifacts;
mod blobs;
mod lists;
mod manifests;
mod sessions;
mod wire;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const ABSENT: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// An image of a configuration alone; `more` are members beside.
fn image(http: &Http, repository: &str, config: &[u8], more: Value) -> Value {
    let digest = http.push_blob(repository, config);
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": CONFIG, "digest": digest, "size": config.len()},
    });
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest
}

/// Pushes a manifest by its digest; gives its descriptor.
fn push(http: &Http, repository: &str, manifest: &Value) -> Value {
    let (bytes, media_type) = (manifest.to_string(), manifest["mediaType"].as_str().unwrap());
    let digest = digest_of(bytes.as_bytes());
    let path = format!("/v2/{repository}/manifests/{digest}");
    let answer = http.put(&path, &[("content-type", media_type)], bytes.as_bytes());
    assert_eq!(answer.status, 201, "{answer:?}");
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// Pushes a manifest under a tag; gives its descriptor.
fn tag(http: &Http, repository: &str, tag: &str, manifest: &Value) -> Value {
    let (bytes, media_type) = (manifest.to_string(), manifest["mediaType"].as_str().unwrap());
    let path = format!("/v2/{repository}/manifests/{tag}");
    let answer = http.put(&path, &[("content-type", media_type)], bytes.as_bytes());
    assert_eq!(answer.status, 201, "{answer:?}");
    json!({"mediaType": media_type, "digest": digest_of(bytes.as_bytes()), "size": bytes.len()})
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap()
}

fn server() -> (Server, Http) {
    let server = Server::start();
    let http = server.http();
    (server, http)
}
