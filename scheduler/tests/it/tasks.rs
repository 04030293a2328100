//! RunTask, StartTask and StopTask, with an agent that does what it is told.

use serde_json::json;

use crate::support::{Agent, Behaviour, DIGEST, Server, eventually};

#[tokio::test]
async fn a_task_runs_on_an_agent_and_stops_again() {
    let server = Server::start().await;
    let agent = Agent::join(&server, Behaviour::Obeys).await;
    let definition =
        server.define("web", json!({"portMappings": [{"containerPort": 80, "hostPort": 8080}]})).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "web"})).await;
    assert_eq!(answer["failures"], json!([]));
    let task = &answer["tasks"][0];
    let arn = task["taskArn"].as_str().unwrap();
    assert_eq!((&task["lastStatus"], &task["desiredStatus"]), (&json!("PENDING"), &json!("RUNNING")));
    assert_eq!(task["taskDefinitionArn"], json!(definition));
    assert_eq!(task["containerInstanceArn"], json!(agent.arn));
    assert_eq!(task["group"], json!("family:web"));
    let task = eventually("RUNNING", || async {
        Some(server.task(arn).await).filter(|task| task["lastStatus"] == "RUNNING")
    })
    .await;
    assert_eq!(task["containers"][0]["networkBindings"][0]["hostPort"], json!(8080));
    assert_eq!(task["containers"][0]["imageDigest"], json!(DIGEST));
    {
        let log = agent.log.lock();
        let container = &log.payloads[0].containers[0];
        assert_eq!(container.berth_image.as_ref().unwrap().digest, DIGEST);
        assert_eq!(container.image, "127.0.0.1:5000/app:1");
    }
    let stopped = server.ecs("StopTask", json!({"task": arn, "reason": "enough"})).await;
    assert_eq!(stopped["task"]["desiredStatus"], json!("STOPPED"));
    let task = eventually("STOPPED", || async {
        Some(server.task(arn).await).filter(|task| task["lastStatus"] == "STOPPED")
    })
    .await;
    assert_eq!((&task["stopCode"], &task["stoppedReason"]), (&json!("UserInitiated"), &json!("enough")));
    assert!(task["stoppedAt"].is_f64() || task["stoppedAt"].is_i64());
}

#[tokio::test]
async fn ten_tasks_fill_an_instance_and_the_rest_fails_with_the_reason() {
    let server = Server::start().await;
    let agent = Agent::join(&server, Behaviour::Obeys).await;
    server.define("big", json!({"memory": 700})).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "big", "count": 10})).await;
    assert_eq!(answer["tasks"].as_array().unwrap().len(), 5);
    assert_eq!(answer["failures"], json!([{"arn": agent.arn, "reason": "RESOURCE:MEMORY"}]));
    let described =
        server.ecs("DescribeContainerInstances", json!({"containerInstances": [agent.arn]})).await;
    let remaining = &described["containerInstances"][0]["remainingResources"];
    assert_eq!(remaining[1]["integerValue"], json!(4096 - 5 * 700));
}

#[tokio::test]
async fn a_missing_image_ends_the_task_with_the_registrys_reason() {
    let server = Server::start().await;
    let _agent = Agent::join(&server, Behaviour::Obeys).await;
    server.define("gone", json!({"image": "127.0.0.1:5000/gone:1"})).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "gone"})).await;
    let task = server.task(answer["tasks"][0]["taskArn"].as_str().unwrap()).await;
    assert_eq!(task["lastStatus"], json!("STOPPED"));
    assert_eq!(task["stopCode"], json!("TaskFailedToStart"));
    let reason = "CannotPullContainerError: 127.0.0.1:5000/gone:1: not found";
    assert_eq!((&task["stoppedReason"], &task["containers"][0]["reason"]), (&json!(reason), &json!(reason)));
}

#[tokio::test]
async fn a_task_that_fails_to_start_or_exits_says_so() {
    let server = Server::start().await;
    let failing = Agent::join(&server, Behaviour::Fails).await;
    server.define("web", json!({})).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "web"})).await;
    let arn = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    let task = eventually("the failure", || async {
        Some(server.task(&arn).await).filter(|task| task["lastStatus"] == "STOPPED")
    })
    .await;
    assert_eq!(task["stopCode"], json!("TaskFailedToStart"));
    assert_eq!(task["stoppedReason"], json!("CannotStartContainerError: no such file"));
    server.ecs("DeregisterContainerInstance", json!({"containerInstance": failing.arn})).await;

    let agent = Agent::join(&server, Behaviour::Obeys).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "web"})).await;
    let arn = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    eventually("RUNNING", || async { (server.task(&arn).await["lastStatus"] == "RUNNING").then_some(()) })
        .await;
    agent.end(&arn, 3).await;
    let task = server.task(&arn).await;
    assert_eq!(task["stopCode"], json!("EssentialContainerExited"));
    assert_eq!(task["stoppedReason"], json!("Essential container in task exited"));
    assert_eq!(task["containers"][0]["exitCode"], json!(3));
    // What is over stays over, and the late report is no error.
    agent.report(json!({"task": arn, "status": "RUNNING"})).await.unwrap();
    assert_eq!(server.task(&arn).await["lastStatus"], json!("STOPPED"));
}

