//! A CA of the server's own: one key, sealed, and the certificates that it signs for this server.
//!
//! `DIR/ca.pem` is what clients trust; `DIR/ca.key` is sealed with a key of the key directory, so that the folder
//! alone signs nothing. The CA signs servers only and lives for ten years; removing both files makes a new one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Certificate, CertificateName, TlsError, provider};
use crate::{Sealer, durable, random_bytes};

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";
const SEALED_COLUMN: &str = "tls.ca.key";
const AUTHORITY_LIFE: Duration = Duration::days(3650);
const LIFE: Duration = Duration::days(90);
/// What clocks may be apart.
const BEFORE: Duration = Duration::days(1);

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: Certificate,
}

impl Authority {
    /// The CA of `dir`, made when there is none.
    pub(super) fn open(dir: &Path, sealer: &Sealer, now_s: i64) -> Result<Self, TlsError> {
        durable::create_directory(dir, 0o700)
            .map_err(|source| TlsError::Io { path: dir.to_owned(), source })?;
        let key = key(&dir.join(KEY_FILE), sealer)?;
        let parameters = authority_parameters(&key, now_s)?;
        let path = dir.join(CERTIFICATE_FILE);
        let certificate = match std::fs::read(&path) {
            Ok(pem) => existing(path, &pem, &key)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made = parameters.self_signed(&key).map_err(issue)?;
                let certificate = parsed(made.der())?;
                durable::write_file_atomically(&path, certificate.pem().as_bytes(), 0o644)
                    .map_err(|source| TlsError::Io { path, source })?;
                certificate
            }
            Err(source) => return Err(TlsError::Io { path, source }),
        };
        Ok(Self { issuer: Issuer::new(parameters, key), certificate })
    }

    /// A certificate for the server, with a key that is never written down.
    pub(super) fn issue(
        &self,
        names: &BTreeSet<CertificateName>,
        now_s: i64,
    ) -> Result<(Arc<CertifiedKey>, Certificate), TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
        let now = moment(now_s)?;
        let mut parameters = CertificateParams::default();
        parameters.not_before = now - BEFORE;
        // Not after the CA's own end: a client would refuse it then, and its date should say so.
        parameters.not_after = (now + LIFE).min(moment(self.certificate.not_after())?);
        parameters.serial_number = Some(serial());
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, "Berth");
        parameters.subject_alt_names = names.iter().map(alternative).collect::<Result<_, _>>()?;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let made = parameters.signed_by(&key, &self.issuer).map_err(issue)?;
        let certificate = parsed(made.der())?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let certified = CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider());
        Ok((Arc::new(certified.map_err(|error| TlsError::Issue(error.into()))?), certificate))
    }
}

/// The CA's key: unsealed, or made and sealed.
fn key(path: &Path, sealer: &Sealer) -> Result<KeyPair, TlsError> {
    let failed = |source| TlsError::Io { path: path.to_owned(), source };
    let damaged = || {
        TlsError::File {
        path: path.to_owned(),
        problem: "was sealed with another key directory, or is damaged: restore that directory, or remove the file \
                  and ca.pem beside it for a new CA, which clients and hosts must be told to trust"
            .to_owned(),
    }
    };
    match std::fs::read(path) {
        Ok(sealed) => {
            let der = sealer.open(SEALED_COLUMN, &[], &sealed).map_err(|_| damaged())?;
            let der = PrivatePkcs8KeyDer::from(der.expose());
            KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(|_| damaged())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
            let sealed = sealer.seal(SEALED_COLUMN, &[], key.serialized_der());
            durable::write_file_atomically(path, &sealed, 0o600).map_err(failed)?;
            Ok(key)
        }
        Err(source) => Err(failed(source)),
    }
}

fn existing(path: PathBuf, pem: &[u8], key: &KeyPair) -> Result<Certificate, TlsError> {
    let wrong = |problem: &str| TlsError::File { path: path.clone(), problem: problem.to_owned() };
    let certificate = Certificate::all_from_pem(pem).map_err(|problem| wrong(&problem))?.swap_remove(0);
    let (_, read) = X509Certificate::from_der(certificate.der()).map_err(|_| wrong("is damaged"))?;
    if read.public_key().raw != key.subject_public_key_info() {
        return Err(wrong("is of another key than ca.key beside it: put the right one back, or remove it"));
    }
    Ok(certificate)
}

fn authority_parameters(key: &KeyPair, now_s: i64) -> Result<CertificateParams, TlsError> {
    let id = hex::encode(&Sha256::digest(key.subject_public_key_info())[..4]);
    let now = moment(now_s)?;
    let mut parameters = CertificateParams::default();
    parameters.not_before = now - BEFORE;
    parameters.not_after = now + AUTHORITY_LIFE;
    parameters.serial_number = Some(serial());
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, format!("Berth CA {id}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}

fn alternative(name: &CertificateName) -> Result<SanType, TlsError> {
    match name {
        CertificateName::Address(address) => Ok(SanType::IpAddress(IpAddr::to_canonical(address))),
        CertificateName::Host(host) => {
            let text = host.as_str().try_into().map_err(|_| TlsError::Name(host.clone()))?;
            Ok(SanType::DnsName(text))
        }
    }
}

fn serial() -> SerialNumber {
    let mut bytes = random_bytes::<16>();
    // Positive, and of full length.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn moment(seconds: i64) -> Result<OffsetDateTime, TlsError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| TlsError::Issue(error.into()))
}

fn parsed(der: &CertificateDer<'static>) -> Result<Certificate, TlsError> {
    Certificate::from_der(der.clone()).ok_or_else(|| TlsError::Issue("it cannot be read again".into()))
}

fn issue(error: rcgen::Error) -> TlsError {
    TlsError::Issue(error.into())
}
