//! Every operation has an authorization case; PassRole and the host's keys hold where tasks come from.

use policies_identity::{Check, RequestContext, Resource};
use serde_json::{Value, json};

use crate::support::{Agent, Behaviour, Server, eventually, refused};

async fn checks(server: &Server, operation: &str, input: Value) -> Vec<Check> {
    let ctx = RequestContext::local(0);
    let api = server.scheduler.ecs_api();
    api.checks(&ctx, &server.identity.anonymous(), operation, &input).await.unwrap()
}

fn key<'a>(check: &'a Check, name: &str) -> Option<&'a policies::ContextValue> {
    check.context.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

#[tokio::test]
async fn every_operation_has_an_authorization_case_that_fails_closed() {
    let server = Server::start().await;
    let hostile = json!({"cluster": "a b", "taskDefinition": 7, "services": "x", "tags": 1, "overrides": []});
    for operation in server.scheduler.ecs_api().operations() {
        for input in [json!({}), json!([]), hostile.clone()] {
            let checks = checks(&server, operation, input).await;
            assert!(!checks.is_empty(), "{operation}");
            assert_eq!(checks[0].action, format!("ecs:{operation}"));
        }
    }
}

#[tokio::test]
async fn roles_are_passed_after_overrides_in_every_operation_that_leads_to_tasks() {
    let server = Server::start().await;
    let role = |name: &str| format!("arn:aws:iam::000000000000:role/{name}");
    let definition = json!({"family": "web", "taskRoleArn": role("t"), "executionRoleArn": "e",
        "containerDefinitions": [{"name": "main", "image": "busybox", "memory": 16}]});
    let passed = |checks: &[Check]| -> Vec<String> {
        checks
            .iter()
            .filter(|check| check.action == "iam:PassRole")
            .map(|check| match &check.resource {
                Resource::Arn(arn) => arn.as_str().to_owned(),
                Resource::Any => "*".into(),
            })
            .collect()
    };
    let both = vec![role("e"), role("t")];
    assert_eq!(passed(&checks(&server, "RegisterTaskDefinition", definition.clone()).await), both);
    server.ecs("RegisterTaskDefinition", definition).await;
    server.ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "web"})).await;
    let overridden = json!({"taskDefinition": "web", "overrides": {"taskRoleArn": role("other")}});
    for (operation, input, expected) in [
        ("RunTask", json!({"taskDefinition": "web"}), both.clone()),
        ("RunTask", overridden.clone(), vec![role("e"), role("other")]),
        ("StartTask", overridden, vec![role("e"), role("other")]),
        ("CreateService", json!({"serviceName": "x", "taskDefinition": "web:1"}), both.clone()),
        ("UpdateService", json!({"service": "web", "taskDefinition": "web"}), both.clone()),
        ("UpdateService", json!({"service": "web", "desiredCount": 3}), both.clone()),
    ] {
        let checks = checks(&server, operation, input).await;
        assert_eq!(passed(&checks), expected, "{operation}");
        assert!(key(&checks[0], "ecs:cluster").is_some(), "{operation}");
        let service = checks.iter().filter(|check| check.action == "iam:PassRole");
        for check in service {
            let expected = policies::ContextValue::One("ecs-tasks.amazonaws.com".into());
            assert_eq!(key(check, "iam:PassedToService"), Some(&expected));
        }
    }
}

