//! Repositories, their policies and tags, and the gate in front of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};

use super::fixture::Fixture;
use crate::http::ecr::operation::{Operation, Target};

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"ecr:BatchGetImage"}]}"#;

fn arn(name: &str) -> String {
    format!("arn:aws:ecr:us-east-1:000000000000:repository/{name}")
}

#[tokio::test]
async fn created_repositories_have_ecrs_shape() {
    let fixture = Fixture::new().await;
    let created = fixture.call("CreateRepository", json!({ "repositoryName": "team/app" })).await;
    let expected = json!({
        "repositoryArn": "arn:aws:ecr:us-east-1:000000000000:repository/team/app",
        "registryId": "000000000000",
        "repositoryName": "team/app",
        "repositoryUri": "berth.example:5000/team/app",
        "createdAt": 1793534400.0,
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": { "scanOnPush": false },
        "encryptionConfiguration": { "encryptionType": "AES256" },
    });
    assert_eq!(created, json!({ "repository": expected }));
    let described = fixture.call("DescribeRepositories", json!({ "repositoryNames": ["team/app"] })).await;
    assert_eq!(described, json!({ "repositories": [expected] }));
    let deleted = fixture.call("DeleteRepository", json!({ "repositoryName": "team/app" })).await;
    assert_eq!(deleted, json!({ "repository": expected }));
    assert_eq!(fixture.call("DescribeRepositories", json!({})).await, json!({ "repositories": [] }));
}

#[tokio::test]
async fn names_that_exist_or_do_not_are_told_in_ecrs_words() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let twice = fixture.refused("CreateRepository", json!({ "repositoryName": "app" })).await;
    assert_eq!(twice.name, "RepositoryAlreadyExistsException");
    assert_eq!(
        twice.message,
        "The repository with name 'app' already exists in the registry with id '000000000000'"
    );
    let missing = fixture.refused("DescribeRepositories", json!({ "repositoryNames": ["x"] })).await;
    assert_eq!(
        (missing.status, missing.name.as_str()),
        (StatusCode::BAD_REQUEST, "RepositoryNotFoundException")
    );
    assert_eq!(
        missing.message,
        "The repository with name 'x' does not exist in the registry with id '000000000000'"
    );
    let elsewhere =
        fixture.refused("ListImages", json!({ "repositoryName": "app", "registryId": "111111111111" })).await;
    assert_eq!(
        elsewhere.message,
        "The repository with name 'app' does not exist in the registry with id '111111111111'"
    );
}

#[tokio::test]
async fn listings_go_page_by_page_in_the_order_of_names() {
    let fixture = Fixture::new().await;
    for name in ["c", "a", "b/x", "b"] {
        fixture.create(name).await;
    }
    let mut names = Vec::new();
    let mut input = json!({ "maxResults": 3 });
    loop {
        let page = fixture.call("DescribeRepositories", input.clone()).await;
        names.extend(page["repositories"].as_array().unwrap().iter().map(|r| r["repositoryName"].clone()));
        match page.get("nextToken") {
            Some(token) => input["nextToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(Value::from(names), json!(["a", "b", "b/x", "c"]));
    for input in [json!({ "maxResults": 0 }), json!({ "nextToken": "a" })] {
        assert_eq!(fixture.refused("DescribeRepositories", input).await.name, "InvalidParameterException");
    }
}

#[tokio::test]
async fn repositories_with_images_are_deleted_by_force_alone() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    fixture.put("app", "layer", Some("v1")).await;
    let refused = fixture.refused("DeleteRepository", json!({ "repositoryName": "app" })).await;
    assert_eq!(refused.name, "RepositoryNotEmptyException");
    assert_eq!(
        refused.message,
        "The repository with name 'app' in registry with id '000000000000' cannot be deleted because it still \
         contains images"
    );
    fixture.call("DeleteRepository", json!({ "repositoryName": "app", "force": true })).await;
}

#[tokio::test]
async fn immutable_tags_stay_but_for_the_excluded() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let filters = json!([{ "filterType": "WILDCARD", "filter": "latest*" }]);
    let input = json!({
        "repositoryName": "app",
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": filters,
    });
    let mut expected = input.clone();
    expected["registryId"] = "000000000000".into();
    assert_eq!(fixture.call("PutImageTagMutability", input).await, expected);
    for tag in ["v1", "latest"] {
        fixture.put("app", "first", Some(tag)).await;
    }
    let manifest = fixture.manifest("app", "second").await;
    let put = |tag: &str| json!({ "repositoryName": "app", "imageManifest": manifest, "imageTag": tag });
    fixture.call("PutImage", put("latest")).await;
    let refused = fixture.refused("PutImage", put("v1")).await;
    assert_eq!(refused.name, "ImageTagAlreadyExistsException");
    assert_eq!(
        refused.message,
        "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is \
         immutable."
    );
}

#[tokio::test]
async fn policies_are_checked_stored_and_removed() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let name = json!({ "repositoryName": "app" });
    assert_eq!(
        fixture.refused("GetRepositoryPolicy", name.clone()).await.name,
        "RepositoryPolicyNotFoundException"
    );

    let broken =
        json!({ "repositoryName": "app", "policyText": "{\"Version\":\"2012-10-17\",\n\"Statement\":1}" });
    let refused = fixture.refused("SetRepositoryPolicy", broken).await;
    assert_eq!(refused.name, "InvalidParameterException");
    assert!(refused.message.contains("line 2"), "{}", refused.message);

    let of_actions = |actions: &str| {
        let text = POLICY.replace("\"ecr:BatchGetImage\"", actions);
        assert_ne!(text, POLICY);
        json!({ "repositoryName": "app", "policyText": text })
    };
    for foreign in ["\"s3:GetObject\"", "[\"ecr:BatchGetImage\", \"ecr-public:*\"]"] {
        let refused = fixture.refused("SetRepositoryPolicy", of_actions(foreign)).await;
        assert_eq!(refused.name, "InvalidParameterException");
        let expected = "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'";
        assert_eq!(refused.message, expected);
    }
    for own in ["\"*\"", "\"ECR:*\"", "[\"ecr:Batch*\"]"] {
        fixture.call("SetRepositoryPolicy", of_actions(own)).await;
    }

    let expected = json!({ "registryId": "000000000000", "repositoryName": "app", "policyText": POLICY });
    let set = json!({ "repositoryName": "app", "policyText": POLICY });
    assert_eq!(fixture.call("SetRepositoryPolicy", set).await, expected);
    assert_eq!(fixture.call("GetRepositoryPolicy", name.clone()).await, expected);
    assert_eq!(fixture.call("DeleteRepositoryPolicy", name.clone()).await, expected);
    assert_eq!(
        fixture.refused("DeleteRepositoryPolicy", name).await.name,
        "RepositoryPolicyNotFoundException"
    );
}

