//! The control connection: tasks to run and to stop, credentials, manifests, heartbeats.
//!
//! A payload is acknowledged only when every start and stop in it is saved; the rest comes again.
//! Stops are applied before starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use registry_runtime::random_bytes;
use scheduler_protocol::{
    AckRequest, AgentMessage, BerthEndpointsMessage, HeartbeatAckRequest, PayloadMessage, PollQuery,
    RoleCredentials, RoleCredentialsAckRequest, RoleCredentialsMessage, ServerMessage, TaskIdentifier,
    TaskManifestMessage, TaskStopVerificationMessage,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;

use super::Session;
use super::lease::Lease;
use super::register::VERSION;
use super::socket::{Socket, SocketError, open};
use crate::proxy::SET_KEY;
use crate::store::{Store, Values};
use crate::task::state::Desired;

const TIMELINE_KEY: &str = "timeline";
const PROTOCOL_VERSION: &str = "2";

/// The highest number of a payload or manifest that this host has seen; older manifests are not believed.
#[derive(Clone)]
pub(super) struct Timeline {
    highest: Arc<AtomicI64>,
    store: Store,
}

impl Timeline {
    pub(super) fn new(store: &Store, values: &Values) -> Self {
        let saved = values.get(TIMELINE_KEY).and_then(|bytes| <[u8; 8]>::try_from(bytes.as_slice()).ok());
        let highest = Arc::new(AtomicI64::new(saved.map_or(0, i64::from_be_bytes)));
        Self { highest, store: store.clone() }
    }

    /// Notes a number; true when it is higher than all before.
    fn advance(&self, number: i64) -> bool {
        let higher = self.highest.fetch_max(number, Ordering::SeqCst) < number;
        if higher {
            self.store.put(TIMELINE_KEY, number.to_be_bytes().to_vec());
        }
        higher
    }
}

pub(super) async fn connect(session: &Session, first: bool) -> Result<Socket, SocketError> {
    let host = &session.host;
    let query = PollQuery {
        cluster_arn: host.cluster.clone(),
        container_instance_arn: session.container_instance_arn.clone(),
        agent_hash: None,
        agent_version: Some(VERSION.to_owned()),
        docker_version: Some(session.docker_version.clone()),
        protocol_version: Some(PROTOCOL_VERSION.to_owned()),
        send_credentials: Some(first.to_string()),
        seq_num: Some("1".to_owned()),
    };
    let endpoint = &session.endpoints.endpoint;
    open(endpoint, &query.pairs(), &session.credentials, host).await
}

/// Serves the connection until it ends.
pub(super) async fn run(
    session: &Session,
    timeline: &Timeline,
    lease: &Lease,
    socket: Socket,
) -> Result<(), SocketError> {
    tracing::info!("connected to the scheduler");
    let (mut sink, mut stream) = socket.split();
    let (answers, mut queue) = unbounded_channel::<AgentMessage>();
    let handler = Handler { session, timeline, answers };
    let mut endpoints = session.host.proxy.report();
    endpoints.mark_unchanged();
    let mut was_told = false;
    // Up to twice that, so that hosts do not all give up at once.
    let silence = lease.silence().mul_f64(1.0 + f64::from(random_bytes::<1>()[0]) / 255.0);
    loop {
        tokio::select! {
            Some(answer) = queue.recv() => {
                was_told |= matches!(answer, AgentMessage::EndpointsReport(_));
                sink.send(Message::text(answer.encode())).await?;
            }
            // Of no use to a scheduler that has told no set.
            Ok(()) = endpoints.changed(), if was_told => {
                let report = endpoints.borrow_and_update().clone();
                sink.send(Message::text(AgentMessage::EndpointsReport(report).encode())).await?;
            }
            frame = tokio::time::timeout(silence, stream.next()) => match frame {
                Err(_) => return Err(SocketError::Away("it has been silent for too long".into())),
                Ok(None | Some(Ok(Message::Close(_)))) => return Ok(()),
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(Some(Ok(Message::Text(text)))) => {
                    lease.heard();
                    handler.handle(&text);
                }
                Ok(Some(Ok(_))) => {
                    lease.heard();
                    sink.flush().await?;
                }
            },
        }
    }
}

struct Handler<'a> {
    session: &'a Session,
    timeline: &'a Timeline,
    answers: UnboundedSender<AgentMessage>,
}

