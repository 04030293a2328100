//! ECR's API over repositories that are filled from an upstream: it says what `/v2/` says.

use serde_json::{Value, json};
use test_support::{Server, aws, sha256};

use super::{blobs, cache_of, log_in, manifest, push};
use crate::signed::{ECR, Signer};

/// The answer of an operation, or the name of its exception.
fn ask(signer: &Signer, operation: &str, input: &Value) -> Result<Value, String> {
    let answer = signer.call(&ECR, operation, &input.to_string());
    let body = answer.json();
    if answer.status == 200 { Ok(body) } else { Err(body["__type"].as_str().unwrap().to_owned()) }
}

fn image(repository: &str, tags: &[&str]) -> Value {
    let ids: Vec<Value> = tags.iter().map(|tag| json!({ "imageTag": tag })).collect();
    json!({ "repositoryName": repository, "imageIds": ids })
}

#[test]
fn the_api_fetches_what_is_asked_of_it() {
    let mut upstream = Server::start();
    let digest = push(&upstream.http(), "team/app", "1", "first");
    push(&upstream.http(), "team/app", "2", "second");
    let cache = cache_of(upstream.endpoint(), "");
    log_in(&cache, &upstream);
    let signer = Signer::administrator(&cache);
    let fetched = ask(&signer, "BatchGetImage", &image("hub/team/app", &["1", "absent"])).unwrap();
    assert_eq!(
        fetched["images"][0]["imageId"],
        json!({ "imageDigest": digest, "imageTag": "1" }),
        "{fetched}"
    );
    assert_eq!(fetched["images"].as_array().unwrap().len(), 1);
    assert_eq!(fetched["failures"][0]["failureCode"], "ImageNotFound", "{fetched}");

    let parts = blobs(&manifest(&cache.http(), "hub/team/app", "1"));
    let check = |digests: &[&str]| {
        let input = json!({ "repositoryName": "hub/team/app", "layerDigests": digests });
        let layers = ask(&signer, "BatchCheckLayerAvailability", &input).unwrap()["layers"].clone();
        let availability = layers.as_array().unwrap().iter().map(|layer| layer["layerAvailability"].clone());
        availability.collect::<Vec<_>>()
    };
    let unnamed = format!("sha256:{}", sha256(b"not of an image"));
    let url = |digest: &str| {
        let input = json!({ "repositoryName": "hub/team/app", "layerDigest": digest });
        ask(&signer, "GetDownloadUrlForLayer", &input)
    };
    // Whether layers are here makes none come.
    for _ in 0..2 {
        assert_eq!(check(&[&parts[0], &parts[1], &unnamed]), ["UNAVAILABLE"; 3]);
    }
    let found = url(&parts[1]).unwrap();
    assert_eq!(check(&[&parts[0], &parts[1]]), ["UNAVAILABLE", "AVAILABLE"]);
    let path = found["downloadUrl"].as_str().unwrap().strip_prefix(cache.endpoint()).unwrap();
    let layer = cache.anonymous().get(path);
    assert_eq!((layer.status, format!("sha256:{}", sha256(&layer.body))), (200, parts[1].clone()));
    // What no image here names is nobody's to fetch.
    assert_eq!(url(&unnamed).unwrap_err(), "LayersNotFoundException");

    // What is nowhere makes no repository.
    let nowhere = ask(&signer, "BatchGetImage", &image("hub/none", &["1"])).unwrap();
    assert_eq!(nowhere["failures"][0]["failureCode"], "ImageNotFound", "{nowhere}");
    assert!(aws(&cache, ["ecr", "describe-repositories", "--repository-names", "hub/none"]).is_err());

    let second = blobs(&manifest(&cache.http(), "hub/team/app", "2"));
    upstream.kill();
    assert!(url(&parts[1]).is_ok());
    let away = second.iter().find(|part| !parts.contains(part)).unwrap();
    assert_eq!(url(away).unwrap_err(), "UnableToGetUpstreamLayerException");
    assert_eq!(check(&[away]), ["UNAVAILABLE"]);
    let away = ask(&signer, "BatchGetImage", &image("hub/team/app", &["3"]));
    assert_eq!(away.unwrap_err(), "UnableToGetUpstreamImageException");
}
