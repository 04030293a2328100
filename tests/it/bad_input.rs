//! Malformed and hostile requests get the protocol's own error, and change nothing.
//!
//! One file for each door that they come through; the inputs are those that broke other registries. Which old
//! mistake is tested where:
//!
//! | mistake | tests |
//! |---|---|
//! | traversal, NUL, line ends, endless names and tags | `names`, and the routes' own tests in `registry` |
//! | the hash of one algorithm under the name of another | `http::oci` in `registry` |
//! | traversal in an upload's id; somebody else's session; two writers of one; gaps, overlaps and lies about lengths | `uploads`, `oracle`, `oci::sessions` |
//! | traversal and confusion of algorithms in digests; other content than the digest says | `names`, `content`, `manifests`, `at_rest` |
//! | page sizes without bound, injection through cursors and filters, a catalog for strangers | `listings`, `memory` |
//! | manifests: size, depth, double keys, two types at once, lying types and sizes, endless lists, cycles | `manifests`, `memory`, `oci::manifests` |
//! | layers of other hosts (`urls`) | `oci::manifests`; nothing in the server ever opens a URL of a manifest |
//! | mounts without the right to read; answers that tell what exists; other tenants' blobs; links that are gone | `oracle`, `content`, `oci::sessions` |
//! | tags that may not move; deletes without the right | `ecr`, `ecr::registry`, `gate` |
//! | groups, keys and policies that were taken away | `revoked`, `policies` |
//! | tokens: `alg`, keys from the header, audiences, bombs, scopes of other repositories | `tokens` |
//! | unknown members, roles smuggled in, input of the wrong kind | `operations`, `policies` |
//! | every route and operation refuses strangers and the powerless | `gate` |
//! | unknown users told from wrong secrets; secrets in logs and answers | `oracle`, `secrets` |
//! | no default password | `server` |
//! | `Host` and forwarded headers that claim; headers of other servers | `wire` |
//! | two lengths, a length beside chunks, odd codings and chunks | `wire`, and `framing` in `registry-runtime` |
//! | floods of HTTP/2; heads of a mebibyte and of ten thousand fields | `wire` |
//! | slow heads and bodies, idle crowds, clients that ask too often | `slow`, `limits` |
//! | clients that take nothing, or open no window | `listener` in `registry-runtime` |
//! | what was pushed, taken for a page | `http::oci` in `registry` |
//! | thousands of ranges, ranges past the end | `content` |
//! | compressed bodies | `uploads` |
//! | policies without end, exponential patterns | `policies` |
//! | signatures: expired, replayed, of another service, both forms at once | `signatures` |

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
