//! What RunTask and StartTask lay over a task definition. May hold secrets: sealed in the store.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::KeyValue;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TaskOverrides {
    pub(crate) container_overrides: Vec<ContainerOverride>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task_role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) execution_role_arn: Option<String>,
    pub(crate) inference_accelerator_overrides: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ephemeral_storage: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerOverride {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<Vec<KeyValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment_files: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_reservation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource_requirements: Option<Value>,
}

impl TaskOverrides {
    pub(crate) fn container(&self, name: &str) -> Option<&ContainerOverride> {
        self.container_overrides.iter().find(|container| container.name.as_deref() == Some(name))
    }
}
