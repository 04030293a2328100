//! The five operations of lifecycle policies, as the AWS CLI sends them.

use http::StatusCode;
use serde_json::{Value, json};

use super::fixture::Fixture;

fn policy(selection: Value) -> String {
    let rule = json!({ "rulePriority": 1, "description": "Keep few", "selection": selection, "action": { "type": "expire" } });
    json!({ "rules": [rule] }).to_string()
}

fn keep(count: i64) -> String {
    policy(json!({ "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": count }))
}

fn of(repository: &str) -> Value {
    json!({ "repositoryName": repository })
}

#[tokio::test]
async fn a_policy_lives_from_put_to_delete() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    for operation in ["GetLifecyclePolicy", "DeleteLifecyclePolicy", "StartLifecyclePolicyPreview"] {
        let missing = fixture.refused(operation, of("app")).await;
        assert_eq!(missing.name, "LifecyclePolicyNotFoundException", "{operation}");
        assert_eq!(
            missing.message,
            "Lifecycle policy does not exist for the repository with name 'app' in the registry with id \
             '000000000000'"
        );
    }
    let text = keep(5);
    let put = json!({ "repositoryName": "app", "lifecyclePolicyText": text });
    let answer =
        json!({ "registryId": "000000000000", "repositoryName": "app", "lifecyclePolicyText": text });
    assert_eq!(fixture.call("PutLifecyclePolicy", put).await, answer);
    let got = fixture.call("GetLifecyclePolicy", of("app")).await;
    assert_eq!(got["lifecyclePolicyText"], json!(text));
    assert!(got["lastEvaluatedAt"].is_number(), "{got}");
    let deleted = fixture.call("DeleteLifecyclePolicy", of("app")).await;
    assert_eq!(deleted["lifecyclePolicyText"], json!(text));
    assert_eq!(
        fixture.refused("GetLifecyclePolicy", of("app")).await.name,
        "LifecyclePolicyNotFoundException"
    );
    let elsewhere = fixture
        .refused("PutLifecyclePolicy", json!({ "repositoryName": "none", "lifecyclePolicyText": text }));
    assert_eq!(elsewhere.await.name, "RepositoryNotFoundException");
}

#[tokio::test]
async fn a_policy_that_says_nothing_useful_is_refused_in_ecrs_words() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let unit = policy(
        json!({ "tagStatus": "any", "countType": "imageCountMoreThan", "countUnit": "days", "countNumber": 1 }),
    );
    let archive = policy(
        json!({ "tagStatus": "any", "storageClass": "archive", "countType": "imageCountMoreThan", "countNumber": 1 }),
    );
    for (text, reason) in [
        ("{}".to_owned(), "missing field `rules`"),
        ("no JSON".to_owned(), "expected"),
        (unit, "rule with rulePriority 1: countUnit goes with"),
        (archive, "storageClass archive: nothing is archived here"),
    ] {
        for operation in ["PutLifecyclePolicy", "StartLifecyclePolicyPreview"] {
            let input = json!({ "repositoryName": "app", "lifecyclePolicyText": text });
            let refused = fixture.refused(operation, input).await;
            assert_eq!(
                (refused.status, refused.name.as_str()),
                (StatusCode::BAD_REQUEST, "InvalidParameterException")
            );
            let begin = "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle policy \
                         validation failure: ";
            assert!(refused.message.starts_with(begin), "{refused:?}");
            assert!(refused.message.contains(reason), "{refused:?}");
        }
    }
    let null = fixture.refused("PutLifecyclePolicy", of("app")).await;
    assert!(null.message.contains("lifecyclePolicyText"), "{null:?}");
}

#[tokio::test]
async fn a_preview_is_asked_for_computed_and_read_in_pages() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    for n in 0..4 {
        fixture.put("app", &format!("layer {n}"), (n > 0).then(|| format!("v{n}")).as_deref()).await;
    }
    let missing = fixture.refused("GetLifecyclePolicyPreview", of("app")).await;
    assert_eq!(missing.name, "LifecyclePolicyPreviewNotFoundException");
    let start = json!({ "repositoryName": "app", "lifecyclePolicyText": keep(1) });
    let started = fixture.call("StartLifecyclePolicyPreview", start.clone()).await;
    assert_eq!(started["status"], "IN_PROGRESS");
    let twice = fixture.refused("StartLifecyclePolicyPreview", start).await;
    assert_eq!(twice.name, "LifecyclePolicyPreviewInProgressException");
    assert_eq!(fixture.call("GetLifecyclePolicyPreview", of("app")).await["status"], "IN_PROGRESS");
    assert!(fixture.registry().compute_lifecycle_preview().await.unwrap());

    let all = fixture.call("GetLifecyclePolicyPreview", of("app")).await;
    assert_eq!((&all["status"], &all["summary"]["expiringImageTotalCount"]), (&json!("COMPLETE"), &json!(3)));
    let results = all["previewResults"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        assert_eq!(result["action"], json!({ "type": "EXPIRE" }));
        assert_eq!(result["appliedRulePriority"], json!(1));
        assert!(result["imagePushedAt"].is_number());
    }
    let mut input = json!({ "repositoryName": "app", "maxResults": 2 });
    let first = fixture.call("GetLifecyclePolicyPreview", input.clone()).await;
    input["nextToken"] = first["nextToken"].clone();
    let second = fixture.call("GetLifecyclePolicyPreview", input).await;
    let pages = [&first, &second].map(|page| page["previewResults"].as_array().unwrap().clone()).concat();
    assert_eq!((&pages, &second["nextToken"]), (results, &Value::Null));

    let with = async |members: Value| {
        let mut input = of("app");
        for (name, value) in members.as_object().unwrap() {
            input[name] = value.clone();
        }
        fixture.call("GetLifecyclePolicyPreview", input).await["previewResults"].as_array().unwrap().len()
    };
    let tagged = results.iter().find(|result| !result["imageTags"].as_array().unwrap().is_empty()).unwrap();
    let untagged = results.iter().filter(|result| result["imageTags"].as_array().unwrap().is_empty()).count();
    assert_eq!(with(json!({ "filter": { "tagStatus": "UNTAGGED" } })).await, untagged);
    assert_eq!(with(json!({ "filter": { "tagStatus": "TAGGED" } })).await, 3 - untagged);
    assert_eq!(with(json!({ "imageIds": [{ "imageDigest": tagged["imageDigest"] }] })).await, 1);
    assert_eq!(with(json!({ "imageIds": [{ "imageTag": tagged["imageTags"][0] }] })).await, 1);
    assert_eq!(with(json!({ "imageIds": [{ "imageTag": "none" }] })).await, 0);
    let refused =
        fixture.refused("GetLifecyclePolicyPreview", json!({ "repositoryName": "app", "maxResults": 101 }));
    assert_eq!(refused.await.name, "InvalidParameterException");
}
