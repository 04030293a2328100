//! Services: they keep their count, roll, drain and say why not.

use serde_json::{Value, json};

use crate::support::{Agent, Behaviour, Server, eventually, own_image};

/// What the waiter `services-stable` looks at.
fn is_stable(service: &Value) -> bool {
    service["deployments"].as_array().unwrap().len() == 1
        && service["runningCount"] == service["desiredCount"]
}

async fn stable(server: &Server, name: &str) -> Value {
    eventually("a stable service", || async { Some(server.service(name).await).filter(is_stable) }).await
}

fn events(service: &Value) -> Vec<String> {
    service["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_service_keeps_its_count_and_replaces_what_ends() {
    let server = Server::start().await;
    let agent = Agent::join(&server, Behaviour::Obeys).await;
    server.define("web", json!({})).await;
    let answer = server
        .ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 2}))
        .await;
    assert_eq!(answer["service"]["status"], json!("ACTIVE"));
    let service = stable(&server, "web").await;
    assert_eq!(service["runningCount"], json!(2));
    assert!(
        events(&service).iter().any(|event| event.starts_with("(service web) has started 2 tasks: (task "))
    );
    // It ended as soon as it ran: its replacement waits for a few seconds.
    let victim = agent.running()[0].clone();
    agent.end(&victim, 1).await;
    assert_eq!(server.service("web").await["runningCount"], json!(1));
    eventually("a replacement", || async {
        let tasks = server.ecs("ListTasks", json!({"serviceName": "web"})).await;
        let arns = tasks["taskArns"].as_array().unwrap().clone();
        (arns.len() == 2 && !arns.contains(&json!(victim))).then_some(())
    })
    .await;
    stable(&server, "web").await;
}

#[tokio::test]
async fn an_update_rolls_out_and_a_delete_empties() {
    let server = Server::start().await;
    let _agent = Agent::join(&server, Behaviour::Obeys).await;
    server.define("web", json!({})).await;
    server
        .ecs(
            "CreateService",
            json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 1,
        "deploymentConfiguration": {"minimumHealthyPercent": 0, "maximumPercent": 100}}),
        )
        .await;
    let before = stable(&server, "web").await;
    let second = server.define("web", json!({"command": ["two"]})).await;
    let updated = server.ecs("UpdateService", json!({"service": "web", "taskDefinition": "web"})).await;
    assert_eq!(updated["service"]["taskDefinition"], json!(second));
    assert_eq!(updated["service"]["deployments"].as_array().unwrap().len(), 2);
    let after = stable(&server, "web").await;
    assert_ne!(before["deployments"][0]["id"], after["deployments"][0]["id"]);
    assert_eq!(after["deployments"][0]["taskDefinition"], json!(second));
    let refused = server.refused("DeleteService", json!({"service": "web"})).await;
    assert_eq!(refused.message, "The service cannot be stopped while it is scaled above 0.");
    server.ecs("UpdateService", json!({"service": "web", "desiredCount": 0})).await;
    let deleted = server.ecs("DeleteService", json!({"service": "web"})).await;
    assert!(["DRAINING", "INACTIVE"].contains(&deleted["service"]["status"].as_str().unwrap()));
    eventually("INACTIVE", || async { (server.service("web").await["status"] == "INACTIVE").then_some(()) })
        .await;
    // A namesake begins without history.
    let again = server.ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "web"})).await;
    assert!(events(&again["service"]).iter().all(|event| !event.contains("has started")), "{again}");
}

#[tokio::test]
async fn a_rollout_that_cannot_place_its_task_says_so_with_the_fix() {
    let server = Server::start().await;
    let _agent = Agent::join(&server, Behaviour::Obeys).await;
    server.define("web", json!({"portMappings": [{"containerPort": 80, "hostPort": 8080}]})).await;
    server
        .ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 1}))
        .await;
    stable(&server, "web").await;
    server.ecs("UpdateService", json!({"service": "web", "forceNewDeployment": true})).await;
    let message = eventually("the event", || async {
        let service = server.service("web").await;
        events(&service).into_iter().find(|event| event.contains("was unable to place a task"))
    })
    .await;
    assert!(message.contains("is already using a port required by your task"), "{message}");
    assert!(message.contains("minimumHealthyPercent"), "{message}");
}

