//! A service: how many tasks of a definition are wanted, and the deployments that bring them about.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ImagePin, PlacementConstraint, Tag};
use crate::ids::{DefinitionKey, DeploymentId, ServiceKey};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) key: ServiceKey,
    pub(crate) status: ServiceStatus,
    pub(crate) desired_count: i64,
    pub(crate) strategy: SchedulingStrategy,
    pub(crate) configuration: DeploymentConfiguration,
    pub(crate) placement_constraints: Vec<PlacementConstraint>,
    pub(crate) placement_strategy: Vec<PlacementStrategy>,
    pub(crate) launch_type: String,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagate_tags: Option<String>,
    pub(crate) enable_managed_tags: bool,
    pub(crate) enable_execute_command: bool,
    pub(crate) zone_rebalancing: String,
    /// Members that are stored and reported, and have no effect here.
    pub(crate) settings: LaunchSettings,
    pub(crate) tags: Vec<Tag>,
    pub(crate) created_at: i64,
    /// ARN of the caller.
    pub(crate) created_by: String,
    pub(crate) client_token: Option<String>,
    /// A hash of the request that created it: the same request again answers with the same service.
    pub(crate) fingerprint: String,
    /// The PRIMARY first. Never empty.
    #[serde(skip)]
    pub(crate) deployments: Vec<Deployment>,
    /// What has been said of its condition and is not said again until it changes.
    pub(crate) reported: Reported,
}

/// See the engine's type of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reported {
    pub(crate) steady: bool,
    pub(crate) throttled: bool,
    pub(crate) blocked_by_configuration: bool,
    pub(crate) blocked_by_protection: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ServiceStatus {
    Active,
    Draining,
    Inactive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum SchedulingStrategy {
    Replica,
    Daemon,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentConfiguration {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deployment_circuit_breaker: Option<CircuitBreaker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) maximum_percent: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) minimum_healthy_percent: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alarms: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strategy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bake_time_in_minutes: Option<i64>,
    /// Refused: a deployment would not wait for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lifecycle_hooks: Vec<Value>,
    /// Refused, as the strategies that they are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) linear_configuration: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) canary_configuration: Option<Value>,
    /// Refused: a deployment would not be over any sooner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) early_success_criteria: Option<Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CircuitBreaker {
    pub(crate) enable: bool,
    pub(crate) rollback: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reset_on_healthy_task: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threshold_configuration: Option<FailureThreshold>,
}

/// How many failures make a deployment fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailureThreshold {
    #[serde(rename = "type")]
    pub(crate) kind: ThresholdType,
    pub(crate) value: i64,
}

/// What the value of a threshold means; see the engine's `Threshold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ThresholdType {
    Count,
    BoundedPercent,
    UnboundedPercent,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PlacementStrategy {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}

/// Lists and objects as the caller wrote them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LaunchSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_configuration: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform_version: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) id: DeploymentId,
    pub(crate) status: DeploymentStatus,
    pub(crate) definition: DefinitionKey,
    pub(crate) rollout: RolloutState,
    pub(crate) rollout_reason: String,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    /// Of each container, in the definition's order; resolved once, for all tasks of the deployment.
    pub(crate) images: Vec<ImagePin>,
    pub(crate) progress: Progress,
}

/// The engine's counters of a deployment; see its type `Deployment`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    pub(crate) was_completed: bool,
    /// Consecutive tasks that did not come up.
    pub(crate) failed_tasks: u32,
    pub(crate) troubled: bool,
    pub(crate) reached_running: bool,
    pub(crate) failed_waves: u32,
    /// No task is started before this time.
    pub(crate) retry_at: i64,
    pub(crate) unplaced_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum DeploymentStatus {
    Primary,
    Active,
    Inactive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum RolloutState {
    InProgress,
    Completed,
    Failed,
}

/// A line of a service's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) message: String,
}

impl Service {
    /// The images that its deployments run: none any more once it is inactive.
    pub(crate) fn image_pins(&self) -> impl Iterator<Item = &ImagePin> {
        let is_over = self.status == ServiceStatus::Inactive;
        self.deployments.iter().filter(move |_| !is_over).flat_map(|deployment| &deployment.images)
    }

    pub(crate) fn primary(&self) -> &Deployment {
        self.deployments.first().expect("a service is made with its first deployment")
    }

    pub(crate) fn deployment_mut(&mut self, id: &DeploymentId) -> Option<&mut Deployment> {
        self.deployments.iter_mut().find(|deployment| deployment.id == *id)
    }

    pub(crate) fn deployment(&self, id: &DeploymentId) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.id == *id)
    }
}

impl Deployment {
    /// A deployment that is about to become the PRIMARY one.
    pub(crate) fn new(definition: DefinitionKey, images: Vec<ImagePin>, now_ms: i64) -> Self {
        let id = DeploymentId::new(&format!("ecs-svc/{}", nineteen_digits()));
        Self {
            status: DeploymentStatus::Primary,
            definition,
            rollout: RolloutState::InProgress,
            rollout_reason: format!("ECS deployment {id} in progress."),
            created_at: now_ms,
            updated_at: now_ms,
            images,
            progress: Progress::default(),
            id,
        }
    }
}

fn nineteen_digits() -> u64 {
    let random = u64::from_be_bytes(registry_runtime::random_bytes::<8>());
    1_000_000_000_000_000_000 + random % 8_000_000_000_000_000_000
}

impl SchedulingStrategy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Replica => "REPLICA",
            Self::Daemon => "DAEMON",
        }
    }
}

impl DeploymentStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "PRIMARY",
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
        }
    }
}

impl RolloutState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }
}
