//! Certificates that change while the server serves: its own, and those of files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use registry_runtime::tls::{Certificate, Connector, Trust};
use test_support::{Network, Server, eventually_within};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::load::{Load, Target};
use super::site::Site;

/// A CA of somebody's, and where it puts the server's certificate.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "somebody's CA");
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(parameters, key), dir }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a certificate for loopback that ends so many days from now, and its key.
    pub(super) fn write(&self, days: i64) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        parameters.not_before = OffsetDateTime::now_utc() - time::Duration::days(30);
        parameters.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file("server.pem"), certificate.pem()).unwrap();
        fs::write(self.file("server.key"), key.serialize_pem()).unwrap();
    }

    /// The configuration that names the files.
    pub(super) fn config(&self) -> String {
        let path = |name: &str| self.file(name).display().to_string();
        format!(
            "tls = \"files\"\ntls_cert = \"{}\"\ntls_key = \"{}\"\ntls_ca = \"{}\"",
            path("server.pem"),
            path("server.key"),
            path("ca.pem")
        )
    }

    fn fingerprint(&self) -> String {
        let certificate = &Certificate::all_from_file(&self.file("server.pem")).unwrap()[0];
        certificate.fingerprint().to_string()
    }
}

/// What `/readyz` says of the certificate on the server's own machine; other things may need attention, too.
fn problems(server: &Server) -> String {
    let answer = server.anonymous().get("/readyz").json();
    let all = answer["problems"].as_array().into_iter().flatten().filter_map(|one| one.as_str());
    all.filter(|one| one.contains("certificate")).collect()
}

#[test]
fn a_certificate_that_changes_under_load_fails_no_request() {
    let authority = Authority::new();
    authority.write(60);
    let server = Server::builder().config(&authority.config()).start();
    let bytes = vec![7; 300_000];
    let digest = server.http().push_blob("app", &bytes);
    let target = Target {
        url: format!("https://{}", server.authority()),
        path: format!("/v2/app/blobs/{digest}"),
        user: server.access_key_id().to_owned(),
        password: server.secret().to_owned(),
        length: bytes.len(),
    };
    let load = Load::start(&target, &authority.file("ca.pem"));
    for _ in 0..4 {
        authority.write(60);
        let expected = authority.fingerprint();
        eventually_within(Duration::from_secs(20), "the changed certificate is in use", || {
            server.log().contains(&expected).then_some(())
        });
        let before = load.answered();
        eventually_within(Duration::from_secs(20), "requests go on", || {
            (load.answered() > before + 20).then_some(())
        });
    }
    assert!(load.stop() > 80);
    assert_eq!(problems(&server), "");
}

#[test]
fn a_broken_successor_is_said_and_the_certificate_before_it_stays() {
    let authority = Authority::new();
    authority.write(60);
    let server = Server::builder().config(&authority.config()).start();
    let told = |expected: &str| {
        eventually_within(Duration::from_secs(20), expected, || {
            let problems = problems(&server);
            problems.contains(expected).then_some(())
        });
        assert!(server.log().contains(expected), "in the log, too");
        reach(server.authority(), &authority.file("ca.pem")).unwrap();
    };
    fs::write(authority.file("server.pem"), "nonsense").unwrap();
    told("holds no certificate");
    authority.write(60);
    let other = KeyPair::generate().unwrap().serialize_pem();
    fs::write(authority.file("server.key"), other).unwrap();
    told("is not the key of the certificate");
    authority.write(-1);
    told("lapsed on");
    assert_eq!(server.anonymous().get("/readyz").status, 200, "requests are served all the same");
    authority.write(60);
    eventually_within(Duration::from_secs(20), "a good one ends it", || {
        problems(&server).is_empty().then_some(())
    });
    reach(server.authority(), &authority.file("ca.pem")).unwrap();
}

#[test]
fn a_lapsed_certificate_is_named_by_server_and_client() {
    let authority = Authority::new();
    authority.write(-1);
    let server = Server::builder().config(&authority.config()).start();
    assert!(problems(&server).contains("lapsed on") && server.log().contains("lapsed on"));
    let error = reach(server.authority(), &authority.file("ca.pem")).unwrap_err();
    assert!(error.contains("lapsed on") && error.contains("renew it there"), "{error}");
}

#[test]
fn the_servers_own_certificate_follows_the_addresses_of_its_machine() {
    let network = Network::new(2);
    let (machine, other) = (network.machine(0), network.machine(1));
    let site = Site::start(machine, "0.0.0.0:5000", "");
    let ca = site.data().join("tls/ca.pem");
    let at = |address: &str| other.within(|| reach(&format!("{address}:5000"), &ca));
    at(&site.host).unwrap();
    machine.ip("addr add 10.98.0.1/24 dev eth0");
    other.ip("addr add 10.98.0.2/24 dev eth0");
    eventually_within(Duration::from_secs(20), "the new address is in the certificate", || {
        at("10.98.0.1").ok()
    });
    at(&site.host).unwrap();
    assert!(site.log().contains("certificate was renewed"));
    // Strangers are told the state, and nothing else.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = other.within(|| runtime.block_on(readyz(&format!("https://{}:5000", site.host), &ca)));
    assert!(told.ends_with("{\"status\":\"ready\"}"), "{told}");
}

/// One handshake with whoever trusts the CA of the file.
fn reach(authority: &str, ca: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("https://{authority}");
    let connector = Connector::new(&url, &Trust::file(ca).unwrap()).unwrap();
    let opened = runtime.block_on(connector.open(url.parse().unwrap()));
    opened.map(drop).map_err(|error| error.to_string())
}

/// The whole answer of `/readyz`.
async fn readyz(url: &str, ca: &Path) -> String {
    let connector = Connector::new(url, &Trust::file(ca).unwrap()).unwrap();
    let mut stream = connector.open(url.parse().unwrap()).await.unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: berth\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
