//! Every operation of every API with input of the wrong kind: an error of the protocol, never one of the server.

use policies_identity::{BerthIdentity, Sts};
use registry::{BerthStatus, BerthStore, BerthUpstreams, Ecr};
use scheduler::Scheduler;
use serde_json::{Value, json};
use test_support::Server;

use crate::signed::{BERTH, ECR, ECS, Signer};

/// The members that operations look at, every one with this value.
fn members(value: &Value) -> String {
    const MEMBERS: &str = "repositoryName repositoryNames registryId registryIds resourceArn tags tagKeys imageIds \
        imageManifest imageManifestMediaType imageTag imageDigest policyText imageTagMutability uploadId layerDigests \
        layerDigest partFirstByte partLastByte layerPartBlob force imageScanningConfiguration subjectId nextToken \
        maxResults filter acceptedMediaTypes encryptionConfiguration cluster clusters clusterName settings \
        configuration family familyPrefix status taskDefinition containerDefinitions volumes cpu memory \
        requiresCompatibilities networkMode service services serviceName desiredCount launchType \
        deploymentConfiguration placementConstraints placementStrategy loadBalancers networkConfiguration \
        overrides task tasks reason startedBy group count containerInstance containerInstances \
        containerInstanceArn instanceIdentityDocument totalResources attributes targetType targetId \
        attributeName attributeValue include sort files availabilityZone expiresInSeconds containers executionStoppedAt \
        attachments clientToken enableExecuteCommand propagateTags platformVersion capacityProviderStrategy \
        schedulingStrategy forceNewDeployment taskRoleArn executionRoleArn versionInfo tagSpecifications \
        kind locations replica dryRun domain ecrRepositoryPrefix ecrRepositoryPrefixes username password";
    let object: serde_json::Map<_, _> =
        MEMBERS.split_whitespace().map(|name| (name.to_owned(), value.clone())).collect();
    Value::Object(object).to_string()
}

#[test]
fn no_operation_breaks_on_input_of_the_wrong_kind() {
    let server = Server::start();
    server.http().push_blob("app", b"{}");
    let signer = Signer::administrator(&server);
    let long = "a".repeat(5_000);
    let mut inputs: Vec<String> =
        ["", "null", "[]", "7", "\"x\"", "{", "{}", "{\"\":1}", "\u{feff}{}"].map(str::to_owned).to_vec();
    for value in [
        json!(null),
        json!(""),
        json!("app"),
        json!("arn:aws:ecs:us-east-1:000000000000:cluster/default"),
        json!("\u{0}\u{202e}'; DROP TABLE tasks; --"),
        json!(long),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(1e300),
        json!(true),
        json!([]),
        json!({}),
        json!([null]),
        json!(["app"]),
        json!([[]]),
        json!([{}]),
        json!([{"name": "a", "value": "b", "key": "a", "targetId": "x", "imageTag": "1", "imageDigest": "x"}]),
        json!({"name": null, "containerOverrides": [{}], "awsvpcConfiguration": {}, "imageTag": {}}),
    ] {
        inputs.push(members(&value));
    }
    let services = [
        (&ECR, Ecr::OPERATIONS),
        (&ECS, Scheduler::ECS_OPERATIONS),
        (&BERTH, Scheduler::BERTH_OPERATIONS),
        (&BERTH, BerthIdentity::OPERATIONS),
        (&BERTH, BerthStore::OPERATIONS),
        (&BERTH, BerthStatus::OPERATIONS),
        (&BERTH, BerthUpstreams::OPERATIONS),
    ];
    for (service, operations) in services {
        for operation in operations {
            for input in &inputs {
                let answer = signer.call(service, operation, input);
                let shown = &input[..input.len().min(300)];
                assert!(answer.status < 500, "{operation} {shown}: {answer:?}");
                if answer.status >= 400 {
                    assert!(answer.json()["__type"].is_string(), "{operation} {shown}: {answer:?}");
                }
            }
        }
    }
    for operation in Sts::OPERATIONS {
        for members in [
            "",
            "&RoleArn=",
            "&RoleArn=x&RoleSessionName=%00",
            "&DurationSeconds=-1",
            "&Tags.member.999999999.Key=a",
            "&Policy=%7B",
        ] {
            let answer = signer.query("sts", "2011-06-15", &format!("{operation}{members}"));
            assert!(answer.status < 500, "{operation} {members}: {answer:?}");
        }
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn no_route_breaks_on_headers_and_parameters_of_the_wrong_kind() {
    let server = Server::start();
    let http = server.http();
    let digest = http.push_blob("app", b"{}");
    let long = "9".repeat(5_000);
    let values = [
        "",
        "-",
        "0-",
        "-1",
        "a",
        "bytes=0-0",
        "5-3",
        "0-18446744073709551615",
        "%00",
        "*/*",
        "text/html",
        long.as_str(),
    ];
    let names = [
        "content-range",
        "range",
        "content-type",
        "content-encoding",
        "accept",
        "if-none-match",
        "if-range",
        "if-match",
        "user-agent",
        "cookie",
        "origin",
        "x-amz-target",
        "accept-encoding",
        "te",
        "via",
    ];
    let parameters =
        ["digest", "mount", "from", "n", "last", "tag", "artifactType", "digest-algorithm", "_state"];
    for path in [
        "/v2/".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/app/tags/list".to_owned(),
        "/v2/app/manifests/1".to_owned(),
        format!("/v2/app/blobs/{digest}"),
        format!("/v2/app/referrers/{digest}"),
        "/v2/app/blobs/uploads/".to_owned(),
        "/v2/app/blobs/uploads/00000000-0000-0000-0000-000000000000".to_owned(),
        "/token".to_owned(),
    ] {
        for value in values {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH"] {
                let body: &[u8] = if method == "HEAD" { b"" } else { b"{}" };
                let header = if value.contains('%') { "x" } else { value };
                let headers: Vec<_> = names.iter().map(|name| (*name, header)).collect();
                let query: Vec<_> = parameters.iter().map(|name| format!("{name}={value}")).collect();
                for (headers, query) in [(&headers[..], ""), (&[][..], &*query.join("&"))] {
                    let answer = http.send(method, &format!("{path}?{query}"), headers, body);
                    let shown = &value[..value.len().min(50)];
                    assert!(answer.status < 500, "{method} {path} {shown}: {answer:?}");
                }
            }
        }
    }
    assert_eq!(http.get(&format!("/v2/app/blobs/{digest}")).body, b"{}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