#[tokio::test]
async fn what_opens_the_host_is_told_to_the_policies() {
    let server = Server::start().await;
    let definition = json!({"family": "root", "pidMode": "host", "volumes": [{"name": "v", "host": {"sourcePath": "/etc/../root"}}],
        "containerDefinitions": [{"name": "main", "image": "busybox", "memory": 16, "privileged": true,
            "linuxParameters": {"devices": [{"hostPath": "/dev/kvm"}], "capabilities": {"add": ["SYS_ADMIN"]}}}]});
    server.ecs("RegisterTaskDefinition", definition.clone()).await;
    server.ecs("CreateService", json!({"serviceName": "root", "taskDefinition": "root"})).await;
    for (operation, input) in [
        ("RegisterTaskDefinition", definition),
        ("RunTask", json!({"taskDefinition": "root"})),
        ("StartTask", json!({"taskDefinition": "root:1"})),
        ("CreateService", json!({"serviceName": "x", "taskDefinition": "root"})),
        ("UpdateService", json!({"service": "root"})),
    ] {
        let checks = checks(&server, operation, input).await;
        let value = |name| format!("{:?}", key(&checks[0], name));
        assert!(value("ecs:privileged").contains("true"), "{operation}");
        assert!(value("berth:HostPaths").contains("/root"), "{operation}");
        assert!(value("berth:HostNamespaces").contains("pid"), "{operation}");
        assert!(value("berth:Devices").contains("/dev/kvm"), "{operation}");
        assert!(value("berth:Capabilities").contains("SYS_ADMIN"), "{operation}");
    }
}

#[tokio::test]
async fn unsupported_operations_are_authorized_and_then_named() {
    let server = Server::start().await;
    let error = server.refused("ExecuteCommand", json!({})).await;
    assert_eq!(error.code, "UnsupportedFeatureException");
    assert!(error.message.contains("ExecuteCommand"));
    assert_eq!(server.refused("NoSuchThing", json!({})).await.code, "UnknownOperationException");
    let agent = Agent::join(&server, Behaviour::Obeys).await;
    let denied = refused(&agent.client, "ExecuteCommand", json!({})).await;
    assert_eq!(denied.code, "AccessDeniedException");
}

#[tokio::test]
async fn credentials_of_roles_reach_the_tasks_host_and_nobody_untrusted() {
    let server = Server::start().await;
    let mut agent = Agent::enrol(&server, json!({})).await;
    let able = json!({"attributes": [{"name": "com.amazonaws.ecs.capability.task-iam-role"}]});
    agent.register(able).await.unwrap();
    agent.connect(Behaviour::Obeys).await.unwrap();
    let definition = |family: &str, role: &str| {
        json!({"family": family, "executionRoleArn": role,
            "containerDefinitions": [{"name": "main", "image": "busybox", "memory": 16}]})
    };
    server.ecs("RegisterTaskDefinition", definition("good", "ecsTaskExecutionRole")).await;
    server.ecs("RegisterTaskDefinition", definition("bad", "noSuchRole")).await;
    server.ecs("RunTask", json!({"taskDefinition": "good"})).await;
    let task = eventually("the payload", || async { agent.log.lock().payloads.first().cloned() }).await;
    let credentials = task.execution_role_credentials.unwrap();
    assert_eq!(credentials.role_arn, "arn:aws:iam::000000000000:role/ecsTaskExecutionRole");
    assert_eq!(credentials.credentials_id.len(), 64);
    let answer = server.ecs("RunTask", json!({"taskDefinition": "bad"})).await;
    let arn = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    let task = eventually("the failure", || async {
        Some(server.task(&arn).await).filter(|task| task["lastStatus"] == "STOPPED")
    })
    .await;
    assert!(
        task["stoppedReason"].as_str().unwrap().starts_with("ECS was unable to assume the role"),
        "{task}"
    );
    // A new connection gets them again, under the same id; that of another host gets none.
    let mut other = Agent::join(&server, Behaviour::Obeys).await;
    other.vanish();
    other.connect(Behaviour::Obeys).await.unwrap();
    agent.vanish();
    agent.connect(Behaviour::Obeys).await.unwrap();
    let again =
        eventually("fresh credentials", || async { agent.log.lock().credentials.first().cloned() }).await;
    assert_eq!(again.role_credentials.credentials_id, credentials.credentials_id);
    let log = other.log.lock();
    assert!(log.credentials.is_empty() && log.payloads.is_empty());
}

