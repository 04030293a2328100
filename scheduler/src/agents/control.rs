//! One control connection (ACS) of an instance's agent, from its upgrade to its end.
//!
//! Whatever the agent sends shows that it lives. A connection on which nothing is heard for a lease is
//! closed, and so is one whose principal may not poll any more.

mod endpoints;
mod outgoing;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use policies_identity::{Caller, Check, RequestContext};
use registry_aws::AwsError;
use scheduler_protocol as wire;
use scheduler_protocol::{AgentMessage, ServerMessage};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use self::endpoints::Told;
use super::delivery::Delivery;
use super::sessions::Registration;
use crate::core::Core;
use crate::ids::{ClusterName, InstanceId, TaskId};

/// An agent that does not read for so long is as good as gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the connection looks whether policies changed.
const RECHECK: Duration = Duration::from_millis(500);
const RESEND: Duration = Duration::from_secs(5);
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(60);

/// The connection is over; there is nothing to tell about it.
struct Over;

pub(super) struct Control {
    pub(super) core: Arc<Core>,
    pub(super) socket: WebSocket,
    pub(super) cluster: ClusterName,
    pub(super) instance: InstanceId,
    pub(super) caller: Caller,
    pub(super) ctx: RequestContext,
    pub(super) check: Check,
    pub(super) versions: wire::VersionInfo,
}

struct Session {
    control: Control,
    delivery: Delivery,
    told: Told,
    heard: Instant,
    /// When the credentials that were sent expire, by task.
    expiries: std::collections::HashMap<TaskId, i64>,
    generation: i64,
}

impl Control {
    pub(super) async fn run(self) {
        let core = Arc::clone(&self.core);
        let instance = self.instance.clone();
        let registration = core.sessions.register(&instance);
        core.liveness.touch(&instance);
        if set_connected(&core, &instance, Some(self.versions.clone())).await.is_err() {
            return;
        }
        tracing::info!(container_instance.id = %instance, "an agent is connected");
        let generation = core.identity.security_generation();
        let mut session = Session {
            control: self,
            delivery: Delivery::default(),
            told: Told::default(),
            heard: Instant::now(),
            expiries: Default::default(),
            generation,
        };
        let Over = session.serve(&registration).await;
        let _ = timeout(Duration::from_secs(1), session.control.socket.send(Message::Close(None))).await;
        // A newer connection of the same instance has its own say, and a server that stops changes no instance.
        if registration.is_current() && !core.stopping.is_cancelled() {
            drop(registration);
            if set_connected(&core, &instance, None).await.is_err() {
                tracing::debug!(container_instance.id = %instance, "the end of a connection was not noted");
            }
        }
        tracing::info!(container_instance.id = %instance, "an agent's connection ended");
    }
}

/// Notes that an agent of these versions is connected, or that it is not any more.
async fn set_connected(
    core: &Core,
    instance: &InstanceId,
    versions: Option<wire::VersionInfo>,
) -> Result<(), AwsError> {
    let instance = instance.clone();
    core.ledger
        .change(move |draft| {
            let now_ms = draft.now_ms;
            draft.edit_instance(&instance, |instance| {
                instance.connected = versions.is_some();
                instance.connectivity_at = Some(now_ms);
                let Some(versions) = versions else { return };
                instance.lost = false;
                for (known, told) in [
                    (&mut instance.agent_version, versions.agent_version),
                    (&mut instance.agent_hash, versions.agent_hash),
                    (&mut instance.docker_version, versions.docker_version),
                ] {
                    if told.is_some() {
                        *known = told;
                    }
                }
            });
            Ok::<_, AwsError>(())
        })
        .await
}

impl Session {
    async fn serve(&mut self, registration: &Registration) -> Over {
        match self.work(registration).await {
            Ok(never) => match never {},
            Err(over) => over,
        }
    }

