//! An agent without a container engine: it accepts tasks, says that they run, and stops them when told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Request;
use parking_lot::Mutex;
use registry_aws::{Client, Credentials, sigv4};
use scheduler_protocol as wire;
use scheduler_protocol::{AgentMessage, ServerMessage};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use super::server::{REGION, Server};

const TARGET: &str = "AmazonEC2ContainerServiceV20141113";

/// What the agent does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Runs what it is told to.
    Obeys,
    /// Does not even acknowledge.
    Ignores,
    /// Every task fails to start.
    Fails,
}

/// What came in, in order, and what the agent would have in its state file.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) payloads: Vec<wire::Task>,
    pub(crate) manifests: Vec<wire::TaskManifestMessage>,
    pub(crate) credentials: Vec<wire::RoleCredentialsMessage>,
    pub(crate) stop_acks: Vec<wire::TaskStopVerificationAck>,
    pub(crate) heartbeats: usize,
    pub(crate) endpoints: Vec<wire::BerthEndpointsMessage>,
    tasks: HashMap<String, String>,
}

pub(crate) struct Agent {
    pub(crate) arn: String,
    pub(crate) client: Client,
    pub(crate) log: Arc<Mutex<Log>>,
    credentials: Credentials,
    address: std::net::SocketAddr,
    cluster: String,
    connection: Option<tokio::task::JoinHandle<()>>,
    /// What the agent says of itself on its connection.
    words: Option<tokio::sync::mpsc::UnboundedSender<AgentMessage>>,
}

impl Agent {
    /// Joins by token, registers and connects.
    pub(crate) async fn join(server: &Server, behaviour: Behaviour) -> Agent {
        Self::join_with(server, json!({}), behaviour).await
    }

    pub(crate) async fn join_with(server: &Server, token: Value, behaviour: Behaviour) -> Agent {
        let mut agent = Self::enrol(server, token).await;
        agent.register(json!({})).await.unwrap();
        agent.connect(behaviour).await.unwrap();
        agent
    }

    /// Exchanges a token for a key, and does nothing with it yet.
    pub(crate) async fn enrol(server: &Server, token: Value) -> Agent {
        Self::exchange(server, token, None, None).await.unwrap()
    }

    /// Exchanges a token, signed by a host's key, or with the name of a machine; the error is the refusal's body.
    pub(crate) async fn exchange(
        server: &Server,
        token: Value,
        machine: Option<&str>,
        signed_by: Option<&Agent>,
    ) -> Result<Agent, String> {
        let token = server.berth("CreateJoinToken", token).await["token"].clone();
        let body = json!({ "token": token, "machine": machine }).to_string();
        let headers = signed_by.map(|host| host.sign_join(&body)).unwrap_or_default();
        let (status, body) = plain(server, "POST", "/join", &headers, &body).await;
        if status != 200 {
            return Err(body);
        }
        let joined: wire::JoinResponse = serde_json::from_str(&body).unwrap();
        let credentials = Credentials::new(joined.access_key_id, joined.secret_access_key);
        Ok(Self::with_credentials(server, credentials, &joined.cluster))
    }

    /// Headers with which this host shows that it has its key.
    fn sign_join(&self, body: &str) -> String {
        let request = Request::post("/join").header("host", self.address.to_string());
        let request = request.header("content-type", "application/json").body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        let now_ms = registry_runtime::Clock::system().now_ms();
        sigv4::sign(&mut parts, &self.credentials, REGION, "ecs", body.as_bytes(), now_ms);
        let signed =
            parts.headers.iter().filter(|(name, _)| !matches!(name.as_str(), "host" | "content-type"));
        signed.map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect()
    }

    pub(crate) fn with_credentials(server: &Server, credentials: Credentials, cluster: &str) -> Agent {
        Agent {
            arn: String::new(),
            client: server.client(credentials.clone()),
            log: Arc::default(),
            credentials,
            address: server.address,
            cluster: cluster.to_owned(),
            connection: None,
            words: None,
        }
    }

