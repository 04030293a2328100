//! The server's certificate: opened before a port is bound, watched while it serves, and its CA handed out.

mod kept;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use registry_runtime::listener::Transport;
use registry_runtime::tls::{CA_PATH, CertificateName, CertificateNames, ServerCertificate, Source};
use registry_runtime::{Clock, Sealer, Shutdown, worker};
use registry_sql::Database;

use crate::config::Settings;
use crate::listen::Tls;

/// How soon a changed certificate is in use.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Opens the certificate that the settings name; `None` without TLS.
pub(crate) async fn open(
    settings: &Settings,
    database: &Database,
    sealer: &Sealer,
    clock: &Clock,
) -> Result<Option<ServerCertificate>> {
    let dir = settings.data.join("tls");
    if settings.tls != Tls::Own {
        return load(settings, &dir, sealer, clock);
    }
    let wish = kept::fetch(database, &dir).await?;
    let certificate = load(settings, &dir, sealer, clock)?;
    if kept::keep(database, &dir, wish).await? {
        return load(settings, &dir, sealer, clock);
    }
    Ok(certificate)
}

fn load(
    settings: &Settings,
    dir: &Path,
    sealer: &Sealer,
    clock: &Clock,
) -> Result<Option<ServerCertificate>> {
    let source = match &settings.tls {
        Tls::Off => return Ok(None),
        Tls::Own => Source::Own { dir, sealer, names: names(settings)? },
        Tls::Files { certificate, key, ca } => {
            Source::Files { certificate: certificate.clone(), key: key.clone(), ca: ca.clone() }
        }
    };
    ServerCertificate::open(source, clock.clone()).map(Some).context("no TLS")
}

/// What this server is reached by.
pub(crate) fn names(settings: &Settings) -> Result<CertificateNames> {
    let config = &settings.config;
    let mut names = Vec::new();
    for name in config.advertise.iter().chain(&config.registry_names) {
        names.push(CertificateName::parse(name).context("advertise and registry_names")?);
    }
    let addresses = settings.listen.iter().map(std::net::SocketAddr::ip);
    let (any, particular): (Vec<_>, Vec<_>) = addresses.partition(std::net::IpAddr::is_unspecified);
    names.extend(particular.into_iter().map(CertificateName::Address));
    Ok(CertificateNames { names, every_address: !any.is_empty() })
}

/// What is spoken on the listeners.
pub(crate) fn transport(certificate: Option<&ServerCertificate>, plain_http: bool) -> Result<Transport> {
    match certificate {
        None => Ok(Transport::Plain),
        Some(certificate) => {
            let config = certificate.server_config().context("no TLS")?;
            Ok(Transport::Tls { config, plain: plain_http })
        }
    }
}

/// Renews and reloads, for as long as the server runs.
pub(crate) fn watch(certificate: &ServerCertificate, shutdown: &Shutdown) {
    let certificate = certificate.clone();
    worker::spawn("certificate", LOOK_INTERVAL, shutdown, move || {
        let certificate = certificate.clone();
        async move { tokio::task::spawn_blocking(move || certificate.refresh()).await }
    });
}

/// `GET /ca.pem`, for everybody: what to trust, to be compared with a fingerprint from elsewhere.
pub(crate) fn router(certificate: Option<ServerCertificate>) -> Router {
    let answer = move || {
        let ca = certificate.as_ref().and_then(ServerCertificate::ca);
        async move {
            match ca {
                Some(ca) => ([(header::CONTENT_TYPE, "application/x-pem-file")], ca.pem()).into_response(),
                None => no_ca(),
            }
        }
    };
    Router::new().route(CA_PATH, get(answer))
}

fn no_ca() -> Response {
    (StatusCode::NOT_FOUND, "this server has no CA of its own\n").into_response()
}

/// Tells whoever starts the server what its clients need.
pub(crate) fn announce(certificate: &ServerCertificate, public_url: Option<&str>) {
    let Some(ca) = certificate.ca() else { return };
    let host = public_url.and_then(|url| url.strip_prefix("https://")).unwrap_or("HOST:PORT");
    tracing::info!(
        ca.fingerprint = %ca.fingerprint(),
        "other machines trust this server after: berth trust {host} --fingerprint {}",
        ca.fingerprint()
    );
}
