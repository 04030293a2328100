//! Agents' connections: delivery, leases, fencing, restarts.

use std::time::Duration;

use serde_json::json;

use crate::support::{Agent, Behaviour, Server, Settings, eventually};

async fn agent_connected(server: &Server, agent: &Agent) -> bool {
    let described =
        server.ecs("DescribeContainerInstances", json!({"containerInstances": [agent.arn]})).await;
    described["containerInstances"][0]["agentConnected"] == json!(true)
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_new_connection() {
    let server = Server::start().await;
    let mut agent = Agent::join(&server, Behaviour::Ignores).await;
    server.define("web", json!({})).await;
    server.ecs("RunTask", json!({"taskDefinition": "web"})).await;
    eventually("the first delivery", || async { (!agent.log.lock().payloads.is_empty()).then_some(()) })
        .await;
    agent.vanish();
    agent.connect(Behaviour::Obeys).await.unwrap();
    eventually("the second delivery", || async { (agent.running().len() == 1).then_some(()) }).await;
    let delivered = agent.log.lock().payloads.iter().filter(|task| task.desired_status == "RUNNING").count();
    assert_eq!(delivered, 2);
    // Once acknowledged it does not come a third time.
    agent.vanish();
    agent.connect(Behaviour::Obeys).await.unwrap();
    eventually("the manifest", || async { (agent.log.lock().manifests.len() >= 2).then_some(()) }).await;
    let delivered = agent.log.lock().payloads.iter().filter(|task| task.desired_status == "RUNNING").count();
    assert_eq!(delivered, 2);
    let log = agent.log.lock();
    assert_eq!(log.manifests.last().unwrap().tasks.len(), 1);
}

#[tokio::test]
async fn a_lost_instance_gives_up_its_tasks_and_a_zombie_is_told_to_stop_them() {
    let server = Server::start_with(Settings { lease: Duration::from_millis(900) }).await;
    let mut one = Agent::join(&server, Behaviour::Obeys).await;
    let definition = json!({"family": "web", "executionRoleArn": "ecsTaskExecutionRole",
        "containerDefinitions": [{"name": "main", "image": "busybox", "memory": 16}]});
    server.ecs("RegisterTaskDefinition", definition).await;
    server
        .ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 2}))
        .await;
    eventually("two tasks", || async { (one.running().len() == 2).then_some(()) }).await;
    let orphans = one.running();
    let two = Agent::join(&server, Behaviour::Obeys).await;
    one.vanish();
    eventually("replacements", || async { (two.running().len() == 2).then_some(()) }).await;
    assert!(!agent_connected(&server, &one).await);
    let task = server.task(&orphans[0]).await;
    assert_eq!(task["lastStatus"], json!("STOPPED"));
    assert_eq!(task["stopCode"], json!("InfrastructureHealth"));
    assert!(task["stoppedReason"].as_str().unwrap().contains("no word from its agent"));
    // The zombie comes back: its tasks are told to stop and get no credentials, and nothing it says of them is believed.
    one.log.lock().credentials.clear();
    one.connect(Behaviour::Obeys).await.unwrap();
    eventually("the stops", || async { one.running().is_empty().then_some(()) }).await;
    one.report(json!({"task": orphans[0], "status": "RUNNING", "berthEpoch": 1})).await.unwrap();
    assert_eq!(server.task(&orphans[0]).await["lastStatus"], json!("STOPPED"));
    assert_eq!(server.service("web").await["runningCount"], json!(2));
    assert!(agent_connected(&server, &one).await);
    assert!(one.log.lock().credentials.is_empty());
}

#[tokio::test]
async fn when_most_of_a_cluster_falls_silent_nothing_is_replaced_and_the_service_says_so() {
    let server = Server::start_with(Settings { lease: Duration::from_millis(900) }).await;
    let mut agents = Vec::new();
    for _ in 0..4 {
        agents.push(Agent::join(&server, Behaviour::Obeys).await);
    }
    server.define("web", json!({})).await;
    server
        .ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 4}))
        .await;
    eventually("four tasks", || async { (server.service("web").await["runningCount"] == 4).then_some(()) })
        .await;
    for agent in &mut agents[..3] {
        agent.vanish();
    }
    eventually("the event", || async {
        let service = server.service("web").await;
        let events = service["events"].as_array().unwrap().clone();
        events
            .iter()
            .any(|event| event["message"].as_str().unwrap().contains("3 of 4 container instances"))
            .then_some(())
    })
    .await;
    assert_eq!(server.service("web").await["runningCount"], json!(4));
}

