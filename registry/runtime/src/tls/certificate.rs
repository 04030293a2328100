//! One certificate: what of it is looked at by Berth itself.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;

/// A certificate that can be parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    not_before: i64,
    not_after: i64,
    self_signed: bool,
}

/// The SHA-256 of a certificate, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// The text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is written sha256: and 64 hexadecimal digits")]
pub struct FingerprintError;

impl Certificate {
    /// `None` when the bytes are no X.509 certificate.
    pub fn from_der(der: CertificateDer<'static>) -> Option<Certificate> {
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let (not_before, not_after) =
            (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let self_signed = parsed.subject() == parsed.issuer();
        Some(Certificate { der, not_before, not_after, self_signed })
    }

    /// Every certificate of a PEM text, in its order; what else stands there is passed over.
    ///
    /// # Errors
    /// What is wrong, in words: no certificate, or one that is damaged.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Certificate>, String> {
        let mut certificates = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem) {
            let der = der.map_err(|_| "a certificate in it is damaged".to_owned())?;
            let certificate = Certificate::from_der(der.into_owned());
            certificates.push(certificate.ok_or("a certificate in it is damaged")?);
        }
        if certificates.is_empty() {
            return Err("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned());
        }
        Ok(certificates)
    }

    /// The same of a file.
    pub fn all_from_file(path: &Path) -> Result<Vec<Certificate>, TlsError> {
        let pem = std::fs::read(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })?;
        Certificate::all_from_pem(&pem).map_err(|problem| TlsError::File { path: path.to_owned(), problem })
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub fn pem(&self) -> String {
        let base64 = STANDARD.encode(&self.der);
        let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text + "-----END CERTIFICATE-----\n"
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(&self.der).into())
    }

    /// Whether the certificate names itself as its issuer, as roots do.
    pub fn is_self_signed(&self) -> bool {
        self.self_signed
    }

    /// Seconds since the Unix epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Why the certificate does not count at `now` (seconds since the Unix epoch), in words.
    pub fn problem_at(&self, now: i64) -> Option<String> {
        if now > self.not_after {
            Some(format!("lapsed on {}", date(self.not_after)))
        } else if now < self.not_before {
            Some(format!("is not valid before {}", date(self.not_before)))
        } else {
            None
        }
    }
}

/// Seconds since the Unix epoch, for people.
pub(super) fn date(seconds: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok();
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| format!("second {seconds} since 1970"))
}

impl Fingerprint {
    /// The 64 digits alone, as they stand in join tokens.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint())
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Takes the digits with or without `sha256:`, and the form that openssl prints.
    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let lower = text.trim().to_ascii_lowercase();
        let digits = ["sha256:", "sha256 fingerprint="].iter().find_map(|prefix| lower.strip_prefix(prefix));
        let digits = digits.unwrap_or(&lower).replace(':', "");
        let bytes = hex::decode(digits).map_err(|_| FingerprintError)?;
        bytes.try_into().map(Fingerprint).map_err(|_| FingerprintError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_in_every_form_that_people_have_it_in() {
        let hex = "00ff".repeat(16);
        let openssl = format!("SHA256 Fingerprint={}", "00:FF:".repeat(16).trim_end_matches(':'));
        let expected = Fingerprint([0, 255].repeat(16).try_into().unwrap());
        for text in [hex.clone(), format!("sha256:{hex}"), openssl, format!(" SHA256:{hex}\n")] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!(expected.to_string(), format!("sha256:{hex}"));
        for text in ["", "sha256:", "sha1:00", &hex[1..], &format!("{hex}00")] {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError), "{text}");
        }
    }

    #[test]
    fn pem_goes_there_and_back() {
        let made = rcgen::generate_simple_self_signed(["host".to_owned()]).unwrap();
        let certificate = Certificate::from_der(made.cert.der().clone()).unwrap();
        assert!(certificate.is_self_signed());
        let text = format!("# the CA\n{}{}", certificate.pem(), made.signing_key.serialize_pem());
        assert_eq!(Certificate::all_from_pem(text.as_bytes()), Ok(vec![certificate]));
        assert!(Certificate::all_from_pem(b"nothing").is_err());
        let whole = made.cert.pem();
        assert!(Certificate::all_from_pem(&whole.as_bytes()[..300]).is_err());
    }
}
