//! Who is let in, who is challenged, who is refused.

use axum::body::Body;
use futures_util::StreamExt;
use http::{Method, Request, StatusCode, header};
use serde_json::json;

use super::support::{Answer, KEY, World, basic, sha256};
use crate::http::oci::operation::Operation;

async fn ask(world: &World, method: Method, path: &str, authorization: Option<&str>) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "registry.test:5000");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    world.raw(request.body(Body::empty()).unwrap()).await
}

/// Every operation once: method, path, scope of its challenge.
fn requests() -> Vec<(Operation, Method, String, &'static str)> {
    let digest = sha256(b"x");
    vec![
        (Operation::Ping, Method::GET, "/v2/".into(), ""),
        (Operation::Catalog, Method::GET, "/v2/_catalog".into(), "registry:catalog:*"),
        (Operation::ListTags, Method::GET, "/v2/app/tags/list".into(), "repository:app:pull"),
        (Operation::ListReferrers, Method::GET, format!("/v2/app/referrers/{digest}"), "repository:app:pull"),
        (Operation::GetManifest, Method::GET, "/v2/app/manifests/v1".into(), "repository:app:pull"),
        (Operation::HeadManifest, Method::HEAD, "/v2/app/manifests/v1".into(), "repository:app:pull"),
        (Operation::PutManifest, Method::PUT, "/v2/app/manifests/v1".into(), "repository:app:pull,push"),
        (Operation::DeleteManifest, Method::DELETE, "/v2/app/manifests/v1".into(), "repository:app:delete"),
        (Operation::GetBlob, Method::GET, format!("/v2/app/blobs/{digest}"), "repository:app:pull"),
        (Operation::HeadBlob, Method::HEAD, format!("/v2/app/blobs/{digest}"), "repository:app:pull"),
        (Operation::DeleteBlob, Method::DELETE, format!("/v2/app/blobs/{digest}"), "repository:app:delete"),
        (Operation::PostUpload, Method::POST, "/v2/app/blobs/uploads/".into(), "repository:app:pull,push"),
        (Operation::GetUpload, Method::GET, "/v2/app/blobs/uploads/u".into(), "repository:app:pull,push"),
        (Operation::PatchUpload, Method::PATCH, "/v2/app/blobs/uploads/u".into(), "repository:app:pull,push"),
        (Operation::PutUpload, Method::PUT, "/v2/app/blobs/uploads/u".into(), "repository:app:pull,push"),
        (
            Operation::DeleteUpload,
            Method::DELETE,
            "/v2/app/blobs/uploads/u".into(),
            "repository:app:pull,push",
        ),
    ]
}

#[test]
fn every_operation_has_a_case_here() {
    let covered: Vec<Operation> = requests().into_iter().map(|(operation, ..)| operation).collect();
    assert_eq!(covered, Operation::ALL);
}