    /// Registers with 2048 CPU units and 4096 MiB, unless the input says otherwise.
    pub(crate) async fn register(&mut self, more: Value) -> Result<Value, registry_aws::ClientError> {
        let mut input = json!({
            "cluster": self.cluster,
            "totalResources": [
                {"name": "CPU", "type": "INTEGER", "integerValue": 2048},
                {"name": "MEMORY", "type": "INTEGER", "integerValue": 4096},
                {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]}],
            "attributes": [{"name": "berth.agent", "value": "0.1.0"}],
            "versionInfo": {"agentVersion": "0.1.0"},
        });
        if !self.arn.is_empty() {
            input["containerInstanceArn"] = json!(self.arn);
        }
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.client.call("ecs", TARGET, "RegisterContainerInstance", &input).await?;
        self.arn = answer["containerInstance"]["containerInstanceArn"].as_str().unwrap().to_owned();
        Ok(answer["containerInstance"].clone())
    }

    pub(crate) fn id(&self) -> &str {
        self.arn.rsplit('/').next().unwrap()
    }

    /// Opens the control connection; the error is the status and body of the refusal.
    pub(crate) async fn connect(&mut self, behaviour: Behaviour) -> Result<(), (u16, String)> {
        let query = wire::PollQuery {
            cluster_arn: self.cluster.clone(),
            container_instance_arn: self.arn.clone(),
            protocol_version: Some("2".into()),
            docker_version: Some("DockerVersion: 20.10.24+dfsg1".into()),
            ..Default::default()
        };
        let known = self.log.lock().manifests.len();
        let socket = open(self.address, &self.credentials, &query.pairs()).await?;
        let (mut sink, mut stream) = socket.split();
        let (log, client, cluster) = (Arc::clone(&self.log), self.client.clone(), self.cluster.clone());
        let worker = Worker { log, client, cluster, instance: self.arn.clone(), behaviour };
        let (words, mut said) = tokio::sync::mpsc::unbounded_channel::<AgentMessage>();
        self.words = Some(words);
        self.connection = Some(tokio::spawn(async move {
            loop {
                let reply = tokio::select! {
                    Some(word) = said.recv() => Some(word),
                    frame = stream.next() => match frame {
                        Some(Ok(Message::Text(text))) => match ServerMessage::decode(&text).unwrap() {
                            Some(message) => worker.handle(message).await,
                            None => None,
                        },
                        Some(Ok(_)) => None,
                        Some(Err(_)) | None => return,
                    },
                };
                if let Some(reply) = reply
                    && sink.send(Message::text(reply.encode())).await.is_err()
                {
                    return;
                }
            }
        }));
        // The manifest is the first thing that the scheduler sends once it has noted the connection.
        super::eventually("the manifest", || async {
            (self.log.lock().manifests.len() > known).then_some(())
        })
        .await;
        Ok(())
    }

    /// Says something of itself.
    pub(crate) fn say(&self, message: AgentMessage) {
        self.words.as_ref().expect("the agent is connected").send(message).unwrap();
    }

    /// Falls silent, as when its host is gone.
    pub(crate) fn vanish(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.abort();
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.is_finished())
    }

    /// Reports containers' health over a telemetry connection.
    pub(crate) async fn publish_health(&self, task: &str, container: &str, health: &str) {
        let pairs = [("cluster", self.cluster.as_str()), ("containerInstance", self.arn.as_str())];
        let mut socket = open(self.address, &self.credentials, &pairs).await.unwrap();
        let frame = json!({"type": "PublishHealthRequest", "message": {"metadata": {"fin": true}, "tasks": [
            {"taskArn": task, "containers": [{"containerName": container, "healthStatus": health}]}]}});
        socket.send(Message::text(format!("Host: x\r\n\r\n{frame}"))).await.unwrap();
        while let Some(Ok(frame)) = socket.next().await {
            if frame.to_text().unwrap().contains("AckPublishHealth") {
                return;
            }
        }
        panic!("the health was not acknowledged");
    }

    pub(crate) async fn report(&self, input: Value) -> Result<Value, registry_aws::ClientError> {
        let mut input = input;
        input["cluster"] = json!(self.cluster);
        self.client.call("ecs", TARGET, "SubmitTaskStateChange", &input).await
    }

    /// The task's container ends by itself.
    pub(crate) async fn end(&self, task: &str, exit_code: i64) {
        let containers = json!([{"containerName": "main", "status": "STOPPED", "exitCode": exit_code}]);
        self.report(json!({"task": task, "status": "STOPPED", "containers": containers})).await.unwrap();
    }

    pub(crate) fn running(&self) -> Vec<String> {
        let log = self.log.lock();
        log.tasks.iter().filter(|(_, state)| *state == "RUNNING").map(|(arn, _)| arn.clone()).collect()
    }
}

struct Worker {
    log: Arc<Mutex<Log>>,
    client: Client,
    cluster: String,
    instance: String,
    behaviour: Behaviour,
}

