//! The address of a PostgreSQL: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`.
//!
//! Invariant: passwords cross a network only over TLS whose certificate was verified, or by the operator's own
//! word, `sslmode=disable`.

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for this long is gone.
const DEAD_PEER: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub(crate) struct Address {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Address {
    /// Reads the certificates that the URL names, or the system's.
    ///
    /// # Errors
    /// [`Error::Address`], which never shows the password.
    pub(crate) fn parse(url: &str) -> Result<Address, Error> {
        let (plain, tls) = take_tls(url)?;
        let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            let reason =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Error::Address(format!("database: {reason}"))
        })?;
        let local = config.get_hosts().iter().all(is_local);
        let tls = match tls.mode.as_deref() {
            Some("require" | "verify-ca" | "verify-full") => Some(client(tls.root.as_deref())?),
            Some("disable") => None,
            None if local => None,
            None => {
                return Err(Error::Address(
                    "database: say ?sslmode=verify-full for TLS, or ?sslmode=disable on a network where nobody \
                     else listens"
                        .to_owned(),
                ));
            }
            Some(other) => {
                return Err(Error::Address(format!(
                    "database: sslmode={other} is not one of verify-full (also as require and verify-ca) and disable"
                )));
            }
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        // Of several hosts, the one that takes writes.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(DEAD_PEER).keepalives_idle(DEAD_PEER);
        if config.get_application_name().is_none() {
            config.application_name("berth");
        }
        Ok(Address { config, tls })
    }

    /// Connects; the connection is driven by the runtime that this is called in.
    pub(super) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                tokio::spawn(connection);
                Ok(client)
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                tokio::spawn(connection);
                Ok(client)
            }
        }
    }
}

/// What the URL asks for of TLS.
#[derive(Default)]
struct Tls {
    mode: Option<String>,
    root: Option<String>,
}

/// The URL without the parameters that are read here.
fn take_tls(url: &str) -> Result<(String, Tls), Error> {
    let mut tls = Tls::default();
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), tls)) };
    let mut others = Vec::new();
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = || {
            let decoded = percent_decode_str(value).decode_utf8();
            decoded.map(String::from).map_err(|_| Error::Address(format!("database: {name} is not UTF-8")))
        };
        match name {
            "sslmode" => tls.mode = Some(value()?),
            "sslrootcert" => tls.root = Some(value()?),
            _ => others.push(parameter),
        }
    }
    let plain = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
    Ok((plain, tls))
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// Verifies the server's certificate and name against the authorities in a file, or against the system's.
fn client(root: Option<&str>) -> Result<MakeRustlsConnect, Error> {
    let mut roots = RootCertStore::empty();
    match root {
        Some(path) => {
            let broken = |error: &dyn std::fmt::Display| {
                Error::Address(format!("database: sslrootcert {path}: {error}"))
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| broken(&error))? {
                let certificate = certificate.map_err(|error| broken(&error))?;
                roots.add(certificate).map_err(|error| broken(&error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(Error::Address(
            "database: no certificate authority to verify the server with".to_owned(),
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Address(format!("database: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        match Address::parse(url) {
            Ok(_) => panic!("{url} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_password_crosses_a_network_in_clear_only_by_the_operators_word() {
        for url in
            ["postgres://u:p@localhost/db", "postgres://u@127.0.0.1:5433/db", "postgres:///db?host=/run/pg"]
        {
            assert!(Address::parse(url).unwrap().tls.is_none(), "{url}");
        }
        assert!(refusal("postgres://u:p@db.example/berth").contains("sslmode=verify-full"));
        assert!(Address::parse("postgres://u:p@db.example/berth?sslmode=disable").unwrap().tls.is_none());
        for mode in ["prefer", "allow", "yes"] {
            assert!(refusal(&format!("postgres://u:p@localhost/berth?sslmode={mode}")).contains(mode));
        }
    }

    #[test]
    fn an_error_never_shows_the_password() {
        for url in ["postgres://u:hunter2@h:port/db", "postgres://u:hunter2@localhost/db?nonsense=1"] {
            let refusal = refusal(url);
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
        let missing = refusal("postgres://u:hunter2@h/db?sslmode=verify-full&sslrootcert=/not%20there.pem");
        assert!(missing.contains("/not there.pem") && !missing.contains("hunter2"), "{missing}");
    }
}
