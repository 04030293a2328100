//! TLS: the certificate that a server shows, and whom its clients trust.
//!
//! rustls with `ring` throughout. Invariant: nothing here ever accepts a certificate unseen but
//! [`fetch_ca`], which carries no secret and whose result is worth nothing until its fingerprint was checked.

mod authority;
mod certificate;
mod checked;
mod client;
mod fetch;
mod files;
mod names;
mod server;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use certificate::{Certificate, Fingerprint, FingerprintError};
pub use checked::{CheckedConnector, is_public};
pub use client::{Connecting, ConnectionError, Connector, Stream, Trust};
pub use fetch::{CA_PATH, fetch_ca};
pub use names::{CertificateName, CertificateNames, own_addresses};
pub use server::{ServerCertificate, Source};

/// Why TLS cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{} cannot be read or written", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file holds something else than it should.
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    /// What a server sent is no certificate of a CA.
    #[error("{0}")]
    Fetched(String),
    #[error("a certificate cannot be made")]
    Issue(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("'{0}' is neither a host name nor an address")]
    Name(String),
    #[error("this machine has no trusted certificates: install the package ca-certificates")]
    NoRoots,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
