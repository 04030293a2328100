//! Signatures and bills of materials: who refers to an image at its upstream refers to it here.

use serde_json::{Value, json};
use test_support::{Http, Response, Server, sha256};

use super::upstream::{Answer, Fake};
use super::{INDEX, MANIFEST, cache_of, log_in, manifest, push, put};
use crate::signed::{ECR, Signer};

/// Pushes an artifact of a kind that refers to `subject`; gives its digest.
fn attach(http: &Http, repository: &str, subject: &str, kind: &str) -> String {
    let config = http.push_blob(repository, b"{}");
    let artifact = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "layers": [],
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 100},
        "annotations": {"kind": kind},
    });
    let artifact = artifact.to_string();
    put(http, repository, &format!("sha256:{}", sha256(artifact.as_bytes())), MANIFEST, artifact.as_bytes())
}

fn sorted<const N: usize>(digests: [&String; N]) -> Vec<String> {
    let mut digests = digests.map(Clone::clone).to_vec();
    digests.sort();
    digests
}

fn digests(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one["digest"].as_str().unwrap().to_owned()).collect()
}

/// What a list of referrers holds, and whether it warns that it may lack some.
fn listed(answer: &Response) -> (Vec<String>, bool) {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(INDEX)), "{answer:?}");
    let warning = answer.header("warning");
    assert!(warning.is_none_or(|text| text.starts_with("299 - \"this may be older than at")), "{warning:?}");
    (digests(&answer.json()["manifests"]), warning.is_some())
}

#[test]
fn an_image_is_as_signed_as_it_is_at_its_upstream() {
    let mut upstream = Server::start();
    let image = push(&upstream.http(), "app", "1", "signed");
    let signature = attach(&upstream.http(), "app", &image, "application/x.signature");
    let sbom = attach(&upstream.http(), "app", &image, "application/x.sbom");
    let cache = cache_of(upstream.endpoint(), "");
    log_in(&cache, &upstream);
    let http = cache.http();
    let path = format!("/v2/hub/app/referrers/{image}");
    // Before anything of it is here.
    let all = http.get(&path);
    assert_eq!(listed(&all), (sorted([&signature, &sbom]), false));
    assert_eq!(all.json()["manifests"][0]["annotations"]["kind"], all.json()["manifests"][0]["artifactType"]);
    let one = http.get(&format!("{path}?artifactType=application/x.sbom"));
    assert_eq!(listed(&one), (vec![sbom.clone()], false));
    assert_eq!(one.header("oci-filters-applied"), Some("artifactType"));
    let (mut next, mut paged) = (format!("{path}?n=1"), Vec::new());
    loop {
        let page = http.get(&next);
        let (found, _) = listed(&page);
        assert_eq!(found.len(), 1);
        paged.extend(found);
        let Some(link) = page.header("link") else { break };
        next = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    assert_eq!(paged, sorted([&signature, &sbom]));

    // What was pulled is kept, and what is attached here stands beside it.
    assert_eq!(manifest(&http, "hub/app", &signature).status, 200);
    let own = attach(&http, "hub/app", &image, "application/x.own");
    assert_eq!(listed(&http.get(&path)), (sorted([&signature, &sbom, &own]), false));
    let input = json!({"repositoryName": "hub/app", "subjectId": {"imageDigest": image}}).to_string();
    let api = || Signer::administrator(&cache).call(&ECR, "ListImageReferrers", &input);
    assert_eq!(digests(&api().json()["referrers"]), sorted([&signature, &sbom, &own]));
    upstream.kill();
    assert_eq!(listed(&http.get(&path)), (sorted([&signature, &own]), true));
    assert_eq!(api().json()["__type"], "UnableToListUpstreamImageReferrersException");
}

#[test]
fn lists_that_are_none_are_said_to_be_missing() {
    let subject = |name: &str| format!("sha256:{}", sha256(name.as_bytes()));
    let tags = ["tagged", "web", "malformed"].map(|name| subject(name).replace(':', "-"));
    let no_list = subject("untagged").replace(':', "-");
    let artifact = subject("an artifact");
    let listing = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": artifact, "size": 7, "artifactType": "application/x"},
        {"mediaType": MANIFEST, "digest": "md5:no", "size": 7},
    ]});
    let fake = Fake::start(move |asked| {
        let is = |name: &str| asked.path.contains(&format!("/referrers/{}", subject(name)));
        let index = [("content-type", INDEX)];
        if tags.iter().any(|tag| asked.path.ends_with(tag)) || asked.path.ends_with("?page=2") {
            Answer::new(200, &index, listing.to_string().as_bytes())
        } else if is("endless") {
            let link = format!("<{}>; rel=\"next\"", asked.path);
            Answer::new(200, &[("content-type", INDEX), ("link", link.as_str())], br#"{"manifests": []}"#)
        } else if is("long") {
            Answer::new(200, &index, &vec![b' '; 5 << 20])
        } else if is("malformed") {
            Answer::new(200, &index, b"<html>")
        } else if is("web") {
            Answer::new(200, &[("content-type", "text/html")], br#"{"manifests": []}"#)
        } else if is("paged") {
            let link = ("link", "<?page=2>; rel=next");
            Answer::new(200, &[("content-type", INDEX), link], br#"{"manifests": null}"#)
        } else if is("failing") {
            Answer::new(501, &[], b"{}")
        } else if asked.path.ends_with(&no_list) {
            Answer::new(200, &index, b"<html>")
        } else {
            Answer::new(404, &[], b"{}")
        }
    });
    let cache = cache_of(&fake.url(), "");
    let list = |name: &str| {
        let digest = format!("sha256:{}", sha256(name.as_bytes()));
        listed(&cache.http().get(&format!("/v2/hub/app/referrers/{digest}")))
    };
    for name in ["tagged", "web", "malformed", "paged"] {
        assert_eq!(list(name), (vec![format!("sha256:{}", sha256(b"an artifact"))], false), "{name}");
    }
    for none in ["endless", "long", "untagged", "failing"] {
        assert_eq!(list(none), (Vec::new(), true), "{none}");
    }
    // What fails for one image keeps nobody from asking about another.
    assert_eq!(list("nowhere"), (Vec::new(), false));
    assert!(fake.asked().len() < 35, "{:?}", fake.asked().len());
}
