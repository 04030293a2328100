//! The CA that the servers of an installation know each other by: its key lies sealed in the metadata, so that only
//! who has the key directory and the database can make a certificate.
//!
//! Each server makes one for itself when it starts, with a key that is never written down. Invariant: of servers that
//! start at once all get the same authority.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use registry_runtime::{Clock, Sealer};
use registry_sql::{Database, Migration, params};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use time::{Duration, OffsetDateTime};

/// The name in every server's certificate; addresses are not verified, membership is.
pub(super) const NAME: &str = "server.berth.internal";
const SEALED_COLUMN: &str = "peer_authority.key";
const LIFE: Duration = Duration::days(3650);
/// What clocks may be apart.
const BEFORE: Duration = Duration::days(1);

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "authority",
    sql: "CREATE TABLE peer_authority (id BIGINT PRIMARY KEY, certificate BLOB NOT NULL, sealed_key BLOB NOT NULL)",
}];

pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    now: OffsetDateTime,
}

impl Authority {
    pub(super) async fn open(database: &Database, sealer: &Sealer, clock: &Clock) -> Result<Authority> {
        database.migrate("peers", MIGRATIONS).await?;
        let now = OffsetDateTime::from_unix_timestamp(clock.now_ms() / 1000)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let made = parameters(now).self_signed(&key)?.der().to_vec();
        let sealed = sealer.seal(SEALED_COLUMN, &[], key.serialized_der());
        let (certificate, sealed): (Vec<u8>, Vec<u8>) = database
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO peer_authority (id, certificate, sealed_key) VALUES (1, $1, $2)
                     ON CONFLICT (id) DO NOTHING",
                    params![&made, &sealed],
                )?;
                let row = tx.query_one(
                    "SELECT certificate, sealed_key FROM peer_authority WHERE id = 1",
                    params![],
                )?;
                Ok::<_, registry_sql::Error>((row.get(0)?, row.get(1)?))
            })
            .await?;
        let der = sealer
            .open(SEALED_COLUMN, &[], &sealed)
            .context("it was sealed with other keys than those in key_dir")?;
        let der = PrivatePkcs8KeyDer::from(der.expose());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)?;
        Ok(Authority { certificate: certificate.into(), issuer: Issuer::new(parameters(now), key), now })
    }

    /// TLS for a server that lets only others of the installation in, and for its calls to them.
    pub(super) fn configurations(&self) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut own = CertificateParams::new(vec![NAME.to_owned()])?;
        own.distinguished_name.push(DnType::CommonName, "Berth");
        (own.not_before, own.not_after) = (self.now - BEFORE, self.now + LIFE);
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = own.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(vec![certificate.clone()], key.clone_key())?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        Ok((Arc::new(server), Arc::new(client)))
    }
}

fn parameters(now: OffsetDateTime) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "Berth servers");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (parameters.not_before, parameters.not_after) = (now - BEFORE, now + LIFE);
    parameters
}
