//! Certificates of a CA of one's own and of files, as time goes by.

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;

use super::*;
use crate::Secret;

const DAY: i64 = 24 * 3600;
/// A day in 2026.
const NOW_S: i64 = 1_790_000_000;

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&Secret::new(vec![byte; 32]), 1)
}

fn own(dir: &Path, clock: &Clock) -> Result<ServerCertificate, TlsError> {
    let names = vec![CertificateName::Host("registry.example".to_owned())];
    let names = CertificateNames { names, every_address: true };
    ServerCertificate::open(Source::Own { dir, sealer: &sealer(7), names }, clock.clone())
}

#[test]
fn a_ca_is_made_once_and_its_certificate_renewed_before_it_lapses() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW_S * 1000);
    let first = own(dir.path(), &clock).unwrap();
    let again = own(dir.path(), &clock).unwrap();
    assert_eq!(first.ca(), again.ca());
    assert_ne!(first.certificate(), again.certificate());

    let before = again.certificate();
    clock.advance(Duration::from_secs(59 * DAY as u64));
    again.refresh();
    assert_eq!(again.certificate(), before);
    clock.advance(Duration::from_secs(2 * DAY as u64));
    again.refresh();
    assert_ne!(again.certificate(), before);
    assert_eq!(again.certificate().not_after(), NOW_S + 61 * DAY + 90 * DAY);
    assert_eq!(again.problem(), None);

    // The CA's own end is the end: it is said, and nothing is issued over and over.
    clock.advance(Duration::from_secs(3580 * DAY as u64));
    again.refresh();
    let last = again.certificate();
    again.refresh();
    assert_eq!((again.certificate(), last.not_after()), (last.clone(), again.ca().unwrap().not_after()));
    assert_eq!(again.problem(), None);
    clock.advance(Duration::from_secs(10 * DAY as u64));
    again.refresh();
    assert!(again.problem().unwrap().contains("lapsed on"), "{:?}", again.problem());
}

#[test]
fn another_key_directory_or_another_ca_is_refused_in_words() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(NOW_S * 1000));
    own(dir.path(), &clock).unwrap();
    let names = CertificateNames { names: Vec::new(), every_address: false };
    let foreign = Source::Own { dir: dir.path(), sealer: &sealer(8), names };
    let error = ServerCertificate::open(foreign, clock.clone()).err().unwrap().to_string();
    assert!(error.contains("another key directory"), "{error}");

    let other = tempfile::tempdir().unwrap();
    own(other.path(), &clock).unwrap();
    std::fs::copy(other.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    let error = own(dir.path(), &clock).err().unwrap().to_string();
    assert!(error.contains("another key than ca.key"), "{error}");
}

/// Files with a certificate that is valid from a day before `NOW_S` for so many days.
struct Pair(tempfile::TempDir);

impl Pair {
    fn new(days: i64) -> Self {
        let pair = Self(tempfile::tempdir().unwrap());
        pair.write(days);
        pair
    }

    fn paths(&self) -> (PathBuf, PathBuf) {
        (self.0.path().join("server.pem"), self.0.path().join("server.key"))
    }

    fn write(&self, days: i64) {
        let (certificate, key) = self.paths();
        let (pem, secret) = make(days);
        std::fs::write(certificate, pem).unwrap();
        std::fs::write(key, secret).unwrap();
    }

    fn open(&self, clock: &Clock) -> Result<ServerCertificate, TlsError> {
        let (certificate, key) = self.paths();
        ServerCertificate::open(Source::Files { certificate, key, ca: None }, clock.clone())
    }
}

fn make(days: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(["registry.example".to_owned()]).unwrap();
    parameters.not_before = OffsetDateTime::from_unix_timestamp(NOW_S - DAY).unwrap();
    parameters.not_after = parameters.not_before + time::Duration::days(days);
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn changed_files_are_taken_whole_or_not_at_all() {
    let (pair, clock) = (Pair::new(30), Clock::manual(NOW_S * 1000));
    let server = pair.open(&clock).unwrap();
    let first = server.certificate();
    assert_eq!(server.ca(), Some(first.clone()), "a root at the end of the chain is the CA");

    // One file of two: not yet, and nothing is said.
    let (certificate, key) = pair.paths();
    let (pem, secret) = make(60);
    std::fs::write(&certificate, pem).unwrap();
    server.refresh();
    assert_eq!((server.certificate(), server.problem()), (first.clone(), None));
    std::fs::write(&key, secret).unwrap();
    server.refresh();
    let second = server.certificate();
    assert_ne!(second, first);
    assert_eq!(server.problem(), None);

    // What stays broken is said, and the one before stays.
    for (what, broken, expected) in [
        ("a foreign key", make(60).1, "is not the key of the certificate"),
        ("no key", String::new(), "holds no private key"),
    ] {
        std::fs::write(&key, broken).unwrap();
        server.refresh();
        server.refresh();
        let problem = server.problem().unwrap();
        assert!(problem.contains(expected) && problem.contains("stays in use"), "{what}: {problem}");
        assert_eq!(server.certificate(), second, "{what}");
    }
    pair.write(1);
    server.refresh();
    server.refresh();
    assert_eq!(server.certificate(), pair.open(&clock).unwrap().certificate(), "valid to the second");
    pair.write(0);
    server.refresh();
    server.refresh();
    assert!(server.problem().unwrap().contains("lapsed on"), "{:?}", server.problem());
    pair.write(60);
    server.refresh();
    assert_eq!(server.problem(), None);
}

#[test]
fn a_certificate_that_lapses_under_way_is_said_and_replaced() {
    let (pair, clock) = (Pair::new(30), Clock::manual(NOW_S * 1000));
    let server = pair.open(&clock).unwrap();
    clock.advance(Duration::from_secs(30 * DAY as u64));
    server.refresh();
    assert!(server.problem().unwrap().contains("lapsed on"), "{:?}", server.problem());
    assert!(pair.open(&clock).unwrap().problem().unwrap().contains("lapsed on"), "there is no other");
    pair.write(60);
    server.refresh();
    assert_eq!(server.problem(), None);
}

#[test]
fn unusable_files_are_refused_at_the_start() {
    let (pair, clock) = (Pair::new(30), Clock::manual(NOW_S * 1000));
    std::fs::write(pair.paths().1, make(30).1).unwrap();
    let error = pair.open(&clock).err().unwrap().to_string();
    assert!(error.contains("is not the key of the certificate in"), "{error}");
    std::fs::remove_file(pair.paths().0).unwrap();
    assert!(pair.open(&clock).err().unwrap().to_string().contains("server.pem cannot be read"));
}