#[tokio::test]
async fn locking_oneself_out_needs_force() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let deny = POLICY.replace("Allow", "Deny").replace("BatchGetImage", "SetRepositoryPolicy");
    let mut input = json!({ "repositoryName": "app", "policyText": deny });
    let refused = fixture.refused("SetRepositoryPolicy", input.clone()).await;
    assert_eq!(refused.name, "InvalidParameterException");
    input["force"] = true.into();
    fixture.call("SetRepositoryPolicy", input.clone()).await;
    assert_eq!(fixture.refused("SetRepositoryPolicy", input).await.name, "AccessDeniedException");
    fixture.call("DeleteRepositoryPolicy", json!({ "repositoryName": "app" })).await;
}

#[tokio::test]
async fn a_repository_policy_decides_from_the_next_request_on() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let deny = POLICY.replace("Allow", "Deny").replace("BatchGetImage", "ListImages");
    fixture.call("SetRepositoryPolicy", json!({ "repositoryName": "app", "policyText": deny })).await;
    let refused = fixture.refused("ListImages", json!({ "repositoryName": "app" })).await;
    assert_eq!(refused.name, "AccessDeniedException");
    assert!(
        refused.message.contains("with an explicit deny in a resource-based policy"),
        "{}",
        refused.message
    );
    fixture.call("DeleteRepositoryPolicy", json!({ "repositoryName": "app" })).await;
    fixture.call("ListImages", json!({ "repositoryName": "app" })).await;
}

#[tokio::test]
async fn resource_tags_are_kept() {
    let fixture = Fixture::new().await;
    let tags = json!([{ "Key": "Team", "Value": "a" }]);
    fixture.call("CreateRepository", json!({ "repositoryName": "app", "tags": tags })).await;
    let arn = arn("app");
    let more = json!({ "resourceArn": arn, "tags": [{ "Key": "Stage", "Value": "test" }] });
    assert_eq!(fixture.call("TagResource", more).await, json!({}));
    let listed = fixture.call("ListTagsForResource", json!({ "resourceArn": arn })).await;
    assert_eq!(
        listed,
        json!({ "tags": [{ "Key": "Stage", "Value": "test" }, { "Key": "Team", "Value": "a" }] })
    );
    fixture.call("UntagResource", json!({ "resourceArn": arn, "tagKeys": ["Team"] })).await;
    let listed = fixture.call("ListTagsForResource", json!({ "resourceArn": arn })).await;
    assert_eq!(listed, json!({ "tags": [{ "Key": "Stage", "Value": "test" }] }));
}

