//! Join tokens, enrolment and the binding of instance and principal.

use serde_json::json;

use crate::support::{Agent, Behaviour, Server, eventually, post, refused};

#[tokio::test]
async fn a_token_works_once() {
    let server = Server::start().await;
    let token = server.berth("CreateJoinToken", json!({"cluster": "default"})).await["token"].clone();
    let body = json!({ "token": token }).to_string();
    // Two at once: one of them wins.
    let (one, two) = tokio::join!(post(&server, "/join", &body), post(&server, "/join", &body));
    let mut statuses = [one.0, two.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403]);
    assert_eq!(post(&server, "/join", &body).await.0, 403);
}

#[tokio::test]
async fn malformed_joins_are_refused() {
    let server = Server::start().await;
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        (r#"{"token":1}"#, 400),
        (r#"{"token":""}"#, 403),
        (r#"{"token":"berth-join-00"}"#, 403),
        (r#"{"token":"berth-join-0000000000000000000000000000000000000000000000000000000000000000"}"#, 403),
    ] {
        assert_eq!(post(&server, "/join", body).await.0, status, "{body}");
    }
    assert_eq!(post(&server, "/join", &"x".repeat(20_000)).await.0, 413);
}

#[tokio::test]
async fn what_the_token_fixed_a_host_cannot_change() {
    let server = Server::start().await;
    server.ecs("CreateCluster", json!({"clusterName": "other"})).await;
    let token = json!({"cluster": "default", "availabilityZone": "rack-1", "attributes": [{"name": "disk", "value": "ssd"}]});
    let mut agent = Agent::enrol(&server, token).await;
    let elsewhere = agent.register(json!({"cluster": "other"})).await.unwrap_err();
    assert!(elsewhere.to_string().contains("AccessDeniedException"), "{elsewhere}");
    let claimed = json!({"attributes": [
        {"name": "disk", "value": "floppy"}, {"name": "ecs.availability-zone", "value": "rack-9"}, {"name": "mine"}]});
    let instance = agent.register(claimed).await.unwrap();
    let attributes = instance["attributes"].as_array().unwrap();
    let value = |name: &str| {
        let found = attributes.iter().find(|attribute| attribute["name"] == name);
        found.map(|attribute| attribute["value"].clone())
    };
    assert_eq!(value("disk"), Some(json!("ssd")));
    assert_eq!(value("ecs.availability-zone"), Some(json!("rack-1")));
    assert!(value("mine").is_some());
    let put = json!({"attributes": [{"name": "gpu", "value": "yes", "targetId": agent.arn}]});
    assert_eq!(refused(&agent.client, "PutAttributes", put).await.code, "AccessDeniedException");
}

#[tokio::test]
async fn only_the_bound_principal_speaks_for_an_instance() {
    let server = Server::start().await;
    let one = Agent::join(&server, Behaviour::Obeys).await;
    let mut two = Agent::join(&server, Behaviour::Obeys).await;
    server.define("web", json!({})).await;
    let answer =
        server.ecs("StartTask", json!({"taskDefinition": "web", "containerInstances": [one.arn]})).await;
    let task = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    let denied = two.report(json!({"task": task, "status": "STOPPED"})).await.unwrap_err();
    assert!(denied.to_string().contains("AccessDeniedException"), "{denied}");
    let own = two.arn.clone();
    two.arn = one.arn.clone();
    assert!(two.register(json!({})).await.is_err());
    two.arn = one.arn.clone();
    let (status, body) = two.connect(Behaviour::Obeys).await.unwrap_err();
    assert!((400..=403).contains(&status) && body.contains("AccessDeniedException"), "{status} {body}");
    let cut_off = json!({"containerInstance": one.arn, "force": true});
    assert_eq!(
        refused(&two.client, "DeregisterContainerInstance", cut_off).await.code,
        "AccessDeniedException"
    );
    let drain = json!({"containerInstances": [one.arn], "status": "DRAINING"});
    assert_eq!(
        refused(&two.client, "UpdateContainerInstancesState", drain).await.code,
        "AccessDeniedException"
    );
    // The administrator has every right and is still not the host.
    let report = json!({"task": task, "status": "STOPPED"});
    assert_eq!(server.refused("SubmitTaskStateChange", report).await.code, "AccessDeniedException");
    two.arn = own;
    two.register(json!({})).await.unwrap();
}

#[tokio::test]
async fn registering_again_is_the_same_instance_and_without_its_state_another() {
    let server = Server::start().await;
    let mut agent = Agent::enrol(&server, json!({})).await;
    let first = agent.register(json!({"clientToken": "boot"})).await.unwrap()["containerInstanceArn"].clone();
    let again = agent.register(json!({})).await.unwrap()["containerInstanceArn"].clone();
    assert_eq!(first, again);
    agent.arn.clear();
    let retried =
        agent.register(json!({"clientToken": "boot"})).await.unwrap()["containerInstanceArn"].clone();
    assert_eq!(first, retried);
    agent.arn.clear();
    let anew =
        agent.register(json!({"clientToken": "another boot"})).await.unwrap()["containerInstanceArn"].clone();
    assert_ne!(first, anew);
    let listed = server.ecs("ListContainerInstances", json!({})).await;
    assert_eq!(listed["containerInstanceArns"], json!([anew]));
}

#[tokio::test]
async fn a_revoked_host_is_cut_off_within_a_second() {
    let server = Server::start().await;
    let agent = Agent::join(&server, Behaviour::Obeys).await;
    server.define("web", json!({})).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "web"})).await;
    let task = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    eventually("RUNNING", || async { (server.task(&task).await["lastStatus"] == "RUNNING").then_some(()) })
        .await;
    let begun = std::time::Instant::now();
    server.berth("RevokeInstance", json!({"containerInstance": agent.arn})).await;
    eventually("the end of the connection", || async { (!agent.is_connected()).then_some(()) }).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(1));
    assert!(agent.report(json!({"task": task, "status": "RUNNING"})).await.is_err());
    assert_eq!(server.task(&task).await["lastStatus"], json!("STOPPED"));
}
