//! The exchange by which a host gets a key of its own: `POST /join` with a token, once.
//!
//! A host that has a key already signs the request with it and keeps its identity; so does one that has lost
//! it and is known by its machine. The key it had works nowhere afterwards.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Body of `POST /join`. `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    pub token: String,
    /// 64 hexadecimal digits that stay the same for this machine and that nobody else knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

/// The answer: where the host belongs, and its key. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinResponse {
    /// Name of the cluster.
    pub cluster: String,
    pub region: String,
    pub account_id: String,
    /// Base URL to call from now on, when the server knows its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Whose key it is: a host that gets another principal is another container instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Most CPU units that the host may register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpu: Option<i64>,
    /// Most MiB that the host may register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<i64>,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest").finish_non_exhaustive()
    }
}

impl fmt::Debug for JoinResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinResponse")
            .field("cluster", &self.cluster)
            .field("region", &self.region)
            .field("account_id", &self.account_id)
            .field("endpoint", &self.endpoint)
            .field("access_key_id", &self.access_key_id)
            .field("max_cpu", &self.max_cpu)
            .field("max_memory", &self.max_memory)
            .finish_non_exhaustive()
    }
}
