//! Where a task and its containers stand: what is saved, reported and shown.
//!
//! Nothing in here is secret; the task as sent is kept apart. A state that was loaded from disk passes
//! through [`TaskState::recovered`] first, because whatever was under way then is not any more.

use scheduler_protocol::NetworkBinding;
use serde::{Deserialize, Serialize};

/// One step of the life of a container; the order is that of the life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Phase {
    #[default]
    Waiting,
    Pulling,
    Pulled,
    Creating,
    Created,
    Starting,
    Running,
    Stopping,
    Stopped,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Desired {
    #[default]
    Running,
    Stopped,
}

/// Volumes, secrets and the cgroup of a task, made once before its first container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Preparation {
    #[default]
    Waiting,
    Preparing,
    Ready,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

impl Health {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Absent when the engine does not know it any more.
    pub(crate) code: Option<i64>,
    pub(crate) finished_at_ms: i64,
    /// The kernel ended it for lack of memory.
    pub(crate) out_of_memory: bool,
}

/// Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TaskState {
    pub(crate) desired: Desired,
    pub(crate) preparation: Preparation,
    pub(crate) stop_reason: Option<String>,
    pub(crate) running_reported: bool,
    pub(crate) stopped_reported: bool,
    pub(crate) pull_started_at_ms: Option<i64>,
    pub(crate) pull_stopped_at_ms: Option<i64>,
    pub(crate) execution_stopped_at_ms: Option<i64>,
    pub(crate) containers: Vec<ContainerState>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    pub(crate) phase: Phase,
    /// The engine's id of the container.
    pub(crate) runtime_id: Option<String>,
    /// The engine's id of the image.
    pub(crate) image_id: Option<String>,
    pub(crate) image_digest: Option<String>,
    /// When the registry last said that the task may have the image.
    pub(crate) allowed_at_ms: i64,
    pub(crate) network_bindings: Vec<NetworkBinding>,
    pub(crate) created_at_ms: Option<i64>,
    /// When the start that led to the present run was asked for.
    pub(crate) start_asked_at_ms: i64,
    pub(crate) started_at_ms: Option<i64>,
    pub(crate) finished_at_ms: Option<i64>,
    pub(crate) last_restart_at_ms: Option<i64>,
    pub(crate) restarts: u32,
    pub(crate) exit_code: Option<i64>,
    /// `<ErrorName>: <text>` when the container ended or failed for a reason other than its own exit.
    pub(crate) reason: Option<String>,
    pub(crate) health: Health,
    pub(crate) health_since_ms: Option<i64>,
    /// An exit that the engine told before it had answered the start.
    pub(crate) early_exit: Option<Exit>,
}

impl ContainerState {
    /// It ran, however shortly.
    pub(crate) fn ran(&self) -> bool {
        self.started_at_ms.is_some()
    }

    /// The engine holds a container for it.
    pub(crate) fn exists(&self) -> bool {
        self.runtime_id.is_some() && self.phase >= Phase::Created
    }

    /// The word that the API uses for it.
    pub(crate) fn status(&self) -> &'static str {
        match self.phase {
            Phase::Waiting | Phase::Pulling | Phase::Pulled | Phase::Creating | Phase::Created => "PENDING",
            Phase::Starting if !self.ran() => "PENDING",
            Phase::Starting | Phase::Running | Phase::Stopping => "RUNNING",
            Phase::Stopped => "STOPPED",
        }
    }
}

impl TaskState {
    pub(crate) fn new(containers: usize) -> Self {
        Self { containers: vec![ContainerState::default(); containers], ..Self::default() }
    }

    /// The state of an agent that starts again: what was under way is as if it had not begun, and what
    /// the engine then shows decides.
    pub(crate) fn recovered(mut self) -> Self {
        // What was prepared is known to the process that prepared it; only creations need it.
        if self.containers.iter().any(|container| container.phase < Phase::Created) {
            self.preparation = Preparation::Waiting;
        }
        for container in &mut self.containers {
            container.early_exit = None;
            container.start_asked_at_ms = 0;
            container.phase = match container.phase {
                Phase::Pulling => Phase::Waiting,
                Phase::Creating => Phase::Pulled,
                Phase::Starting if container.ran() => Phase::Running,
                Phase::Starting => Phase::Created,
                Phase::Stopping => Phase::Running,
                settled => settled,
            };
        }
        self
    }

    pub(crate) fn all_stopped(&self) -> bool {
        self.containers.iter().all(|container| container.phase == Phase::Stopped)
    }

    /// The word that the API uses for the task.
    pub(crate) fn status(&self) -> &'static str {
        if self.all_stopped() {
            "STOPPED"
        } else if self.running_reported {
            "RUNNING"
        } else {
            "PENDING"
        }
    }
}
