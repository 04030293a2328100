//! Images: put, listed, described, fetched, deleted.

use registry_core::{Limits, ManifestPush, PushTarget, RegistryConfig};
use serde_json::{Value, json};

use super::fixture::{Fixture, digest};

fn all(page: &Value, member: &str) -> Vec<Value> {
    page[member].as_array().unwrap().clone()
}

#[tokio::test]
async fn described_images_have_ecrs_shape() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let digest = fixture.put("app", "layer", Some("v1")).await;
    let described = fixture.call("DescribeImages", json!({ "repositoryName": "app" })).await;
    let expected = json!({
        "registryId": "000000000000",
        "repositoryName": "app",
        "imageDigest": digest,
        "imageTags": ["v1"],
        "imageSizeInBytes": 7,
        "imagePushedAt": 1793534400.0,
        "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactMediaType": "application/vnd.oci.image.config.v1+json",
        "imageStatus": "ACTIVE",
    });
    assert_eq!(described, json!({ "imageDetails": [expected] }));
    let by_tag =
        json!({ "repositoryName": "app", "imageIds": [{ "imageTag": "v1" }, { "imageDigest": digest }] });
    assert_eq!(fixture.call("DescribeImages", by_tag).await, json!({ "imageDetails": [expected] }));
    let missing = json!({ "repositoryName": "app", "imageIds": [{ "imageTag": "v2" }] });
    let missing = fixture.refused("DescribeImages", missing).await;
    assert_eq!(missing.name, "ImageNotFoundException");
    assert_eq!(
        missing.message,
        "The image with imageId {imageDigest:'null', imageTag:'v2'} does not exist within the repository with name \
         'app' in the registry with id '000000000000'"
    );
}

#[tokio::test]
async fn fetched_images_are_byte_for_byte_what_was_put() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let manifest = fixture.manifest("app", "layer").await + "\n";
    let digest = digest(manifest.as_bytes());
    let put = json!({ "repositoryName": "app", "imageManifest": manifest, "imageTag": "v1" });
    let image = json!({
        "registryId": "000000000000",
        "repositoryName": "app",
        "imageId": { "imageDigest": digest, "imageTag": "v1" },
        "imageManifest": manifest,
        "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
    });
    assert_eq!(fixture.call("PutImage", put.clone()).await, json!({ "image": image }));
    let again = fixture.refused("PutImage", put).await;
    assert_eq!(again.name, "ImageAlreadyExistsException");
    assert_eq!(
        again.message,
        format!(
            "Image with digest '{digest}' and tag 'v1' already exists in the repository with name 'app' in \
             registry with id '000000000000'"
        )
    );
    let absent = digest.replace("sha256:", "sha256:0")[..71].to_owned();
    let ids = json!([
        { "imageTag": "v1" },
        { "imageTag": "v2" },
        { "imageDigest": absent, "imageTag": "v1" },
        {},
    ]);
    let fetched = fixture.call("BatchGetImage", json!({ "repositoryName": "app", "imageIds": ids })).await;
    assert_eq!(fetched["images"], json!([image]));
    let codes: Vec<Value> = all(&fetched, "failures").iter().map(|f| f["failureCode"].clone()).collect();
    assert_eq!(codes, ["ImageNotFound", "ImageTagDoesNotMatchDigest", "MissingDigestAndTag"]);
    let other_types = json!({
        "repositoryName": "app",
        "imageIds": [{ "imageTag": "v1" }],
        "acceptedMediaTypes": ["application/vnd.docker.distribution.manifest.v2+json"],
    });
    assert_eq!(fixture.call("BatchGetImage", other_types).await["images"], json!([]));
}

#[tokio::test]
async fn manifests_that_do_not_hold_are_refused() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let manifest = fixture.manifest("app", "layer").await;
    let wrong = digest(b"something else");
    let put = |manifest: &str, digest: Option<&str>| json!({ "repositoryName": "app", "imageManifest": manifest, "imageDigest": digest, "imageTag": "v1" });
    for (input, name) in [
        (put(&manifest, Some(&wrong)), "ImageDigestDoesNotMatchException"),
        (put(&manifest.replace(&digest(b"layer"), &wrong), None), "LayersNotFoundException"),
        (put("{}", None), "InvalidParameterException"),
        (put(&manifest.replace("\"size\":2", "\"size\":1"), None), "InvalidParameterException"),
    ] {
        assert_eq!(fixture.refused("PutImage", input.clone()).await.name, name, "{input}");
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": wrong, "size": 2 }],
    });
    let refused = fixture.refused("PutImage", put(&index.to_string(), None)).await;
    assert_eq!(refused.name, "ReferencedImagesNotFoundException");
    assert!(refused.message.contains(&wrong));
}

