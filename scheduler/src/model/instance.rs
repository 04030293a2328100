//! A container instance: a host with an agent, bound to the principal that registered it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Attribute, Tag};
use crate::ids::{ClusterName, InstanceId};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) cluster: ClusterName,
    pub(crate) status: InstanceStatus,
    /// Unique id of the principal that registered it; from then on the only one heard for it.
    pub(crate) principal: String,
    /// Name of the principal, if it was made for this host by a join token.
    pub(crate) host: Option<String>,
    /// CPU units.
    pub(crate) cpu: i64,
    /// MiB.
    pub(crate) memory: i64,
    /// Ports that tasks may not take.
    pub(crate) reserved_tcp: PortSet,
    pub(crate) reserved_udp: PortSet,
    /// Ids of its GPUs.
    pub(crate) gpus: Vec<String>,
    /// What the agent registered and what the enrolment fixed.
    pub(crate) attributes: Vec<Attribute>,
    /// What PutAttributes set; an agent cannot touch these.
    pub(crate) custom_attributes: Vec<Attribute>,
    pub(crate) zone: Option<String>,
    pub(crate) agent_version: Option<String>,
    pub(crate) agent_hash: Option<String>,
    pub(crate) docker_version: Option<String>,
    pub(crate) registered_at: i64,
    #[serde(default)]
    pub(crate) deregistered_at: Option<i64>,
    /// The agent's token of its first registration, for repeating it.
    pub(crate) client_token: Option<String>,
    pub(crate) tags: Vec<Tag>,
    /// Goes up with every change.
    pub(crate) version: i64,
    /// Whether the agent's control connection stands. Not stored: after a start nobody is connected.
    #[serde(skip)]
    pub(crate) connected: bool,
    /// Since when.
    #[serde(skip)]
    pub(crate) connectivity_at: Option<i64>,
    /// Silent past its lease: its tasks were given up. Ends when the agent connects again.
    #[serde(default)]
    pub(crate) lost: bool,
}

pub(crate) type PortSet = BTreeSet<u16>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum InstanceStatus {
    Active,
    Draining,
    /// Deregistered.
    Inactive,
}

impl Instance {
    /// Registered and custom attributes; a custom one hides a registered one of its name.
    pub(crate) fn all_attributes(&self) -> impl Iterator<Item = &Attribute> {
        let hidden = |name: &str| self.custom_attributes.iter().any(|custom| custom.name == name);
        self.attributes
            .iter()
            .filter(move |attribute| !hidden(&attribute.name))
            .chain(&self.custom_attributes)
    }
}
