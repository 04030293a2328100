//! The agent's control connection (ACS): tasks to run and to stop, credentials, manifests, heartbeats.
//!
//! Delivery is at least once: the scheduler resends a payload until it is acknowledged, and an agent
//! acknowledges only what it has saved; a task ARN makes the repetition harmless.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoints::{BerthEndpointsMessage, BerthEndpointsReport};
use crate::envelope::messages;
use crate::task::Task;

messages! {
    /// Scheduler to agent.
    ServerMessage {
        Heartbeat(HeartbeatMessage) = "HeartbeatMessage",
        Payload(PayloadMessage) = "PayloadMessage",
        TaskManifest(TaskManifestMessage) = "TaskManifestMessage",
        TaskStopVerificationAck(TaskStopVerificationAck) = "TaskStopVerificationAck",
        RoleCredentials(RoleCredentialsMessage) = "IAMRoleCredentialsMessage",
        Error(ErrorMessage) = "ErrorMessage",
        Close(CloseMessage) = "CloseMessage",
        Endpoints(BerthEndpointsMessage) = "BerthEndpointsMessage",
    }
}

messages! {
    /// Agent to scheduler.
    AgentMessage {
        Ack(AckRequest) = "AckRequest",
        Nack(NackRequest) = "NackRequest",
        HeartbeatAck(HeartbeatAckRequest) = "HeartbeatAckRequest",
        RoleCredentialsAck(RoleCredentialsAckRequest) = "IAMRoleCredentialsAckRequest",
        TaskStopVerification(TaskStopVerificationMessage) = "TaskStopVerificationMessage",
        EndpointsReport(BerthEndpointsReport) = "BerthEndpointsReport",
    }
}

/// Parameters of `GET /ws` that open the control connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PollQuery {
    /// Name or ARN of the cluster.
    pub cluster_arn: String,
    pub container_instance_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// `true` on the first connection of an agent process: it holds no credentials yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_credentials: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_num: Option<String>,
}

impl PollQuery {
    /// Name and value of each parameter that is set, unencoded.
    pub fn pairs(&self) -> Vec<(&'static str, &str)> {
        let mut pairs = vec![
            ("clusterArn", self.cluster_arn.as_str()),
            ("containerInstanceArn", &self.container_instance_arn),
        ];
        for (name, value) in [
            ("agentHash", &self.agent_hash),
            ("agentVersion", &self.agent_version),
            ("dockerVersion", &self.docker_version),
            ("protocolVersion", &self.protocol_version),
            ("sendCredentials", &self.send_credentials),
            ("seqNum", &self.seq_num),
        ] {
            if let Some(value) = value {
                pairs.push((name, value));
            }
        }
        pairs
    }
}

/// Sent at an interval; the agent answers each with its message id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatMessage {
    pub message_id: String,
    #[serde(default)]
    pub healthy: bool,
}

/// Tasks to start and to stop. An agent applies the stops first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayloadMessage {
    pub cluster_arn: String,
    pub container_instance_arn: String,
    pub message_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    pub generated_at: i64,
    #[serde(default)]
    pub seq_num: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<i64>,
    #[serde(default)]
    pub tasks: Vec<Task>,
}

/// Every task that belongs on the instance. An agent that runs others asks before it stops them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskManifestMessage {
    pub cluster_arn: String,
    pub container_instance_arn: String,
    pub message_id: String,
    #[serde(default)]
    pub generated_at: i64,
    /// Ignored by an agent that has seen this number or a higher one.
    pub timeline: i64,
    #[serde(default)]
    pub tasks: Vec<TaskIdentifier>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskIdentifier {
    pub task_arn: String,
    #[serde(default)]
    pub task_cluster_arn: String,
    /// `RUNNING` or `STOPPED`.
    #[serde(default)]
    pub desired_status: String,
}

/// The agent runs these and the manifest does not name them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStopVerificationMessage {
    /// That of the manifest.
    pub message_id: String,
    #[serde(default)]
    pub stop_candidates: Vec<TaskIdentifier>,
}

/// The candidates that the scheduler confirms: the agent stops these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStopVerificationAck {
    /// That of the manifest.
    pub message_id: String,
    #[serde(default)]
    pub generated_at: i64,
    #[serde(default)]
    pub stop_tasks: Vec<TaskIdentifier>,
}

/// Fresh credentials for a running task; the id stays, so that the task's URL stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleCredentialsMessage {
    pub message_id: String,
    pub task_arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_cluster_arn: Option<String>,
    pub role_type: RoleType,
    pub role_credentials: RoleCredentials,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RoleType {
    TaskApplication,
    TaskExecution,
}

/// Temporary credentials of a task's role. `Debug` shows neither secret nor token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleCredentials {
    /// Names the credentials in the task's URL and in acknowledgements.
    pub credentials_id: String,
    pub role_arn: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    /// RFC 3339, UTC, whole seconds: `2026-11-01T12:00:00Z`.
    pub expiration: String,
}

impl fmt::Debug for RoleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleCredentials")
            .field("credentials_id", &self.credentials_id)
            .field("role_arn", &self.role_arn)
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorMessage {
    #[serde(default)]
    pub message: String,
}

/// The scheduler is about to close; the agent connects again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseMessage {
    #[serde(default)]
    pub message: String,
}

/// Every task of the payload (or the manifest) is accepted and saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AckRequest {
    #[serde(default)]
    pub cluster: String,
    #[serde(default)]
    pub container_instance: String,
    pub message_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NackRequest {
    #[serde(default)]
    pub cluster: String,
    #[serde(default)]
    pub container_instance: String,
    pub message_id: String,
    #[serde(default)]
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatAckRequest {
    pub message_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleCredentialsAckRequest {
    pub message_id: String,
    #[serde(default)]
    pub credentials_id: String,
    #[serde(default)]
    pub expiration: String,
}

#[cfg(test)]
mod tests {
    use super::{AgentMessage, RoleCredentials, ServerMessage};

    #[test]
    fn an_unknown_type_is_no_error() {
        assert_eq!(
            ServerMessage::decode(r#"{"type":"PerformUpdateMessage","message":{"x":1}}"#).unwrap(),
            None
        );
        assert_eq!(AgentMessage::decode(r#"{"type":"Later"}"#).unwrap(), None);
    }

    #[test]
    fn a_frame_that_is_no_message_is_refused() {
        for frame in ["", "[]", "{}", "null", r#"{"type":"AckRequest","message":{}}"#, "\u{0}"] {
            assert!(AgentMessage::decode(frame).is_err(), "{frame}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let credentials = RoleCredentials {
            credentials_id: "c".into(),
            role_arn: "arn:aws:iam::000000000000:role/r".into(),
            access_key_id: "ASIA".into(),
            secret_access_key: "canary-secret".into(),
            session_token: "canary-token".into(),
            expiration: "2026-11-01T12:00:00Z".into(),
        };
        assert!(!format!("{credentials:?}").contains("canary"));
    }
}
