//! Join tokens, enrolment and the binding of instance and principal.

use serde_json::{Value, json};

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
    // The code at which an agent gives up: its host may have been another principal when it had the task.
    let denied = two.report(json!({"task": task, "status": "STOPPED"})).await.unwrap_err();
    assert!(denied.to_string().contains("InvalidParameterException"), "{denied}");
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
    assert_eq!(server.refused("SubmitTaskStateChange", report).await.code, "InvalidParameterException");
    two.arn = own;
    two.register(json!({})).await.unwrap();
}

#[tokio::test]
async fn registering_again_is_the_same_instance_and_without_its_state_too() {
    let server = Server::start().await;
    let mut agent = Agent::enrol(&server, json!({})).await;
    let first = agent.register(json!({"clientToken": "boot"})).await.unwrap()["containerInstanceArn"].clone();
    let again = agent.register(json!({})).await.unwrap()["containerInstanceArn"].clone();
    assert_eq!(first, again);
    agent.connect(Behaviour::Obeys).await.unwrap();
    server.define("web", json!({})).await;
    let answer = server.ecs("RunTask", json!({"taskDefinition": "web"})).await;
    let task = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    agent.arn.clear();
    let retried =
        agent.register(json!({"clientToken": "boot"})).await.unwrap()["containerInstanceArn"].clone();
    assert_eq!(first, retried);
    assert_ne!(
        server.task(&task).await["lastStatus"],
        json!("STOPPED"),
        "a repeated request changes nothing"
    );
    agent.arn.clear();
    let anew =
        agent.register(json!({"clientToken": "another boot"})).await.unwrap()["containerInstanceArn"].clone();
    assert_eq!(first, anew);
    // What it ran it cannot know any more.
    assert_eq!(server.task(&task).await["lastStatus"], json!("STOPPED"));
    let listed = server.ecs("ListContainerInstances", json!({})).await;
    assert_eq!(listed["containerInstanceArns"], json!([anew]));
}

#[tokio::test]
async fn a_host_offers_no_more_than_its_token_allows() {
    let server = Server::start().await;
    let token = json!({"cluster": "default", "maxCpu": 1024, "maxMemory": 2048});
    let mut agent = Agent::enrol(&server, token).await;
    let resources = |cpu: i64, memory: i64| {
        json!({"totalResources": [{"name": "CPU", "type": "INTEGER", "integerValue": cpu},
                                  {"name": "MEMORY", "type": "LONG", "longValue": memory}]})
    };
    for (cpu, memory, expected) in [
        (
            1025,
            2048,
            "The host registers 1025 units of CPU, and the token by which it joined allows at most 1024.",
        ),
        (
            1024,
            2049,
            "The host registers 2049 MiB of MEMORY, and the token by which it joined allows at most 2048.",
        ),
    ] {
        let error = agent.register(resources(cpu, memory)).await.unwrap_err().to_string();
        assert!(error.contains("InvalidParameterException") && error.contains(expected), "{error}");
    }
    let listed = server.ecs("ListContainerInstances", json!({})).await;
    assert_eq!(listed["containerInstanceArns"], json!([]), "a refusal changes nothing");
    agent.register(resources(1024, 2048)).await.unwrap();
    // Nor when it registers again.
    assert!(agent.register(resources(2048, 2048)).await.is_err());
}

#[tokio::test]
async fn an_attribute_that_tokens_give_no_agent_of_the_cluster_can_claim() {
    let server = Server::start().await;
    let tier = json!({"cluster": "default", "attributes": [{"name": "tier", "value": "high"}]});
    let mut trusted = Agent::enrol(&server, tier).await;
    let mut other = Agent::enrol(&server, json!({})).await;
    let claim = json!({"attributes": [{"name": "tier", "value": "high"}, {"name": "mine", "value": "1"}]});
    for (agent, expected) in [(&mut trusted, true), (&mut other, false)] {
        let instance = agent.register(claim.clone()).await.unwrap();
        let names: Vec<&str> = instance["attributes"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["name"].as_str())
            .collect();
        assert_eq!((names.contains(&"tier"), names.contains(&"mine")), (expected, true), "{names:?}");
    }
    // Another cluster has operators' attributes of its own.
    server.ecs("CreateCluster", json!({"clusterName": "other"})).await;
    let mut elsewhere = Agent::enrol(&server, json!({"cluster": "other"})).await;
    let instance = elsewhere.register(claim).await.unwrap();
    assert!(instance["attributes"].to_string().contains("tier"));
}

