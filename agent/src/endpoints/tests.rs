//! Who gets metadata and credentials, and who does not.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use registry_runtime::{Clock, Peer};
use scheduler_protocol::{Container, RoleCredentials, Task};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Endpoints;
use crate::engine::{Engine, Fake, NewContainer};
use crate::task::context::{Accepted, TaskContext};
use crate::task::plan::Plan;
use crate::task::state::TaskState;

async fn task_with_container(engine: &Fake, name: &str) -> Arc<TaskContext> {
    let task = Task {
        arn: format!("arn:aws:ecs:r:0:task/default/{name}"),
        family: "app".into(),
        version: "1".into(),
        containers: vec![Container { name: "web".into(), image: "app:1".into(), ..Container::default() }],
        role_credentials: Some(RoleCredentials {
            credentials_id: "c".into(),
            role_arn: "arn:aws:iam::0:role/app".into(),
            access_key_id: "ASIA".into(),
            secret_access_key: format!("secret-of-{name}"),
            session_token: "token".into(),
            expiration: "2026-11-01T12:00:00Z".into(),
        }),
        ..Task::default()
    };
    let runtime_id =
        engine.create(NewContainer { name: name.to_owned(), body: json!({ "Image": "i" }) }).await.unwrap();
    let plan = Plan::from_task(&task).unwrap();
    let mut state = TaskState::new(1);
    state.containers[0].runtime_id = Some(runtime_id);
    Arc::new(TaskContext::new(Accepted::new(task, 0), plan, state))
}

async fn ask(endpoints: &Endpoints, path: &str, from: &str) -> (StatusCode, Value) {
    let peer = Peer(SocketAddr::new(from.parse().unwrap(), 40000));
    let request = Request::builder().uri(path).extension(peer).body(Body::empty()).unwrap();
    let answer = endpoints.router().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_task_gets_its_own_credentials_and_nobody_elses() {
    let engine = Fake::new(Clock::manual(0));
    let endpoints = Endpoints::new(Arc::new(engine.clone()), "default");
    endpoints.set_available(Ok(()));
    let (mine, other) =
        (task_with_container(&engine, "mine").await, task_with_container(&engine, "other").await);
    endpoints.add(&mine);
    endpoints.add(&other);
    let environment = endpoints.environment(&mine, 0);
    let path =
        &environment.iter().find(|(name, _)| name == "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").unwrap().1;
    assert_eq!(path.len(), "/v2/credentials/".len() + 64);
    // The fake engine gives every container the address 127.0.0.1.
    let (status, body) = ask(&endpoints, path, "127.0.0.1").await;
    assert_eq!((status, &body["SecretAccessKey"]), (StatusCode::OK, &json!("secret-of-mine")));
    let elsewhere = ask(&endpoints, path, "10.0.0.7").await;
    let unknown = ask(&endpoints, &format!("/v2/credentials/{}", "0".repeat(64)), "127.0.0.1").await;
    assert_eq!(elsewhere.0, StatusCode::BAD_REQUEST);
    assert_eq!(elsewhere, unknown, "a stranger learns nothing from the answer");
    let metadata_id = &mine.accepted.metadata_ids[0];
    let (status, _) = ask(&endpoints, &format!("/v2/credentials/{metadata_id}"), "127.0.0.1").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "the id for metadata opens no credentials");
    endpoints.forget(&mine);
    assert_eq!(ask(&endpoints, path, "127.0.0.1").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn metadata_shows_the_definitions_image_and_no_secret() {
    let engine = Fake::new(Clock::manual(0));
    let endpoints = Endpoints::new(Arc::new(engine.clone()), "default");
    let context = task_with_container(&engine, "mine").await;
    assert_eq!(endpoints.environment(&context, 0).len(), 1, "nothing is promised while it is unavailable");
    endpoints.set_available(Ok(()));
    endpoints.add(&context);
    let id = &context.accepted.metadata_ids[0];
    let (_, container) = ask(&endpoints, &format!("/v4/{id}"), "127.0.0.1").await;
    assert_eq!((&container["Image"], &container["Name"]), (&json!("app:1"), &json!("web")));
    let (_, task) = ask(&endpoints, &format!("/v4/{id}/taskWithTags"), "127.0.0.1").await;
    assert_eq!(task["Containers"][0]["Labels"]["com.amazonaws.ecs.cluster"], "default");
    assert!(!task.to_string().contains("secret-of"));
    assert_eq!(ask(&endpoints, &format!("/v4/{id}/unknown"), "127.0.0.1").await.0, StatusCode::NOT_FOUND);
}