#[tokio::test]
async fn without_credentials_every_operation_is_challenged() {
    let world = World::new().await;
    for exists in [false, true] {
        for (operation, method, path, scope) in requests() {
            let answer = ask(&world, method, &path, None).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{operation:?} {exists}");
            let mut expected =
                r#"Bearer realm="http://registry.test:5000/token",service="registry.test:5000""#.to_owned();
            if !scope.is_empty() {
                expected.push_str(&format!(r#",scope="{scope}""#));
            }
            assert_eq!(answer.header("www-authenticate"), expected, "{operation:?}");
        }
        world.push_image("app", "v1", b"x").await;
    }
}

#[tokio::test]
async fn who_has_no_right_gets_the_same_refusal_whatever_exists() {
    let world = World::new().await;
    let stranger = world.stranger().await;
    let mut refusals: Vec<Vec<String>> = Vec::new();
    for _ in 0..2 {
        let mut texts = Vec::new();
        for (operation, method, path, _) in requests() {
            let answer = ask(&world, method, &path, Some(&stranger)).await;
            match operation {
                Operation::Ping | Operation::Catalog => {}
                _ => assert_eq!(answer.status, StatusCode::FORBIDDEN, "{operation:?}"),
            }
            texts.push(answer.text());
        }
        refusals.push(texts);
        world.push_image("app", "v1", b"x").await;
    }
    assert_eq!(refusals[0], refusals[1]);
    assert!(refusals[0][4].contains("ecr:BatchGetImage"), "{}", refusals[0][4]);
}

#[tokio::test]
async fn wrong_credentials_are_refused_everywhere_and_never_anonymous() {
    let world = World::new().await;
    world.push_image("app", "v1", b"x").await;
    let everybody = json!([{ "Effect": "Allow", "Principal": "*", "Action": "ecr:*" }]);
    world.set_policy("app", everybody).await;
    for wrong in [basic(KEY, "wrong"), basic("AKIANOBODYNOBODYNOBO", "wrong"), "Bearer x.y.z".into()] {
        for path in ["/v2/", "/v2/app/manifests/v1", "/v2/App/manifests/v1"] {
            let answer = ask(&world, Method::GET, path, Some(&wrong)).await;
            assert_eq!(answer.error(), (401, "UNAUTHORIZED".into()), "{path}");
        }
    }
}

#[tokio::test]
async fn a_repository_policy_opens_what_it_names_and_no_more() {
    let world = World::new().await;
    world.push_image("app", "v1", b"x").await;
    let pull = json!([{ "Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage" }]);
    world.set_policy("app", pull).await;
    assert_eq!(ask(&world, Method::GET, "/v2/app/manifests/v1", None).await.status, StatusCode::OK);
    assert_eq!(ask(&world, Method::GET, "/v2/app/tags/list", None).await.status, StatusCode::UNAUTHORIZED);
    let other = ask(&world, Method::PUT, "/v2/app/manifests/v1", None).await;
    assert_eq!(other.status, StatusCode::UNAUTHORIZED);
    let deny = json!([{ "Effect": "Deny", "Principal": "*", "Action": "ecr:BatchGetImage" }]);
    world.set_policy("app", deny).await;
    assert_eq!(world.get("/v2/app/manifests/v1").await.error(), (403, "DENIED".into()));
}

#[tokio::test]
async fn a_narrow_token_reaches_no_further_than_its_scope() {
    let world = World::new().await;
    world.push_image("app", "v1", b"x").await;
    world.push_image("app2", "v1", b"x").await;
    let token = world.bearer("repository:app:pull").await;
    let ok = ask(&world, Method::GET, "/v2/app/manifests/v1", Some(&token)).await;
    assert_eq!(ok.status, StatusCode::OK);
    for (method, path) in [
        (Method::GET, "/v2/app2/manifests/v1"),
        (Method::POST, "/v2/app/blobs/uploads/"),
        (Method::DELETE, "/v2/app/manifests/v1"),
        (Method::GET, "/v2/_catalog"),
    ] {
        let answer = ask(&world, method, path, Some(&token)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.header("www-authenticate").ends_with(r#",error="insufficient_scope""#), "{path}");
    }
}

#[tokio::test]
async fn mounting_needs_the_right_to_read_the_source() {
    let world = World::new().await;
    let digest = world.push_blob("secret", b"hidden").await;
    world.push_blob("mine", b"x").await;
    let path = format!("/v2/mine/blobs/uploads/?mount={digest}&from=secret");
    let challenged = ask(&world, Method::POST, &path, None).await;
    assert!(
        challenged
            .header("www-authenticate")
            .ends_with(r#",scope="repository:mine:pull,push repository:secret:pull""#)
    );
    let push = json!([{ "Effect": "Allow", "Principal": "*", "Action": "ecr:*" }]);
    world.set_policy("mine", push).await;
    let stranger = world.stranger().await;
    let answer = ask(&world, Method::POST, &path, Some(&stranger)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    assert_eq!(world.head(&format!("/v2/mine/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
    // The scope of a token bounds the source as well.
    let token = world.bearer("repository:mine:pull,push").await;
    let narrow = ask(&world, Method::POST, &path, Some(&token)).await;
    assert_eq!(narrow.status, StatusCode::UNAUTHORIZED, "{}", narrow.text());
    assert!(narrow.header("www-authenticate").ends_with(r#":pull",error="insufficient_scope""#));
    let token = world.bearer("repository:mine:pull,push repository:secret:pull").await;
    assert_eq!(ask(&world, Method::POST, &path, Some(&token)).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_mount_without_a_source_takes_only_what_the_caller_may_read() {
    let world = World::new().await;
    let digest = world.push_blob("secret", b"hidden").await;
    world.push_blob("mine", b"x").await;
    let path = format!("/v2/mine/blobs/uploads/?mount={digest}");
    let challenged = ask(&world, Method::POST, &path, None).await;
    let challenge = challenged.header("www-authenticate");
    assert!(challenge.ends_with(r#",scope="repository:mine:pull,push registry:blobs:pull""#), "{challenge}");
    let push = json!([{ "Effect": "Allow", "Principal": "*", "Action": "ecr:*" }]);
    world.set_policy("mine", push.clone()).await;
    let stranger = world.stranger().await;
    let answer = ask(&world, Method::POST, &path, Some(&stranger)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    assert_eq!(world.head(&format!("/v2/mine/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
    // A token that was asked for one repository reads no other.
    let token = world.bearer("repository:mine:pull,push").await;
    let narrow = ask(&world, Method::POST, &path, Some(&token)).await;
    assert_eq!(narrow.status, StatusCode::UNAUTHORIZED, "{}", narrow.text());
    assert!(narrow.header("www-authenticate").ends_with(r#":pull",error="insufficient_scope""#));
    let token = world.bearer("repository:mine:pull,push registry:blobs:pull").await;
    assert_eq!(ask(&world, Method::POST, &path, Some(&token)).await.status, StatusCode::CREATED);
    // Who may read one of the holders is given the blob, whichever others there are.
    let digest = world.push_blob("secret", b"opened").await;
    world.push_blob("open", b"opened").await;
    world.set_policy("open", push).await;
    let path = format!("/v2/mine/blobs/uploads/?mount={digest}");
    assert_eq!(ask(&world, Method::POST, &path, Some(&stranger)).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_session_belongs_to_its_principal_and_repository() {
    let world = World::new().await;
    let everybody = json!([{ "Effect": "Allow", "Principal": "*", "Action": "ecr:*" }]);
    for repository in ["app", "other"] {
        world.push_blob(repository, b"x").await;
        world.set_policy(repository, everybody.clone()).await;
    }
    let location = world.post("/v2/app/blobs/uploads/").await.location();
    let stranger = world.stranger().await;
    let elsewhere = location.replace("/app/", "/other/");
    for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
        let path = format!("{location}?digest={}", sha256(b""));
        let answer = ask(&world, method.clone(), &path, Some(&stranger)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method}");
        let path = format!("{elsewhere}?digest={}", sha256(b""));
        assert_eq!(world.send(method, &path, &[], Body::empty()).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(world.get(&location).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_download_ends_when_its_reader_is_revoked() {
    let world = World::new().await;
    let content = vec![5u8; 12 << 20];
    let digest = world.push_blob("app", &content).await;
    let everybody = json!([{ "Effect": "Allow", "Principal": "*", "Action": "ecr:GetDownloadUrlForLayer" }]);
    world.set_policy("app", everybody).await;
    let stranger = world.stranger().await;
    let request = Request::get(format!("/v2/app/blobs/{digest}")).header(header::AUTHORIZATION, stranger);
    let answer = world.open(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let mut pieces = answer.into_body().into_data_stream();
    let mut read = pieces.next().await.unwrap().unwrap().len();
    world.identity.delete_instance_principal("stranger").await.unwrap();
    let broken = loop {
        match pieces.next().await {
            Some(Ok(piece)) => read += piece.len(),
            end => break end,
        }
    };
    assert!(matches!(broken, Some(Err(_))));
    assert!(read < content.len());
}

#[tokio::test]
async fn only_a_push_makes_a_repository() {
    let world = World::new().await;
    let digest = world.push_blob("source", b"x").await;
    for path in ["/v2/new/manifests/v1", "/v2/new/tags/list"] {
        assert_eq!(world.get(path).await.error(), (404, "NAME_UNKNOWN".into()));
    }
    world.post(&format!("/v2/source/blobs/uploads/?mount={digest}&from=new")).await;
    assert!(world.registry.repository(&"new".parse().unwrap()).await.unwrap().is_none());
    world.post("/v2/new/blobs/uploads/").await;
    assert!(world.registry.repository(&"new".parse().unwrap()).await.unwrap().is_some());
}

#[tokio::test]
async fn many_first_pushes_at_once_make_one_repository() {
    let world = World::new().await;
    let pushes = (0..8).map(|_| world.post("/v2/new/blobs/uploads/"));
    for answer in futures_util::future::join_all(pushes).await {
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        assert_eq!(world.get(&answer.location()).await.status, StatusCode::NO_CONTENT);
    }
}