impl Worker {
    async fn handle(&self, message: ServerMessage) -> Option<AgentMessage> {
        if self.behaviour == Behaviour::Ignores {
            match message {
                ServerMessage::Payload(payload) => self.log.lock().payloads.extend(payload.tasks),
                ServerMessage::TaskManifest(manifest) => self.log.lock().manifests.push(manifest),
                _ => {}
            }
            return None;
        }
        match message {
            ServerMessage::Heartbeat(beat) => {
                self.log.lock().heartbeats += 1;
                Some(AgentMessage::HeartbeatAck(wire::HeartbeatAckRequest { message_id: beat.message_id }))
            }
            ServerMessage::Payload(payload) => {
                for task in payload.tasks {
                    self.accept(task);
                }
                Some(self.ack(payload.message_id))
            }
            ServerMessage::TaskManifest(manifest) => {
                let candidates: Vec<wire::TaskIdentifier> = {
                    let mut log = self.log.lock();
                    let named = |arn: &str| manifest.tasks.iter().any(|task| task.task_arn == arn);
                    let running = log.tasks.iter().filter(|(arn, state)| *state == "RUNNING" && !named(arn));
                    let candidates = running.map(|(arn, _)| wire::TaskIdentifier {
                        task_arn: arn.clone(),
                        task_cluster_arn: self.cluster.clone(),
                        desired_status: "STOPPED".into(),
                    });
                    let candidates = candidates.collect();
                    log.manifests.push(manifest.clone());
                    candidates
                };
                if candidates.is_empty() {
                    return Some(self.ack(manifest.message_id));
                }
                let question = wire::TaskStopVerificationMessage {
                    message_id: manifest.message_id,
                    stop_candidates: candidates,
                };
                Some(AgentMessage::TaskStopVerification(question))
            }
            ServerMessage::TaskStopVerificationAck(ack) => {
                let mut log = self.log.lock();
                for task in &ack.stop_tasks {
                    log.tasks.remove(&task.task_arn);
                }
                log.stop_acks.push(ack);
                None
            }
            ServerMessage::RoleCredentials(credentials) => {
                let ack = wire::RoleCredentialsAckRequest {
                    message_id: credentials.message_id.clone(),
                    credentials_id: credentials.role_credentials.credentials_id.clone(),
                    expiration: credentials.role_credentials.expiration.clone(),
                };
                self.log.lock().credentials.push(credentials);
                Some(AgentMessage::RoleCredentialsAck(ack))
            }
            ServerMessage::Endpoints(endpoints) => {
                self.log.lock().endpoints.push(endpoints);
                None
            }
            ServerMessage::Error(_) | ServerMessage::Close(_) => None,
        }
    }

    fn ack(&self, message_id: String) -> AgentMessage {
        AgentMessage::Ack(wire::AckRequest {
            cluster: self.cluster.clone(),
            container_instance: self.instance.clone(),
            message_id,
        })
    }

    fn accept(&self, task: wire::Task) {
        let state = match (self.behaviour, task.desired_status.as_str()) {
            (Behaviour::Obeys, "RUNNING") => Some("RUNNING"),
            (Behaviour::Fails, "RUNNING") => Some("FAILED"),
            (Behaviour::Obeys | Behaviour::Fails, _) => Some("STOPPED"),
            (Behaviour::Ignores, _) => None,
        };
        let (arn, epoch, containers) = (task.arn.clone(), task.berth_epoch, task.containers.clone());
        self.log.lock().payloads.push(task);
        let Some(state) = state else { return };
        self.log.lock().tasks.insert(arn.clone(), state.to_owned());
        let (client, cluster) = (self.client.clone(), self.cluster.clone());
        tokio::spawn(async move {
            let mut input = json!({"cluster": cluster, "task": arn, "berthEpoch": epoch});
            input["status"] = json!(if state == "RUNNING" { "RUNNING" } else { "STOPPED" });
            if state == "RUNNING" {
                let change = |container: &wire::Container| {
                    let bindings = container.port_mappings.iter().map(|mapping| {
                        json!({"bindIP": "0.0.0.0", "containerPort": mapping.container_port,
                               "hostPort": mapping.host_port.filter(|port| *port != 0).unwrap_or(32768), "protocol": "tcp"})
                    });
                    json!({"containerName": container.name, "runtimeId": "f00d", "status": "RUNNING",
                           "networkBindings": bindings.collect::<Vec<_>>()})
                };
                input["containers"] = containers.iter().map(change).collect();
            }
            if state == "FAILED" {
                input["containers"] = json!([{"containerName": "main", "status": "STOPPED",
                                              "reason": "CannotStartContainerError: no such file"}]);
            }
            let _ = client.call("ecs", TARGET, "SubmitTaskStateChange", &input).await;
        });
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn open(
    address: std::net::SocketAddr,
    credentials: &Credentials,
    pairs: &[(&str, &str)],
) -> Result<Socket, (u16, String)> {
    let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    let request = format!("ws://{address}/ws?{}", query.join("&")).into_client_request().unwrap();
    let (mut parts, ()) = request.into_parts();
    let now_ms = registry_runtime::Clock::system().now_ms();
    sigv4::sign(&mut parts, credentials, REGION, "ecs", b"", now_ms);
    // As Amazon's agent does it: a space is signed as `%20` and sent as `+`.
    let sent = parts.uri.to_string().replace("%20", "+");
    parts.uri = sent.parse().unwrap();
    match tokio_tungstenite::connect_async(Request::from_parts(parts, ())).await {
        Ok((socket, _)) => Ok(socket),
        Err(WebSocketError::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
        }
        Err(other) => panic!("{other}"),
    }
}

fn escape(value: &str) -> String {
    value.replace('%', "%25").replace('+', "%2B").replace(':', "%3A").replace('/', "%2F").replace(' ', "%20")
}

/// A plain request without credentials.
pub(crate) async fn post(server: &Server, path: &str, body: &str) -> (u16, String) {
    plain(server, "POST", path, "", body).await
}

/// A plain request without credentials.
pub(crate) async fn get(server: &Server, path: &str) -> (u16, String) {
    plain(server, "GET", path, "", "").await
}

/// `headers` are whole lines.
async fn plain(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        server.address,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
