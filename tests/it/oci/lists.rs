//! Tags and catalog: order, pages, and what never was (items 32 to 34).

use serde_json::json;
use test_support::Response;

use super::{image, server, tag};

/// The target of the `Link` header.
fn next(answer: &Response) -> Option<String> {
    let link = answer.header("link")?;
    let (target, relation) = link.strip_prefix('<')?.split_once('>')?;
    (relation == "; rel=\"next\"").then(|| target.to_owned())
}

#[test]
fn tags_come_in_order_and_in_pages() {
    let (_server, http) = server();
    let manifest = image(&http, "app", b"{}", json!({}));
    for name in ["b", "a", "B", "a-1", "a.1", "_x", "10", "9"] {
        tag(&http, "app", name, &manifest);
    }
    let sorted = ["10", "9", "B", "_x", "a", "a-1", "a.1", "b"];
    let list = |query: &str| http.get(&format!("/v2/app/tags/list{query}"));
    assert_eq!(list("").json(), json!({"name": "app", "tags": sorted}));
    let (mut path, mut all) = (Some("/v2/app/tags/list?n=3".to_owned()), Vec::new());
    while let Some(page) = path {
        let answer = http.get(&page);
        let tags = answer.json()["tags"].as_array().unwrap().clone();
        assert!(tags.len() <= 3);
        all.extend(tags);
        path = next(&answer);
        assert!(path.as_ref().is_none_or(|path| path.contains("n=3")), "{path:?}");
    }
    assert_eq!(json!(all), json!(sorted));
    assert_eq!(
        list("?last=a").json()["tags"],
        json!(["a-1", "a.1", "b"]),
        "without n, and without last itself"
    );
    assert_eq!(list("?last=aa").json()["tags"], json!(["b"]), "last need not exist");
    assert_eq!(list("?last=z&n=5").json()["tags"], json!([]));
    let none = list("?n=0");
    assert_eq!((none.json()["tags"].clone(), none.header("link")), (json!([]), None));
    for n in ["-1", "x", "1.5"] {
        assert_eq!(list(&format!("?n={n}")).oci_code(), "PAGINATION_NUMBER_INVALID");
    }
}

#[test]
fn a_repository_without_tags_is_empty_and_one_that_never_was_is_unknown() {
    let (_server, http) = server();
    let manifest = image(&http, "app", b"{}", json!({}));
    tag(&http, "app", "1", &manifest);
    assert_eq!(http.delete("/v2/app/manifests/1").status, 202);
    let empty = http.get("/v2/app/tags/list");
    assert_eq!((empty.status, empty.json()), (200, json!({"name": "app", "tags": []})));
    let unknown = http.get("/v2/never/tags/list");
    assert_eq!((unknown.status, unknown.oci_code().as_str()), (404, "NAME_UNKNOWN"));
}

#[test]
fn the_catalog_pages_over_names_that_begin_with_each_other() {
    let (_server, http) = server();
    let names = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "ab", "blobs/uploads", "manifests", "tags/list"];
    for name in names {
        http.push_blob(name, b"{}");
    }
    let (mut path, mut all) = (Some("/v2/_catalog?n=3".to_owned()), Vec::new());
    while let Some(page) = path {
        let answer = http.get(&page);
        all.extend(answer.json()["repositories"].as_array().unwrap().clone());
        path = next(&answer);
    }
    assert_eq!(json!(all), json!(names), "in the order of bytes");
    for name in names {
        let answer = http.get(&format!("/v2/{name}/tags/list"));
        assert_eq!((answer.status, &answer.json()["name"]), (200, &json!(name)));
    }
}
