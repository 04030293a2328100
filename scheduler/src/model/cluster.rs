//! A cluster: the name under which instances, tasks and services stand together.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Tag;
use crate::ids::ClusterName;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) name: ClusterName,
    pub(crate) status: ClusterStatus,
    pub(crate) created_at: i64,
    pub(crate) settings: Vec<Setting>,
    /// Stored and reported; not in effect.
    pub(crate) configuration: Option<Value>,
    pub(crate) tags: Vec<Tag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ClusterStatus {
    Active,
    /// Deleted; still described for a while.
    Inactive,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) value: String,
}

/// Berth's own setting: the execution role of tasks whose definition names none.
pub(crate) const DEFAULT_EXECUTION_ROLE: &str = "defaultExecutionRole";

impl Cluster {
    pub(crate) fn is_active(&self) -> bool {
        self.status == ClusterStatus::Active
    }

    pub(crate) fn default_execution_role(&self) -> Option<&str> {
        let setting = self.settings.iter().find(|setting| setting.name == DEFAULT_EXECUTION_ROLE)?;
        (!setting.value.is_empty()).then_some(setting.value.as_str())
    }
}
