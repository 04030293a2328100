//! The operator's commands about hosts: tokens with limits, and the instances that came of them.

use serde_json::{Value, json};
use test_support::{Server, run, try_run};

use crate::attacks::{Host, administrator, resources};
use crate::signed::{ECS, Signer};

fn berth(server: &Server, args: &[&str]) -> String {
    run(&mut server.berth(args.iter().copied()))
}

fn berth_json(server: &Server, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
    serde_json::from_str(&berth(server, &args)).unwrap()
}

fn refused(server: &Server, args: &[&str]) -> String {
    try_run(&mut server.berth(args.iter().copied())).unwrap_err()
}

#[test]
fn tokens_are_made_with_limits_listed_without_their_secret_and_revoked() {
    let server = Server::start();
    let line = berth(&server, &["cluster", "join-token", "default", "--server", "https://berth.example"]);
    assert!(line.starts_with("berth agent --server https://berth.example --join berth-join-"), "{line}");
    assert_eq!(line.lines().count(), 1);
    let made = berth_json(
        &server,
        &[
            "cluster",
            "join-token",
            "default",
            "--ttl",
            "2d",
            "--uses",
            "3",
            "--zone",
            "rack-1",
            "--attribute",
            "disk=ssd",
            "--attribute",
            "gpu",
            "--max-cpu",
            "512",
            "--max-memory",
            "1024",
        ],
    );
    let id = made["joinTokenId"].as_str().unwrap();
    let seconds = made["expiresAt"].as_f64().unwrap() - made["createdAt"].as_f64().unwrap();
    assert!((seconds - 2.0 * 86_400.0).abs() < 1.0, "{made}");
    let table = berth(&server, &["cluster", "join-tokens", "list"]);
    let row = table.lines().find(|line| line.starts_with(id)).unwrap();
    for part in ["VALID", "0/3", "rack-1", "512", "1024", "disk=ssd,gpu", ":user/administrator"] {
        assert!(row.contains(part), "{part}: {table}");
    }
    let listed = berth_json(&server, &["cluster", "join-tokens", "list", "default"]);
    assert_eq!(listed["joinTokens"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("berth-join-"), "{listed}");
    berth(&server, &["cluster", "join-tokens", "revoke", id]);
    assert!(berth(&server, &["cluster", "join-tokens", "list"]).contains("REVOKED"));

    for (args, expected) in [
        (&["cluster", "join-token", "nowhere"][..], "ClusterNotFoundException"),
        (&["cluster", "join-token", "default", "--ttl", "8d"], "between 1 second and 7 days"),
        (&["cluster", "join-token", "default", "--ttl", "soon"], "write 90s, 30m, 12h or 7d"),
        (&["cluster", "join-token", "default", "--uses", "0"], "uses must be between 1 and 1000"),
        (&["cluster", "join-token", "default", "--attribute", "ecs.os-type=x"], "not for operators to set"),
        (&["cluster", "join-token", "default", "--instance", "abc"], "no container instance"),
        (&["cluster", "join-tokens", "revoke", "abc"], "has no join token abc"),
    ] {
        let error = refused(&server, args);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    assert_eq!(
        berth_json(&server, &["cluster", "join-tokens", "list"])["joinTokens"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn instances_are_listed_shown_drained_and_called_back() {
    let server = Server::start();
    assert_eq!(berth(&server, &["instance", "list"]).lines().count(), 1, "a heading");
    let mut host = Host::join(
        &server,
        json!({"availabilityZone": "rack-1", "attributes": [{"name": "disk", "value": "ssd"}]}),
    );
    let registered = host.register(json!({})).json();
    registered["containerInstance"]["containerInstanceArn"].as_str().unwrap().clone_into(&mut host.arn);
    let id = host.arn.rsplit('/').next().unwrap().to_owned();
    let table = berth(&server, &["instance", "list"]);
    let row = table.lines().find(|line| line.starts_with(&id)).unwrap();
    for part in ["ACTIVE", "away", "rack-1", "2048/2048", "4096/4096"] {
        assert!(row.contains(part), "{part}: {table}");
    }
    let listed = berth_json(&server, &["instance", "list"]);
    assert_eq!(listed["containerInstances"][0]["containerInstanceArn"], host.arn.as_str());
    let shown = berth(&server, &["instance", "show", &id[..8]]);
    assert!(shown.contains("attribute    disk=ssd") && shown.contains(&host.arn), "{shown}");
    assert_eq!(berth_json(&server, &["instance", "show", &host.arn])["taskArns"], json!([]));

    let drained = berth(&server, &["instance", "drain", &id]);
    assert!(drained.contains(&format!("{id} is DRAINING with 0 tasks")), "{drained}");
    assert!(berth(&server, &["instance", "list"]).contains("DRAINING"));
    assert!(berth(&server, &["instance", "activate", &id]).contains("is ACTIVE"));
    for args in
        [&["instance", "show", "f00"][..], &["instance", "drain", "f00"], &["instance", "revoke", "f00"]]
    {
        let error = refused(&server, args);
        assert!(error.contains("no container instance whose id begins with 'f00'"), "{error}");
    }
    let elsewhere = refused(&server, &["instance", "list", "--cluster", "nowhere"]);
    assert!(elsewhere.contains("ClusterNotFoundException"), "{elsewhere}");
    berth(&server, &["instance", "revoke", &id]);
    assert_eq!(berth(&server, &["instance", "list"]).lines().count(), 1);
    assert_ne!(host.ecs("DiscoverPollEndpoint", &json!({})).status, 200);
}

#[test]
fn amazons_agent_gets_a_configuration_and_a_key_for_one_host() {
    let server = Server::start();
    let printed = berth_json(
        &server,
        &["cluster", "join-token", "default", "--for-amazon-agent", "--zone", "rack-2", "--max-cpu", "2048"],
    );
    let config = printed["ecsConfig"].as_str().unwrap();
    for line in [
        format!("ECS_BACKEND_HOST={}", server.endpoint()).as_str(),
        "ECS_CLUSTER=default",
        "ECS_EXTERNAL=true",
    ] {
        assert!(config.lines().any(|one| one == line), "{line}: {config}");
    }
    let text = |name: &str| printed[name].as_str().unwrap().to_owned();
    let (key, secret) = (text("accessKeyId"), text("secretAccessKey"));
    assert!(!config.contains(&secret) && text("script").contains(&secret));
    // As that agent registers: without a word about itself but its resources.
    let agent = Signer::new(server.endpoint(), Some((&key, &secret)));
    let register = |cpu: i64, arn: &str| {
        let input = json!({"cluster": "default", "totalResources": resources(cpu, 1024), "clientToken": "one",
                           "containerInstanceArn": arn});
        agent.call(&ECS, "RegisterContainerInstance", &input.to_string())
    };
    assert_eq!(register(4096, "").status, 400);
    let registered = register(2048, "").json();
    let instance = &registered["containerInstance"];
    assert!(instance["attributes"].to_string().contains("rack-2"), "{instance}");
    let arn = instance["containerInstanceArn"].as_str().unwrap();

    // Another key for the same host: it stays the instance it is, and the first key is void.
    let again =
        berth_json(&server, &["cluster", "join-token", "default", "--for-amazon-agent", "--instance", arn]);
    assert_ne!(register(2048, arn).status, 200);
    let renewed = Signer::new(
        server.endpoint(),
        Some((again["accessKeyId"].as_str().unwrap(), again["secretAccessKey"].as_str().unwrap())),
    );
    let input =
        json!({"cluster": "default", "totalResources": resources(8192, 1024), "containerInstanceArn": arn});
    let answer = renewed.call(&ECS, "RegisterContainerInstance", &input.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["containerInstance"]["containerInstanceArn"], arn);
    let listed = administrator(&server, "ListContainerInstances", &json!({}));
    assert_eq!(listed["containerInstanceArns"], json!([arn]));

    let error = refused(
        &server,
        &["cluster", "join-token", "default", "--for-amazon-agent", "--server", "https://berth.example:5000"],
    );
    assert!(error.contains("443 only"), "{error}");
}
