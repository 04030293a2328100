//! The certificate that a listener shows: of a CA of its own, or of files; renewed while it serves.
//!
//! Every handshake takes the certificate of that moment; connections that stand keep theirs, so that a change
//! ends no request. Invariant: a certificate is replaced only by one that can be used.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::authority::Authority;
use super::certificate::date;
use super::files::{Files, Stamp};
use super::{Certificate, CertificateName, CertificateNames, TlsError, provider};
use crate::{Clock, Sealer};

/// A certificate of our own is renewed when this much of its 90 days is left.
const RENEW_BEFORE_SECONDS: i64 = 30 * 24 * 3600;
/// From here on the log says that somebody has to renew.
const WARN_BEFORE_SECONDS: i64 = 7 * 24 * 3600;

/// Where the certificate comes from.
pub enum Source<'a> {
    /// A CA of its own in `dir`, its key sealed.
    Own { dir: &'a Path, sealer: &'a Sealer, names: CertificateNames },
    /// PEM files; `ca` is what clients are told to trust.
    Files { certificate: PathBuf, key: PathBuf, ca: Option<PathBuf> },
}

/// The certificate of a server. Clones are one.
#[derive(Clone)]
pub struct ServerCertificate(Arc<Inner>);

struct Inner {
    origin: Origin,
    clock: Clock,
    current: Arc<Current>,
    watched: Mutex<Watched>,
    problem: RwLock<Option<String>>,
}

enum Origin {
    Own { authority: Box<Authority>, names: CertificateNames },
    Files(Files),
}

/// What the last look found.
#[derive(Default)]
struct Watched {
    names: BTreeSet<CertificateName>,
    stamps: Vec<Option<Stamp>>,
    /// Changed files that could not be used when they were seen first: they may have been half written.
    doubtful: bool,
    warned: bool,
}

/// What handshakes take.
#[derive(Debug)]
struct Current(RwLock<Shown>);

#[derive(Debug, Clone)]
struct Shown {
    certified: Arc<CertifiedKey>,
    certificate: Certificate,
    ca: Option<Certificate>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().certified))
    }
}

impl ServerCertificate {
    /// Loads or makes the certificate. One that has lapsed is taken, for there is no other: [`Self::problem`] says so.
    pub fn open(source: Source<'_>, clock: Clock) -> Result<Self, TlsError> {
        let mut watched = Watched::default();
        let now = now_s(&clock);
        let (origin, shown) = match source {
            Source::Own { dir, sealer, names } => {
                let authority = Box::new(Authority::open(dir, sealer, now)?);
                watched.names = names.now();
                let (certified, certificate) = authority.issue(&watched.names, now)?;
                let ca = Some(authority.certificate.clone());
                (Origin::Own { authority, names }, Shown { certified, certificate, ca })
            }
            Source::Files { certificate, key, ca } => {
                let files = Files { certificate, key, ca };
                watched.stamps = files.stamps();
                let loaded = files.load()?;
                let shown =
                    Shown { certified: loaded.certified, certificate: loaded.certificate, ca: loaded.ca };
                (Origin::Files(files), shown)
            }
        };
        let opened = Self(Arc::new(Inner {
            origin,
            clock,
            current: Arc::new(Current(RwLock::new(shown))),
            watched: Mutex::new(watched),
            problem: RwLock::new(None),
        }));
        opened.0.look_at_age(&mut opened.0.watched.lock());
        Ok(opened)
    }

    /// For handshakes: HTTP/2 and HTTP/1.1, TLS 1.2 and 1.3.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Issue(error.into()))?;
        let resolver: Arc<Current> = Arc::clone(&self.0.current);
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The CA that clients are to trust; `None` when it is one that they trust anyway, or are told of by others.
    pub fn ca(&self) -> Option<Certificate> {
        self.0.current.0.read().ca.clone()
    }

    /// The certificate that is shown now.
    pub fn certificate(&self) -> Certificate {
        self.0.current.0.read().certificate.clone()
    }

    /// What is wrong with the certificate or its successor, for whoever runs the server.
    pub fn problem(&self) -> Option<String> {
        self.0.problem.read().clone()
    }