#[tokio::test]
async fn a_clusters_default_execution_role_is_passed_like_any_other() {
    let server = Server::start().await;
    let settings = json!([{"name": "defaultExecutionRole", "value": "ecsTaskExecutionRole"}]);
    let role = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
    let setting = json!({"cluster": "default", "settings": settings});
    let passes = |checks: &[Check]| {
        checks.iter().any(|check| check.action == "iam:PassRole" && check.resource.as_str() == role)
    };
    assert!(passes(&checks(&server, "UpdateClusterSettings", setting.clone()).await));
    let updated = server.ecs("UpdateClusterSettings", setting).await;
    assert_eq!(updated["cluster"]["settings"], json!([{"name": "defaultExecutionRole", "value": role}]));
    server.define("web", json!({})).await;
    assert!(passes(&checks(&server, "RunTask", json!({"taskDefinition": "web"})).await));
    let agent = Agent::join(&server, Behaviour::Obeys).await;
    server.ecs("RunTask", json!({"taskDefinition": "web"})).await;
    let task = eventually("the payload", || async { agent.log.lock().payloads.first().cloned() }).await;
    assert_eq!(task.execution_role_credentials.unwrap().role_arn, role);
}

#[tokio::test]
async fn no_request_has_more_decisions_than_names_that_an_operation_takes() {
    let server = Server::start().await;
    for (operation, member) in [
        ("DescribeTasks", "tasks"),
        ("DescribeServices", "services"),
        ("DescribeClusters", "clusters"),
        ("DescribeContainerInstances", "containerInstances"),
    ] {
        let names = |count: usize| json!({ member: vec!["a"; count] });
        assert_eq!(checks(&server, operation, names(100)).await.len(), 100, "{operation}");
        let too_many = checks(&server, operation, names(20_000)).await;
        assert_eq!((too_many.len(), too_many[0].resource.as_str()), (1, "*"), "{operation}");
        let refused = server.refused(operation, names(101)).await;
        assert_eq!(refused.code, "InvalidParameterException", "{operation}");
    }
}

/// A user of policy files with one inline policy.
async fn user(server: &Server, statements: Value) -> registry_aws::Client {
    let (id, secret) = ("AKIAOFALICE0000000000", "a secret of alice that is long enough".replace(' ', "-"));
    let sealer = registry_runtime::Sealer::new(&registry_runtime::Secret::new(vec![7; 32]), 1);
    let sealed = policies_identity::files::seal_secret(&sealer, &secret.as_str().into()).unwrap();
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    let alice = json!({"inlinePolicies": {"own": policy}, "accessKeys": [{"accessKeyId": id, "sealedSecret": sealed}]});
    let marker = json!({"format": 1, "account": "000000000000"});
    let texts = [("berth-policies.json", marker), ("users/alice.json", alice)];
    let texts = texts.map(|(file, content)| (file.to_owned(), content.to_string()));
    let files = policies_identity::files::check_texts(&texts.into_iter().collect()).unwrap();
    server.identity.publish(std::sync::Arc::new(files), "test").await.unwrap();
    server.client(registry_aws::Credentials::new(id, secret))
}