#[tokio::test]
async fn an_update_of_a_part_of_the_configuration_is_checked_with_the_rest() {
    let server = Server::start().await;
    server.define("web", json!({})).await;
    let percentages = json!({"minimumHealthyPercent": 50, "maximumPercent": 200});
    let input =
        json!({"serviceName": "web", "taskDefinition": "web", "deploymentConfiguration": percentages});
    server.ecs("CreateService", input).await;
    let update = |configuration: Value| json!({"service": "web", "deploymentConfiguration": configuration});
    server.ecs("UpdateService", update(json!({"maximumPercent": 100}))).await;
    let blocking = update(json!({"minimumHealthyPercent": 100}));
    let refused = server.refused("UpdateService", blocking).await;
    assert!(refused.message.contains("cannot be 100"), "{}", refused.message);
    let threshold = json!({"type": "COUNT", "value": 7});
    let breaker = json!({"enable": true, "rollback": false, "resetOnHealthyTask": false,
        "thresholdConfiguration": threshold});
    server.ecs("UpdateService", update(json!({"deploymentCircuitBreaker": breaker}))).await;
    let mut none = breaker.clone();
    none["thresholdConfiguration"]["value"] = json!(0);
    let refused = server.refused("UpdateService", update(json!({"deploymentCircuitBreaker": none}))).await;
    assert_eq!(refused.code, "InvalidParameterException");
    let refused = server.refused("UpdateService", update(json!({"earlySuccessCriteria": {}}))).await;
    assert_eq!(refused.code, "UnsupportedFeatureException");
    let configuration = server.service("web").await["deploymentConfiguration"].clone();
    assert_eq!(
        configuration,
        json!({"minimumHealthyPercent": 50, "maximumPercent": 100, "deploymentCircuitBreaker": breaker})
    );
}

#[tokio::test]
async fn a_missing_image_is_in_the_events_and_the_service_heals_when_it_comes() {
    let server = Server::start().await;
    let _agent = Agent::join(&server, Behaviour::Obeys).await;
    let image = "127.0.0.1:5000/late:1";
    server.define("late", json!({"image": image})).await;
    server
        .ecs("CreateService", json!({"serviceName": "late", "taskDefinition": "late", "desiredCount": 1}))
        .await;
    let service = server.service("late").await;
    assert!(events(&service).iter().any(|event| event.contains("CannotPullContainerError")), "{service}");
    let digest = server.registry.images.lock()[own_image()].clone();
    server.registry.images.lock().insert(image.into(), digest);
    stable(&server, "late").await;
}

