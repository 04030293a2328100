//! A task: one placement of a task definition. It never moves; what replaces it is another task.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ImagePin, Tag, TaskOverrides};
use crate::ids::{ClusterName, DefinitionKey, DeploymentId, InstanceId, ServiceName, TaskId};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) cluster: ClusterName,
    pub(crate) definition: DefinitionKey,
    /// None only for a task that could not be placed at all.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) service: Option<ServiceName>,
    pub(crate) deployment: Option<DeploymentId>,
    pub(crate) group: String,
    pub(crate) started_by: Option<String>,
    /// `EC2` or `EXTERNAL`.
    pub(crate) launch_type: String,
    pub(crate) desired_status: DesiredStatus,
    pub(crate) last_status: LastStatus,
    pub(crate) stop_code: Option<StopCode>,
    pub(crate) stopped_reason: Option<String>,
    pub(crate) containers: Vec<TaskContainer>,
    /// What it takes from its instance.
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    /// The task-level strings of the definition, after overrides.
    pub(crate) cpu_limit: Option<String>,
    pub(crate) memory_limit: Option<String>,
    pub(crate) tcp_ports: Vec<u16>,
    pub(crate) udp_ports: Vec<u16>,
    pub(crate) task_role: Option<String>,
    pub(crate) execution_role: Option<String>,
    pub(crate) enable_execute_command: bool,
    pub(crate) tags: Vec<Tag>,
    /// The epoch of its placement: reports of another are not heard.
    pub(crate) epoch: i64,
    /// Goes up with every change.
    pub(crate) version: i64,
    /// Its deployment has counted it as healthy.
    pub(crate) counted_healthy: bool,
    pub(crate) created_at: i64,
    pub(crate) pull_started_at: Option<i64>,
    pub(crate) pull_stopped_at: Option<i64>,
    pub(crate) started_at: Option<i64>,
    pub(crate) stopping_at: Option<i64>,
    pub(crate) execution_stopped_at: Option<i64>,
    pub(crate) stopped_at: Option<i64>,
    /// Kept apart because it may hold secrets: a sealed column of its own.
    #[serde(skip)]
    pub(crate) overrides: Arc<TaskOverrides>,
}

/// ECS's states in their order; a task never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum LastStatus {
    Provisioning,
    Pending,
    Activating,
    Running,
    Deactivating,
    Stopping,
    Deprovisioning,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum DesiredStatus {
    Running,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StopCode {
    TaskFailedToStart,
    EssentialContainerExited,
    UserInitiated,
    ServiceSchedulerInitiated,
    TerminationNotice,
    InfrastructureHealth,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskContainer {
    pub(crate) name: String,
    /// Last part of the container's ARN.
    pub(crate) uuid: String,
    pub(crate) image: String,
    pub(crate) pin: ImagePin,
    pub(crate) essential: bool,
    /// Whether the definition has a health check: without one the container has no health.
    pub(crate) has_health_check: bool,
    pub(crate) cpu: i64,
    pub(crate) memory: Option<i64>,
    pub(crate) memory_reservation: Option<i64>,
    /// GPUs of the instance that are this container's alone.
    #[serde(default)]
    pub(crate) gpu_ids: Vec<String>,
    pub(crate) state: ContainerState,
}

/// What the agent last said of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    /// `PENDING` until the agent says otherwise.
    pub(crate) last_status: Option<String>,
    pub(crate) runtime_id: Option<String>,
    pub(crate) image_digest: Option<String>,
    pub(crate) exit_code: Option<i64>,
    pub(crate) reason: Option<String>,
    pub(crate) network_bindings: Vec<scheduler_protocol::NetworkBinding>,
    pub(crate) health: Option<String>,
}

impl DesiredStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }
}

impl StopCode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TaskFailedToStart => "TaskFailedToStart",
            Self::EssentialContainerExited => "EssentialContainerExited",
            Self::UserInitiated => "UserInitiated",
            Self::ServiceSchedulerInitiated => "ServiceSchedulerInitiated",
            Self::TerminationNotice => "TerminationNotice",
            Self::InfrastructureHealth => "InfrastructureHealth",
        }
    }
}

impl Task {
    pub(crate) fn is_stopped(&self) -> bool {
        self.last_status == LastStatus::Stopped
    }

    /// The images that it needs: none any more once it has stopped.
    pub(crate) fn image_pins(&self) -> impl Iterator<Item = &ImagePin> {
        self.containers.iter().filter(|_| !self.is_stopped()).map(|container| &container.pin)
    }

    pub(crate) fn wants_to_run(&self) -> bool {
        self.desired_status == DesiredStatus::Running && !self.is_stopped()
    }

    /// Whether it takes room on its instance: until it is to stop, as ECS counts since 2023.
    pub(crate) fn holds_resources(&self) -> bool {
        self.wants_to_run()
    }

    /// `HEALTHY`, `UNHEALTHY` or `UNKNOWN`, over the essential containers that have a health check.
    pub(crate) fn health(&self) -> &'static str {
        let mut checked = self
            .containers
            .iter()
            .filter(|container| container.has_health_check && container.essential)
            .peekable();
        if checked.peek().is_none() {
            return "UNKNOWN";
        }
        let mut all_healthy = true;
        for container in checked {
            match container.state.health.as_deref() {
                Some("UNHEALTHY") => return "UNHEALTHY",
                Some("HEALTHY") => {}
                _ => all_healthy = false,
            }
        }
        if all_healthy { "HEALTHY" } else { "UNKNOWN" }
    }

    pub(crate) fn has_health_check(&self) -> bool {
        self.containers.iter().any(|container| container.has_health_check && container.essential)
    }
}
