//! Why an agent cannot start or go on.

use std::path::PathBuf;

/// What ends [`run`](crate::run) or [`join`](crate::join()).
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the container engine does not answer: {0}")]
    Engine(String),
    #[error("the agent's state in {path} cannot be used: {reason}")]
    State { path: PathBuf, reason: String },
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no port of 127.0.0.1 could be bound for pulls")]
    PullPort(#[source] std::io::Error),
    #[error(
        "{0} is no URL of a server: write https://HOST[:PORT], or http://127.0.0.1:PORT on its own machine"
    )]
    ServerUrl(String),
    #[error("{0} would carry this host's key across the network in clear: use https://")]
    Exposed(String),
    /// The server's CA is not the one that the token, or the operator, named.
    #[error("{0}")]
    Authority(String),
    #[error(transparent)]
    Tls(#[from] registry_runtime::tls::TlsError),
    #[error("the server does not answer: {0}")]
    Unreachable(String),
    /// The server knows the agent no more, or never did: starting again does not help.
    #[error("the server refuses this host: {0}")]
    Refused(String),
}

impl AgentError {
    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
