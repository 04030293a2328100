//! Starts: of several servers one makes the account; without the keys none starts.

use std::process::Command;

use test_support::{Postgres, Server};

use super::installation::{ACCESS_KEY_ID, Installation, SECRET, admin};
use crate::signed::{BERTH, Signer};

#[test]
fn servers_that_start_at_once_make_one_account() {
    let installation = Installation::new();
    let servers = installation.start(3);
    for server in &servers {
        assert_eq!(admin(server).get("/v2/").status, 200);
    }
    let count = |table: &str| {
        Postgres::shared().psql(installation.database(), &format!("SELECT COUNT(*) FROM {table}"))
    };
    assert_eq!(count("identity_account"), "1");
    assert_eq!(count("identity_access_keys"), "1");
    assert_eq!(count("identity_users"), "1");
}

/// What a server prints that does not start.
fn refusal(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("berth.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(test_support::binary());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&path)
        .arg("--data")
        .arg(folder.path().join("data"));
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_server_without_the_keys_of_the_others_does_not_start() {
    let installation = Installation::new();
    let servers = installation.start(1);
    admin(&servers[0]).push_blob("app", b"content");
    let database = Postgres::shared().url(installation.database());
    let content = installation.content();
    let keys = tempfile::tempdir().unwrap();
    let keys = keys.path().join("keys");
    let config = format!(
        "database = {database:?}\nshared_filesystem = true\nreplicas = [{content:?}]\nkey_dir = {keys:?}\n"
    );
    let refused = refusal(&config);
    assert!(
        refused.contains("lacks the keys") && refused.contains("copy those of another server"),
        "{refused}"
    );
    assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 0, "it made none of its own");
    // Keys, but those of somebody else.
    drop(Server::builder().config(&format!("key_dir = {keys:?}")).start());
    let refused = refusal(&config);
    assert!(refused.contains("key_dir"), "{refused}");
    assert_eq!(admin(&servers[0]).get("/v2/").status, 200);
}

#[test]
fn a_key_that_all_servers_need_is_made_by_the_operator_who_is_told_how() {
    let installation = Installation::new();
    let servers = installation.start(1);
    drop(servers);
    let servers = installation.start(1);
    let signer = Signer::new(servers[0].endpoint(), Some((ACCESS_KEY_ID, SECRET)));
    let rotate = || signer.call(&BERTH, "RotateKey", "{}");
    let refused = rotate();
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    let path = installation.keys().join("default-2.key");
    assert!(message.starts_with(path.to_str().unwrap()) && message.contains("openssl rand"), "{refused:?}");
    std::fs::write(path, "5e".repeat(32)).unwrap();
    assert_eq!(rotate().json()["epoch"], 2);
}

#[test]
fn folders_of_one_server_are_no_replicas_of_several() {
    let database = Postgres::shared().database();
    let refused = refusal(&format!("database = {database:?}\n"));
    assert!(refused.contains("shared_filesystem = true"), "{refused}");
    let refused = refusal("database = \"mysql://localhost/berth\"\n");
    assert!(refused.contains("postgres://"), "{refused}");
    let refused = refusal("database = \"postgres://u:hunter2@db.example/berth\"\nshared_filesystem = true\n");
    assert!(refused.contains("sslmode") && !refused.contains("hunter2"), "{refused}");
}
