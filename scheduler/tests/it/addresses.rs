//! Addresses of services: what agents are told, and that a task is stopped only after they let go of it.

use std::time::Duration;

use scheduler_protocol::{
    AgentMessage, BerthEndpointsMessage, BerthEndpointsReport, FailedListener, ServingTask,
};
use serde_json::{Value, json};

use crate::support::{Agent, Behaviour, Server, eventually};

/// An agent that listens for services.
async fn proxy(server: &Server, address: &str) -> Agent {
    let mut agent = Agent::enrol(server, json!({})).await;
    agent.register(attributes(address)).await.unwrap();
    agent.connect(Behaviour::Obeys).await.unwrap();
    agent
}

fn attributes(address: &str) -> Value {
    json!({"attributes": [
        {"name": "berth.agent", "value": "0.1.0"}, {"name": "berth.proxy", "value": "1"},
        {"name": "berth.address", "value": address}, {"name": "berth.listen", "value": "0.0.0.0"}]})
}

/// Waits for a set as wanted.
async fn set(
    agent: &Agent,
    what: &str,
    wanted: impl Fn(&BerthEndpointsMessage) -> bool,
) -> BerthEndpointsMessage {
    eventually(what, || async { agent.log.lock().endpoints.last().filter(|set| wanted(set)).cloned() }).await
}

fn tasks(set: &BerthEndpointsMessage) -> Vec<&str> {
    set.services.iter().flat_map(|service| &service.targets).map(|target| target.task_id.as_str()).collect()
}

fn report(version: i64) -> BerthEndpointsReport {
    BerthEndpointsReport { version, ..Default::default() }
}

fn stops(agent: &Agent, task: &str) -> usize {
    let log = agent.log.lock();
    log.payloads
        .iter()
        .filter(|payload| payload.desired_status == "STOPPED" && payload.arn.ends_with(task))
        .count()
}

async fn service(server: &Server, count: u32, drain: &str) {
    server.define("web", json!({"portMappings": [{"containerPort": 80}]})).await;
    let tags = json!([{"key": "berth:listen", "value": "8080"}, {"key": "berth:drain", "value": drain}]);
    let input = json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": count, "tags": tags});
    server.ecs("CreateService", input).await;
}

#[tokio::test]
async fn a_task_is_stopped_once_every_agent_has_let_go_of_it() {
    let server = Server::start().await;
    let one = proxy(&server, "10.0.0.1").await;
    let other = proxy(&server, "10.0.0.2").await;
    // An agent that does not listen is told nothing and waited for never.
    let foreign = Agent::join(&server, Behaviour::Obeys).await;
    service(&server, 1, "60").await;
    let told = set(&one, "the task is told", |set| tasks(set).len() == 1).await;
    let target = &told.services[0].targets[0];
    assert_eq!((told.services[0].listen_port, target.container_port, target.host_port), (8080, 80, 32768));
    let (host, host_address) =
        if one.running().is_empty() { (&other, "10.0.0.2") } else { (&one, "10.0.0.1") };
    assert_eq!((target.address.as_str(), target.container_name.as_str()), (host_address, "main"));
    let task = target.task_id.clone();

    server.ecs("StopTask", json!({ "task": task })).await;
    let gone = set(&one, "the task is out", |set| !tasks(set).contains(&task.as_str())).await;
    assert!(gone.version > told.version);
    set(&other, "the task is out", |set| set.version >= gone.version).await;
    one.say(AgentMessage::EndpointsReport(report(gone.version)));
    let held = BerthEndpointsReport { draining: vec![task.clone()], ..report(gone.version) };
    other.say(AgentMessage::EndpointsReport(held));
    // One agent's connections still go on: longer than any other wait would last.
    tokio::time::sleep(Duration::from_millis(5500)).await;
    assert_eq!(stops(host, &task), 0);
    other.say(AgentMessage::EndpointsReport(report(gone.version)));
    eventually("the stop", || async { (stops(host, &task) == 1).then_some(()) }).await;
    assert!(foreign.log.lock().endpoints.is_empty());
}

#[tokio::test]
async fn nobody_is_waited_for_without_end() {
    let server = Server::start().await;
    let silent = proxy(&server, "10.0.0.1").await;
    service(&server, 1, "1").await;
    let told = set(&silent, "the task is told", |set| tasks(set).len() == 1).await;
    let task = tasks(&told)[0].to_owned();
    server.ecs("StopTask", json!({ "task": task })).await;
    eventually("the stop", || async { (stops(&silent, &task) == 1).then_some(()) }).await;
    assert!(!tasks(silent.log.lock().endpoints.last().unwrap()).contains(&task.as_str()));
    // A set that was not answered is sent again.
    let count = silent.log.lock().endpoints.len();
    eventually("the set again", || async { (silent.log.lock().endpoints.len() > count).then_some(()) }).await;
}

