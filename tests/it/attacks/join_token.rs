//! A join token, used for more than it was made for, and the end of the host that came by it.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{Engine, Server, eventually, eventually_within, run, try_run};

use super::{Host, administrator, assert_denied, berth, exchange, instance, resources, token};
use crate::signed::{BERTH, Signer};

#[test]
fn it_admits_one_host_however_often_it_is_replayed() {
    let mut server = Server::start();
    let stolen = token(&server, json!({}));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..8).map(|_| scope.spawn(|| exchange(&server, &stolen).status)).collect();
        attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 403)), "{statuses:?}");
    server.kill();
    server.start_again();
    let answer = exchange(&server, &stolen);
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(answer.json()["message"], "The join token has been used.");
}

#[test]
fn a_host_claims_no_more_than_its_token_allows() {
    let server = Server::start();
    let limits = json!({"maxCpu": 512, "maxMemory": 1024, "availabilityZone": "dmz",
                        "attributes": [{"name": "tier", "value": "low"}]});
    let mut host = Host::join(&server, limits);
    for claim in [resources(513, 1024), resources(512, 1025), resources(i64::from(i32::MAX), 1)] {
        let answer = host.register(json!({"totalResources": claim}));
        assert_eq!(answer.json()["__type"], "InvalidParameterException", "{answer:?}");
        assert!(answer.json()["message"].as_str().unwrap().contains("allows at most"), "{answer:?}");
    }
    assert_eq!(
        administrator(&server, "ListContainerInstances", &json!({}))["containerInstanceArns"],
        json!([])
    );
    let claim =
        json!([{"name": "tier", "value": "high"}, {"name": "ecs.availability-zone", "value": "vault"}]);
    let answer = host.register(json!({"totalResources": resources(512, 1024), "attributes": claim}));
    let registered = answer.json();
    host.arn = registered["containerInstance"]["containerInstanceArn"].as_str().unwrap().to_owned();
    let attributes = registered["containerInstance"]["attributes"].as_array().unwrap().clone();
    for expected in
        [json!({"name": "tier", "value": "low"}), json!({"name": "ecs.availability-zone", "value": "dmz"})]
    {
        assert!(attributes.contains(&expected), "{attributes:?}");
    }
    let put = json!({"attributes": [{"name": "tier", "value": "high", "targetId": host.arn}]});
    assert_denied("PutAttributes", &host.ecs("PutAttributes", &put));
    let again =
        host.register(json!({"containerInstanceArn": host.arn, "totalResources": resources(4096, 1024)}));
    assert_eq!(again.status, 400, "{again:?}");
    let known = instance(&server, &host.arn);
    assert_eq!(known["registeredResources"][0]["integerValue"], 512, "{known}");

    administrator(&server, "CreateCluster", &json!({"clusterName": "other"}));
    let elsewhere = host.register(json!({"cluster": "other", "totalResources": resources(1, 1)}));
    assert_denied("another cluster", &elsewhere);
    // A host without the attribute does not get it by saying so.
    let other =
        Host::join(&server, json!({})).register(json!({"attributes": [{"name": "tier", "value": "high"}]}));
    assert!(!other.json()["containerInstance"]["attributes"].to_string().contains("tier"), "{other:?}");
}

#[test]
fn a_token_that_is_good_for_nothing_gives_one_clear_message_and_changes_nothing() {
    let (server, foreign) = (Server::start(), Server::start());
    administrator(&server, "CreateCluster", &json!({"clusterName": "other"}));
    let made = berth(&server, &["cluster", "join-token", "default", "--ttl", "1s", "--output", "json"]);
    let expired = serde_json::from_str::<Value>(&made).unwrap();
    let revoked = serde_json::from_str::<Value>(&berth(
        &server,
        &["cluster", "join-token", "default", "--output", "json"],
    ))
    .unwrap();
    berth(&server, &["cluster", "join-tokens", "revoke", revoked["joinTokenId"].as_str().unwrap()]);
    let used = token(&server, json!({}));
    assert_eq!(exchange(&server, &used).status, 200);
    eventually("the first token's end", || {
        let listed = berth(&server, &["cluster", "join-tokens", "list"]);
        (listed.contains("EXPIRED") && listed.contains("REVOKED") && listed.contains("USED")).then_some(())
    });
    let text = |value: &Value| value["token"].as_str().unwrap().to_owned();
    for (token, expected) in [
        (text(&expired), "The join token expired at 20"),
        (text(&revoked), "The join token was revoked."),
        (used, "The join token has been used."),
        (token(&foreign, json!({})), "another server made it"),
        ("berth-join-x".to_owned(), "That is no join token."),
    ] {
        let data = tempfile::tempdir().unwrap();
        // A host of its own, without the server's data directory.
        let mut command = Command::new(server.berth([]).get_program());
        command.args(["agent", "--server", server.endpoint(), "--join", &token, "--data"]).arg(data.path());
        let refused = try_run(&mut command).unwrap_err();
        assert!(refused.contains(expected), "{expected}: {refused}");
        assert!(!data.path().join("joined.json").exists());
    }
}

