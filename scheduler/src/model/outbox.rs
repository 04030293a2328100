//! What is still to be delivered to agents, and the requests that must not be done twice.

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, TaskId};

/// One thing to tell an agent. Only the task's id is kept: the message, with its secrets and
/// credentials, is made at the moment of sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutboxEntry {
    pub(crate) instance: InstanceId,
    /// Grows within an instance; the order of delivery, and the payload's `seqNum`.
    pub(crate) sequence: i64,
    pub(crate) task: TaskId,
    pub(crate) errand: Errand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Errand {
    Start,
    Stop,
}

impl Errand {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

/// A `clientToken` that was used, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientToken {
    /// Operation, principal and token.
    pub(crate) key: String,
    /// A hash of the request: the same token with another request is a conflict.
    pub(crate) fingerprint: String,
    pub(crate) tasks: Vec<TaskId>,
    pub(crate) created_at: i64,
}
