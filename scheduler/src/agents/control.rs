//! One control connection (ACS) of an instance's agent, from its upgrade to its end.
//!
//! Whatever the agent sends shows that it lives. A connection on which nothing is heard for a lease is
//! closed, and so is one whose principal may not poll any more.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use policies_identity::{Caller, Check, RequestContext, TaskRoleError};
use registry_aws::AwsError;
use scheduler_protocol as wire;
use scheduler_protocol::{AgentMessage, RoleType, ServerMessage};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::credentials;
use super::delivery::Delivery;
use super::payload;
use super::sessions::Registration;
use crate::core::Core;
use crate::ids::{ClusterName, InstanceId, TaskId};
use crate::model::{Errand, OutboxEntry, StopCode, Task};
use crate::reconcile::give_up;
use crate::state::Key;

/// An agent that does not read for so long is as good as gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the connection looks whether policies changed.
const RECHECK: Duration = Duration::from_millis(500);
const RESEND: Duration = Duration::from_secs(5);
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(15);
/// Credentials are renewed when they have less than this left.
const RENEW_MS: i64 = 3 * 3600 * 1000;
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
}

struct Session {
    control: Control,
    delivery: Delivery,
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
        if set_connected(&core, &instance, true).await.is_err() {
            return;
        }
        tracing::info!(container_instance.id = %instance, "an agent is connected");
        let generation = core.identity.security_generation();
        let mut session = Session {
            control: self,
            delivery: Delivery::default(),
            heard: Instant::now(),
            expiries: Default::default(),
            generation,
        };
        let Over = session.serve(&registration).await;
        let _ = timeout(Duration::from_secs(1), session.control.socket.send(Message::Close(None))).await;
        // A newer connection of the same instance has its own say, and a server that stops changes no instance.
        if registration.is_current() && !core.stopping.is_cancelled() {
            drop(registration);
            if set_connected(&core, &instance, false).await.is_err() {
                tracing::debug!(container_instance.id = %instance, "the end of a connection was not noted");
            }
        }
        tracing::info!(container_instance.id = %instance, "an agent's connection ended");
    }
}

