//! A task definition as it was registered. Revisions are never changed, and their numbers never return.
//!
//! The content may hold secrets (environment values), so it is sealed in the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Attribute, Tag};
use crate::ids::DefinitionKey;

#[derive(Clone, Debug)]
pub(crate) struct TaskDefinition {
    pub(crate) key: DefinitionKey,
    pub(crate) status: DefinitionStatus,
    pub(crate) content: DefinitionContent,
    /// What an instance must have to run it.
    pub(crate) requires_attributes: Vec<Attribute>,
    pub(crate) registered_at: i64,
    pub(crate) deregistered_at: Option<i64>,
    /// ARN of the caller who registered it.
    pub(crate) registered_by: String,
    pub(crate) tags: Vec<Tag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum DefinitionStatus {
    Active,
    Inactive,
}

/// The members of RegisterTaskDefinition, defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DefinitionContent {
    pub(crate) family: String,
    pub(crate) container_definitions: Vec<ContainerDefinition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task_role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) execution_role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_mode: Option<String>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) placement_constraints: Vec<PlacementConstraint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) requires_compatibilities: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ipc_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proxy_configuration: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inference_accelerators: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ephemeral_storage: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runtime_platform: Option<RuntimePlatform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enable_fault_injection: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RuntimePlatform {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operating_system_family: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerDefinition {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) cpu: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_reservation: Option<i64>,
    pub(crate) port_mappings: Vec<PortMapping>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) essential: Option<bool>,
    pub(crate) environment: Vec<KeyValue>,
    pub(crate) mount_points: Vec<MountPoint>,
    pub(crate) volumes_from: Vec<VolumeFrom>,
    pub(crate) system_controls: Vec<SystemControl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entry_point: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) environment_files: Vec<EnvironmentFile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<Secret>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) depends_on: Vec<ContainerDependency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restart_policy: Option<RestartPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health_check: Option<HealthCheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_configuration: Option<LogConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) linux_parameters: Option<LinuxParameters>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ulimits: Vec<Ulimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) privileged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readonly_root_filesystem: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) working_directory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns_search_domains: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) extra_hosts: Vec<HostEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) docker_security_options: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) docker_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interactive: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pseudo_terminal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disable_networking: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_requirements: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repository_credentials: Option<RepositoryCredentials>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) firelens_configuration: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) credential_specs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version_consistency: Option<String>,
}

macro_rules! shapes {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? })+) => {$(
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(crate) struct $name { $($(#[$meta])* pub(crate) $field: $type),* }
    )+};
}

shapes! {
    KeyValue { name: String, value: String }
    EnvironmentFile { value: String, #[serde(rename = "type")] kind: String }
    Secret { name: String, value_from: String }
    HostEntry { hostname: String, ip_address: String }
    SystemControl { namespace: String, value: String }
    RepositoryCredentials { credentials_parameter: String }
    ContainerDependency { container_name: String, condition: String }
    MountPoint {
        source_volume: String,
        container_path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        read_only: Option<bool>,
    }
    VolumeFrom {
        source_container: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        read_only: Option<bool>,
    }
    PortMapping {
        #[serde(skip_serializing_if = "Option::is_none")]
        container_port: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        host_port: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        protocol: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        app_protocol: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        container_port_range: Option<String>,
    }
    RestartPolicy {
        enabled: bool,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        ignored_exit_codes: Vec<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        restart_attempt_period: Option<i64>,
    }
    HealthCheck {
        command: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        interval: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retries: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        start_period: Option<i64>,
    }
    LogConfiguration {
        log_driver: String,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        secret_options: Vec<Secret>,
    }
    LinuxParameters {
        #[serde(skip_serializing_if = "Option::is_none")]
        capabilities: Option<Capabilities>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        devices: Vec<Device>,
        #[serde(skip_serializing_if = "Option::is_none")]
        init_process_enabled: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        shared_memory_size: Option<i64>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tmpfs: Vec<Tmpfs>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_swap: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        swappiness: Option<i64>,
    }
    Capabilities {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        add: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        drop: Vec<String>,
    }
    Device {
        host_path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        container_path: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        permissions: Vec<String>,
    }
    Tmpfs {
        container_path: String,
        size: i64,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        mount_options: Vec<String>,
    }
    Ulimit { name: String, soft_limit: i64, hard_limit: i64 }
    Volume {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<HostVolume>,
        #[serde(skip_serializing_if = "Option::is_none")]
        docker_volume_configuration: Option<DockerVolume>,
        #[serde(skip_serializing_if = "Option::is_none")]
        efs_volume_configuration: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        fsx_windows_file_server_volume_configuration: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        s3files_volume_configuration: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        configured_at_launch: Option<bool>,
    }
    HostVolume {
        #[serde(skip_serializing_if = "Option::is_none")]
        source_path: Option<String>,
    }
    DockerVolume {
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        autoprovision: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        driver: Option<String>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        driver_opts: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
    }
    PlacementConstraint {
        #[serde(rename = "type")]
        kind: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        expression: Option<String>,
    }
}

impl TaskDefinition {
    pub(crate) fn is_active(&self) -> bool {
        self.status == DefinitionStatus::Active
    }

    pub(crate) fn container(&self, name: &str) -> Option<&ContainerDefinition> {
        self.content.container_definitions.iter().find(|container| container.name == name)
    }
}

impl DefinitionContent {
    /// `bridge` when the definition says nothing.
    pub(crate) fn network_mode(&self) -> &str {
        self.network_mode.as_deref().unwrap_or("bridge")
    }
}

impl ContainerDefinition {
    pub(crate) fn is_essential(&self) -> bool {
        self.essential.unwrap_or(true)
    }

    /// Whether it has a health check; `NONE` takes away that of its image.
    pub(crate) fn is_checked(&self) -> bool {
        self.health_check
            .as_ref()
            .is_some_and(|check| check.command.first().is_none_or(|kind| kind != "NONE"))
    }
}