#[tokio::test]
async fn a_drained_instance_empties_itself() {
    let server = Server::start().await;
    let (one, two) =
        (Agent::join(&server, Behaviour::Obeys).await, Agent::join(&server, Behaviour::Obeys).await);
    server.define("web", json!({})).await;
    server
        .ecs(
            "CreateService",
            json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 2,
        "deploymentConfiguration": {"minimumHealthyPercent": 0, "maximumPercent": 100}}),
        )
        .await;
    stable(&server, "web").await;
    let drained = server
        .ecs("UpdateContainerInstancesState", json!({"containerInstances": [one.arn], "status": "DRAINING"}))
        .await;
    assert_eq!(drained["containerInstances"][0]["status"], json!("DRAINING"));
    eventually("an empty instance", || async {
        let tasks = server.ecs("ListTasks", json!({"containerInstance": one.arn})).await;
        let moved = server.ecs("ListTasks", json!({"containerInstance": two.arn})).await;
        (tasks["taskArns"] == json!([]) && moved["taskArns"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tasks_that_never_start_are_retried_with_patience_and_counted() {
    let server = Server::start().await;
    let _agent = Agent::join(&server, Behaviour::Fails).await;
    server.define("bad", json!({})).await;
    server
        .ecs("CreateService", json!({"serviceName": "bad", "taskDefinition": "bad", "desiredCount": 1}))
        .await;
    let service = eventually("a failed task", || async {
        Some(server.service("bad").await)
            .filter(|service| service["deployments"][0]["failedTasks"] != json!(0))
    })
    .await;
    assert_eq!(service["deployments"][0]["rolloutState"], json!("IN_PROGRESS"));
    let stopped = server.ecs("ListTasks", json!({"serviceName": "bad", "desiredStatus": "STOPPED"})).await;
    assert_eq!(stopped["taskArns"].as_array().unwrap().len(), 1, "the second attempt waits");
    // Failures count on for as long as the deployment is the same.
    let updated = server.ecs("UpdateService", json!({"service": "bad", "desiredCount": 1})).await;
    let deployment = &updated["service"]["deployments"][0];
    assert_eq!(deployment["id"], service["deployments"][0]["id"]);
    assert!(deployment["failedTasks"].as_u64() >= Some(1), "{deployment}");
}

#[tokio::test]
async fn health_decides_and_reaches_the_api() {
    let server = Server::start().await;
    let agent = Agent::join_with(&server, json!({}), Behaviour::Obeys).await;
    server
        .ecs("PutAttributes", json!({"attributes": [{"name": "x", "value": "y", "targetId": agent.arn}]}))
        .await;
    let check = json!({"command": ["CMD", "true"]});
    let arn = server.define("web", json!({"healthCheck": check})).await;
    assert!(arn.ends_with("task-definition/web:1"));
    // The agent did not register the capability: the task is refused with the reason.
    let answer = server.ecs("RunTask", json!({"taskDefinition": "web"})).await;
    assert_eq!(answer["failures"][0]["reason"], json!("ATTRIBUTE"));
    let mut able = Agent::enrol(&server, json!({})).await;
    able.register(json!({"attributes": [{"name": "ecs.capability.container-health-check"}]})).await.unwrap();
    able.connect(Behaviour::Obeys).await.unwrap();
    let answer = server.ecs("RunTask", json!({"taskDefinition": "web"})).await;
    let task = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    eventually("RUNNING", || async { (server.task(&task).await["lastStatus"] == "RUNNING").then_some(()) })
        .await;
    assert_eq!(server.task(&task).await["healthStatus"], json!("UNKNOWN"));
    able.publish_health(&task, "main", "HEALTHY").await;
    assert_eq!(server.task(&task).await["healthStatus"], json!("HEALTHY"));
}

#[tokio::test]
async fn the_circuit_breaker_rolls_back_to_what_worked() {
    let server = Server::start().await;
    let mut agent = Agent::enrol(&server, json!({})).await;
    agent.register(json!({"attributes": [{"name": "ecs.capability.container-health-check"}]})).await.unwrap();
    agent.connect(Behaviour::Obeys).await.unwrap();
    server.define("web", json!({"healthCheck": {"command": ["CMD", "true"]}})).await;
    let configuration = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true}});
    let input = json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 3,
        "deploymentConfiguration": configuration});
    server.ecs("CreateService", input).await;
    stable(&server, "web").await;
    for task in agent.running() {
        agent.publish_health(&task, "main", "HEALTHY").await;
    }
    let before = eventually("a completed deployment", || async {
        Some(server.service("web").await)
            .filter(|service| service["deployments"][0]["rolloutState"] == "COMPLETED")
    })
    .await;
    assert!(events(&before).contains(&"(service web) has reached a steady state.".to_owned()));
    server.define("web", json!({"image": "127.0.0.1:5000/never:1"})).await;
    server.ecs("UpdateService", json!({"service": "web", "taskDefinition": "web"})).await;
    let after = eventually("the rollback", || async {
        let service = server.service("web").await;
        let rolled_back = service["deployments"][0]["id"] == before["deployments"][0]["id"];
        (rolled_back && is_stable(&service)).then_some(service)
    })
    .await;
    assert_eq!(after["taskDefinition"], before["taskDefinition"]);
    assert!(events(&after).iter().any(|event| event.contains("rolling back to deployment")), "{after}");
    assert_eq!(agent.running().len(), 3, "what worked was never touched");
}

#[tokio::test]
async fn a_daemon_runs_once_on_every_instance() {
    let server = Server::start().await;
    let _one = Agent::join(&server, Behaviour::Obeys).await;
    server.define("logs", json!({})).await;
    let input = json!({"serviceName": "logs", "taskDefinition": "logs", "schedulingStrategy": "DAEMON"});
    let counted = json!({"serviceName": "x", "taskDefinition": "logs", "schedulingStrategy": "DAEMON", "desiredCount": 1});
    assert_eq!(server.refused("CreateService", counted).await.code, "InvalidParameterException");
    server.ecs("CreateService", input).await;
    assert_eq!(stable(&server, "logs").await["desiredCount"], json!(1));
    let two = Agent::join(&server, Behaviour::Obeys).await;
    eventually("the second daemon", || async { (two.running().len() == 1).then_some(()) }).await;
    assert_eq!(stable(&server, "logs").await["runningCount"], json!(2));
}

