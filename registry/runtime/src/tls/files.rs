//! A certificate that somebody else renews: two files, or three, that change under a running server.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::{Certificate, TlsError, provider};

/// Where certificate, key and CA lie.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The server's certificate and what leads from it to a CA, in PEM.
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// The CA that clients are to trust; without it, a root at the end of the chain, or none.
    pub(super) ca: Option<PathBuf>,
}

/// What the files hold.
pub(super) struct Loaded {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) certificate: Certificate,
    pub(super) ca: Option<Certificate>,
}

/// What of a file changes when it is written or replaced: device, inode, length, seconds, nanoseconds.
pub(super) type Stamp = (u64, u64, u64, i64, i64);

impl Files {
    /// Looks at the files without reading them; a missing one has no stamp.
    pub(super) fn stamps(&self) -> Vec<Option<Stamp>> {
        let paths = [Some(&self.certificate), Some(&self.key), self.ca.as_ref()];
        let stamp = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
        };
        paths.into_iter().flatten().map(stamp).collect()
    }

    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let chain = Certificate::all_from_file(&self.certificate)?;
        let key = private_key(&self.key)?;
        let ders = chain.iter().map(|one| one.der().clone()).collect();
        let certified = CertifiedKey::from_der(ders, key, &provider()).map_err(|error| {
            let problem = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("is not the key of the certificate in {}", self.certificate.display())
                }
                other => format!("cannot be used: {other}"),
            };
            TlsError::File { path: self.key.clone(), problem }
        })?;
        let root = || chain.last().filter(|last| last.is_self_signed()).cloned();
        let ca = match &self.ca {
            Some(path) => Certificate::all_from_file(path)?.into_iter().next(),
            None => root(),
        };
        let certificate = chain.into_iter().next().expect("a list of certificates is never empty");
        Ok(Loaded { certified: Arc::new(certified), certificate, ca })
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = std::fs::read(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })?;
    let pem = zeroize::Zeroizing::new(pem);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::File {
        path: path.to_owned(),
        problem: "holds no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned(),
    })
}