#[tokio::test]
async fn listings_of_images_are_complete_at_every_page_size() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let mut expected = Vec::new();
    for image in ["one", "two", "three"] {
        for tag in ["a", "b", "c"] {
            let tag = format!("{image}-{tag}");
            let digest = fixture.put("app", image, Some(&tag)).await;
            expected.push((digest, Some(tag)));
        }
    }
    for image in ["four", "five"] {
        expected.push((fixture.put("app", image, None).await, None));
    }
    expected.sort();
    for (limit, filter, count) in [
        (1, "ANY", 11),
        (2, "ANY", 11),
        (4, "ANY", 11),
        (1000, "ANY", 11),
        (2, "TAGGED", 9),
        (1, "UNTAGGED", 2),
    ] {
        let mut listed = Vec::new();
        let mut input =
            json!({ "repositoryName": "app", "maxResults": limit, "filter": { "tagStatus": filter } });
        loop {
            let page = fixture.call("ListImages", input.clone()).await;
            let ids = all(&page, "imageIds");
            assert!(ids.len() <= limit);
            listed.extend(ids.iter().map(|id| {
                let tag = id.get("imageTag").map(|tag| tag.as_str().unwrap().to_owned());
                (id["imageDigest"].as_str().unwrap().to_owned(), tag)
            }));
            match page.get("nextToken") {
                Some(token) => input["nextToken"] = token.clone(),
                None => break,
            }
        }
        assert_eq!(listed.len(), count, "{limit} {filter}");
        if filter == "ANY" {
            assert_eq!(listed, expected, "{limit}");
        }
    }
    let archived = json!({ "repositoryName": "app", "filter": { "imageStatus": "ARCHIVED" } });
    assert_eq!(fixture.call("DescribeImages", archived).await, json!({ "imageDetails": [] }));
}

#[tokio::test]
async fn deleting_tags_and_digests_follows_ecr() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let one = fixture.put("app", "one", Some("a")).await;
    fixture.put("app", "one", Some("b")).await;
    let two = fixture.put("app", "two", Some("c")).await;
    let delete = |ids: Value| json!({ "repositoryName": "app", "imageIds": ids });

    let first =
        fixture.call("BatchDeleteImage", delete(json!([{ "imageTag": "a" }, { "imageTag": "x" }]))).await;
    assert_eq!(first["imageIds"], json!([{ "imageDigest": one, "imageTag": "a" }]));
    assert_eq!(first["failures"][0]["failureCode"], "ImageNotFound");
    assert_eq!(first["failures"][0]["imageId"], json!({ "imageTag": "x" }));

    // The last tag takes the image with it.
    fixture.call("BatchDeleteImage", delete(json!([{ "imageTag": "b" }]))).await;
    // A member that is null is not there.
    let all = json!({ "repositoryName": "app", "filter": null, "maxResults": null });
    let left = fixture.call("ListImages", all).await;
    assert_eq!(left["imageIds"], json!([{ "imageDigest": two, "imageTag": "c" }]));

    let mismatch = delete(json!([{ "imageDigest": one, "imageTag": "c" }]));
    let mismatch = fixture.call("BatchDeleteImage", mismatch).await;
    assert_eq!(mismatch["failures"][0]["failureCode"], "ImageTagDoesNotMatchDigest");

    let gone = fixture.call("BatchDeleteImage", delete(json!([{ "imageDigest": two }]))).await;
    assert_eq!(gone, json!({ "imageIds": [{ "imageDigest": two, "imageTag": "c" }], "failures": [] }));
    assert_eq!(
        fixture.call("ListImages", json!({ "repositoryName": "app" })).await,
        json!({ "imageIds": [] })
    );
}

#[tokio::test]
async fn children_of_an_index_outlive_a_delete() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let manifest = fixture.manifest("app", "one").await;
    let child = fixture.put("app", "one", None).await;
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": child,
            "size": manifest.len(),
        }],
    });
    let put = json!({ "repositoryName": "app", "imageManifest": index.to_string(), "imageManifestMediaType": media_type });
    fixture.call("PutImage", put).await;
    let delete = json!({ "repositoryName": "app", "imageIds": [{ "imageDigest": child }] });
    let kept = fixture.call("BatchDeleteImage", delete).await;
    assert_eq!(kept["imageIds"], json!([]));
    assert_eq!(kept["failures"][0]["failureCode"], "ImageReferencedByManifestList");
}

