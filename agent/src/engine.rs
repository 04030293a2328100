//! The container engine of the host, behind a trait: Docker, and a fake for tests.
//!
//! Only `engine::docker` knows a client library. Containers are made from bodies in the shapes of the Docker
//! Engine API, which is what the agent protocol speaks; the gate in `host_access` has passed every one.

mod docker;
#[cfg(test)]
mod fake;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::task::event::Observed;
use crate::task::state::Health;

pub(crate) use docker::Docker;
#[cfg(test)]
pub(crate) use fake::Fake;

/// Label by which an agent knows its own containers; the value is the agent's identity.
pub(crate) const AGENT_LABEL: &str = "berth.agent-id";
pub(crate) const TASK_LABEL: &str = "com.amazonaws.ecs.task-arn";
pub(crate) const CONTAINER_LABEL: &str = "com.amazonaws.ecs.container-name";

/// What an engine answered instead of what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// There is no such container, image or volume.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, or the object is in use.
    #[error("{0}")]
    Conflict(String),
    /// The engine refused; its own words.
    #[error("{0}")]
    Refused(String),
    #[error("the container engine did not answer in time")]
    Timeout,
    /// No connection: the engine is away, and what was asked may or may not have happened.
    #[error("the container engine does not answer: {0}")]
    Unreachable(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineInfo {
    pub(crate) version: String,
    /// `1.41`
    pub(crate) api_version: String,
    pub(crate) cpus: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) architecture: String,
    pub(crate) operating_system: String,
    /// The engine's own folder, which no task may see.
    pub(crate) root: Option<PathBuf>,
    pub(crate) socket: Option<PathBuf>,
    pub(crate) cgroup: Cgroup,
    /// Logging drivers that the engine has.
    pub(crate) log_drivers: Vec<String>,
    pub(crate) runc_version: Option<String>,
    /// The device of the engine's default network.
    pub(crate) bridge: Option<String>,
    /// This host's address on that network.
    pub(crate) gateway: Option<std::net::IpAddr>,
}

/// How the engine makes cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cgroup {
    V1,
    V2,
    /// systemd owns the tree.
    #[default]
    Managed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineImage {
    pub(crate) id: String,
    /// `name@digest` for every name it was pulled by.
    pub(crate) repo_digests: Vec<String>,
    pub(crate) repo_tags: Vec<String>,
}

/// User name and password that go with one pull.
#[derive(Clone)]
pub(crate) struct PullCredentials {
    pub(crate) username: String,
    pub(crate) password: String,
}

/// A container to create.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewContainer {
    pub(crate) name: String,
    /// Body of `POST /containers/create`: the container's configuration with `HostConfig` in it.
    pub(crate) body: Value,
}

/// A container as it stands, with what the metadata endpoint and adoption need.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EngineContainer {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) image_id: String,
    /// Of every network it is attached to; empty on the host's network.
    pub(crate) addresses: Vec<std::net::IpAddr>,
    /// Its `/etc/hosts`, where the engine keeps it on the host.
    pub(crate) hosts_file: Option<PathBuf>,
    pub(crate) observed: Observed,
}

/// A container of this agent in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) runtime_id: String,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EngineVolume {
    pub(crate) driver: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

/// Something that happened to a container of this agent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EngineEvent {
    /// The stream stands: from here on nothing is missed, so what was missed before can be looked up.
    Connected,
    Died {
        runtime_id: String,
        labels: BTreeMap<String, String>,
        exit_code: Option<i64>,
        at_ms: i64,
    },
    OutOfMemory {
        runtime_id: String,
    },
    Health {
        runtime_id: String,
        labels: BTreeMap<String, String>,
        health: Health,
    },
    Removed {
        runtime_id: String,
        labels: BTreeMap<String, String>,
    },
}

#[async_trait]
pub(crate) trait Engine: Send + Sync {
    async fn info(&self) -> Result<EngineInfo, EngineError>;

    /// Looks an image up by name, name@digest or id.
    async fn image(&self, reference: &str) -> Result<Option<EngineImage>, EngineError>;

    /// Pulls an image; ends when all of it is there.
    async fn pull(&self, reference: &str, credentials: Option<PullCredentials>) -> Result<(), EngineError>;

    /// Gives an image one more name.
    async fn tag(&self, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError>;

    /// Takes a name from an image; the last one takes the image with it. `Conflict` while a container holds it.
    async fn remove_image(&self, name: &str) -> Result<(), EngineError>;

    /// Creates a container and returns its id. A taken name is a `Conflict`.
    async fn create(&self, container: NewContainer) -> Result<String, EngineError>;

    /// Starts a container; one that runs already is no error.
    async fn start(&self, runtime_id: &str) -> Result<(), EngineError>;

    /// Asks a container to stop, kills it after `grace`, and waits for its end. One that is stopped already
    /// is no error.
    async fn stop(&self, runtime_id: &str, grace: Duration) -> Result<(), EngineError>;

    /// Removes a container with its anonymous volumes; one that is gone is no error.
    async fn remove(&self, runtime_id: &str) -> Result<(), EngineError>;

    /// Looks a container up by id or name.
    async fn container(&self, id_or_name: &str) -> Result<Option<EngineContainer>, EngineError>;

    /// Ids and labels of every container that bears this agent's label, running or not.
    async fn containers(&self) -> Result<Vec<Listed>, EngineError>;

    /// Docker's own statistics of a container, as it gives them.
    async fn stats(&self, runtime_id: &str) -> Result<Value, EngineError>;

    async fn volume(&self, name: &str) -> Result<Option<EngineVolume>, EngineError>;

    async fn create_volume(&self, name: &str, volume: &EngineVolume) -> Result<(), EngineError>;

    /// Removes a volume; one that is gone is no error.
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;

    /// What happens to this agent's containers from now on. Begins with `Connected`; ends when the engine
    /// goes away, and the caller asks again.
    fn events(&self) -> BoxStream<'static, EngineEvent>;
}
