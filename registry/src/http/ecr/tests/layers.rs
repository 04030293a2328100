//! Layers in parts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fixture::{Fixture, digest};

fn part(upload_id: &Value, first: usize, bytes: &[u8]) -> Value {
    json!({
        "repositoryName": "app",
        "uploadId": upload_id,
        "partFirstByte": first,
        "partLastByte": first + bytes.len() - 1,
        "layerPartBlob": STANDARD.encode(bytes),
    })
}

#[tokio::test]
async fn parts_make_a_layer_and_gaps_are_refused() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let started = fixture.call("InitiateLayerUpload", json!({ "repositoryName": "app" })).await;
    assert_eq!(started["partSize"], 10_485_760);
    let id = &started["uploadId"];

    let received = fixture.call("UploadLayerPart", part(id, 0, b"hello ")).await;
    let expected = json!({
        "registryId": "000000000000", "repositoryName": "app", "uploadId": id, "lastByteReceived": 5,
    });
    assert_eq!(received, expected);
    let gap = fixture.refused("UploadLayerPart", part(id, 7, b"world")).await;
    assert_eq!(gap.name, "InvalidLayerPartException");
    let mut lie = part(id, 6, b"world");
    lie["partLastByte"] = 20.into();
    assert_eq!(fixture.refused("UploadLayerPart", lie).await.name, "InvalidLayerPartException");
    let mut endless = part(id, 0, b"x");
    endless["partLastByte"] = u64::MAX.into();
    assert_eq!(fixture.refused("UploadLayerPart", endless).await.name, "InvalidParameterException");
    fixture.call("UploadLayerPart", part(id, 6, b"world")).await;

    let layer = digest(b"hello world");
    let complete = json!({ "repositoryName": "app", "uploadId": id, "layerDigests": [layer] });
    let completed = fixture.call("CompleteLayerUpload", complete.clone()).await;
    assert_eq!(completed["layerDigest"], json!(layer));
    assert_eq!(fixture.refused("CompleteLayerUpload", complete).await.name, "UploadNotFoundException");

    let digests =
        json!({ "repositoryName": "app", "layerDigests": [layer, digest(b"other"), "sha256:x", ""] });
    let checked = fixture.call("BatchCheckLayerAvailability", digests).await;
    assert_eq!(checked["layers"][0]["layerAvailability"], "AVAILABLE");
    assert_eq!(checked["layers"][0]["layerSize"], 11);
    assert_eq!(checked["layers"][1]["layerAvailability"], "UNAVAILABLE");
    let codes: Vec<&Value> =
        checked["failures"].as_array().unwrap().iter().map(|failure| &failure["failureCode"]).collect();
    assert_eq!(codes, ["InvalidLayerDigest", "MissingLayerDigest"]);
}

#[tokio::test]
async fn a_part_has_at_most_20_mib() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let started = fixture.call("InitiateLayerUpload", json!({ "repositoryName": "app" })).await;
    let id = &started["uploadId"];
    let bytes = vec![7; 20_971_521];
    let received = fixture.call("UploadLayerPart", part(id, 0, &bytes[1..])).await;
    assert_eq!(received["lastByteReceived"], 20_971_519);
    let refused = fixture.refused("UploadLayerPart", part(id, 20_971_520, &bytes)).await;
    assert_eq!((refused.status.as_u16(), refused.name.as_str()), (400, "InvalidLayerPartException"));
}

#[tokio::test]
async fn uploads_end_with_the_right_digest_or_not_at_all() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    let started = fixture.call("InitiateLayerUpload", json!({ "repositoryName": "app" })).await;
    let id = &started["uploadId"];
    let wrong = json!({ "repositoryName": "app", "uploadId": id, "layerDigests": [digest(b"other")] });
    assert_eq!(fixture.refused("CompleteLayerUpload", wrong.clone()).await.name, "EmptyUploadException");
    fixture.call("UploadLayerPart", part(id, 0, b"hello")).await;
    assert_eq!(fixture.refused("CompleteLayerUpload", wrong).await.name, "InvalidLayerException");
    let unknown = fixture.refused("UploadLayerPart", part(&json!("no-such-upload"), 0, b"x")).await;
    assert_eq!(unknown.name, "UploadNotFoundException");
}

#[tokio::test]
async fn layers_of_other_repositories_are_unavailable() {
    let fixture = Fixture::new().await;
    fixture.create("app").await;
    fixture.create("other").await;
    let layer = fixture.upload("other", b"secret").await;
    let checked = fixture
        .call("BatchCheckLayerAvailability", json!({ "repositoryName": "app", "layerDigests": [layer] }))
        .await;
    assert_eq!(checked["layers"], json!([{ "layerDigest": layer, "layerAvailability": "UNAVAILABLE" }]));
}