/// The tasks that a service has now, and whether it ever stopped one.
async fn kept(server: &Server, name: &str) -> (Value, bool) {
    let service = server.service(name).await;
    assert_eq!(service["desiredCount"], service["runningCount"], "{service}");
    let stopped = events(&service).iter().any(|event| event.contains("has stopped"));
    (server.ecs("ListTasks", json!({"serviceName": name})).await["taskArns"].clone(), stopped)
}

#[tokio::test]
async fn a_daemons_tasks_run_on_while_agents_or_the_server_restart() {
    let server = Server::start().await;
    let mut one = Agent::join(&server, Behaviour::Obeys).await;
    let mut two = Agent::join(&server, Behaviour::Obeys).await;
    server.define("logs", json!({})).await;
    let input = json!({"serviceName": "logs", "taskDefinition": "logs", "schedulingStrategy": "DAEMON"});
    server.ecs("CreateService", input).await;
    eventually("both", || async { (server.service("logs").await["runningCount"] == 2).then_some(()) }).await;
    let (tasks, _) = kept(&server, "logs").await;
    two.vanish();
    eventually("the end of the connection", || async {
        let input = json!({"containerInstances": [two.arn]});
        let answer = server.ecs("DescribeContainerInstances", input).await;
        (answer["containerInstances"][0]["agentConnected"] == false).then_some(())
    })
    .await;
    assert_eq!(kept(&server, "logs").await, (tasks.clone(), false));
    two.connect(Behaviour::Obeys).await.unwrap();
    assert_eq!(kept(&server, "logs").await, (tasks.clone(), false));
    let server = server.restart().await;
    one.connect(Behaviour::Obeys).await.unwrap();
    assert_eq!(kept(&server, "logs").await, (tasks.clone(), false));
    two.connect(Behaviour::Obeys).await.unwrap();
    assert_eq!(kept(&server, "logs").await, (tasks, false));
}

#[tokio::test]
async fn a_daemon_leaves_the_instance_that_does_not_match_any_more() {
    let server = Server::start().await;
    let (one, two) =
        (Agent::join(&server, Behaviour::Obeys).await, Agent::join(&server, Behaviour::Obeys).await);
    let attribute =
        |agent: &Agent| json!({"attributes": [{"name": "role", "value": "y", "targetId": agent.arn}]});
    server.define("logs", json!({})).await;
    let constraint = json!({"type": "memberOf", "expression": "attribute:role == y"});
    let input = json!({"serviceName": "logs", "taskDefinition": "logs", "schedulingStrategy": "DAEMON",
        "placementConstraints": [constraint]});
    server.ecs("CreateService", input).await;
    for agent in [&one, &two] {
        server.ecs("PutAttributes", attribute(agent)).await;
        eventually("its task", || async { (agent.running().len() == 1).then_some(()) }).await;
    }
    let newer = two.running();
    server.ecs("DeleteAttributes", attribute(&one)).await;
    eventually("the end of the older", || async { one.running().is_empty().then_some(()) }).await;
    assert_eq!(two.running(), newer);
    assert_eq!(stable(&server, "logs").await["desiredCount"], json!(1));
}

#[tokio::test]
async fn a_role_that_cannot_be_assumed_does_not_start_tasks_in_a_storm() {
    let server = Server::start().await;
    let mut agent = Agent::enrol(&server, json!({})).await;
    agent.register(json!({})).await.unwrap();
    agent.connect(Behaviour::Obeys).await.unwrap();
    let container = json!({"name": "main", "image": "busybox", "memory": 16});
    let definition =
        json!({"family": "web", "executionRoleArn": "noSuchRole", "containerDefinitions": [container]});
    server.ecs("RegisterTaskDefinition", definition).await;
    server
        .ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 1}))
        .await;
    eventually("the failure", || async {
        (server.service("web").await["deployments"][0]["failedTasks"] == json!(1)).then_some(())
    })
    .await;
    let stopped = server.ecs("ListTasks", json!({"desiredStatus": "STOPPED"})).await;
    assert_eq!(stopped["taskArns"].as_array().unwrap().len(), 1);
    assert!(agent.running().is_empty());
}