#[tokio::test]
async fn referrers_are_listed_by_type() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let subject = fixture.put("app", "one", Some("v1")).await;
    let manifest = fixture.manifest("app", "signature").await;
    let mut signature: Value = serde_json::from_str(&manifest).unwrap();
    signature["artifactType"] = "application/example".into();
    signature["annotations"] = json!({ "by": "me" });
    signature["subject"] = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": subject,
        "size": fixture.manifest("app", "one").await.len(),
    });
    let signature = signature.to_string();
    fixture.call("PutImage", json!({ "repositoryName": "app", "imageManifest": signature })).await;
    let list = |types: Value| json!({ "repositoryName": "app", "subjectId": { "imageDigest": subject }, "filter": { "artifactTypes": types } });
    let expected = json!({ "referrers": [{
        "digest": digest(signature.as_bytes()),
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/example",
        "size": signature.len(),
        "annotations": { "by": "me" },
        "artifactStatus": "ACTIVE",
    }] });
    for types in [json!([]), json!(["application/example"]), json!(["application/example", "x/y"])] {
        assert_eq!(fixture.call("ListImageReferrers", list(types)).await, expected);
    }
    for types in [json!(["x/y"]), json!(["x/y", "x/z"])] {
        assert_eq!(fixture.call("ListImageReferrers", list(types)).await, json!({ "referrers": [] }));
    }
}

#[tokio::test]
async fn an_image_with_very_many_tags_is_listed_with_all_of_them() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let manifest = fixture.manifest("app", "never changes").await;
    let repository = fixture.registry().repository(&"app".parse().unwrap()).await.unwrap().unwrap();
    let digest = digest(manifest.as_bytes());
    let mut expected: Vec<String> = (0..1100).map(|commit| format!("commit-{commit:04}")).collect();
    for tags in expected.chunks(100) {
        let push = ManifestPush {
            target: &PushTarget::Existing(repository.clone()),
            reference: digest.parse().unwrap(),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            content_type: "application/vnd.oci.image.manifest.v1+json",
            bytes: manifest.clone().into(),
        };
        fixture.registry().put_manifest(push).await.unwrap();
    }
    let tag = |id: &Value| id["imageTag"].as_str().unwrap().to_owned();
    for limit in [300, 1000] {
        let (mut listed, mut input) = (Vec::new(), json!({ "repositoryName": "app", "maxResults": limit }));
        loop {
            let page = fixture.call("ListImages", input.clone()).await;
            listed.extend(all(&page, "imageIds").iter().map(tag));
            let Some(token) = page.get("nextToken") else { break };
            input["nextToken"] = token.clone();
        }
        assert_eq!(listed, expected, "{limit}");
    }
    for ids in [Value::Null, json!([{ "imageTag": "commit-0003" }])] {
        let described = json!({ "repositoryName": "app", "imageIds": ids });
        let described = fixture.call("DescribeImages", described).await;
        assert_eq!(described["imageDetails"][0]["imageTags"], json!(expected));
    }
    let delete = json!({ "repositoryName": "app", "imageIds": [{ "imageDigest": digest }] });
    let mut gone: Vec<String> =
        all(&fixture.call("BatchDeleteImage", delete).await, "imageIds").iter().map(tag).collect();
    gone.sort();
    expected.sort();
    assert_eq!(gone, expected);
}

#[tokio::test]
async fn an_answer_holds_only_so_many_tags_and_says_what_it_leaves_out() {
    let limits = Limits { tags_per_image: 3, ..Limits::default() };
    let fixture = Fixture::with(RegistryConfig { limits, ..RegistryConfig::default() }).await;
    fixture.create("app").await;
    let mut ids = Vec::new();
    for (image, count) in [("one", 3), ("two", 1), ("three", 2)] {
        for tag in 0..count {
            fixture.put("app", image, Some(&format!("{image}-{tag}"))).await;
        }
        ids.push(json!({ "imageTag": format!("{image}-0") }));
    }
    let manifest = fixture.manifest("app", "one").await;
    let fourth = json!({ "repositoryName": "app", "imageManifest": manifest, "imageTag": "one-3" });
    assert_eq!(fixture.refused("PutImage", fourth).await.name, "LimitExceededException");
    let ask = |ids: &[Value]| json!({ "repositoryName": "app", "imageIds": ids });
    assert_eq!(all(&fixture.call("DescribeImages", ask(&ids[..2])).await, "imageDetails").len(), 2);
    assert_eq!(fixture.refused("DescribeImages", ask(&ids)).await.name, "LimitExceededException");

    let mut digests = Vec::new();
    for id in &ids {
        let described = fixture.call("DescribeImages", ask(std::slice::from_ref(id))).await;
        digests.push(json!({ "imageDigest": described["imageDetails"][0]["imageDigest"] }));
    }
    let first = fixture.call("BatchDeleteImage", ask(&digests)).await;
    assert_eq!(all(&first, "imageIds").len(), 4, "{first}");
    assert_eq!(first["failures"][0]["failureCode"], "LimitExceeded");
    assert_eq!(first["failures"][0]["imageId"], digests[2]);
    let second = fixture.call("BatchDeleteImage", ask(&digests[2..])).await;
    assert_eq!((all(&second, "imageIds").len(), &second["failures"]), (2, &json!([])));
}