#[tokio::test]
async fn a_restart_of_the_server_keeps_everything_and_loses_nobody() {
    let server = Server::start_with(Settings { lease: Duration::from_secs(5) }).await;
    let mut agent = Agent::join(&server, Behaviour::Obeys).await;
    server.define("web", json!({})).await;
    server
        .ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 2}))
        .await;
    eventually("two tasks", || async { (server.service("web").await["runningCount"] == 2).then_some(()) })
        .await;
    let mut before = agent.running();
    let server = server.restart().await;
    eventually("the end of the connection", || async { (!agent.is_connected()).then_some(()) }).await;
    agent.connect(Behaviour::Obeys).await.unwrap();
    eventually("the connection", || async { agent_connected(&server, &agent).await.then_some(()) }).await;
    let service = server.service("web").await;
    assert_eq!((&service["runningCount"], &service["status"]), (&json!(2), &json!("ACTIVE")));
    let mut after = agent.running();
    before.sort();
    after.sort();
    assert_eq!(before, after);
    assert_eq!(
        server.ecs("DescribeTaskDefinition", json!({"taskDefinition": "web"})).await["taskDefinition"]["revision"],
        json!(1)
    );
    let manifest = agent.log.lock().manifests.last().cloned().unwrap();
    assert_eq!(manifest.tasks.len(), 2);
}

#[tokio::test]
async fn an_agent_that_runs_what_it_should_not_is_told_to_stop_exactly_that() {
    let server = Server::start().await;
    let mut agent = Agent::join(&server, Behaviour::Obeys).await;
    server.define("web", json!({})).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "web", "count": 2})).await;
    eventually("two tasks", || async { (agent.running().len() == 2).then_some(()) }).await;
    let over = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    // The agent forgot that it had reported the end of this one.
    agent.end(&over, 0).await;
    agent.vanish();
    agent.connect(Behaviour::Obeys).await.unwrap();
    let ack = eventually("the verdict", || async { agent.log.lock().stop_acks.first().cloned() }).await;
    let stopped: Vec<&str> = ack.stop_tasks.iter().map(|task| task.task_arn.as_str()).collect();
    assert_eq!(stopped, [over.as_str()]);
    assert_eq!(agent.running().len(), 1);
}

#[tokio::test]
async fn what_an_agent_says_of_itself_when_it_connects_is_kept() {
    let server = Server::start().await;
    let agent = Agent::join(&server, Behaviour::Obeys).await;
    let described =
        server.ecs("DescribeContainerInstances", json!({"containerInstances": [agent.arn]})).await;
    let versions = &described["containerInstances"][0]["versionInfo"];
    assert_eq!(*versions, json!({"agentVersion": "0.1.0", "dockerVersion": "DockerVersion: 20.10.24+dfsg1"}));
}

#[tokio::test]
async fn a_silent_connection_is_closed_when_the_lease_is_over() {
    let server = Server::start_with(Settings { lease: Duration::from_millis(600) }).await;
    let agent = Agent::join(&server, Behaviour::Ignores).await;
    eventually("the close", || async { (!agent.is_connected()).then_some(()) }).await;
    eventually("agentConnected false", || async { (!agent_connected(&server, &agent).await).then_some(()) })
        .await;
}

#[tokio::test]
async fn who_may_not_connect_is_told_why_in_the_agents_own_words() {
    let server = Server::start().await;
    let mut agent = Agent::join(&server, Behaviour::Obeys).await;
    let own = agent.arn.clone();
    agent.vanish();
    let unknown =
        "arn:aws:ecs:us-east-1:000000000000:container-instance/default/0123456789abcdef0123456789abcdef";
    for (arn, name) in [
        (unknown, "InvalidInstanceException"),
        ("arn:aws:ecs:us-east-1:000000000000:container-instance/other/0123", "InvalidInstanceException"),
        ("not an instance", "InvalidInstanceException"),
    ] {
        agent.arn = arn.into();
        let (status, body) = agent.connect(Behaviour::Obeys).await.unwrap_err();
        assert!((400..500).contains(&status) && body.contains(name), "{arn}: {status} {body}");
    }
    agent.arn = own;
    server.ecs("DeregisterContainerInstance", json!({"containerInstance": agent.arn, "force": true})).await;
    let (_, body) = agent.connect(Behaviour::Obeys).await.unwrap_err();
    assert!(body.contains("InactiveInstanceException"), "{body}");
    let (status, _) = crate::support::get(&server, "/ws?clusterArn=default&containerInstanceArn=x").await;
    assert!((400..500).contains(&status), "an unsigned request");
}
