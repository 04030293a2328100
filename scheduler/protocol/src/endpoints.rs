//! Berth's own part of the control connection: where the services of a cluster listen, and what is behind them.
//!
//! Only agents that register [`PROXY_ATTRIBUTE`](crate::PROXY_ATTRIBUTE) get and send these. Both messages hold
//! the whole state, so that one that is repeated or left out does no harm.

use serde::{Deserialize, Serialize};

/// Scheduler to agent: every service of the cluster that has an address. Sent when a connection begins, after
/// every change, and again until a report bears its version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BerthEndpointsMessage {
    pub message_id: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Grows with every change of the set.
    pub version: i64,
    #[serde(default)]
    pub services: Vec<ServiceEndpoints>,
}

/// A service and the tasks that take its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEndpoints {
    pub service_name: String,
    /// The port on which every agent of the cluster listens.
    pub listen_port: u16,
    /// What precedes a connection's own bytes: nothing, or the client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    #[serde(default)]
    pub targets: Vec<EndpointTarget>,
}

/// The header of the PROXY protocol that tells a task its client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// One task that runs, is healthy and is to go on running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointTarget {
    /// Last part of the task's ARN.
    pub task_id: String,
    pub container_name: String,
    pub container_port: u16,
    /// Of the task's host, as other hosts reach it.
    pub address: String,
    pub host_port: u16,
}

/// Agent to scheduler: what became of the last set, and of the agent's own tasks. Sent whenever one of these
/// changes, once a set has come on this connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BerthEndpointsReport {
    /// Of the set by which new connections are led now.
    pub version: i64,
    /// The agent's own tasks whose containers with ports run at this moment.
    #[serde(default)]
    pub serving: Vec<ServingTask>,
    /// Ids of tasks that are in the set no more and still have connections through this agent.
    #[serde(default)]
    pub draining: Vec<String>,
    /// Ports that this agent cannot listen on.
    #[serde(default)]
    pub failed: Vec<FailedListener>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServingTask {
    pub task_id: String,
    /// Names of the containers.
    pub containers: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedListener {
    pub port: u16,
    /// Whose the port is, in words for the operator.
    pub reason: String,
}
