//! Referrers: artifacts that name an image as their subject.

use http::StatusCode;
use registry_core::{Limits, RegistryConfig};
use registry_types::Digest;
use serde_json::{Value, json};

use super::support::{OCI_INDEX, OCI_MANIFEST, World, descriptor, image_of, index_of, sha256};

/// An artifact without layers.
async fn artifact(world: &World, subject: &Digest, artifact_type: Option<&str>, note: &str) -> Value {
    let config = world.push_blob("app", b"{}").await;
    let mut manifest = image_of(&descriptor("application/x.config+json", &config, 2), &[]);
    manifest["subject"] = descriptor(OCI_MANIFEST, subject, 100);
    manifest["annotations"] = json!({ "note": note });
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = json!(artifact_type);
    }
    manifest
}

#[tokio::test]
async fn an_absent_subject_is_welcome_and_listed() {
    let world = World::new().await;
    let subject = sha256(b"not pushed yet");
    let manifest = artifact(&world, &subject, Some("application/x.sbom"), "first").await;
    let pushed = world.put_manifest("app", "sbom", &manifest).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text());
    assert_eq!(pushed.header("oci-subject"), subject.as_str());
    let listed = world.get(&format!("/v2/app/referrers/{subject}")).await;
    assert_eq!(listed.header("content-type"), OCI_INDEX);
    let digest = sha256(manifest.to_string().as_bytes());
    assert_eq!(
        listed.json(),
        json!({
            "schemaVersion": 2, "mediaType": OCI_INDEX,
            "manifests": [{
                "mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.to_string().len(),
                "artifactType": "application/x.sbom", "annotations": { "note": "first" },
            }],
        })
    );
}

#[tokio::test]
async fn nobody_refers_to_what_nobody_knows() {
    let world = World::new().await;
    let subject = sha256(b"unknown");
    for repository in ["never-pushed", "app"] {
        let listed = world.get(&format!("/v2/{repository}/referrers/{subject}")).await;
        assert_eq!(listed.status, StatusCode::OK);
        assert_eq!(listed.json()["manifests"], json!([]));
        world.push_blob("app", b"x").await;
    }
    assert_eq!(world.get("/v2/app/referrers/sha256:bad").await.error(), (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn the_artifact_type_comes_from_the_manifest_or_its_configuration() {
    let world = World::new().await;
    let subject = sha256(b"subject");
    let own = artifact(&world, &subject, Some("application/x.sig+json"), "a").await;
    let by_config = artifact(&world, &subject, None, "b").await;
    let mut index = index_of(&[]);
    index["subject"] = descriptor(OCI_MANIFEST, &subject, 100);
    for manifest in [&own, &by_config, &index] {
        let digest = sha256(manifest.to_string().as_bytes());
        let pushed = world.put_manifest("app", digest.as_str(), manifest).await;
        assert_eq!(pushed.header("oci-subject"), subject.as_str());
    }
    let all = world.get(&format!("/v2/app/referrers/{subject}")).await;
    let mut types: Vec<String> = all.json()["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["artifactType"].as_str().unwrap_or("none").to_owned())
        .collect();
    types.sort();
    assert_eq!(types, ["application/x.config+json", "application/x.sig+json", "none"]);
    assert_eq!(all.header("oci-filters-applied"), "");
    for wanted in ["application/x.sig+json", "application%2Fx.sig%2Bjson"] {
        let filtered = world.get(&format!("/v2/app/referrers/{subject}?artifactType={wanted}")).await;
        assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
        assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn pages_are_bounded_in_bytes_and_linked() {
    let limits = Limits { referrers_page_bytes: 3000, ..Limits::default() };
    let world = World::with(RegistryConfig { limits, ..RegistryConfig::default() }).await;
    let subject = sha256(b"subject");
    for i in 0..7 {
        let manifest = artifact(&world, &subject, Some("application/x.sig"), &format!("{i}")).await;
        world.put_manifest("app", &format!("t{i}"), &manifest).await;
    }
    let mut path = format!("/v2/app/referrers/{subject}?artifactType=application/x.sig");
    let (mut found, mut pages) = (0, 0);
    loop {
        let page = world.get(&path).await;
        found += page.json()["manifests"].as_array().unwrap().len();
        pages += 1;
        match page.header("link") {
            "" => break,
            link => path = link.trim_start_matches('<').split('>').next().unwrap().to_owned(),
        }
    }
    assert_eq!(found, 7);
    assert!(pages > 2, "{pages}");
}

#[tokio::test]
async fn a_deleted_referrer_is_no_longer_listed_and_a_deleted_subject_keeps_its_referrers() {
    let world = World::new().await;
    let subject = world.push_image("app", "v1", b"layer").await;
    let manifest = artifact(&world, &subject, Some("application/x.sig"), "a").await;
    let pushed = world.put_manifest("app", "sig", &manifest).await;
    let list = format!("/v2/app/referrers/{subject}");
    world.delete(&format!("/v2/app/manifests/{subject}")).await;
    assert_eq!(world.get(&list).await.json()["manifests"].as_array().unwrap().len(), 1);
    world.delete(&pushed.location()).await;
    assert_eq!(world.get(&list).await.json()["manifests"], json!([]));
}