#[tokio::test]
async fn a_token_admits_as_many_hosts_as_it_says_until_it_is_revoked() {
    let server = Server::start().await;
    let made = server.berth("CreateJoinToken", json!({"uses": 2, "availabilityZone": "rack-1"})).await;
    let exchange = |token: &Value| json!({ "token": token }).to_string();
    for (uses, status) in [(1, 200), (2, 200), (2, 403)] {
        let (answered, body) = post(&server, "/join", &exchange(&made["token"])).await;
        assert_eq!(answered, status, "{body}");
        let listed = server.berth("ListJoinTokens", json!({})).await;
        assert_eq!(listed["joinTokens"][0]["used"], json!(uses), "{listed}");
        assert!(!listed.to_string().contains(made["token"].as_str().unwrap()), "no list tells a token");
        if status == 403 {
            assert!(body.contains("used 2 times"), "{body}");
            assert_eq!(listed["joinTokens"][0]["status"], json!("USED"));
        }
    }
    let other = server.berth("CreateJoinToken", json!({"uses": 2})).await;
    let id = &other["joinTokenId"];
    let revoked = server.berth("RevokeJoinToken", json!({"joinTokenId": id})).await;
    assert_eq!(revoked["joinToken"]["status"], json!("REVOKED"));
    let (status, body) = post(&server, "/join", &exchange(&other["token"])).await;
    assert!(status == 403 && body.contains("revoked"), "{status} {body}");
    let short = server.berth("CreateJoinToken", json!({"expiresInSeconds": 1})).await;
    let expired = eventually("the token's end", || async {
        let listed = server.berth("ListJoinTokens", json!({})).await;
        let mut tokens = listed["joinTokens"].as_array().unwrap().iter();
        tokens
            .any(|one| one["joinTokenId"] == short["joinTokenId"] && one["status"] == "EXPIRED")
            .then_some(())
    });
    expired.await;
    let (status, body) = post(&server, "/join", &exchange(&short["token"])).await;
    assert!(status == 403 && body.contains("expired at"), "{status} {body}");
    let foreign = json!(format!("berth-join-{}", "ab".repeat(32)));
    let (status, body) = post(&server, "/join", &exchange(&foreign)).await;
    assert!(status == 403 && body.contains("another server"), "{status} {body}");
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let id = "0".repeat(32);
    for (input, expected) in [
        (json!({"uses": 0}), "uses must be between 1 and 1000."),
        (json!({"uses": 1001}), "uses must be between 1 and 1000."),
        (json!({"expiresInSeconds": 0}), "between 1 second and 7 days"),
        (json!({"expiresInSeconds": 604_801}), "between 1 second and 7 days"),
        (json!({"maxCpu": 0}), "maxCpu must be between"),
        (json!({"maxMemory": -1}), "maxMemory must be between"),
        (json!({"availabilityZone": ""}), "1 to 128 printable"),
        (json!({"attributes": [{"name": "ecs.os-type", "value": "x"}]}), "not for operators"),
        (json!({"attributes": [{"name": "a"}, {"name": "a", "value": "x"}]}), "given twice"),
        (json!({"containerInstance": id}), "container instance was not found"),
    ] {
        for operation in ["CreateJoinToken", "EnrolHost"] {
            if operation == "EnrolHost"
                && (input["uses"].is_number() || input["expiresInSeconds"].is_number())
            {
                continue;
            }
            let error = server.berth_refused(operation, input.clone()).await;
            assert!(error.message.contains(expected), "{operation} {input}: {}", error.message);
        }
    }
    assert_eq!(server.berth("ListJoinTokens", json!({})).await["joinTokens"], json!([]));
    let unknown = server.berth_refused("RevokeJoinToken", json!({"joinTokenId": "0"})).await;
    assert!(unknown.message.contains("has no join token 0"), "{}", unknown.message);
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

/// A host that has registered, is connected, and runs a task.
async fn working_host(server: &Server, machine: Option<&str>) -> (Agent, String) {
    let mut host = Agent::exchange(server, json!({}), machine, None).await.unwrap();
    host.register(json!({"clientToken": "boot"})).await.unwrap();
    host.connect(Behaviour::Obeys).await.unwrap();
    server.define("web", json!({})).await;
    let input = json!({"taskDefinition": "web", "containerInstances": [host.arn]});
    let task = server.ecs("StartTask", input).await["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    eventually("RUNNING", || async { (server.task(&task).await["lastStatus"] == "RUNNING").then_some(()) })
        .await;
    (host, task)
}

async fn status(server: &Server, task: &str) -> Value {
    server.task(task).await["lastStatus"].clone()
}

#[tokio::test]
async fn a_host_that_joins_again_with_its_key_stays_the_same_instance_and_the_key_is_void() {
    let server = Server::start().await;
    let (mut host, task) = working_host(&server, None).await;
    let token = json!({"availabilityZone": "rack-2"});
    let mut again = Agent::exchange(&server, token, None, Some(&host)).await.unwrap();
    eventually("the end of the connection", || async { (!host.is_connected()).then_some(()) }).await;
    assert!(host.register(json!({})).await.is_err(), "the key before is void");
    assert!(host.report(json!({"task": task, "status": "STOPPED"})).await.is_err());
    again.arn = host.arn.clone();
    let instance = again.register(json!({})).await.unwrap();
    assert_eq!(instance["containerInstanceArn"], json!(host.arn));
    assert!(instance["attributes"].to_string().contains("rack-2"), "what the new token fixes counts");
    again.connect(Behaviour::Obeys).await.unwrap();
    assert_eq!(status(&server, &task).await, json!("RUNNING"), "nothing that runs is touched");
    again.end(&task, 0).await;
    assert_eq!(status(&server, &task).await, json!("STOPPED"));
}

#[tokio::test]
async fn a_host_is_known_by_its_machine_when_its_key_is_lost() {
    let server = Server::start().await;
    let machine = "ab".repeat(32);
    let (mut host, task) = working_host(&server, Some(&machine)).await;
    // A copy of the machine's disk: the one that is connected stays who it is.
    let mut copy = Agent::exchange(&server, json!({}), Some(&machine), None).await.unwrap();
    copy.register(json!({})).await.unwrap();
    assert_ne!(copy.arn, host.arn);
    server.berth("RevokeInstance", json!({"containerInstance": copy.arn})).await;
    assert!(host.is_connected());
    host.vanish();
    eventually("the end of the connection", || async {
        let input = json!({"containerInstances": [host.arn]});
        let described = server.ecs("DescribeContainerInstances", input).await;
        (described["containerInstances"][0]["agentConnected"] == false).then_some(())
    })
    .await;
    let mut again = Agent::exchange(&server, json!({}), Some(&machine), None).await.unwrap();
    // A machine's name is not a key: what was placed on the host is over, and its credentials go nowhere.
    assert_eq!(status(&server, &task).await, json!("STOPPED"));
    assert!(host.register(json!({})).await.is_err(), "the key before is void");
    again.register(json!({"clientToken": "another boot"})).await.unwrap();
    assert_eq!(again.arn, host.arn);
    let elsewhere = "cd".repeat(32);
    let mut other = Agent::exchange(&server, json!({}), Some(&elsewhere), None).await.unwrap();
    other.register(json!({})).await.unwrap();
    assert_ne!(other.arn, host.arn);
}

#[tokio::test]
async fn a_token_for_an_instance_is_for_its_host_alone() {
    let server = Server::start().await;
    let (host, task) = working_host(&server, None).await;
    let (other, _) = working_host(&server, None).await;
    let token = json!({"containerInstance": host.arn});
    let refused = Agent::exchange(&server, token.clone(), None, Some(&other)).await.err().unwrap();
    assert!(refused.contains("another host than this one"), "{refused}");
    assert!(host.is_connected() && other.is_connected(), "a refusal changes nothing");
    let twice =
        server.berth_refused("CreateJoinToken", json!({"containerInstance": host.arn, "uses": 2})).await;
    assert!(twice.message.contains("used once"), "{}", twice.message);
    let mut again = Agent::exchange(&server, token, None, None).await.unwrap();
    again.arn = host.arn.clone();
    again.register(json!({})).await.unwrap();
    assert_eq!(status(&server, &task).await, json!("RUNNING"), "an operator said that it is the same");
}

#[tokio::test]
async fn a_token_of_another_cluster_moves_no_host() {
    let server = Server::start().await;
    server.ecs("CreateCluster", json!({"clusterName": "other"})).await;
    let (mut host, _) = working_host(&server, None).await;
    let token = json!({"cluster": "other"});
    let refused = Agent::exchange(&server, token, None, Some(&host)).await.err().unwrap();
    assert!(refused.contains("is for the cluster other, and this host belongs to default"), "{refused}");
    assert!(host.is_connected());
    host.register(json!({})).await.unwrap();
    let listed = server.berth("ListJoinTokens", json!({"cluster": "other"})).await;
    assert_eq!(listed["joinTokens"][0]["used"], json!(0), "the token is as good as before");
}

#[tokio::test]
async fn a_revoked_host_comes_back_as_another_one() {
    let server = Server::start().await;
    let machine = "ab".repeat(32);
    let (host, _) = working_host(&server, Some(&machine)).await;
    server.berth("RevokeInstance", json!({"containerInstance": host.arn})).await;
    let mut again = Agent::exchange(&server, json!({}), Some(&machine), Some(&host)).await.unwrap();
    again.register(json!({})).await.unwrap();
    assert_ne!(again.arn, host.arn);
}

#[tokio::test]
async fn a_deregistered_host_comes_back_as_another_instance_when_it_forgets_the_first() {
    let server = Server::start().await;
    let (mut host, _) = working_host(&server, None).await;
    let first = host.arn.clone();
    server.ecs("DeregisterContainerInstance", json!({"containerInstance": first, "force": true})).await;
    let refused = host.register(json!({})).await.unwrap_err().to_string();
    assert!(refused.contains(scheduler_protocol::INACTIVE_INSTANCE), "{refused}");
    assert!(refused.contains("join token"), "the remedy: {refused}");
    let mut again = Agent::exchange(&server, json!({}), None, Some(&host)).await.unwrap();
    again.register(json!({})).await.unwrap();
    assert_ne!(again.arn, first);
    again.connect(Behaviour::Obeys).await.unwrap();
}

#[tokio::test]
async fn a_drained_host_does_not_call_tasks_to_itself() {
    let server = Server::start().await;
    let agent = Agent::join(&server, Behaviour::Obeys).await;
    let update = |status: &str| json!({"containerInstances": [agent.arn], "status": status});
    agent
        .client
        .call(
            "ecs",
            "AmazonEC2ContainerServiceV20141113",
            "UpdateContainerInstancesState",
            &update("DRAINING"),
        )
        .await
        .unwrap();
    let refused = refused(&agent.client, "UpdateContainerInstancesState", update("ACTIVE")).await;
    assert_eq!(refused.code, "AccessDeniedException");
    let active = server.ecs("UpdateContainerInstancesState", update("ACTIVE")).await;
    assert_eq!(active["containerInstances"][0]["status"], json!("ACTIVE"));
}
