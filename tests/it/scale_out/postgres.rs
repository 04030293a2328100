//! A PostgreSQL that takes connections over TLS alone.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use test_support::{Postgres, eventually_within, sha256, try_run};

use super::installation::{Installation, admin};

/// An authority, and the certificate and key of a server at 127.0.0.1 that it made, as PEM.
fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    (ca.pem(), server.pem(), key.serialize_pem())
}

#[test]
fn servers_reach_it_where_its_certificate_is_the_right_one() {
    let (ca, certificate, key) = certificates();
    let postgres = Postgres::start_over_tls(&certificate, &key);
    let folder = tempfile::tempdir().unwrap();
    let (good, other) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    std::fs::write(&good, ca).unwrap();
    std::fs::write(&other, certificates().0).unwrap();
    let url = |query: String| {
        let database = postgres.database();
        let name = database.rsplit('/').next().unwrap();
        format!("postgres://postgres@{}/{name}?{query}", postgres.address())
    };
    let serve = |query: String| {
        let data = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(test_support::binary());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
        try_run(command.env("BERTH_DATABASE", url(query)).env("BERTH_SHARED_FILESYSTEM", "true")).unwrap_err()
    };
    let refused = serve(format!("sslmode=verify-full&sslrootcert={}", other.display()));
    assert!(refused.contains("certificate"), "{refused}");
    let refused = serve("sslmode=disable".to_owned());
    assert!(refused.contains("no pg_hba.conf entry") || refused.contains("no encryption"), "{refused}");

    for mode in ["verify-full", "require"] {
        let query = format!("sslmode={mode}&sslrootcert={}", good.display());
        let installation = Installation::at(url(query));
        let server = installation.builder().start();
        let http = admin(&server);
        let digest = http.push_blob("app", mode.as_bytes());
        assert_eq!(digest, format!("sha256:{}", sha256(mode.as_bytes())));
        let sql = "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                   WHERE application_name = 'berth' AND NOT ssl";
        assert_eq!(postgres.psql("postgres", sql).trim(), "0", "every connection is over TLS");
        drop(server);
        let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'berth'";
        eventually_within(std::time::Duration::from_secs(30), "its connections have ended", || {
            (postgres.psql("postgres", sql).trim() == "0").then_some(())
        });
    }
}
