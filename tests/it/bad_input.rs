//! Malformed and hostile requests get the protocol's own error, and change nothing.
//!
//! One file for each door that they come through; the inputs are those that broke other registries.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use test_support::Server;

mod content;
mod listings;
mod manifests;
mod memory;
mod names;
mod operations;
mod oracle;
mod policies;
mod revoked;
mod secrets;
mod signatures;
mod slow;
mod tokens;
mod uploads;
mod wire;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MISSING: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// Sends bytes as they are and reads what comes back until the server closes or `wait` is over.
fn raw(server: &Server, request: &[u8], wait: Duration) -> String {
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    stream.set_read_timeout(Some(wait)).unwrap();
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn authorization(server: &Server) -> String {
    server.http().authorization().unwrap().to_owned()
}