impl Handler<'_> {
    fn handle(&self, frame: &str) {
        match ServerMessage::decode(frame) {
            Ok(Some(ServerMessage::Heartbeat(heartbeat))) => {
                self.answer(AgentMessage::HeartbeatAck(HeartbeatAckRequest {
                    message_id: heartbeat.message_id,
                }));
            }
            Ok(Some(ServerMessage::Payload(payload))) => self.payload(payload),
            Ok(Some(ServerMessage::RoleCredentials(message))) => self.credentials(message),
            Ok(Some(ServerMessage::TaskManifest(manifest))) => self.manifest(manifest),
            Ok(Some(ServerMessage::TaskStopVerificationAck(confirmed))) => {
                for task in confirmed.stop_tasks {
                    let saved = self.session.manager.stop_known(&task.task_arn);
                    tokio::spawn(async move {
                        if let Err(error) = saved.await {
                            tracing::error!(%error, "a stop could not be saved");
                        }
                    });
                }
            }
            Ok(Some(ServerMessage::Error(error))) => {
                tracing::warn!(message = error.message, "the scheduler reports an error")
            }
            Ok(Some(ServerMessage::Close(close))) => {
                tracing::info!(message = close.message, "the scheduler is about to close")
            }
            Ok(Some(ServerMessage::Endpoints(set))) => self.endpoints(set),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a message of the scheduler cannot be read"),
        }
    }

    fn endpoints(&self, set: BerthEndpointsMessage) {
        let host = &self.session.host;
        let bytes = serde_json::to_vec(&set).expect("numbers and strings have a JSON form");
        host.proxy.apply(set);
        host.store.put(SET_KEY, bytes);
        // Also when nothing has changed: the scheduler may have missed what was said before.
        self.answer(AgentMessage::EndpointsReport(host.proxy.report().borrow().clone()));
    }

    fn answer(&self, answer: AgentMessage) {
        // The receiver lives as long as the connection, as this does.
        let _ = self.answers.send(answer);
    }

    fn ack(&self, message_id: String) -> AgentMessage {
        AgentMessage::Ack(AckRequest {
            cluster: self.session.host.cluster.clone(),
            container_instance: self.session.container_instance_arn.clone(),
            message_id,
        })
    }

    fn payload(&self, payload: PayloadMessage) {
        if payload.container_instance_arn != self.session.container_instance_arn {
            tracing::warn!(
                container_instance.arn = payload.container_instance_arn,
                "a payload is for another instance"
            );
            return;
        }
        self.timeline.advance(payload.seq_num);
        let (stops, starts): (Vec<_>, Vec<_>) =
            payload.tasks.into_iter().partition(|task| task.desired_status == "STOPPED");
        let manager = &self.session.manager;
        let mut saved: Vec<_> = stops.iter().map(|task| manager.stop(task)).collect();
        let mut answers = vec![self.ack(payload.message_id.clone())];
        for task in &starts {
            for credentials in
                [&task.role_credentials, &task.execution_role_credentials].into_iter().flatten()
            {
                answers.push(credentials_ack(payload.message_id.clone(), credentials));
            }
        }
        saved.extend(starts.into_iter().map(|task| manager.accept(task)));
        let sender = self.answers.clone();
        tokio::spawn(async move {
            for result in join_all(saved).await {
                if let Err(error) = result {
                    tracing::error!(%error, "a payload is not acknowledged");
                    return;
                }
            }
            for answer in answers {
                let _ = sender.send(answer);
            }
        });
    }

    fn credentials(&self, message: RoleCredentialsMessage) {
        let RoleCredentialsMessage { message_id, task_arn, role_type, role_credentials, .. } = message;
        let (manager, sender) = (self.session.manager.clone(), self.answers.clone());
        let answer = credentials_ack(message_id, &role_credentials);
        tokio::spawn(async move {
            match manager.set_credentials(&task_arn, role_type, role_credentials).await {
                Ok(true) => drop(sender.send(answer)),
                Ok(false) => {
                    tracing::debug!(task.arn = task_arn, "credentials came for a task that is not here")
                }
                Err(error) => tracing::error!(%error, "credentials are not acknowledged"),
            }
        });
    }

    fn manifest(&self, manifest: TaskManifestMessage) {
        if !self.timeline.advance(manifest.timeline) {
            return;
        }
        let mut candidates = Vec::new();
        for context in self.session.manager.tasks() {
            let listed = manifest.tasks.iter().any(|task| task.task_arn == context.arn());
            let state = context.state();
            if !listed && state.desired == Desired::Running && !state.all_stopped() {
                candidates.push(TaskIdentifier {
                    task_arn: context.arn().to_owned(),
                    task_cluster_arn: context.task().task_cluster_arn.clone(),
                    desired_status: "STOPPED".to_owned(),
                });
            }
        }
        let message_id = manifest.message_id;
        self.answer(self.ack(message_id.clone()));
        if !candidates.is_empty() {
            let verification = TaskStopVerificationMessage { message_id, stop_candidates: candidates };
            self.answer(AgentMessage::TaskStopVerification(verification));
        }
    }
}

fn credentials_ack(message_id: String, credentials: &RoleCredentials) -> AgentMessage {
    AgentMessage::RoleCredentialsAck(RoleCredentialsAckRequest {
        message_id,
        credentials_id: credentials.credentials_id.clone(),
        expiration: credentials.expiration.clone(),
    })
}
