//! The agent's telemetry connection (TCS): the only way by which container health reaches the scheduler.
//!
//! An agent's frames may carry a block of signed headers before the JSON; `decode` skips it. Every
//! publication is answered by its acknowledgement, which is what keeps the connection open.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::messages;

messages! {
    /// Scheduler to agent.
    TelemetryServerMessage {
        AckMetrics(AckPublish) = "AckPublishMetric",
        AckHealth(AckPublish) = "AckPublishHealth",
        AckInstanceStatus(AckPublish) = "AckPublishInstanceStatus",
        Heartbeat(TelemetryHeartbeat) = "HeartbeatMessage",
    }
}

messages! {
    /// Agent to scheduler.
    TelemetryAgentMessage {
        Metrics(PublishMetricsRequest) = "PublishMetricsRequest",
        Health(PublishHealthRequest) = "PublishHealthRequest",
        InstanceStatus(PublishInstanceStatusRequest) = "PublishInstanceStatusRequest",
    }
}

/// Parameters of `GET /ws` that open the telemetry connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TelemetryQuery {
    /// Name or ARN of the cluster.
    pub cluster: String,
    /// ARN of the container instance.
    pub container_instance: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AckPublish {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TelemetryHeartbeat {
    pub healthy: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PublishHealthRequest {
    pub metadata: HealthMetadata,
    pub tasks: Vec<TaskHealth>,
    /// Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthMetadata {
    pub cluster: String,
    pub container_instance: String,
    pub message_id: String,
    /// The last frame of this round.
    pub fin: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskHealth {
    pub task_arn: String,
    pub cluster_arn: String,
    pub task_definition_family: String,
    pub task_definition_version: String,
    pub containers: Vec<ContainerHealth>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerHealth {
    pub container_name: String,
    /// `HEALTHY`, `UNHEALTHY` or `UNKNOWN`.
    pub health_status: String,
    /// Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_since: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
}

/// Metrics are acknowledged and not kept: their members pass through as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PublishMetricsRequest {
    pub metadata: PublishMetadata,
    pub instance_metrics: Value,
    pub task_metrics: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PublishMetadata {
    pub cluster: String,
    pub container_instance: String,
    pub message_id: String,
    pub idle: bool,
    pub fin: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PublishInstanceStatusRequest {
    pub metadata: Value,
    pub statuses: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::TelemetryAgentMessage;

    #[test]
    fn the_signed_block_before_a_frame_is_skipped() {
        let frame = "Authorization: AWS4-HMAC-SHA256 x\r\nHost: h\r\nX-Amz-Date: d\r\n\r\n\
            {\"type\":\"PublishHealthRequest\",\"message\":{\"metadata\":{\"fin\":true}}}";
        let Some(TelemetryAgentMessage::Health(health)) = TelemetryAgentMessage::decode(frame).unwrap()
        else {
            panic!("another message");
        };
        assert!(health.metadata.fin);
    }
}