#[tokio::test]
async fn a_bare_family_is_asked_about_with_the_tags_of_request_and_service() {
    let server = Server::start().await;
    server.define("web", json!({})).await;
    let tags = json!([{"key": "team", "value": "red"}]);
    let create = json!({"serviceName": "red", "taskDefinition": "web", "tags": tags});
    server.ecs("CreateService", create.clone()).await;
    server.ecs("CreateService", json!({"serviceName": "blue", "taskDefinition": "web"})).await;
    let alice = user(
        &server,
        json!([
            {"Effect": "Allow", "Action": ["ecs:RunTask", "ecs:CreateService"], "Resource": "*",
             "Condition": {"StringEquals": {"aws:RequestTag/team": "red"}}},
            {"Effect": "Allow", "Action": "ecs:TagResource", "Resource": "*",
             "Condition": {"StringEquals": {"ecs:CreateAction": ["RunTask", "CreateService"]}}},
            {"Effect": "Allow", "Action": "ecs:UpdateService", "Resource": "*",
             "Condition": {"StringEquals": {"aws:ResourceTag/team": "red"}}},
        ]),
    )
    .await;
    const TARGET: &str = "AmazonEC2ContainerServiceV20141113";
    for definition in ["web", "web:1"] {
        let run = json!({"taskDefinition": definition, "tags": tags});
        let error = alice.call("ecs", TARGET, "RunTask", &run).await.unwrap_err().to_string();
        assert!(error.contains("No Container Instances"), "{definition}: {error}");
        let run = json!({ "taskDefinition": definition });
        assert_eq!(refused(&alice, "RunTask", run).await.code, "AccessDeniedException", "{definition}");
        let update = json!({"service": "red", "taskDefinition": definition});
        alice.call("ecs", TARGET, "UpdateService", &update).await.unwrap();
        let update = json!({"service": "blue", "taskDefinition": definition});
        assert_eq!(refused(&alice, "UpdateService", update).await.code, "AccessDeniedException");
        let mut create = create.clone();
        (create["serviceName"], create["taskDefinition"]) =
            (format!("of-{}", definition.len()).into(), definition.into());
        alice.call("ecs", TARGET, "CreateService", &create).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_created_with_tags_needs_the_right_to_tag() {
    let server = Server::start().await;
    server.define("web", json!({})).await;
    let statements = json!([
        {"Effect": "Allow", "Action": "ecs:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "ecs:TagResource", "Resource": "*",
         "Condition": {"ForAnyValue:StringEquals": {"aws:TagKeys": "berth:listen"}}},
    ]);
    let alice = user(&server, statements).await;
    let tags = json!([{"key": "team", "value": "red"}, {"key": "berth:listen", "value": "8080"}]);
    for (operation, input, resource) in [
        ("CreateCluster", json!({"clusterName": "blue"}), "cluster/blue"),
        (
            "RegisterTaskDefinition",
            json!({"family": "own", "containerDefinitions": [{"name": "main", "image": "busybox", "memory": 16}]}),
            "task-definition/own",
        ),
        ("RunTask", json!({"taskDefinition": "web"}), "task/default/*"),
        ("StartTask", json!({"taskDefinition": "web", "containerInstances": ["none"]}), "task/default/*"),
        (
            "CreateService",
            json!({"serviceName": "web", "taskDefinition": "web", "desiredCount": 0}),
            "service/default/web",
        ),
    ] {
        let tagging = |checks: Vec<Check>| checks.into_iter().find(|check| check.action == "ecs:TagResource");
        for tags in [Value::Null, json!([])] {
            let mut input = input.clone();
            input["tags"] = tags;
            assert!(tagging(checks(&server, operation, input).await).is_none(), "{operation}");
        }
        let mut tagged = input.clone();
        tagged["tags"] = tags.clone();
        let check = tagging(checks(&server, operation, tagged.clone()).await).unwrap();
        let arn = format!("arn:aws:ecs:us-east-1:000000000000:{resource}");
        assert!(check.resource.as_str().starts_with(&arn), "{operation}: {:?}", check.resource);
        let one = |value: &str| Some(policies::ContextValue::One(value.to_owned()));
        assert_eq!(key(&check, "ecs:CreateAction").cloned(), one(operation));
        assert_eq!(key(&check, "aws:RequestTag/team").cloned(), one("red"));
        let error = refused(&alice, operation, tagged).await;
        assert_eq!(error.code, "AccessDeniedException", "{operation}");
        assert!(error.message.contains("ecs:TagResource"), "{operation}: {}", error.message);
        // Another tag she may give: whatever is wrong then, it is no right.
        let mut allowed = input;
        allowed["tags"] = json!([{"key": "team", "value": "red"}]);
        let answer = alice.call("ecs", "AmazonEC2ContainerServiceV20141113", operation, &allowed).await;
        let answer = answer.map(drop).map_err(|error| error.to_string());
        assert!(!format!("{answer:?}").contains("not authorized"), "{operation}: {answer:?}");
    }
}