    /// One look: renews what is due, loads what has changed. Blocks for as long as reading a few small files takes.
    pub fn refresh(&self) {
        let inner = &self.0;
        let mut watched = inner.watched.lock();
        match &inner.origin {
            Origin::Own { authority, names } => inner.renew(authority, names, &mut watched),
            Origin::Files(files) => inner.reload(files, &mut watched),
        }
        inner.look_at_age(&mut watched);
    }
}

impl Inner {
    fn renew(&self, authority: &Authority, names: &CertificateNames, watched: &mut Watched) {
        let (now, wanted) = (now_s(&self.clock), names.now());
        let end = self.current.0.read().certificate.not_after();
        // At the end of the CA's own life no certificate can live longer.
        let due = end - now < RENEW_BEFORE_SECONDS && end < authority.certificate.not_after();
        // Names that went (an interface that is down) do no harm.
        if !due && wanted.is_subset(&watched.names) {
            return;
        }
        match authority.issue(&wanted, now) {
            Ok((certified, certificate)) => {
                tracing::info!(
                    certificate.not_after = date(certificate.not_after()),
                    "the server's certificate was renewed"
                );
                watched.names = wanted;
                let mut shown = self.current.0.write();
                shown.certified = certified;
                shown.certificate = certificate;
                *self.problem.write() = None;
            }
            Err(error) => self.complain(format!("the certificate cannot be renewed: {error}")),
        }
    }

    fn reload(&self, files: &Files, watched: &mut Watched) {
        let stamps = files.stamps();
        if stamps == watched.stamps && !watched.doubtful {
            return;
        }
        let unchanged = stamps == watched.stamps;
        watched.stamps = stamps;
        let (now, loaded) = (now_s(&self.clock), files.load());
        let found = match loaded {
            Ok(new) => match (new.certificate.problem_at(now), self.lapsed(now)) {
                (Some(problem), false) => Err(format!("{} {problem}", files.certificate.display())),
                _ => Ok(new),
            },
            Err(error) => Err(crate::worker::describe(&error)),
        };
        match found {
            Ok(new) => {
                tracing::info!(
                    certificate.not_after = date(new.certificate.not_after()),
                    certificate.fingerprint = %new.certificate.fingerprint(),
                    "a changed certificate is in use"
                );
                *self.current.0.write() =
                    Shown { certified: new.certified, certificate: new.certificate, ca: new.ca };
                watched.doubtful = false;
                watched.warned = false;
                *self.problem.write() = None;
            }
            // Certificate and key are two files: between the writing of one and the other they do not fit.
            Err(_) if !unchanged => watched.doubtful = true,
            Err(why) => {
                watched.doubtful = false;
                let end = date(self.current.0.read().certificate.not_after());
                self.complain(format!(
                    "the changed certificate is not used: {why}; the one before stays in use and is valid until {end}"
                ));
            }
        }
    }

    fn lapsed(&self, now: i64) -> bool {
        self.current.0.read().certificate.problem_at(now).is_some()
    }

    /// Says once when the certificate nears its end, and when it is over.
    fn look_at_age(&self, watched: &mut Watched) {
        let now = now_s(&self.clock);
        let certificate = self.current.0.read().certificate.clone();
        if let Some(problem) = certificate.problem_at(now) {
            let what = match &self.origin {
                Origin::Own { .. } => {
                    "the certificate of this server's CA, tls/ca.pem in its data directory: remove it and ca.key, start \
                     again and let clients and hosts trust the new one"
                        .to_owned()
                }
                Origin::Files(files) => {
                    format!("{}: clients refuse it, replace it and its key", files.certificate.display())
                }
            };
            self.complain(format!("the server's certificate {problem} ({what})"));
        } else if certificate.not_after() - now < WARN_BEFORE_SECONDS && !watched.warned {
            watched.warned = true;
            tracing::warn!(
                certificate.not_after = date(certificate.not_after()),
                "the server's certificate lapses soon"
            );
        }
    }

    /// Keeps a problem for those who ask, and logs it when it is new.
    fn complain(&self, problem: String) {
        let mut known = self.problem.write();
        if known.as_ref() != Some(&problem) {
            tracing::error!(problem, "TLS needs attention");
            *known = Some(problem);
        }
    }
}

fn now_s(clock: &Clock) -> i64 {
    clock.now_ms() / 1000
}

#[cfg(test)]
mod tests;
