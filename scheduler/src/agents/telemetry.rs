//! One telemetry connection (TCS): container health in, acknowledgements out. Metrics are not kept.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use policies_identity::{Caller, Check, RequestContext};
use registry_aws::AwsError;
use scheduler_protocol::{
    AckPublish, PublishHealthRequest, TelemetryAgentMessage, TelemetryHeartbeat, TelemetryServerMessage,
};
use tokio::time::{Instant, interval, timeout};

use crate::core::Core;
use crate::ids::{ClusterName, InstanceId};
use crate::reconcile::note_health;

const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Agents close a connection on which nothing came for a minute or two.
const HEARTBEAT: Duration = Duration::from_secs(30);
const RECHECK: Duration = Duration::from_millis(500);
/// An agent publishes every 20 seconds; this is the patience of its own side.
const SILENCE: Duration = Duration::from_secs(180);

pub(super) struct Telemetry {
    pub(super) core: Arc<Core>,
    pub(super) socket: WebSocket,
    pub(super) cluster: ClusterName,
    pub(super) instance: InstanceId,
    pub(super) caller: Caller,
    pub(super) ctx: RequestContext,
    pub(super) check: Check,
}

impl Telemetry {
    pub(super) async fn run(mut self) {
        let mut heartbeats = interval(HEARTBEAT);
        let mut rechecks = interval(RECHECK);
        let mut generation = self.core.identity.security_generation();
        let mut heard = Instant::now();
        let speaker = Speaker {
            core: Arc::clone(&self.core),
            cluster: self.cluster.clone(),
            instance: self.instance.clone(),
        };
        loop {
            let reply = tokio::select! {
                () = self.core.stopping.cancelled() => break,
                frame = self.socket.recv() => {
                    heard = Instant::now();
                    match frame {
                        Some(Ok(Message::Text(text))) => speaker.receive(&text).await,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                        Some(Ok(_)) => None,
                    }
                }
                _ = heartbeats.tick() => {
                    if heard.elapsed() > SILENCE {
                        break;
                    }
                    Some(TelemetryServerMessage::Heartbeat(TelemetryHeartbeat { healthy: true }))
                }
                _ = rechecks.tick() => {
                    let now = self.core.identity.security_generation();
                    let changed = now != std::mem::replace(&mut generation, now);
                    if (changed || self.has_expired()) && !self.may_continue() {
                        break;
                    }
                    None
                }
            };
            let Some(reply) = reply else { continue };
            let frame = Message::Text(reply.encode().into());
            if !matches!(timeout(SEND_TIMEOUT, self.socket.send(frame)).await, Ok(Ok(()))) {
                return;
            }
        }
        let _ = timeout(Duration::from_secs(1), self.socket.send(Message::Close(None))).await;
    }

    fn has_expired(&self) -> bool {
        let now_ms = self.core.clock.now_ms();
        self.caller.expires_ms().is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    fn may_continue(&self) -> bool {
        let ctx = RequestContext { now_ms: self.core.clock.now_ms(), ..self.ctx.clone() };
        self.core.identity.authorize(&ctx, &self.caller, "StartTelemetrySession", &self.check).is_ok()
    }
}

/// Who speaks on the connection, apart from its socket.
struct Speaker {
    core: Arc<Core>,
    cluster: ClusterName,
    instance: InstanceId,
}

impl Speaker {
    async fn receive(&self, text: &str) -> Option<TelemetryServerMessage> {
        match TelemetryAgentMessage::decode(text) {
            Ok(Some(TelemetryAgentMessage::Health(health))) => {
                self.note(health).await;
                Some(TelemetryServerMessage::AckHealth(AckPublish::default()))
            }
            Ok(Some(TelemetryAgentMessage::Metrics(_))) => {
                Some(TelemetryServerMessage::AckMetrics(AckPublish::default()))
            }
            Ok(Some(TelemetryAgentMessage::InstanceStatus(_))) => {
                Some(TelemetryServerMessage::AckInstanceStatus(AckPublish::default()))
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(error = %error, container_instance.id = %self.instance, "a telemetry frame is not understood");
                None
            }
        }
    }

    async fn note(&self, health: PublishHealthRequest) {
        let (instance, cluster, names) =
            (self.instance.clone(), self.cluster.clone(), self.core.names.clone());
        let noted = self
            .core
            .ledger
            .change(move |draft| {
                for task in &health.tasks {
                    let Ok(id) = names.parse_task(&task.task_arn, &cluster) else { continue };
                    for container in &task.containers {
                        if matches!(container.health_status.as_str(), "HEALTHY" | "UNHEALTHY" | "UNKNOWN") {
                            note_health(
                                draft,
                                &instance,
                                &id,
                                &container.container_name,
                                &container.health_status,
                            );
                        }
                    }
                }
                Ok::<_, AwsError>(())
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(error = %error, "container health could not be noted");
        }
    }
}