#[test]
fn a_revoked_host_is_cut_off_within_a_second_and_its_tasks_are_replaced() {
    let server = Server::builder().config("instance_lease = 30").start();
    let engines = [Engine::start(), Engine::start()];
    let image = server.image("app:1");
    engines[0].build_busybox(&image, &[]);
    run(server.docker(&engines[0]).args(["push", &image]));
    let mut agents: Vec<_> = engines.iter().map(|engine| server.join(engine)).collect();
    let containers = json!([{"name": "app", "image": image, "cpu": 32, "memory": 16, "stopTimeout": 2}]);
    let role = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
    administrator(
        &server,
        "RegisterTaskDefinition",
        &json!({"family": "app", "executionRoleArn": role, "containerDefinitions": containers}),
    );
    let minute = Duration::from_secs(60);
    eventually_within(minute, "both hosts are connected", || {
        (berth(&server, &["instance", "list"]).matches("connected").count() == 2).then_some(())
    });
    administrator(
        &server,
        "CreateService",
        &json!({"serviceName": "app", "taskDefinition": "app", "desiredCount": 2}),
    );
    let on = |engine: &Engine| engine.containers("com.amazonaws.ecs.task-arn").len();
    eventually_within(minute, "one task on each host", || {
        (on(&engines[0]) == 1 && on(&engines[1]) == 1).then_some(())
    });
    let joined = std::fs::read_to_string(agents[1].data().join("joined.json")).unwrap();
    let joined: Value = serde_json::from_str(&joined).unwrap();
    let key = joined["answer"]["accessKeyId"].as_str().unwrap();
    let secret = joined["answer"]["secretAccessKey"].as_str().unwrap();
    let stolen = Signer::new(server.endpoint(), Some((key, secret)));
    let found = stolen.call(&crate::signed::ECS, "DiscoverPollEndpoint", "{}");
    assert_eq!(found.status, 200, "{found:?}");
    let task = engines[1].containers("com.amazonaws.ecs.task-arn").remove(0);
    let task = engines[1].inspect(&task, "{{index .Config.Labels \"com.amazonaws.ecs.task-arn\"}}");
    let described = administrator(&server, "DescribeTasks", &json!({"tasks": [task]}));
    let arn = described["tasks"][0]["containerInstanceArn"].as_str().unwrap().to_owned();

    let begun = Instant::now();
    let printed = berth(&server, &["instance", "revoke", &arn.rsplit('/').next().unwrap()[..12]]);
    assert!(printed.contains("is cut off"), "{printed}");
    let refused = stolen.call(&crate::signed::ECS, "DiscoverPollEndpoint", "{}");
    assert!((400..=403).contains(&refused.status), "{refused:?}");
    let described = administrator(&server, "DescribeTasks", &json!({"tasks": [task]}));
    assert_eq!(described["tasks"][0]["lastStatus"], "STOPPED");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    eventually_within(minute, "the task is replaced on the other host", || {
        (on(&engines[0]) == 2).then_some(())
    });
    // The connection was closed, and the host finds no way back with what it has.
    eventually("the agent is refused", || agents[1].log().contains("could not be").then_some(()));
    let listed = administrator(&server, "ListContainerInstances", &json!({}));
    assert_eq!(listed["containerInstanceArns"].as_array().unwrap().len(), 1);
    agents[1].kill();
    let listed = Signer::administrator(&server).call(&BERTH, "ListJoinTokens", "{}").json();
    assert!(listed["joinTokens"].as_array().unwrap().iter().all(|token| token["status"] == "USED"));
}
