//! Artifacts, nested indexes and referrers, those of fallback tags among them (items 25, 35 to 37).

use serde_json::json;

use super::{ABSENT, INDEX, MANIFEST, image, push, server, tag, text};

#[test]
fn referrers_are_an_index_whatever_there_is() {
    let (_server, http) = server();
    for path in [format!("/v2/never/referrers/{ABSENT}"), format!("/v2/app/referrers/{ABSENT}")] {
        let answer = http.get(&path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(INDEX)), "{answer:?}");
        assert_eq!(answer.json(), json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}));
        http.push_blob("app", b"{}");
    }
    let bad = http.get("/v2/app/referrers/sha256:bad");
    assert_eq!((bad.status, bad.oci_code().as_str()), (400, "DIGEST_INVALID"));
}

#[test]
fn referrers_show_type_and_annotations_and_outlive_their_subject() {
    let (_server, http) = server();
    let subject = tag(&http, "app", "v1", &image(&http, "app", b"{}", json!({})));
    let own = json!({"subject": subject, "artifactType": "application/x.own", "annotations": {"k": "v"}});
    let own = image(&http, "app", b"{}", own);
    let bytes = own.to_string();
    let answer = http.put("/v2/app/manifests/own", &[("content-type", MANIFEST)], bytes.as_bytes());
    assert_eq!(answer.header("oci-subject"), subject["digest"].as_str(), "{answer:?}");
    let by_config = push(&http, "app", &image(&http, "app", b"{\"c\":1}", json!({"subject": subject})));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": subject});
    let index = push(&http, "app", &index);
    let list = |query: &str| http.get(&format!("/v2/app/referrers/{}{query}", text(&subject, "digest")));
    let all = list("").json()["manifests"].as_array().unwrap().clone();
    assert_eq!(all.len(), 3, "{all:?}");
    let find = |digest: &str| all.iter().find(|one| one["digest"] == digest).unwrap();
    let own = find(&super::digest_of(bytes.as_bytes()));
    assert_eq!(
        (&own["artifactType"], &own["annotations"]),
        (&json!("application/x.own"), &json!({"k": "v"}))
    );
    assert_eq!(find(text(&by_config, "digest"))["artifactType"], super::CONFIG);
    assert_eq!(find(text(&index, "digest")).get("artifactType"), None);
    let filtered = list("?artifactType=application/x.own");
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(http.delete(&format!("/v2/app/manifests/{}", text(&subject, "digest"))).status, 202);
    assert_eq!(list("").json()["manifests"].as_array().unwrap().len(), 3);
}

#[test]
fn indexes_nest_and_may_be_empty() {
    let (_server, http) = server();
    let mut inner = push(&http, "app", &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}));
    for _ in 0..4 {
        inner = push(&http, "app", &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}));
    }
    tag(&http, "app", "outer", &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}));
    let data = json!({"mediaType": MANIFEST, "digest": ABSENT, "size": 1});
    let sparse = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [data]}).to_string();
    let refused = http.put("/v2/app/manifests/sparse", &[("content-type", INDEX)], sparse.as_bytes());
    assert_eq!((refused.status, refused.oci_code().as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
}

#[test]
fn what_a_fallback_tag_lists_is_among_the_referrers() {
    let (_server, http) = server();
    let subject = tag(&http, "app", "v1", &image(&http, "app", b"{}", json!({})));
    let digest = text(&subject, "digest");
    let both = push(&http, "app", &image(&http, "app", b"{\"a\":1}", json!({"subject": subject})));
    // Of a client, or a registry, that knows no referrers: the tag alone says whom it refers to.
    let mut old = push(&http, "app", &image(&http, "app", b"{\"a\":2}", json!({})));
    old["artifactType"] = json!("application/x.old");
    old["annotations"] = json!({"k": "v"});
    let gone = json!({"mediaType": MANIFEST, "digest": ABSENT, "size": 1, "urls": []});
    let fallback = digest.replace(':', "-");
    let list = |entries: serde_json::Value| {
        tag(&http, "app", &fallback, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))
    };
    let referrers = |query: &str| {
        let answer = http.get(&format!("/v2/app/referrers/{digest}{query}"));
        let mut digests: Vec<String> = answer.json()["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| text(one, "digest").to_owned())
            .collect();
        digests.sort();
        digests
    };
    let mut expected = vec![text(&both, "digest").to_owned(), text(&old, "digest").to_owned()];
    expected.sort();
    list(json!([both, old]));
    assert_eq!(referrers(""), expected);
    assert_eq!(referrers("?artifactType=application/x.old"), [text(&old, "digest")]);
    let all = http.get(&format!("/v2/app/referrers/{digest}?artifactType=application/x.old")).json();
    assert_eq!(all["manifests"][0]["annotations"], json!({"k": "v"}));
    // Pages hold each once, wherever they are cut.
    let first = http.get(&format!("/v2/app/referrers/{digest}?n=1"));
    let next = first.header("link").unwrap().trim_start_matches('<').split('>').next().unwrap().to_owned();
    let second = http.get(&next);
    let page = |answer: &test_support::Response| text(&answer.json()["manifests"][0], "digest").to_owned();
    assert_eq!([page(&first), page(&second)].as_slice(), expected);
    assert_eq!(second.header("link"), None);
    // The list holds nothing back: what is deleted is gone from it, and so is all when the tag goes.
    assert_eq!(http.delete(&format!("/v2/app/manifests/{}", text(&old, "digest"))).status, 202);
    assert_eq!(referrers(""), [text(&both, "digest")]);
    assert_eq!(http.delete(&format!("/v2/app/manifests/{fallback}")).status, 202);
    assert_eq!(referrers(""), [text(&both, "digest")], "it names its subject itself");
    let refused = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [gone]}).to_string();
    let refused =
        http.put(&format!("/v2/app/manifests/{fallback}"), &[("content-type", INDEX)], refused.as_bytes());
    assert_eq!(refused.oci_code(), "MANIFEST_BLOB_UNKNOWN");
}
