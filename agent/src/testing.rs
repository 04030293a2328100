//! A small control plane in this process, for tests: it speaks the protocol, checks signatures, and keeps what
//! it was told.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use axum::extract::{FromRequestParts, Request, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use base64::Engine as _;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use registry_aws::{Credentials, sigv4};
use registry_runtime::listener::{Limits, serve};
use registry_runtime::tls::Trust;
use registry_runtime::{Clock, Shutdown};
use registry_types::{Algorithm, Digest};
use scheduler_protocol::{
    AgentMessage, BerthImage, Container, ContainerHealth, INACTIVE_INSTANCE, PayloadMessage,
    RegisterContainerInstanceRequest, RoleCredentials, ServerMessage, SubmitTaskStateChangeRequest, Task,
    TelemetryAgentMessage,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};

use crate::config::{AgentConfig, AgentSettings, Bounds, TaskEndpoint};
use crate::engine::Fake;
use crate::run::run_on;

pub(crate) const INSTANCE: &str = "arn:aws:ecs:us-east-1:000000000000:container-instance/default/1";
const SECRET: &str = "the-agents-own-secret-of-at-least-32-chars";
pub(crate) const EXECUTION_ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) registrations: Vec<RegisterContainerInstanceRequest>,
    pub(crate) changes: Vec<SubmitTaskStateChangeRequest>,
    pub(crate) messages: Vec<AgentMessage>,
    pub(crate) health: Vec<ContainerHealth>,
    pub(crate) send_credentials: Vec<bool>,
    pub(crate) manifest_requests: Vec<String>,
    to_agent: Option<mpsc::UnboundedSender<ServerMessage>>,
    /// Reports are answered 503 while this is set.
    pub(crate) deaf: bool,
    /// Registrations, calls and connections of the agent are refused while this is set.
    pub(crate) away: bool,
    /// Registrations that name an instance are refused: it was deregistered.
    pub(crate) deregistered: bool,
    /// The registry answers 403 to these repositories.
    pub(crate) denied: HashSet<String>,
    /// The registry answers 503 to everything.
    pub(crate) registry_away: bool,
    pub(crate) contents: BTreeMap<String, Vec<u8>>,
    next_message: u32,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) url: String,
    heard: Arc<Mutex<Heard>>,
    changed: watch::Sender<()>,
    shutdown: Shutdown,
}

