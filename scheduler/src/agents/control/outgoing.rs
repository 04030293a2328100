//! What a control connection tells its agent: payloads, credentials, manifests.

use std::sync::Arc;

use policies_identity::TaskRoleError;
use registry_aws::AwsError;
use scheduler_protocol as wire;
use scheduler_protocol::{RoleType, ServerMessage};

use super::{Over, Session};
use crate::agents::{credentials, payload};
use crate::core::Core;
use crate::model::{Errand, OutboxEntry, StopCode, Task};
use crate::reconcile::give_up;
use crate::state::Key;

/// Credentials are renewed when they have less than this left.
const RENEW_MS: i64 = 3 * 3600 * 1000;

/// What becomes of an entry of the outbox.
enum Outgoing {
    Task(Box<wire::Task>),
    /// There is nothing left to tell.
    Nothing,
    /// Not at the moment.
    Later,
}

/// Why a task has no credentials.
enum NoCredentials {
    /// And will not have any: the reason for the task.
    Never(String),
    /// No decision is possible at the moment.
    Now(TaskRoleError),
}

impl Session {
    /// Sends what the outbox holds and is not under way. A task that takes connections is told to stop once nobody
    /// leads any to it.
    pub(super) async fn deliver(&mut self) -> Result<(), Over> {
        loop {
            let core = &self.control.core;
            let waits =
                |entry: &OutboxEntry| entry.errand == Errand::Stop && core.directory.holds(&entry.task);
            let outbox: Vec<Arc<OutboxEntry>> = {
                let state = core.ledger.read();
                let entries = state.outbox(&self.control.instance);
                entries.filter(|entry| !waits(entry)).cloned().collect()
            };
            let batch = self.delivery.next(&outbox);
            if batch.is_empty() {
                return Ok(());
            }
            self.send_batch(batch).await?;
        }
    }

    async fn send_batch(&mut self, batch: Vec<Arc<OutboxEntry>>) -> Result<(), Over> {
        let message_id = registry_runtime::random_id();
        let (mut tasks, mut sequences) = (Vec::new(), Vec::new());
        let (mut needless, mut later) = (Vec::new(), Vec::new());
        for entry in batch {
            match self.message_for(&entry).await {
                Outgoing::Task(task) => {
                    tasks.push(*task);
                    sequences.push(entry.sequence);
                }
                Outgoing::Nothing => needless.push(entry.sequence),
                Outgoing::Later => later.push(entry.sequence),
            }
        }
        // What cannot be sent now counts as sent and unanswered: it is tried again after the same while.
        if !later.is_empty() {
            self.delivery.sent(registry_runtime::random_id(), later);
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

    async fn message_for(&mut self, entry: &OutboxEntry) -> Outgoing {
        let core = Arc::clone(&self.control.core);
        let (task, definition) = {
            let state = core.ledger.read();
            let Some(task) = state.task(&entry.task).cloned() else { return Outgoing::Nothing };
            let definition = state.definition(&task.definition).cloned();
            (task, definition)
        };
        if entry.errand == Errand::Stop {
            return Outgoing::Task(Box::new(payload::stop(&core.names, &task)));
        }
        let Some(definition) = definition.filter(|_| task.wants_to_run()) else {
            // The stop of such a task is in the outbox behind its start.
            return Outgoing::Nothing;
        };
        match self.credentials(&task).await {
            Ok(credentials) => {
                let registry = self.control.ctx.base_url(core.config.advertise.as_deref());
                let registry = registry.unwrap_or_default();
                let message = payload::start(&core.names, &task, &definition, credentials, &registry);
                Outgoing::Task(Box::new(message))
            }
            Err(NoCredentials::Never(reason)) => {
                fail(&core, &task, reason);
                Outgoing::Nothing
            }
            Err(NoCredentials::Now(error)) => {
                tracing::warn!(error = %error, task.id = %task.id, "a task waits for its credentials");
                Outgoing::Later
            }
        }
    }

    /// Fresh credentials for a task, or why it cannot have any.
    async fn credentials(&mut self, task: &Task) -> Result<payload::TaskCredentials, NoCredentials> {
        if task.task_role.is_none() && task.execution_role.is_none() {
            return Ok(payload::TaskCredentials::default());
        }
        if !self.may_carry_credentials() {
            let reason = "ResourceInitializationError: the agent's connection is neither TLS nor loopback, and role \
                          credentials do not travel over it";
            return Err(NoCredentials::Never(reason.into()));
        }
        let (credentials, expires) =
            credentials::of_task(&self.control.core, task).await.map_err(|error| match error {
                TaskRoleError::NotTrusted { .. } => NoCredentials::Never(error.to_string()),
                TaskRoleError::Unavailable | TaskRoleError::Identity(_) => NoCredentials::Now(error),
            })?;
        if let Some(expires) = expires {
            self.expiries.insert(task.id.clone(), expires);
        }
        Ok(credentials)
    }

    fn may_carry_credentials(&self) -> bool {
        self.control.ctx.confidential
    }

    /// Renews what expires soon, and sends everything to an agent that has just connected.
    pub(super) async fn renew_credentials(&mut self) -> Result<(), Over> {
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
    pub(super) async fn send_manifest(&mut self) -> Result<(), Over> {
        let control = &self.control;
        let names = &control.core.names;
        let now_ms = control.core.clock.now_ms();
        let (tasks, timeline) = {
            let state = control.core.ledger.read();
            // Agents ignore a manifest whose number is not above those of all payloads.
            let last = state.outbox(&control.instance).next_back().map_or(0, |entry| entry.sequence);
            let identify = |task: &Arc<Task>| wire::TaskIdentifier {
                task_arn: names.task(&task.cluster, &task.id).as_str().to_owned(),
                task_cluster_arn: names.cluster(&task.cluster).as_str().to_owned(),
                desired_status: task.desired_status.as_str().to_owned(),
            };
            let tasks: Vec<_> = state.live_tasks_on(&control.instance).map(identify).collect();
            (tasks, now_ms.max(last + 1))
        };
        let message = ServerMessage::TaskManifest(wire::TaskManifestMessage {
            cluster_arn: names.cluster(&control.cluster).as_str().to_owned(),
            container_instance_arn: names.instance(&control.cluster, &control.instance).as_str().to_owned(),
            message_id: registry_runtime::random_id(),
            generated_at: now_ms,
            timeline,
            tasks,
        });
        self.send(&message).await
    }

    /// The agent runs what the manifest did not name: it is told which of those are really to stop.
    pub(super) async fn verify_stops(
        &mut self,
        question: wire::TaskStopVerificationMessage,
    ) -> Result<(), Over> {
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
    pub(super) fn forget(&self, sequences: Vec<i64>) {
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
