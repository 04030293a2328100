//! What the scheduler knows: clusters, container instances, task definitions, tasks, services.
//!
//! Records are immutable behind an `Arc`; a change makes a new one. Wants (`desired_status`,
//! `desired_count`) and what was observed (`last_status`) are separate fields.

mod cluster;
mod definition;
mod instance;
mod outbox;
mod overrides;
mod service;
mod task;

pub(crate) use cluster::{Cluster, ClusterStatus, DEFAULT_EXECUTION_ROLE, Setting};
pub(crate) use definition::{
    ContainerDefinition, DefinitionContent, DefinitionStatus, KeyValue, LinuxParameters, PlacementConstraint,
    TaskDefinition, Volume,
};
pub(crate) use instance::{Instance, InstanceStatus, PortSet};
pub(crate) use outbox::{ClientToken, Errand, OutboxEntry};
pub(crate) use overrides::{ContainerOverride, TaskOverrides};
pub(crate) use service::{
    Deployment, DeploymentConfiguration, DeploymentStatus, Event, LaunchSettings, PlacementStrategy,
    Progress, Reported, RolloutState, SchedulingStrategy, Service, ServiceStatus, ThresholdType,
};
pub(crate) use task::{ContainerState, DesiredStatus, LastStatus, StopCode, Task, TaskContainer};

use serde::{Deserialize, Serialize};

use crate::images::ResolvedImage;

/// A resource's tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tag {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: String,
}

/// An attribute of a container instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
}

/// An image of Berth's own registry, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedImage {
    pub(crate) repository: String,
    pub(crate) digest: String,
}

/// What became of one container's image when it was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ImagePin {
    /// Not one of Berth's names: the agent pulls it as it stands.
    Foreign,
    Pinned(PinnedImage),
    /// One of Berth's names with nothing behind it; the text is the container's reason.
    Missing(String),
}

impl ImagePin {
    /// The image in Berth's registry that is to stay, if it is one.
    pub(crate) fn resolved(&self) -> Option<ResolvedImage> {
        match self {
            Self::Pinned(image) => {
                Some(ResolvedImage { repository: image.repository.clone(), digest: image.digest.clone() })
            }
            Self::Foreign | Self::Missing(_) => None,
        }
    }
}
