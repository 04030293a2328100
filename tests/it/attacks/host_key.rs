//! One host's key, used against another host.

use std::net::TcpStream;

use serde_json::json;
use test_support::{Server, eventually};

use super::{Host, administrator, assert_denied, instance, poll_query};
use crate::signed::{BERTH, ECR, Signer};

/// Two hosts, the second one in the wrong hands, and a task that is placed on the first.
struct House {
    server: Server,
    victim: Host,
    thief: Host,
    task: String,
    /// The control connection of the first host.
    _connection: TcpStream,
}

impl House {
    fn new() -> Self {
        let server = Server::start();
        let (victim, thief) = (Host::working(&server), Host::working(&server));
        assert_ne!(victim.arn, thief.arn);
        let definition = json!({"family": "app", "containerDefinitions": [{"name": "app", "image": "busybox:1", "memory": 16}]});
        administrator(&server, "RegisterTaskDefinition", &definition);
        // StartTask places on an instance whose agent is connected.
        let (connection, answer) = victim.connect(&poll_query(&victim.arn));
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let input = json!({"taskDefinition": "app", "containerInstances": [victim.arn]});
        let task = eventually("the task is placed", || {
            let started = administrator(&server, "StartTask", &input);
            started["tasks"][0]["taskArn"].as_str().map(str::to_owned)
        });
        Self { server, victim, thief, task, _connection: connection }
    }

    fn task_status(&self) -> String {
        let described = administrator(&self.server, "DescribeTasks", &json!({"tasks": [self.task]}));
        described["tasks"][0]["lastStatus"].as_str().unwrap().to_owned()
    }
}

#[test]
fn it_opens_no_websocket_of_another_instance() {
    let house = House::new();
    let (own, others) = (&house.thief.arn, &house.victim.arn);
    for (what, open) in [
        ("poll", Host::poll as fn(&Host, &str) -> (u16, String)),
        ("telemetry", Host::telemetry as fn(&Host, &str) -> (u16, String)),
    ] {
        let (status, answer) = open(&house.thief, others);
        assert!(
            (400..=403).contains(&status) && answer.contains("AccessDeniedException"),
            "{what}: {answer}"
        );
        assert_eq!(open(&house.thief, own).0, 101, "{what}");
    }
    let bare = others.rsplit('/').next().unwrap();
    assert_ne!(house.thief.poll(bare).0, 101, "nor by its bare id");
    assert_eq!(house.victim.poll(others).0, 101);
}

#[test]
fn it_reports_nothing_about_tasks_of_another_host() {
    let house = House::new();
    let before = house.task_status();
    for (operation, input) in [
        ("SubmitTaskStateChange", json!({"task": house.task, "status": "STOPPED", "reason": "gone"})),
        ("SubmitTaskStateChange", json!({"task": house.task, "status": "RUNNING", "berthEpoch": 1})),
        (
            "SubmitContainerStateChange",
            json!({"task": house.task, "containerName": "app", "status": "STOPPED"}),
        ),
    ] {
        // A task of another host is as unknown to it as one that never was.
        let mut of_nobody = input.clone();
        let (cluster, _) = house.task.rsplit_once('/').unwrap();
        of_nobody["task"] = format!("{cluster}/{}", "0".repeat(32)).into();
        let (there, absent) = (house.thief.ecs(operation, &input), house.thief.ecs(operation, &of_nobody));
        assert_eq!((there.status, there.json()), (400, absent.json()), "{there:?}");
        assert_eq!(there.json()["message"], "The referenced task was not found.", "{operation}");
    }
    assert_eq!(house.task_status(), before);
    let own = house.victim.ecs("SubmitTaskStateChange", &json!({"task": house.task, "status": "STOPPED"}));
    assert_eq!(own.status, 200, "{own:?}");
    assert_eq!(house.task_status(), "STOPPED");
}

#[test]
fn it_neither_deregisters_nor_drains_nor_marks_another_instance() {
    let house = House::new();
    let (server, victim) = (&house.server, &house.victim.arn);
    let before = instance(server, victim);
    for (operation, input) in [
        ("DeregisterContainerInstance", json!({"containerInstance": victim, "force": true})),
        ("UpdateContainerInstancesState", json!({"containerInstances": [victim], "status": "DRAINING"})),
        ("PutAttributes", json!({"attributes": [{"name": "a", "value": "b", "targetId": victim}]})),
        ("DeleteAttributes", json!({"attributes": [{"name": "a", "targetId": victim}]})),
        ("TagResource", json!({"resourceArn": victim, "tags": [{"key": "a", "value": "b"}]})),
    ] {
        assert_denied(operation, &house.thief.ecs(operation, &input));
    }
    assert_eq!(instance(server, victim), before);
}

#[test]
fn it_does_not_register_as_another_instance() {
    let house = House::new();
    let before = instance(&house.server, &house.victim.arn);
    let claimed = house.thief.register(json!({"containerInstanceArn": house.victim.arn}));
    assert_denied("by ARN", &claimed);
    let id = house.victim.arn.rsplit('/').next().unwrap();
    assert_denied("by id", &house.thief.register(json!({"containerInstanceArn": id})));
    // The other host's client token, which names a request and no host.
    let repeated = house.thief.register(json!({"clientToken": "boot"}));
    assert_eq!(repeated.json()["containerInstance"]["containerInstanceArn"], house.thief.arn.as_str());
    assert_eq!(instance(&house.server, &house.victim.arn), before);
}

#[test]
fn it_is_good_for_nothing_but_the_work_of_a_host() {
    let house = House::new();
    for (operation, input) in [
        ("ListTasks", json!({})),
        ("DescribeTasks", json!({"tasks": [house.task]})),
        ("DescribeTaskDefinition", json!({"taskDefinition": "app"})),
        ("RunTask", json!({"taskDefinition": "app"})),
        ("StartTask", json!({"taskDefinition": "app", "containerInstances": [house.thief.arn]})),
        ("StopTask", json!({"task": house.task})),
        ("RegisterTaskDefinition", json!({"family": "x", "containerDefinitions": []})),
        ("DescribeContainerInstances", json!({"containerInstances": [house.victim.arn]})),
        ("ListContainerInstances", json!({})),
        ("ExecuteCommand", json!({"task": house.task, "command": "sh", "interactive": true})),
    ] {
        assert_denied(operation, &house.thief.ecs(operation, &input));
    }
    let signer = &house.thief.signer;
    let named = json!({"containerInstance": house.victim.arn}).to_string();
    for operation in ["CreateJoinToken", "ListJoinTokens", "RevokeJoinToken", "EnrolHost", "RevokeInstance"] {
        assert_denied(operation, &signer.call(&BERTH, operation, &named));
    }
    assert_denied("a registry login", &signer.call(&ECR, "GetAuthorizationToken", "{}"));
    let role = "AssumeRole&RoleArn=arn:aws:iam::000000000000:role/ecsTaskExecutionRole&RoleSessionName=thief";
    let answer = signer.query("sts", "2011-06-15", role);
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(house.victim.poll(&house.victim.arn).0, 101, "the other host is not harmed");
    let administrator = Signer::administrator(&house.server);
    let listed = administrator.call(&BERTH, "ListJoinTokens", "{}").json();
    assert_eq!(listed["joinTokens"].as_array().unwrap().len(), 2, "no token was made");
}