    async fn work(&mut self, registration: &Registration) -> Result<std::convert::Infallible, Over> {
        let (nudged, closed) = (registration.nudged(), registration.closed());
        let stopping = self.control.core.stopping.clone();
        let lease = self.control.core.config.lease;
        let mut heartbeats = interval((lease / 3).clamp(Duration::from_millis(50), LONGEST_HEARTBEAT));
        let mut rechecks = interval(RECHECK);
        let mut resends = interval(RESEND);
        let mut renewals = interval(RENEW);
        for timer in [&mut heartbeats, &mut rechecks, &mut resends, &mut renewals] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        self.send_manifest().await?;
        self.tell_endpoints().await?;
        self.deliver().await?;
        loop {
            tokio::select! {
                biased;
                () = closed.cancelled() => return Err(self.close("the connection is not wanted any more").await),
                () = stopping.cancelled() => return Err(self.close("the server is stopping").await),
                () = nudged.notified() => {
                    self.tell_endpoints().await?;
                    self.deliver().await?;
                }
                frame = self.control.socket.recv() => self.receive(frame).await?,
                _ = heartbeats.tick() => self.beat(lease).await?,
                _ = rechecks.tick() => self.recheck().await?,
                _ = resends.tick() => {
                    self.tell_endpoints().await?;
                    if self.delivery.expire() {
                        self.deliver().await?;
                    }
                }
                _ = renewals.tick() => self.renew_credentials().await?,
            }
        }
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), Over> {
        self.send_frame(Message::Text(message.encode().into())).await
    }

    async fn send_frame(&mut self, frame: Message) -> Result<(), Over> {
        match timeout(SEND_TIMEOUT, self.control.socket.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over),
        }
    }

    async fn close(&mut self, why: &str) -> Over {
        let message = ServerMessage::Close(wire::CloseMessage { message: why.to_owned() });
        let _ = self.send(&message).await;
        Over
    }

    async fn receive(&mut self, frame: Option<Result<Message, axum::Error>>) -> Result<(), Over> {
        let Some(Ok(frame)) = frame else { return Err(Over) };
        self.heard = Instant::now();
        self.control.core.liveness.touch(&self.control.instance);
        match frame {
            Message::Text(text) => match AgentMessage::decode(&text) {
                Ok(Some(message)) => self.handle(message).await,
                Ok(None) => Ok(()),
                Err(error) => {
                    tracing::warn!(error = %error, container_instance.id = %self.control.instance, "an agent's frame is not understood");
                    Ok(())
                }
            },
            Message::Close(_) => Err(Over),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => Ok(()),
        }
    }

    async fn handle(&mut self, message: AgentMessage) -> Result<(), Over> {
        match message {
            AgentMessage::Ack(ack) => {
                let sequences = self.delivery.acknowledge(&ack.message_id);
                self.forget(sequences);
                Ok(())
            }
            AgentMessage::TaskStopVerification(question) => self.verify_stops(question).await,
            AgentMessage::Nack(nack) => {
                tracing::warn!(container_instance.id = %self.control.instance, reason = nack.reason, "an agent refused a message");
                Ok(())
            }
            AgentMessage::EndpointsReport(report) => self.hear_endpoints(report).await,
            AgentMessage::HeartbeatAck(_) | AgentMessage::RoleCredentialsAck(_) => Ok(()),
        }
    }

    async fn beat(&mut self, lease: Duration) -> Result<(), Over> {
        if self.heard.elapsed() > lease {
            return Err(self.close("nothing was heard for too long").await);
        }
        let message_id = registry_runtime::random_id();
        self.send(&ServerMessage::Heartbeat(wire::HeartbeatMessage { message_id, healthy: true })).await
    }

    /// A change of policies, or the end of a credential, decides about open connections too.
    async fn recheck(&mut self) -> Result<(), Over> {
        let control = &self.control;
        let now_ms = control.core.clock.now_ms();
        let expired = control.caller.expires_ms().is_some_and(|expires_ms| expires_ms <= now_ms);
        let generation = control.core.identity.security_generation();
        let changed = generation != std::mem::replace(&mut self.generation, generation);
        if !expired && !changed {
            return Ok(());
        }
        let ctx = RequestContext { now_ms, ..control.ctx.clone() };
        let allowed = !expired
            && control.core.identity.authorize(&ctx, &control.caller, "Poll", &control.check).is_ok();
        if allowed { Ok(()) } else { Err(self.close("the agent may not poll any more").await) }
    }
}