#[tokio::test]
async fn repositories_are_encrypted_under_keys_that_were_made() {
    let fixture = Fixture::new().await;
    for name in ["blue", "alias/team", "arn:aws:kms:eu-west-1:111122223333:key/1"] {
        fixture.registry().create_key(name).await.unwrap();
    }
    let here = |rest: &str| format!("arn:aws:kms:us-east-1:000000000000:{rest}");
    for (number, (asked, told)) in [
        (json!({ "encryptionType": "KMS" }), here("key/default")),
        (json!({ "encryptionType": "KMS", "kmsKey": "blue" }), here("key/blue")),
        (json!({ "encryptionType": "KMS", "kmsKey": here("key/blue") }), here("key/blue")),
        (json!({ "encryptionType": "KMS", "kmsKey": "alias/team" }), here("alias/team")),
        (
            json!({ "encryptionType": "KMS", "kmsKey": "arn:aws:kms:eu-west-1:111122223333:key/1" }),
            "arn:aws:kms:eu-west-1:111122223333:key/1".to_owned(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let input = json!({ "repositoryName": format!("app{number}"), "encryptionConfiguration": asked });
        let created = fixture.call("CreateRepository", input).await;
        let expected = json!({ "encryptionType": "KMS", "kmsKey": told });
        assert_eq!(created["repository"]["encryptionConfiguration"], expected);
    }
    for (asked, error) in [
        (json!({ "encryptionType": "KMS", "kmsKey": "red" }), "KmsException"),
        (json!({ "encryptionType": "AES256", "kmsKey": "blue" }), "InvalidParameterException"),
        (json!({ "encryptionType": "ROT13" }), "InvalidParameterException"),
    ] {
        let input = json!({ "repositoryName": "other", "encryptionConfiguration": asked });
        assert_eq!(fixture.refused("CreateRepository", input).await.name, error);
    }
}

#[tokio::test]
async fn what_is_not_in_effect_is_refused_or_reported() {
    let fixture = Fixture::new().await;
    let twice =
        json!({ "repositoryName": "app", "encryptionConfiguration": { "encryptionType": "KMS_DSSE" } });
    assert_eq!(fixture.refused("CreateRepository", twice).await.name, "UnsupportedOperationException");
    let scanned = json!({ "repositoryName": "app", "imageScanningConfiguration": { "scanOnPush": true } });
    fixture.call("CreateRepository", scanned).await;
    fixture.put("app", "layer", None).await;
    let images = fixture.call("DescribeImages", json!({ "repositoryName": "app" })).await;
    assert_eq!(images["imageDetails"][0]["imageScanStatus"]["status"], "FINDINGS_UNAVAILABLE");
    let off = json!({ "repositoryName": "app", "imageScanningConfiguration": { "scanOnPush": false } });
    fixture.call("PutImageScanningConfiguration", off).await;
    let images = fixture.call("DescribeImages", json!({ "repositoryName": "app" })).await;
    assert_eq!(images["imageDetails"][0].get("imageScanStatus"), None);
}

#[tokio::test]
async fn login_tokens_are_for_the_user_aws() {
    let fixture = Fixture::new().await;
    let answer = fixture.call("GetAuthorizationToken", json!({})).await;
    let data = &answer["authorizationData"][0];
    assert_eq!(data["proxyEndpoint"], "http://berth.example:5000");
    assert_eq!(data["expiresAt"], json!(1793534400.0 + 12.0 * 3600.0));
    let token = STANDARD.decode(data["authorizationToken"].as_str().unwrap()).unwrap();
    assert!(token.starts_with(b"AWS:"));
    let other = fixture.refused("GetAuthorizationToken", json!({ "registryIds": ["111111111111"] })).await;
    assert_eq!(other.name, "InvalidParameterException");
}

/// An input that names a repository in every way that operations know.
fn any_input(name: &str) -> Value {
    json!({
        "repositoryName": name,
        "repositoryNames": [name],
        "resourceArn": arn(name),
        "tags": [],
        "tagKeys": [],
    })
}

#[tokio::test]
async fn every_operation_passes_the_gate_and_a_refusal_does_not_depend_on_existence() {
    let fixture = Fixture::new().await;
    fixture.create("there").await;
    let agent = fixture.host_agent().await;
    for name in Operation::NAMES {
        let there = fixture.call_as(&agent, name, any_input("there")).await.unwrap_err();
        let absent = fixture.call_as(&agent, name, any_input("absent")).await.unwrap_err();
        assert_eq!(there.name, "AccessDeniedException", "{name}: {}", there.message);
        assert_eq!(there.message, absent.message.replace("absent", "there"), "{name}");
        let operation = Operation::parse(name).unwrap();
        let resource = if operation.target() == Target::Registry { "*".to_owned() } else { arn("there") };
        assert!(
            there.message.contains(&format!("{} on resource: {resource}", operation.action())),
            "{}",
            there.message
        );
    }
}

#[tokio::test]
async fn every_operation_answers_and_unsupported_ones_say_so() {
    let fixture = Fixture::new().await;
    let mut unsupported = 0;
    for name in Operation::NAMES {
        fixture
            .call_as(&fixture.administrator(), "CreateRepository", json!({ "repositoryName": "app" }))
            .await
            .ok();
        if let Err(refused) = fixture.call_as(&fixture.administrator(), name, any_input("app")).await {
            assert_ne!(refused.status, StatusCode::INTERNAL_SERVER_ERROR, "{name}");
            assert_ne!(refused.name, "AccessDeniedException", "{name}");
            if refused.name == "UnsupportedOperationException" {
                assert!(refused.message.contains(name), "{}", refused.message);
                unsupported += 1;
            }
        }
    }
    assert_eq!(unsupported, 21);
    let unknown = fixture.refused("BakeCake", json!({})).await;
    assert_eq!(unknown.name, "UnknownOperationException");
}
