//! Tags and repositories, listed page by page.

use http::StatusCode;
use registry_core::NewRepository;
use serde_json::{Value, json};

use super::support::{World, sha256};

/// The target of a `Link` header.
fn next(link: &str) -> String {
    let target = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
    target.unwrap_or_else(|| panic!("{link:?} is no link")).to_owned()
}

async fn all(world: &World, first: &str, member: &str) -> Vec<Value> {
    let (mut path, mut found) = (first.to_owned(), Vec::new());
    loop {
        let page = world.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text());
        found.extend(page.json()[member].as_array().unwrap().clone());
        match page.header("link") {
            "" => return found,
            link => path = next(link),
        }
    }
}

#[tokio::test]
async fn head_tells_the_length_of_what_get_answers_and_of_a_refusal_none() {
    let world = World::new().await;
    let digest = world.push_image("app", "v1", b"layer").await;
    for path in [
        "/v2/",
        "/v2/_catalog",
        "/v2/app/tags/list",
        "/v2/app/manifests/v1",
        &format!("/v2/app/referrers/{digest}"),
        &format!("/v2/app/blobs/{}", sha256(b"layer")),
    ] {
        let (get, head) = (world.get(path).await, world.head(path).await);
        assert_eq!((get.status, head.status), (StatusCode::OK, StatusCode::OK), "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
    }
    for path in ["/v2/nowhere", "/v2/app/manifests/v2", &format!("/v2/app/blobs/{}", sha256(b"absent"))] {
        let head = world.head(path).await;
        assert_eq!((head.status, head.header("content-length")), (StatusCode::NOT_FOUND, ""), "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn tags_come_in_byte_order_and_in_pages() {
    let world = World::new().await;
    let manifest = world.image("app", b"layer").await;
    for tag in ["b", "a", "B", "a.1", "a-1", "_x", "10", "9"] {
        world.put_manifest("app", tag, &manifest).await;
    }
    let sorted = json!(["10", "9", "B", "_x", "a", "a-1", "a.1", "b"]);
    let whole = world.get("/v2/app/tags/list").await;
    assert_eq!(whole.json(), json!({ "name": "app", "tags": sorted }));
    assert_eq!(whole.header("link"), "");
    for n in [1, 3, 8, 9] {
        assert_eq!(json!(all(&world, &format!("/v2/app/tags/list?n={n}"), "tags").await), sorted);
    }
    let page = |query: &'static str| {
        let world = &world;
        async move { world.get(&format!("/v2/app/tags/list?{query}")).await }
    };
    assert_eq!(page("last=a").await.json()["tags"], json!(["a-1", "a.1", "b"]));
    assert_eq!(page("last=aa").await.json()["tags"], json!(["b"]));
    assert_eq!(page("last=zzz").await.json()["tags"], json!([]));
    let none = page("n=0").await;
    assert_eq!((none.json()["tags"].clone(), none.header("link")), (json!([]), ""));
    assert_eq!(page("n=999999999999999999999").await.json()["tags"], sorted);
    for wrong in ["n=-1", "n=abc", "n=1.5"] {
        assert_eq!(page(wrong).await.error(), (400, "PAGINATION_NUMBER_INVALID".into()), "{wrong}");
    }
}

#[tokio::test]
async fn a_repository_without_tags_has_an_empty_list_and_an_unknown_one_none() {
    let world = World::new().await;
    world.push_image("app", "only", b"layer").await;
    world.delete("/v2/app/manifests/only").await;
    assert_eq!(world.get("/v2/app/tags/list").await.json()["tags"], json!([]));
    assert_eq!(world.get("/v2/nowhere/tags/list").await.error(), (404, "NAME_UNKNOWN".into()));
}

#[tokio::test]
async fn the_catalog_lists_every_repository_once() {
    let world = World::new().await;
    for name in ["b", "a", "a/b", "a-b", "aa", "c/d/e"] {
        world.push_blob(name, b"x").await;
    }
    let sorted = json!(["a", "a-b", "a/b", "aa", "b", "c/d/e"]);
    for path in ["/v2/_catalog", "/v2/_catalog?n=1", "/v2/_catalog?n=2", "/v2/_catalog?n=1000000000"] {
        assert_eq!(json!(all(&world, path, "repositories").await), sorted, "{path}");
    }
    assert_eq!(world.get("/v2/_catalog?n=0").await.json()["repositories"], json!([]));
    assert_eq!(world.get("/v2/_catalog?n=x").await.error(), (400, "PAGINATION_NUMBER_INVALID".into()));
    let repository = world.registry.repository(&"aa".parse().unwrap()).await.unwrap().unwrap();
    world.registry.delete_repository(&repository.uid, true).await.unwrap();
    let left = all(&world, "/v2/_catalog", "repositories").await;
    assert!(!left.contains(&json!("aa")));
}

#[tokio::test]
async fn the_catalog_hides_what_the_caller_may_not_describe() {
    let world = World::new().await;
    for name in ["a", "hidden", "z"] {
        world.push_blob(name, b"x").await;
    }
    let deny = json!([{ "Effect": "Deny", "Principal": "*", "Action": "ecr:DescribeRepositories" }]);
    world.set_policy("hidden", deny).await;
    for path in ["/v2/_catalog", "/v2/_catalog?n=1"] {
        assert_eq!(json!(all(&world, path, "repositories").await), json!(["a", "z"]), "{path}");
    }
    assert!(!world.get("/v2/_catalog?n=1").await.header("link").contains("hidden"));
}

#[tokio::test]
async fn no_page_is_longer_than_a_thousand_and_each_leads_to_the_next() {
    let world = World::new().await;
    let manifest = world.image("app", b"layer").await;
    let digest = sha256(manifest.to_string().as_bytes());
    for hundred in 0..11 {
        let tags: Vec<String> = (0..100).map(|one| format!("tag=t{hundred:02}{one:02}")).collect();
        let pushed = world.put_manifest("app", &format!("{digest}?{}", tags.join("&")), &manifest).await;
        assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text());
    }
    for repositories in (0..1010).collect::<Vec<_>>().chunks(101) {
        let made = repositories.iter().map(async |at| {
            let name = format!("r{at:04}").parse().unwrap();
            world.registry.create_repository(&name, NewRepository::default()).await
        });
        for made in futures_util::future::join_all(made).await {
            made.unwrap();
        }
    }
    for (path, member, count) in [("/v2/app/tags/list", "tags", 1100), ("/v2/_catalog", "repositories", 1011)]
    {
        for query in ["", "?n=1001", "?n=1000000000000000000"] {
            let first = world.get(&format!("{path}{query}")).await;
            assert_eq!(first.json()[member].as_array().unwrap().len(), 1000, "{path}{query}");
            assert_ne!(first.header("link"), "", "{path}{query}");
            let mut found = all(&world, &format!("{path}{query}"), member).await;
            assert_eq!(found.len(), count, "{path}{query}");
            found.dedup();
            assert_eq!(found.len(), count, "{path}{query}");
        }
    }
}

#[tokio::test]
async fn a_repository_made_again_starts_empty() {
    let world = World::new().await;
    let digest = world.push_image("app", "v1", b"layer").await;
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let repository = world.registry.repository(&"app".parse().unwrap()).await.unwrap().unwrap();
    world.registry.delete_repository(&repository.uid, true).await.unwrap();
    world.push_blob("app", b"new").await;
    assert_eq!(world.get("/v2/app/tags/list").await.json()["tags"], json!([]));
    assert_eq!(world.get(&format!("/v2/app/manifests/{digest}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get(&location).await.error(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    while world.registry.purge_deleted_repositories().await.unwrap() {}
    assert_eq!(world.get("/v2/app/tags/list").await.status, StatusCode::OK);
}