async fn set_connected(core: &Core, instance: &InstanceId, connected: bool) -> Result<(), AwsError> {
    let instance = instance.clone();
    core.ledger
        .change(move |draft| {
            let now_ms = draft.now_ms;
            draft.edit_instance(&instance, |instance| {
                instance.connected = connected;
                instance.connectivity_at = Some(now_ms);
                instance.lost &= !connected;
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
        self.deliver().await?;
        loop {
            tokio::select! {
                biased;
                () = closed.cancelled() => return Err(self.close("the connection is not wanted any more").await),
                () = stopping.cancelled() => return Err(self.close("the server is stopping").await),
                () = nudged.notified() => self.deliver().await?,
                frame = self.control.socket.recv() => self.receive(frame).await?,
                _ = heartbeats.tick() => self.beat(lease).await?,
                _ = rechecks.tick() => self.recheck().await?,
                _ = resends.tick() => if self.delivery.expire() { self.deliver().await? },
                _ = renewals.tick() => self.renew_credentials().await?,
            }
        }
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), Over> {
        let frame = Message::Text(message.encode().into());
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

    /// Sends what the outbox holds and is not under way.
    async fn deliver(&mut self) -> Result<(), Over> {
        loop {
            let outbox: Vec<Arc<OutboxEntry>> =
                self.control.core.ledger.read().outbox(&self.control.instance).cloned().collect();
            let batch = self.delivery.next(&outbox);
            if batch.is_empty() {
                return Ok(());
            }
            self.send_batch(batch).await?;
        }
    }

    async fn send_batch(&mut self, batch: Vec<Arc<OutboxEntry>>) -> Result<(), Over> {
        let message_id = registry_runtime::random_id();
        let (mut tasks, mut sequences, mut needless) = (Vec::new(), Vec::new(), Vec::new());
        for entry in batch {
            match self.message_for(&entry).await {
                Some(task) => {
                    tasks.push(task);
                    sequences.push(entry.sequence);
                }
                None => needless.push(entry.sequence),
            }
        }
        // Entries without a message are done with: noted like acknowledged ones.
        if !needless.is_empty() {
            let done = registry_runtime::random_id();
            self.delivery.sent(done.clone(), needless);
            let sequences = self.delivery.acknowledge(&done);
            self.forget(sequences);
        }
        let Some(last) = sequences.iter().max().copied() else { return Ok(()) };
        self.delivery.sent(message_id.clone(), sequences);
        let control = &self.control;
        let message = ServerMessage::Payload(wire::PayloadMessage {
            cluster_arn: control.core.names.cluster(&control.cluster).as_str().to_owned(),
            container_instance_arn: control
                .core
                .names
                .instance(&control.cluster, &control.instance)
                .as_str()
                .to_owned(),
            message_id,
            generated_at: control.core.clock.now_ms(),
            seq_num: last,
            timeline: Some(last),
            tasks,
        });
        self.send(&message).await
    }

    /// The message for an entry; None when there is nothing left to tell.
    async fn message_for(&mut self, entry: &OutboxEntry) -> Option<wire::Task> {
        let core = Arc::clone(&self.control.core);
        let (task, definition) = {
            let state = core.ledger.read();
            let task = Arc::clone(state.task(&entry.task)?);
            let definition = state.definition(&task.definition).cloned();
            (task, definition)
        };
        match entry.errand {
            Errand::Stop => Some(payload::stop(&core.names, &task)),
            // Its stop is in the outbox behind it.
            Errand::Start if !task.wants_to_run() => None,
            Errand::Start => {
                let credentials = match self.credentials(&task).await {
                    Ok(credentials) => credentials,
                    Err(reason) => {
                        fail(&core, &task, reason);
                        return None;
                    }
                };
                Some(payload::start(&core.names, &task, &*definition?, credentials))
            }
        }
    }

    /// Fresh credentials for a task, or why it cannot have any.
    async fn credentials(&mut self, task: &Task) -> Result<payload::TaskCredentials, String> {
        if task.task_role.is_none() && task.execution_role.is_none() {
            return Ok(payload::TaskCredentials::default());
        }
        if !self.may_carry_credentials() {
            return Err(
                "ResourceInitializationError: the agent's connection is neither TLS nor loopback, and role \
                        credentials do not travel over it"
                    .into(),
            );
        }
        let (credentials, expires) =
            credentials::of_task(&self.control.core, task).await.map_err(|error| error.to_string())?;
        if let Some(expires) = expires {
            self.expiries.insert(task.id.clone(), expires);
        }
        Ok(credentials)
    }

    fn may_carry_credentials(&self) -> bool {
        self.control.ctx.secure_transport || self.control.ctx.source_ip.is_loopback()
    }

    /// Renews what expires soon, and sends everything to an agent that has just connected.
    async fn renew_credentials(&mut self) -> Result<(), Over> {
        if !self.may_carry_credentials() {
            return Ok(());
        }
        let core = Arc::clone(&self.control.core);
        let due_before = core.clock.now_ms() + RENEW_MS;
        let tasks: Vec<Arc<Task>> = {
            let state = core.ledger.read();
            let starting = |task: &Task| {
                let mut outbox = state.outbox(&self.control.instance);
                outbox.any(|entry| entry.task == task.id && entry.errand == Errand::Start)
            };
            let live = state.live_tasks_on(&self.control.instance);
            live.filter(|task| task.wants_to_run() && !starting(task)).cloned().collect()
        };
        self.expiries.retain(|id, _| tasks.iter().any(|task| task.id == *id));
        for task in tasks {
            if self.expiries.get(&task.id).is_some_and(|expires| *expires > due_before) {
                continue;
            }
            for kind in [RoleType::TaskApplication, RoleType::TaskExecution] {
                match credentials::of_role(&core, &task, kind).await {
                    Ok(Some(fresh)) => {
                        let earliest = self.expiries.entry(task.id.clone()).or_insert(fresh.expires_ms);
                        *earliest = (*earliest).max(due_before + 1).min(fresh.expires_ms);
                        self.send_credentials(&task, kind, fresh.credentials).await?;
                    }
                    Ok(None) => {}
                    // The task goes on with what it has; its role was changed under it.
                    Err(TaskRoleError::NotTrusted { role }) => {
                        tracing::warn!(role.arn = role, task.id = %task.id, "a running task's role cannot be assumed any more");
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, task.id = %task.id, "credentials could not be renewed")
                    }
                }
            }
        }
        Ok(())
    }

    async fn send_credentials(
        &mut self,
        task: &Task,
        role_type: RoleType,
        role_credentials: wire::RoleCredentials,
    ) -> Result<(), Over> {
        let names = &self.control.core.names;
        let message = ServerMessage::RoleCredentials(wire::RoleCredentialsMessage {
            message_id: registry_runtime::random_id(),
            task_arn: names.task(&task.cluster, &task.id).as_str().to_owned(),
            task_cluster_arn: Some(names.cluster(&task.cluster).as_str().to_owned()),
            role_type,
            role_credentials,
        });
        self.send(&message).await
    }

    /// Tells a newly connected agent which tasks are its own.
    async fn send_manifest(&mut self) -> Result<(), Over> {
        let control = &self.control;
        let names = &control.core.names;
        let now_ms = control.core.clock.now_ms();
        let tasks = {
            let state = control.core.ledger.read();
            let identify = |task: &Arc<Task>| wire::TaskIdentifier {
                task_arn: names.task(&task.cluster, &task.id).as_str().to_owned(),
                task_cluster_arn: names.cluster(&task.cluster).as_str().to_owned(),
                desired_status: task.desired_status.as_str().to_owned(),
            };
            state.live_tasks_on(&control.instance).map(identify).collect()
        };
        let message = ServerMessage::TaskManifest(wire::TaskManifestMessage {
            cluster_arn: names.cluster(&control.cluster).as_str().to_owned(),
            container_instance_arn: names.instance(&control.cluster, &control.instance).as_str().to_owned(),
            message_id: registry_runtime::random_id(),
            generated_at: now_ms,
            timeline: now_ms,
            tasks,
        });
        self.send(&message).await
    }

    /// The agent runs what the manifest did not name: it is told which of those are really to stop.
    async fn verify_stops(&mut self, question: wire::TaskStopVerificationMessage) -> Result<(), Over> {
        let control = &self.control;
        let stop_tasks = {
            let state = control.core.ledger.read();
            let wanted = |task: &wire::TaskIdentifier| {
                let id = control.core.names.parse_task(&task.task_arn, &control.cluster).ok();
                let task = id.and_then(|id| state.task(&id).cloned());
                task.is_some_and(|task| {
                    task.wants_to_run() && task.instance.as_ref() == Some(&control.instance)
                })
            };
            question.stop_candidates.into_iter().filter(|candidate| !wanted(candidate)).collect()
        };
        let message = ServerMessage::TaskStopVerificationAck(wire::TaskStopVerificationAck {
            message_id: question.message_id,
            generated_at: control.core.clock.now_ms(),
            stop_tasks,
        });
        self.send(&message).await
    }

    /// Takes entries out of the outbox, without keeping the connection waiting for the commit.
    fn forget(&self, sequences: Vec<i64>) {
        if sequences.is_empty() {
            return;
        }
        let (core, instance) = (Arc::clone(&self.control.core), self.control.instance.clone());
        tokio::spawn(async move {
            let removed = core
                .ledger
                .change(move |draft| {
                    for sequence in sequences {
                        draft.remove(Key::Outbox(instance.clone(), sequence));
                    }
                    Ok::<_, AwsError>(())
                })
                .await;
            if let Err(error) = removed {
                tracing::debug!(error = %error, "acknowledged messages stay in the outbox for now");
            }
        });
    }
}

/// A task that cannot have its credentials does not start.
fn fail(core: &Arc<Core>, task: &Arc<Task>, reason: String) {
    let (core, id) = (Arc::clone(core), task.id.clone());
    tokio::spawn(async move {
        let failed = core
            .ledger
            .change(move |draft| {
                give_up(draft, &id, StopCode::TaskFailedToStart, &reason);
                Ok::<_, AwsError>(())
            })
            .await;
        if let Err(error) = failed {
            tracing::warn!(error = %error, "a task that has no credentials could not be stopped");
        }
    });
}
