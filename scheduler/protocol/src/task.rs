//! A task as the scheduler sends it: containers, volumes, dependencies, credentials.
//!
//! The scheduler translates the task definition; what Docker itself understands (capabilities, ulimits,
//! health check, log driver, …) travels as JSON strings in Docker Engine API shapes, and an agent lays
//! those over what it built.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::acs::RoleCredentials;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    pub arn: String,
    pub task_cluster_arn: String,
    /// `RUNNING` or `STOPPED`.
    pub desired_status: String,
    pub family: String,
    /// The revision, as a string.
    pub version: String,
    /// The task's overrides, JSON as in RunTask.
    pub overrides: String,
    pub task_definition_account_id: String,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    /// Limit of the whole task in vCPUs (not CPU units).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Limit of the whole task in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// `bridge`, `host`, `none` or `awsvpc`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pid_mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ipc_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_credentials: Option<RoleCredentials>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_role_credentials: Option<RoleCredentials>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub associations: Vec<Association>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub launch_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Berth: the epoch of the placement. An agent repeats it in every report of this task; a report
    /// of another epoch is not heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub berth_epoch: Option<i64>,
    /// Berth: `{"Key": "value"}` for the metadata endpoint.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub berth_tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    pub container_arn: String,
    /// The task definition's string, verbatim: what APIs, metadata and labels show.
    pub image: String,
    /// Berth: set when the image is Berth's own. The agent pulls this and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub berth_image: Option<BerthImage>,
    /// CPU units; Docker's shares.
    pub cpu: i64,
    /// Hard limit in MiB; 0 for none.
    pub memory: i64,
    pub essential: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_point: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment_files: Vec<EnvironmentFile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretReference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    /// `name` or `name:alias`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ContainerDependency>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<i64>,
    /// Seconds; an agent's own default is 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount_points: Vec<MountPoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<VolumeFrom>,
    /// The container's part of the overrides, JSON; an agent reads `command` from it.
    pub overrides: String,
    pub docker_config: DockerConfig,
    /// `docker` when the task definition has a health check: only then is health reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_authentication: Option<RegistryAuthentication>,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            name: String::new(),
            container_arn: String::new(),
            image: String::new(),
            berth_image: None,
            cpu: 0,
            memory: 0,
            essential: true,
            entry_point: None,
            command: None,
            environment: BTreeMap::new(),
            environment_files: Vec::new(),
            secrets: Vec::new(),
            port_mappings: Vec::new(),
            links: Vec::new(),
            depends_on: Vec::new(),
            start_timeout: None,
            stop_timeout: None,
            restart_policy: None,
            mount_points: Vec::new(),
            volumes_from: Vec::new(),
            overrides: "{}".into(),
            docker_config: DockerConfig::default(),
            health_check_type: None,
            registry_authentication: None,
        }
    }
}

/// An image of Berth's own registry, resolved and pinned when the task or its deployment was created.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BerthImage {
    pub repository: String,
    /// `sha256:…`
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentFile {
    pub value: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// A value that the agent fetches with the execution role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretReference {
    pub name: String,
    pub value_from: String,
    /// `ssm` or `asm`.
    pub provider: String,
    pub region: String,
    /// `ENVIRONMENT_VARIABLE` or `BOOTSTRAP`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `CONTAINER` or `LOG_DRIVER`.
    pub target: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortMapping {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
    /// 0 or absent in bridge mode: the agent picks a free port and reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// `FIRST-LAST`, in place of `container_port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_port_range: Option<String>,
    /// `tcp` or `udp`.
    pub protocol: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDependency {
    pub container_name: String,
    pub condition: ContainerCondition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ContainerCondition {
    Start,
    Complete,
    Success,
    Healthy,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartPolicy {
    pub enabled: bool,
    pub ignored_exit_codes: Vec<i64>,
    /// Seconds that a container must have run before it is restarted; 300 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_attempt_period: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MountPoint {
    pub source_volume: String,
    pub container_path: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeFrom {
    pub source_container: String,
    pub read_only: bool,
}

/// Docker Engine API shapes as JSON strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerConfig {
    /// Of `ContainerConfig`: `{"Labels": …, "Healthcheck": …}`.
    pub config: String,
    /// Of `HostConfig`: `{"Privileged": …, "CapAdd": …, "LogConfig": …}`.
    pub host_config: String,
    pub version: String,
}

/// How an agent that pulls by itself authenticates; Berth's agent looks at `berth_image` first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryAuthentication {
    /// `ecr` or `asm`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecr_auth_data: Option<EcrAuthData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asm_auth_data: Option<SecretsManagerAuthData>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EcrAuthData {
    pub registry_id: String,
    pub region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint_override: String,
    pub use_execution_role: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretsManagerAuthData {
    pub credentials_parameter: String,
    pub region: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    pub name: String,
    /// `host` or `docker`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostVolume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_volume_configuration: Option<DockerVolumeConfiguration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostVolume {
    /// Empty: an anonymous volume of the task.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerVolumeConfiguration {
    /// `task` or `shared`.
    pub scope: String,
    pub autoprovision: bool,
    pub driver: String,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// A device of the host that the task holds, such as a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Association {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub containers: Vec<String>,
    pub content: AssociationContent,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AssociationContent {
    pub encoding: String,
    pub value: String,
}