#[tokio::test]
async fn the_same_client_token_starts_nothing_twice() {
    let server = Server::start().await;
    let _agent = Agent::join(&server, Behaviour::Obeys).await;
    server.define("web", json!({})).await;
    let input = json!({"taskDefinition": "web", "clientToken": "once"});
    let first = server.ecs("RunTask", input.clone()).await;
    let second = server.ecs("RunTask", input).await;
    assert_eq!(first["tasks"][0]["taskArn"], second["tasks"][0]["taskArn"]);
    let other = json!({"taskDefinition": "web", "clientToken": "once", "count": 2});
    assert_eq!(server.refused("RunTask", other).await.code, "ConflictException");
    assert_eq!(server.ecs("ListTasks", json!({})).await["taskArns"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn overrides_reach_the_agent_and_lie_sealed_in_the_database() {
    let server = Server::start().await;
    let agent = Agent::join(&server, Behaviour::Obeys).await;
    let environment = json!([{"name": "A", "value": "canary-definition"}, {"name": "B", "value": "b"}]);
    server.define("web", json!({"environment": environment})).await;
    let overrides = json!({"containerOverrides": [
        {"name": "main", "command": ["go"], "environment": [{"name": "B", "value": "canary-override"}]}]});
    server.ecs("RunTask", json!({"taskDefinition": "web", "overrides": overrides})).await;
    let task = eventually("the payload", || async { agent.log.lock().payloads.first().cloned() }).await;
    let container = &task.containers[0];
    assert_eq!(container.command.as_deref(), Some(&["go".to_owned()][..]));
    assert_eq!(container.environment["A"], "canary-definition");
    assert_eq!(container.environment["B"], "canary-override");
    for entry in std::fs::read_dir(server.data()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(7).any(|window| window == b"canary-");
        assert!(!found, "{} holds a secret in the clear", path.display());
    }
}

#[tokio::test]
async fn start_task_names_its_instances_and_their_reasons() {
    let server = Server::start().await;
    let (one, two) =
        (Agent::join(&server, Behaviour::Obeys).await, Agent::join(&server, Behaviour::Obeys).await);
    server.define("port", json!({"portMappings": [{"containerPort": 80, "hostPort": 80}]})).await;
    let instances = json!([one.arn, two.id(), "0123456789abcdef0123456789abcdef", one.arn]);
    let answer =
        server.ecs("StartTask", json!({"taskDefinition": "port", "containerInstances": instances})).await;
    assert_eq!(answer["tasks"].as_array().unwrap().len(), 2);
    let reasons: Vec<&str> = answer["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons, ["MISSING", "RESOURCE:PORTS"]);
}

#[tokio::test]
async fn gpus_are_given_to_one_container_each_and_only_where_there_are_any() {
    let server = Server::start().await;
    let _plain = Agent::join(&server, Behaviour::Obeys).await;
    let gpus = |value: &str| json!({"resourceRequirements": [{"type": "GPU", "value": value}]});
    server.define("one", gpus("1")).await;
    let run = json!({"taskDefinition": "one"});
    let answer = server.ecs("RunTask", run.clone()).await;
    assert_eq!((&answer["tasks"], &answer["failures"][0]["reason"]), (&json!([]), &json!("RESOURCE:GPU")));
    let mut agent = Agent::enrol(&server, json!({})).await;
    let device = |id: &str, kind: &str| json!({"id": id, "type": kind});
    let devices = json!([device("gpu-a", "GPU"), device("gpu-b", "GPU"), device("0", "NEURON_DEVICE")]);
    agent.register(json!({"platformDevices": devices})).await.unwrap();
    agent.connect(Behaviour::Obeys).await.unwrap();
    let mut given = Vec::new();
    for _ in 0..2 {
        let answer = server.ecs("RunTask", run.clone()).await;
        assert_eq!(answer["tasks"][0]["containerInstanceArn"], json!(agent.arn), "{answer}");
        given.push(answer["tasks"][0].clone());
    }
    assert_eq!(given[0]["containers"][0]["gpuIds"], json!(["gpu-a"]));
    assert_eq!(given[1]["containers"][0]["gpuIds"], json!(["gpu-b"]));
    assert_eq!(server.ecs("RunTask", run.clone()).await["tasks"], json!([]));
    eventually("the tasks", || async { (agent.running().len() == 2).then_some(()) }).await;
    {
        let log = agent.log.lock();
        let association = &log.payloads[0].associations[0];
        assert_eq!((association.kind.as_str(), association.name.as_str()), ("gpu", "gpu-a"));
        assert_eq!(association.containers, ["main"]);
    }
    server.ecs("StopTask", json!({"task": given[0]["taskArn"]})).await;
    let input = json!({"containerInstances": [agent.arn]});
    let described = server.ecs("DescribeContainerInstances", input).await;
    let resources = |member: &str| {
        let resources = described["containerInstances"][0][member].as_array().unwrap();
        resources.iter().find(|resource| resource["name"] == "GPU").unwrap()["stringSetValue"].clone()
    };
    assert_eq!(resources("registeredResources"), json!(["gpu-a", "gpu-b"]));
    assert_eq!(resources("remainingResources"), json!(["gpu-a"]));
    server.define("all", gpus("ALL")).await;
    let refused = server.refused("RunTask", json!({"taskDefinition": "all"})).await;
    assert_eq!(refused.code, "UnsupportedFeatureException");
}
