//! The API's errors and lists, in AWS's words.

use serde_json::{Value, json};

use crate::support::Server;

#[tokio::test]
async fn malformed_requests_get_awss_errors() {
    let server = Server::start().await;
    let container = json!({"name": "main", "image": "busybox", "memory": 16});
    server.ecs("RegisterTaskDefinition", json!({"family": "web", "containerDefinitions": [container]})).await;
    let with = |more: Value| {
        let mut one = container.clone();
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"family": "web", "containerDefinitions": [one]})
    };
    let two = |first: Value, second: Value| {
        let both: Vec<Value> = [first, second]
            .into_iter()
            .zip(["a", "b"])
            .map(|(mut one, name)| {
                one["name"] = json!(name);
                one["image"] = json!("busybox");
                one["memory"] = json!(16);
                one
            })
            .collect();
        json!({"family": "web", "containerDefinitions": both})
    };
    let depends =
        |on: &str, condition: &str| json!({"dependsOn": [{"containerName": on, "condition": condition}]});
    let cases: Vec<(&str, Value, &str, &str)> = vec![
        ("DescribeTasks", json!({"tasks": []}), "InvalidParameterException", "Tasks cannot be empty."),
        (
            "DescribeTasks",
            json!({"cluster": "none", "tasks": ["x"]}),
            "ClusterNotFoundException",
            "Cluster not found.",
        ),
        ("DescribeTasks", json!({"tasks": [7]}), "SerializationException", ""),
        (
            "DescribeServices",
            json!({"services": []}),
            "InvalidParameterException",
            "Services cannot be empty.",
        ),
        (
            "StopTask",
            json!({"task": "0123"}),
            "InvalidParameterException",
            "The referenced task was not found.",
        ),
        ("RunTask", json!({"taskDefinition": "none"}), "ClientException", "TaskDefinition not found."),
        (
            "RunTask",
            json!({"taskDefinition": "web"}),
            "InvalidParameterException",
            "No Container Instances were found in your cluster.",
        ),
        ("RunTask", json!({"taskDefinition": "web", "count": 11}), "InvalidParameterException", ""),
        (
            "RunTask",
            json!({"taskDefinition": "web", "launchType": "FARGATE"}),
            "UnsupportedFeatureException",
            "",
        ),
        (
            "RunTask",
            json!({"taskDefinition": "web", "overrides": {"containerOverrides": [{"name": "x"}]}}),
            "InvalidParameterException",
            "Override for container named x is not a container in the TaskDefinition.",
        ),
        (
            "RunTask",
            json!({"taskDefinition": "web", "placementConstraints": [{"type": "memberOf", "expression": "((("}]}),
            "ClientException",
            "",
        ),
        (
            "DescribeTaskDefinition",
            json!({"taskDefinition": "none"}),
            "ClientException",
            "Unable to describe task definition.",
        ),
        ("UpdateService", json!({"service": "none"}), "ServiceNotFoundException", "Service not found."),
        ("DeleteService", json!({"service": "none"}), "ServiceNotFoundException", "Service not found."),
        ("DeleteCluster", json!({"cluster": "none"}), "ClusterNotFoundException", "Cluster not found."),
        (
            "CreateService",
            json!({"serviceName": "s"}),
            "InvalidParameterException",
            "TaskDefinition can not be blank.",
        ),
        (
            "CreateService",
            json!({"serviceName": "s", "taskDefinition": "web", "loadBalancers": [{}]}),
            "UnsupportedFeatureException",
            "",
        ),
        (
            "CreateService",
            json!({"serviceName": "s", "taskDefinition": "web",
                "deploymentConfiguration": {"lifecycleHooks": [{"hookTargetArn": "arn:aws:lambda:x"}]}}),
            "UnsupportedFeatureException",
            "Berth does not support lifecycle hooks of deployments.",
        ),
        (
            "CreateCluster",
            json!({"clusterName": "c", "serviceConnectDefaults": {"namespace": "n"}}),
            "UnsupportedFeatureException",
            "Berth does not support Service Connect.",
        ),
        (
            "UpdateCluster",
            json!({"cluster": "default", "serviceConnectDefaults": {"namespace": "n"}}),
            "UnsupportedFeatureException",
            "Berth does not support Service Connect.",
        ),
        (
            "ListTasks",
            json!({"daemonName": "d"}),
            "UnsupportedFeatureException",
            "Berth does not support daemons.",
        ),
        (
            "ListAttributes",
            json!({"targetType": "task"}),
            "InvalidParameterException",
            "Invalid targetType: task.",
        ),
        (
            "RegisterTaskDefinition",
            json!({"family": "w b", "containerDefinitions": [container]}),
            "ClientException",
            "Family contains invalid characters.",
        ),
        (
            "RegisterTaskDefinition",
            json!({"family": "web", "containerDefinitions": []}),
            "ClientException",
            "Container list cannot be empty.",
        ),
        (
            "RegisterTaskDefinition",
            with(json!({"image": ""})),
            "ClientException",
            "Container.image should not be null or empty.",
        ),
        (
            "RegisterTaskDefinition",
            with(json!({"name": ""})),
            "ClientException",
            "Container.name should not be null or empty.",
        ),
        (
            "RegisterTaskDefinition",
            with(json!({"memory": null})),
            "ClientException",
            "Invalid setting for container 'main'. At least one of 'memory' or 'memoryReservation' must be specified.",
        ),
        (
            "RegisterTaskDefinition",
            with(json!({"mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}]})),
            "ClientException",
            "Unknown volume 'v'.",
        ),
        (
            "RegisterTaskDefinition",
            with(json!({"portMappings": [{"containerPort": 0}]})),
            "ClientException",
            "",
        ),
        (
            "RegisterTaskDefinition",
            with(json!({"portMappings": [{"containerPort": 65536}]})),
            "ClientException",
            "",
        ),
        ("RegisterTaskDefinition", with(json!({"essential": false})), "ClientException", ""),
        ("RegisterTaskDefinition", with(json!({"healthCheck": {"command": ["CMD"]}})), "ClientException", ""),
        (
            "RegisterTaskDefinition",
            with(json!({"linuxParameters": {"swappiness": 101}})),
            "ClientException",
            "",
        ),
        (
            "RegisterTaskDefinition",
            with(json!({"ulimits": [{"name": "nofile", "softLimit": 2, "hardLimit": 1}]})),
            "ClientException",
            "",
        ),
        (
            "RegisterTaskDefinition",
            json!({"family": "web", "memory": "64", "containerDefinitions": [
                {"name": "a", "image": "x", "memory": 64, "memoryReservation": 33}, {"name": "b", "image": "x", "memory": 32}]}),
            "ClientException",
            "The containers reserve 65 MiB of memory together, which is more than the 'memory' of the task.",
        ),
        (
            "RegisterTaskDefinition",
            two(depends("b", "HEALTHY"), json!({"healthCheck": {"command": ["NONE"]}})),
            "ClientException",
            "",
        ),
        ("RegisterTaskDefinition", with(json!({"memory": "16"})), "SerializationException", ""),
        (
            "RegisterTaskDefinition",
            with(json!({"environment": [{"name": "A", "value": "x".repeat(70_000)}]})),
            "ClientException",
            "",
        ),
        (
            "RegisterTaskDefinition",
            two(depends("b", "START"), depends("a", "START")),
            "ClientException",
            "Containers must not have a circular dependency.",
        ),
        ("RegisterTaskDefinition", two(depends("b", "SUCCESS"), json!({})), "ClientException", ""),
        ("RegisterTaskDefinition", two(depends("b", "HEALTHY"), json!({})), "ClientException", ""),
        ("RegisterTaskDefinition", two(depends("c", "START"), json!({})), "ClientException", ""),
        ("ListTasks", json!({"nextToken": "zzz"}), "InvalidParameterException", ""),
        ("ListTasks", json!({"maxResults": 101}), "InvalidParameterException", ""),
        ("ListContainerInstances", json!({"filter": "((("}), "InvalidParameterException", ""),
        (
            "TagResource",
            json!({"resourceArn": "arn:aws:ecs:us-east-1:000000000000:cluster/none", "tags": [{"key": "a"}]}),
            "ResourceNotFoundException",
            "",
        ),
        ("TagResource", json!({"resourceArn": "x", "tags": [{"key": "a"}]}), "InvalidParameterException", ""),
    ];
    for (operation, input, code, message) in cases {
        let error = server.refused(operation, input.clone()).await;
        assert_eq!(error.code, code, "{operation} {input}: {error}");
        assert!(message.is_empty() || error.message == message, "{operation} {input}: {error}");
    }
    let listed = server.ecs("ListTaskDefinitions", json!({"familyPrefix": "web"})).await;
    assert_eq!(listed["taskDefinitionArns"].as_array().unwrap().len(), 1, "nothing refused was stored");
}

#[tokio::test]
async fn missing_things_are_failures_and_not_errors() {
    let server = Server::start().await;
    let arn = |kind: &str, id: &str| format!("arn:aws:ecs:us-east-1:000000000000:{kind}/{id}");
    let clusters = server.ecs("DescribeClusters", json!({"clusters": ["default", "none"]})).await;
    assert_eq!(clusters["clusters"][0]["status"], json!("ACTIVE"));
    assert_eq!(clusters["failures"], json!([{"arn": arn("cluster", "none"), "reason": "MISSING"}]));
    let services = server.ecs("DescribeServices", json!({"services": ["none"]})).await;
    assert_eq!(services["failures"], json!([{"arn": arn("service", "default/none"), "reason": "MISSING"}]));
    let tasks = server.ecs("DescribeTasks", json!({"tasks": ["none"]})).await;
    assert_eq!(tasks["failures"], json!([{"arn": arn("task", "default/none"), "reason": "MISSING"}]));
}

#[tokio::test]
async fn revisions_count_up_and_never_return() {
    let server = Server::start().await;
    for revision in 1..=3 {
        assert!(server.define("web", json!({})).await.ends_with(&format!("web:{revision}")));
    }
    server.ecs("DeregisterTaskDefinition", json!({"taskDefinition": "web:3"})).await;
    let newest = server.ecs("DescribeTaskDefinition", json!({"taskDefinition": "web"})).await;
    assert_eq!(newest["taskDefinition"]["revision"], json!(2));
    assert!(server.define("web", json!({})).await.ends_with("web:4"));
    let inactive = server.ecs("DescribeTaskDefinition", json!({"taskDefinition": "web:3"})).await;
    assert_eq!(inactive["taskDefinition"]["status"], json!("INACTIVE"));
    let page = server.ecs("ListTaskDefinitions", json!({"sort": "DESC", "maxResults": 2})).await;
    let arns = |page: &Value| -> Vec<String> {
        let list = page["taskDefinitionArns"].as_array().unwrap();
        list.iter().map(|arn| arn.as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(arns(&page), ["web:4", "web:2"]);
    let rest =
        server.ecs("ListTaskDefinitions", json!({"sort": "DESC", "nextToken": page["nextToken"]})).await;
    assert_eq!(arns(&rest), ["web:1"]);
    let families = server.ecs("ListTaskDefinitionFamilies", json!({})).await;
    assert_eq!(families["families"], json!(["web"]));
}

#[tokio::test]
async fn definitions_come_back_as_they_were_written_with_defaults() {
    let server = Server::start().await;
    let container = json!({"name": "main", "image": "busybox", "memory": 16, "command": ["sh"], "dockerLabels": {"a": "b"},
        "healthCheck": {"command": ["CMD", "true"]}, "portMappings": [{"containerPort": 80}], "unknownMember": {"x": 1}});
    let answer = server
        .ecs(
            "RegisterTaskDefinition",
            json!({"family": "web", "cpu": "1 vCPU", "memory": "0.5GB", "containerDefinitions": [container],
            "tags": [{"key": "team", "value": "shop"}]}),
        )
        .await;
    let definition = &answer["taskDefinition"];
    assert_eq!((&definition["cpu"], &definition["memory"]), (&json!("1024"), &json!("512")));
    assert_eq!(answer["tags"], json!([{"key": "team", "value": "shop"}]));
    let container = &definition["containerDefinitions"][0];
    assert_eq!(container["essential"], json!(true));
    assert_eq!(container["portMappings"], json!([{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]));
    assert_eq!(container["healthCheck"]["interval"], json!(30));
    assert_eq!(container["environment"], json!([]));
    assert_eq!(container["dockerLabels"], json!({"a": "b"}));
    assert!(container.get("unknownMember").is_none());
    assert!(definition["registeredAt"].is_number());
}

#[tokio::test]
async fn a_service_is_created_once_and_a_cluster_deleted_when_empty() {
    let server = Server::start().await;
    server.ecs("CreateCluster", json!({"clusterName": "demo"})).await;
    server.define("web", json!({})).await;
    let input = json!({"cluster": "demo", "serviceName": "web", "taskDefinition": "web"});
    let first = server.ecs("CreateService", input.clone()).await;
    let again = server.ecs("CreateService", input).await;
    assert_eq!(first["service"]["createdAt"], again["service"]["createdAt"]);
    let other = json!({"cluster": "demo", "serviceName": "web", "taskDefinition": "web", "desiredCount": 4});
    let error = server.refused("CreateService", other).await;
    assert_eq!(error.message, "Creation of service was not idempotent.");
    let error = server.refused("DeleteCluster", json!({"cluster": "demo"})).await;
    assert_eq!(error.code, "ClusterContainsServicesException");
    server.ecs("DeleteService", json!({"cluster": "demo", "service": "web", "force": true})).await;
    let error = server
        .refused("UpdateService", json!({"cluster": "demo", "service": "web", "desiredCount": 1}))
        .await;
    assert_eq!(error.code, "ServiceNotActiveException");
    let deleted = server.ecs("DeleteCluster", json!({"cluster": "demo"})).await;
    assert_eq!(deleted["cluster"]["status"], json!("INACTIVE"));
    assert_eq!(server.ecs("ListClusters", json!({})).await["clusterArns"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn tags_are_kept_on_everything() {
    let server = Server::start().await;
    let definition = server.define("web", json!({})).await;
    server.ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "web"})).await;
    for arn in [
        "arn:aws:ecs:us-east-1:000000000000:cluster/default",
        "arn:aws:ecs:us-east-1:000000000000:service/default/web",
        &definition,
    ] {
        server
            .ecs(
                "TagResource",
                json!({"resourceArn": arn, "tags": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]}),
            )
            .await;
        server.ecs("TagResource", json!({"resourceArn": arn, "tags": [{"key": "a", "value": "3"}]})).await;
        server.ecs("UntagResource", json!({"resourceArn": arn, "tagKeys": ["b"]})).await;
        let tags = server.ecs("ListTagsForResource", json!({"resourceArn": arn})).await;
        assert_eq!(tags["tags"], json!([{"key": "a", "value": "3"}]), "{arn}");
    }
}