#[tokio::test]
async fn what_an_agent_says_of_its_tasks_counts_at_once_and_after_a_restart() {
    let server = Server::start().await;
    let mut host = proxy(&server, "10.0.0.1").await;
    let other = proxy(&server, "10.0.0.2").await;
    service(&server, 2, "0").await;
    let told = set(&other, "both tasks are told", |set| tasks(set).len() == 2).await;
    let own: Vec<String> =
        host.running().iter().map(|arn| arn.rsplit('/').next().unwrap().to_owned()).collect();
    let serving = |ids: &[String]| {
        let task = |id: &String| ServingTask { task_id: id.clone(), containers: vec!["main".into()] };
        BerthEndpointsReport { serving: ids.iter().map(task).collect(), ..report(told.version) }
    };
    host.say(AgentMessage::EndpointsReport(serving(&own)));
    host.say(AgentMessage::EndpointsReport(serving(&own[1..])));
    set(&other, "the dead task is out", |set| !tasks(set).contains(&own[0].as_str())).await;
    host.say(AgentMessage::EndpointsReport(serving(&own)));
    set(&other, "it is back", |set| tasks(set).contains(&own[0].as_str())).await;

    // A port that is taken is an event, once, and gone with the next word.
    let failed = vec![FailedListener { port: 8080, reason: "0.0.0.0:8080 is taken by nginx (pid 7)".into() }];
    let taken = BerthEndpointsReport { failed, ..serving(&own) };
    for word in [taken.clone(), serving(&own), taken.clone(), taken] {
        host.say(AgentMessage::EndpointsReport(word));
    }
    let said = eventually("events", || async {
        let service = server.service("web").await;
        let events: Vec<String> =
            service["events"].as_array().unwrap().iter().map(|event| event["message"].to_string()).collect();
        let about: Vec<String> = events.into_iter().filter(|event| event.contains(host.id())).collect();
        (about.len() == 3).then_some(about)
    })
    .await;
    assert!(
        said[0].contains("is taken by nginx (pid 7)") && said[1].contains("listens on port 8080"),
        "{said:?}"
    );
    let address = server.service("web").await["berthAddress"].clone();
    assert_eq!((&address["port"], &address["name"]), (&json!(8080), &json!("web.default.berth.internal")));
    let hosts = address["hosts"].as_array().unwrap();
    let own_host = hosts.iter().find(|one| one["containerInstanceArn"] == host.arn.as_str()).unwrap();
    assert_eq!((&own_host["status"], &own_host["addresses"]), (&json!("FAILED"), &json!(["10.0.0.1"])));

    // The set after a restart is that of before.
    host.vanish();
    let server = server.restart().await;
    host.connect(Behaviour::Obeys).await.unwrap();
    let known = host.log.lock().endpoints.len();
    let again = set(&host, "the set of the new server", |_| true).await;
    assert!(known > 0 && again.version >= told.version);
    assert_eq!(tasks(&again).len(), 2);
    drop(server);
}

#[tokio::test]
async fn a_port_is_a_tasks_or_a_services_on_hosts_that_listen() {
    let server = Server::start().await;
    let host = proxy(&server, "10.0.0.1").await;
    server.define("static", json!({"portMappings": [{"containerPort": 80, "hostPort": 8080}]})).await;
    let started = server.ecs("RunTask", json!({"taskDefinition": "static"})).await;
    let task = started["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    let id = task.rsplit('/').next().unwrap();

    server.define("web", json!({"portMappings": [{"containerPort": 80}]})).await;
    let create = |port: &str| {
        let tags = json!([{"key": "berth:listen", "value": port}]);
        json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 1, "tags": tags})
    };
    let refused = server.refused("CreateService", create("8080")).await;
    let names_the_task = format!("port 8080 is the hostPort of task {id}");
    assert!(refused.message.contains(&names_the_task), "{}", refused.message);
    server.ecs("StopTask", json!({ "task": task })).await;
    server.ecs("CreateService", create("8080")).await;

    let answer = server.ecs("RunTask", json!({"taskDefinition": "static"})).await;
    assert_eq!(answer["failures"][0]["reason"], "RESOURCE:PORTS", "{answer}");
    let on_it = json!({"taskDefinition": "static", "containerInstances": [host.arn]});
    assert_eq!(server.ecs("StartTask", on_it).await["failures"][0]["reason"], "RESOURCE:PORTS");
    // Where nobody listens the port is to be had.
    let plain = Agent::join(&server, Behaviour::Obeys).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "static"})).await;
    assert_eq!(answer["tasks"][0]["containerInstanceArn"], plain.arn.as_str(), "{answer}");

    // The host's network needs no hostPort to take a port.
    let on_host =
        json!([{"name": "main", "image": "x", "memory": 16, "portMappings": [{"containerPort": 9090}]}]);
    let on_host = json!({"family": "host", "networkMode": "host", "containerDefinitions": on_host});
    server.ecs("RegisterTaskDefinition", on_host).await;
    let mut own = create("9090");
    (own["serviceName"], own["taskDefinition"]) = ("own".into(), "host".into());
    assert!(
        server.refused("CreateService", own).await.message.contains("is the hostPort of container 'main'")
    );

    // It is free again with the service's end.
    server.ecs("DeleteService", json!({"service": "web", "force": true})).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "static", "count": 1})).await;
    assert_eq!(answer["tasks"][0]["containerInstanceArn"], host.arn.as_str(), "{answer}");
}