impl Control {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let control =
            Self { url, heard: Arc::default(), changed: watch::Sender::new(()), shutdown: shutdown.clone() };
        let router = Router::new().fallback(answer).with_state(control.clone());
        tokio::spawn(serve(listener, router, Limits::default(), shutdown));
        control
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Heard) -> T) -> T {
        let result = change(&mut self.heard.lock());
        self.changed.send_replace(());
        result
    }

    /// Waits until what was heard is as wanted.
    pub(crate) async fn until<T>(&self, what: &str, mut wanted: impl FnMut(&Heard) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                if let Some(found) = wanted(&self.heard.lock()) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), wait).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {what}; heard {:?}", self.heard.lock().changes),
        }
    }

    /// Waits until a task was reported with a status, and returns that report.
    pub(crate) async fn until_status(&self, arn: &str, status: &str) -> SubmitTaskStateChangeRequest {
        let report = |heard: &Heard| {
            heard.changes.iter().find(|change| change.task == arn && change.status == status).cloned()
        };
        self.until(&format!("{arn} {status}"), report).await
    }

    pub(crate) async fn send(&self, message: ServerMessage) {
        let connected = |heard: &Heard| heard.to_agent.clone().filter(|sender| !sender.is_closed());
        let sender = self.until("a connection", connected).await;
        sender.send(message).unwrap();
    }

    /// Sends tasks in one payload and returns its message id.
    pub(crate) async fn send_tasks(&self, tasks: Vec<Task>) -> String {
        let number = self.change(|heard| {
            heard.next_message += 1;
            heard.next_message
        });
        let message_id = format!("message-{number}");
        self.send(ServerMessage::Payload(PayloadMessage {
            cluster_arn: "default".into(),
            container_instance_arn: INSTANCE.into(),
            message_id: message_id.clone(),
            generated_at: 0,
            seq_num: i64::from(number),
            timeline: None,
            tasks,
        }))
        .await;
        message_id
    }

    pub(crate) async fn until_acked(&self, message_id: &str) {
        let acked = |heard: &Heard| {
            let found = heard
                .messages
                .iter()
                .any(|message| matches!(message, AgentMessage::Ack(ack) if ack.message_id == message_id));
            found.then_some(())
        };
        self.until(&format!("the acknowledgement of {message_id}"), acked).await;
    }

    /// Ends the agent's control connection.
    pub(crate) fn disconnect(&self) {
        self.change(|heard| heard.to_agent = None);
    }

    pub(crate) fn put_content(&self, bytes: &[u8]) -> String {
        let digest = Digest::from_hash(Algorithm::Sha256, &Sha256::digest(bytes));
        self.change(|heard| heard.contents.insert(digest.as_str().to_owned(), bytes.to_vec()));
        digest.as_str().to_owned()
    }

    pub(crate) fn config(&self, data_dir: &Path) -> AgentConfig {
        AgentConfig {
            principal: None,
            bounds: Bounds::default(),
            comes_back: false,
            server_url: self.url.clone(),
            trust: Trust::system(),
            cluster: "default".into(),
            region: "us-east-1".into(),
            credentials: Credentials::new("AKIAAGENT", SECRET),
            data_dir: data_dir.to_owned(),
            protected_paths: Vec::new(),
            settings: AgentSettings { task_endpoint: TaskEndpoint::Off, ..AgentSettings::default() },
        }
    }

    pub(crate) fn agent(&self, config: AgentConfig, engine: &Fake) -> RunningAgent {
        let shutdown = Shutdown::new();
        let runs = tokio::spawn(run_on(config, Arc::new(engine.clone()), shutdown.clone()));
        RunningAgent { shutdown, runs }
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

/// An agent in this process; stopped when dropped.
pub(crate) struct RunningAgent {
    shutdown: Shutdown,
    runs: tokio::task::JoinHandle<Result<(), crate::error::AgentError>>,
}

impl RunningAgent {
    /// Ends the agent as far as that can be done without ending the process.
    pub(crate) async fn stop(mut self, control: &Control) {
        self.shutdown.begin();
        let runs = std::mem::replace(&mut self.runs, tokio::spawn(async { Ok(()) }));
        runs.await.unwrap().unwrap();
        control.disconnect();
    }
}

pub(crate) fn execution_credentials() -> RoleCredentials {
    RoleCredentials {
        credentials_id: "execution".into(),
        role_arn: EXECUTION_ROLE.into(),
        access_key_id: "ASIAEXECUTION".into(),
        secret_access_key: SECRET.into(),
        session_token: "session".into(),
        expiration: "2036-11-01T12:00:00Z".into(),
    }
}

pub(crate) fn task(name: &str, containers: Vec<Container>) -> Task {
    Task {
        arn: format!("arn:aws:ecs:us-east-1:000000000000:task/default/{name}"),
        task_cluster_arn: "default".into(),
        desired_status: "RUNNING".into(),
        family: "app".into(),
        version: "1".into(),
        containers,
        execution_role_credentials: Some(execution_credentials()),
        berth_epoch: Some(1),
        ..Task::default()
    }
}

pub(crate) fn own_container(name: &str, digest: &str) -> Container {
    Container {
        name: name.into(),
        image: "127.0.0.1:5000/app:1".into(),
        berth_image: Some(BerthImage { repository: "app".into(), digest: digest.into() }),
        ..Container::default()
    }
}

pub(crate) fn foreign_container(name: &str) -> Container {
    Container { name: name.into(), image: "busybox:1".into(), ..Container::default() }
}

async fn answer(State(control): State<Control>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if control.change(|heard| heard.away) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if path == "/ws" {
        return upgrade(control, request).await;
    }
    if path.starts_with("/v2/") || path == "/token" {
        return registry(&control, request.method(), &path, request.headers());
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let target = parts.headers["x-amz-target"].to_str().unwrap().to_owned();
    let service = if target.contains("Registry") { "ecr" } else { "ecs" };
    verify(&parts, &body, service);
    api(&control, target.rsplit('.').next().unwrap(), &body)
}

fn verify(parts: &http::request::Parts, body: &Bytes, service: &str) {
    let signed = sigv4::parse(parts).unwrap().expect("every call of the agent is signed");
    let expected = sigv4::Expected {
        services: &[service],
        regions: &["us-east-1"],
        now_ms: Clock::system().now_ms(),
        skew_ms: 300_000,
        unsigned_payload: false,
    };
    signed.verify(parts, SECRET.as_bytes(), &Sha256::digest(body).into(), &expected).unwrap();
}

fn api(control: &Control, operation: &str, body: &Bytes) -> Response {
    match operation {
        "RegisterContainerInstance" => {
            let request: RegisterContainerInstanceRequest = serde_json::from_slice(body).unwrap();
            let (attributes, named) = (request.attributes.clone(), request.container_instance_arn.is_some());
            let refused = control.change(|heard| {
                heard.registrations.push(request);
                heard.deregistered && named
            });
            if refused {
                let error =
                    json!({ "__type": "ClientException", "message": format!("{INACTIVE_INSTANCE}: gone.") });
                return (StatusCode::BAD_REQUEST, Json(error)).into_response();
            }
            let instance =
                json!({ "containerInstanceArn": INSTANCE, "status": "ACTIVE", "attributes": attributes });
            Json(json!({ "containerInstance": instance })).into_response()
        }
        "DiscoverPollEndpoint" => {
            let (url, lease) = (&control.url, 1);
            Json(json!({ "endpoint": url, "telemetryEndpoint": url, "berthLeaseSeconds": lease }))
                .into_response()
        }
        "SubmitTaskStateChange" => {
            if control.change(|heard| heard.deaf) {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            let change = serde_json::from_slice(body).unwrap();
            control.change(|heard| heard.changes.push(change));
            Json(json!({ "acknowledgment": "ok" })).into_response()
        }
        "GetAuthorizationToken" => {
            let token = base64::engine::general_purpose::STANDARD.encode("AWS:token");
            let data = json!([{ "authorizationToken": token, "expiresAt": 4e9 }]);
            Json(json!({ "authorizationData": data })).into_response()
        }
        other => panic!("the agent called {other}"),
    }
}

fn registry(control: &Control, method: &Method, path: &str, headers: &HeaderMap) -> Response {
    if path == "/token" {
        return Json(json!({ "token": "anonymous", "expires_in": 300 })).into_response();
    }
    let authorization =
        headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if authorization.is_empty() {
        let challenge = r#"Bearer realm="http://attacker.example/token",service="berth""#;
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response();
    }
    control.change(|heard| {
        if heard.registry_away {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
        let [repository, kind, digest] = parts[..] else { return StatusCode::NOT_FOUND.into_response() };
        if kind == "manifests" {
            heard.manifest_requests.push(format!("{method} {repository} {authorization}"));
        }
        if heard.denied.contains(repository) {
            let error = json!({ "errors": [{ "code": "DENIED", "message": "the policy says no" }] });
            return (StatusCode::FORBIDDEN, Json(error)).into_response();
        }
        match heard.contents.get(digest) {
            Some(bytes) => bytes.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    })
}

async fn upgrade(control: Control, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    verify(&parts, &Bytes::new(), "ecs");
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.unwrap();
    if query.contains("clusterArn=") {
        control.change(|heard| heard.send_credentials.push(query.contains("sendCredentials=true")));
        upgrade.on_upgrade(move |socket| acs(control, socket))
    } else {
        upgrade.on_upgrade(move |socket| tcs(control, socket))
    }
}

async fn acs(control: Control, mut socket: WebSocket) {
    let (sender, mut to_agent) = mpsc::unbounded_channel();
    control.change(|heard| heard.to_agent = Some(sender));
    loop {
        tokio::select! {
            () = control.shutdown.begun() => return,
            message = to_agent.recv() => match message {
                Some(message) => socket.send(Message::text(message.encode())).await.unwrap(),
                None => return,
            },
            frame = socket.recv() => match frame {
                Some(Ok(Message::Text(text))) => {
                    let message = AgentMessage::decode(&text).unwrap().unwrap();
                    control.change(|heard| heard.messages.push(message));
                }
                Some(Ok(_)) => {}
                _ => return,
            },
        }
    }
}

async fn tcs(control: Control, mut socket: WebSocket) {
    while let Some(Ok(frame)) = socket.recv().await {
        let Message::Text(text) = frame else { continue };
        if let Ok(Some(TelemetryAgentMessage::Health(health))) = TelemetryAgentMessage::decode(&text) {
            let containers = health.tasks.into_iter().flat_map(|task| task.containers);
            control.change(|heard| heard.health.extend(containers));
        }
        let answer = json!({ "type": "AckPublishHealth", "message": Value::Object(serde_json::Map::new()) });
        if socket.send(Message::text(answer.to_string())).await.is_err() {
            return;
        }
    }
}
