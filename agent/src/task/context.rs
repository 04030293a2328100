//! What the rooms of the agent share of one task: the task as sent, its credentials, its latest state.

use std::sync::Arc;

use parking_lot::RwLock;
use registry_runtime::random_bytes;
use scheduler_protocol::{RoleCredentials, RoleType, Task};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::task::plan::Plan;
use crate::task::state::TaskState;

/// A task as it was accepted; saved, sealed, before the acceptance is acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) task: Task,
    /// 256 bits by which the task's containers ask for its credentials.
    pub(crate) credentials_id: String,
    /// 256 bits for each container, by which it asks for metadata.
    pub(crate) metadata_ids: Vec<String>,
    pub(crate) accepted_at_ms: i64,
}

impl Accepted {
    pub(crate) fn new(task: Task, now_ms: i64) -> Self {
        let id = || hex::encode(random_bytes::<32>());
        let metadata_ids = task.containers.iter().map(|_| id()).collect();
        Self { task, credentials_id: id(), metadata_ids, accepted_at_ms: now_ms }
    }
}

/// Shared by the task's driver, the endpoints and the link.
pub(crate) struct TaskContext {
    pub(crate) accepted: Accepted,
    pub(crate) plan: Plan,
    /// The last part of the ARN.
    pub(crate) id: String,
    /// Names of the containers in the engine.
    pub(crate) engine_names: Vec<String>,
    credentials: RwLock<Credentials>,
    state: RwLock<Arc<TaskState>>,
}

#[derive(Clone, Default)]
struct Credentials {
    application: Option<RoleCredentials>,
    execution: Option<RoleCredentials>,
}

impl TaskContext {
    pub(crate) fn new(accepted: Accepted, plan: Plan, state: TaskState) -> Self {
        let task = &accepted.task;
        let id = task.arn.rsplit('/').next().unwrap_or_default().to_owned();
        let engine_names =
            task.containers.iter().map(|container| engine_name(task, &container.name)).collect();
        let credentials = Credentials {
            application: task.role_credentials.clone(),
            execution: task.execution_role_credentials.clone(),
        };
        Self {
            id,
            engine_names,
            credentials: RwLock::new(credentials),
            state: RwLock::new(Arc::new(state)),
            plan,
            accepted,
        }
    }

    pub(crate) fn task(&self) -> &Task {
        &self.accepted.task
    }

    pub(crate) fn arn(&self) -> &str {
        &self.accepted.task.arn
    }

    pub(crate) fn state(&self) -> Arc<TaskState> {
        self.state.read().clone()
    }

    pub(crate) fn set_state(&self, state: TaskState) {
        *self.state.write() = Arc::new(state);
    }

    pub(crate) fn credentials(&self, role: RoleType) -> Option<RoleCredentials> {
        let credentials = self.credentials.read();
        match role {
            RoleType::TaskApplication => credentials.application.clone(),
            RoleType::TaskExecution => credentials.execution.clone(),
        }
    }

    pub(crate) fn set_credentials(&self, role: RoleType, fresh: RoleCredentials) {
        let mut credentials = self.credentials.write();
        match role {
            RoleType::TaskApplication => credentials.application = Some(fresh),
            RoleType::TaskExecution => credentials.execution = Some(fresh),
        }
    }

    /// The task with the credentials it has now, to be saved.
    pub(crate) fn to_save(&self) -> Accepted {
        let credentials = self.credentials.read().clone();
        let mut accepted = self.accepted.clone();
        accepted.task.role_credentials = credentials.application;
        accepted.task.execution_role_credentials = credentials.execution;
        accepted
    }
}

/// `ecs-<family>-<revision>-<name>-<20 hex>`; the same for the same task, so that a creation is never doubled.
fn engine_name(task: &Task, container: &str) -> String {
    let hash = Sha256::digest(format!("{} {container}", task.arn));
    format!("ecs-{}-{}-{container}-{}", task.family, task.version, &hex::encode(hash)[..20])
}
