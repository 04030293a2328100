//! Lifecycle policies across servers: whichever of them applies one knows what runs, the leader or not.

use std::time::Duration;

use serde_json::json;
use test_support::{Postgres, Server, eventually_within};

use super::installation::{Installation, admin, aws};
use crate::ecr::lifecycle::{definition, keep, push};

const SOON: Duration = Duration::from_secs(60);

fn tags(server: &Server) -> Vec<String> {
    serde_json::from_value(admin(server).get("/v2/app/tags/list").json()["tags"].clone()).unwrap()
}

/// When the policy was last applied, by the database.
fn evaluated_at(installation: &Installation) -> Option<i64> {
    let sql = "SELECT COALESCE(MAX(evaluated_at), 0) FROM lifecycle_policies";
    Postgres::shared().psql(installation.database(), sql).trim().parse().ok()
}

/// Waits until the policy was applied from beginning to end since now.
fn applied_again(installation: &Installation) {
    let apply = || {
        let before = evaluated_at(installation).unwrap();
        eventually_within(SOON, "the policy is applied again", || {
            evaluated_at(installation).filter(|now| *now > before)
        })
    };
    // The first may have begun before.
    apply();
    apply();
}

#[test]
fn what_a_service_runs_stays_on_every_server_until_the_service_is_gone() {
    let installation = Installation::new();
    let starting: Vec<_> = (0..2)
        .map(|_| {
            let builder = installation
                .builder()
                .config("peer_listen = \"127.0.0.1:0\"")
                .config("lifecycle_interval = 1")
                .config("registry_names = [\"registry.example\"]");
            std::thread::spawn(move || builder.start())
        })
        .collect();
    let mut servers: Vec<Server> = starting.into_iter().map(|server| server.join().unwrap()).collect();
    for tag in ["v1", "v2", "v3"] {
        push(&admin(&servers[0]), "app", tag);
    }
    // By the name that every server knows, whichever leads.
    let definition = definition("app", "registry.example/app:v1");
    aws(&servers[0], &["ecs", "register-task-definition", "--cli-input-json", &definition]).unwrap();
    let create = ["ecs", "create-service", "--service-name", "app", "--task-definition", "app"];
    let created = aws(&servers[1], &[&create[..], &["--desired-count", "1"]].concat()).unwrap();
    assert_eq!(created["service"]["status"], json!("ACTIVE"));
    // As if the service had been made long ago: only that it runs keeps its image.
    let postgres = Postgres::shared();
    postgres.psql(installation.database(), "UPDATE manifests SET resolved_at = NULL");
    aws(
        &servers[0],
        &["ecr", "put-lifecycle-policy", "--repository-name", "app", "--lifecycle-policy-text", &keep(1)],
    )
    .unwrap();
    eventually_within(SOON, "the policy was applied", || (tags(&servers[1]) == ["v1", "v3"]).then_some(()));
    applied_again(&installation);
    assert_eq!(tags(&servers[0]), ["v1", "v3"]);

    aws(&servers[0], &["ecs", "delete-service", "--service", "app", "--force"]).unwrap();
    eventually_within(SOON, "the image went", || (tags(&servers[0]) == ["v3"]).then_some(()));
    // One server alone goes on.
    servers[0].kill();
    push(&admin(&servers[1]), "app", "v4");
    eventually_within(SOON, "another image went", || (tags(&servers[1]) == ["v4"]).then_some(()));
}
