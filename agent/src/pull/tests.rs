//! The endpoint as an engine sees it: what opens it, what it serves, and what it never serves.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use registry_runtime::tls::{Connector, Trust};
use registry_runtime::{Clock, Shutdown};
use serde_json::json;

use super::{Access, Grants, Upstream, bind};
use crate::testing::{Control, execution_credentials};

struct Scene {
    control: Control,
    grants: Grants,
    port: u16,
    _shutdown: Shutdown,
}

impl Scene {
    async fn new() -> Self {
        let control = Control::start().await;
        let (grants, shutdown) = (Grants::default(), Shutdown::new());
        let connector = Connector::new(&control.url, &Trust::system()).unwrap();
        let upstream =
            Arc::new(Upstream::new(&control.url, "us-east-1", connector, Clock::system()).unwrap());
        let (port, _) = bind(None, grants.clone(), upstream, shutdown.clone()).await.unwrap();
        Self { control, grants, port, _shutdown: shutdown }
    }

    /// Status and body; `None` when the body broke off.
    async fn get(&self, path: &str, password: Option<&str>) -> (StatusCode, Option<Bytes>) {
        let mut request = Request::builder().uri(format!("http://127.0.0.1:{}{path}", self.port));
        if let Some(password) = password {
            let basic = STANDARD.encode(format!("berth:{password}"));
            request = request.header("authorization", format!("Basic {basic}"));
        }
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let answer = client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        let status = answer.status();
        (status, answer.into_body().collect().await.ok().map(|body| body.to_bytes()))
    }
}

fn role() -> Access {
    Access::Role(execution_credentials())
}

#[tokio::test]
async fn only_the_pull_that_the_agent_began_is_served() {
    let scene = Scene::new().await;
    let layer = scene.control.put_content(b"a layer");
    let other = scene.control.put_content(b"a layer of another image");
    let manifest = json!({ "layers": [{ "digest": layer }] }).to_string();
    let manifest = scene.control.put_content(manifest.as_bytes());
    let issued = scene.grants.issue("task", "app", &manifest, role());
    let password = issued.credentials.password.clone();
    let path = format!("/v2/app/manifests/{manifest}");
    let layer_path = format!("/v2/app/blobs/{layer}");

    for guess in [None, Some("x"), Some(&*"0".repeat(64))] {
        for path in ["/v2/", &path, &layer_path, "/v2/_catalog", "/"] {
            assert_eq!(scene.get(path, guess).await.0, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    let own = Some(password.as_str());
    assert_eq!(scene.get("/v2/", own).await.0, StatusCode::OK);
    assert_eq!(scene.get(&layer_path, own).await.0, StatusCode::UNAUTHORIZED, "before its manifest");
    assert_eq!(scene.get(&path, own).await.0, StatusCode::OK);
    assert_eq!(scene.get(&layer_path, own).await, (StatusCode::OK, Some(Bytes::from_static(b"a layer"))));
    for path in [
        format!("/v2/app/blobs/{other}"),
        format!("/v2/other/blobs/{layer}"),
        format!("/v2/app/manifests/{layer}"),
        "/v2/app/manifests/latest".to_owned(),
        "/v2/app/tags/list".to_owned(),
        "/v2/app/blobs/sha256:..%2f..%2fx".to_owned(),
    ] {
        assert_eq!(scene.get(&path, own).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    drop(issued);
    assert_eq!(scene.get(&path, own).await.0, StatusCode::UNAUTHORIZED, "the pull has ended");
}

#[tokio::test]
async fn bytes_that_are_not_what_the_digest_names_never_arrive_whole() {
    let scene = Scene::new().await;
    let layer = scene.control.put_content(&vec![7; 300_000]);
    let manifest =
        scene.control.put_content(json!({ "layers": [{ "digest": layer }] }).to_string().as_bytes());
    let issued = scene.grants.issue("task", "app", &manifest, role());
    let own = Some(issued.credentials.password.as_str());
    assert_eq!(scene.get(&format!("/v2/app/manifests/{manifest}"), own).await.0, StatusCode::OK);
    scene.control.change(|heard| heard.contents.get_mut(&layer).unwrap()[150_000] ^= 1);
    let (_, body) = scene.get(&format!("/v2/app/blobs/{layer}"), own).await;
    assert_eq!(body, None);
    scene.control.change(|heard| heard.contents.get_mut(&manifest).unwrap()[3] ^= 1);
    let (status, _) = scene.get(&format!("/v2/app/manifests/{manifest}"), own).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_right_that_is_taken_away_ends_the_pull() {
    let scene = Scene::new().await;
    let manifest = scene.control.put_content(b"{}");
    let issued = scene.grants.issue("task", "app", &manifest, role());
    let own = Some(issued.credentials.password.as_str());
    let path = format!("/v2/app/manifests/{manifest}");
    assert_eq!(scene.get(&path, own).await.0, StatusCode::OK);
    scene.control.change(|heard| heard.denied.insert("app".into()));
    let (status, body) = scene.get(&path, own).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(&body.unwrap()).contains("the policy says no"));
}
