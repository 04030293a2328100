//! Taking the ports: all of them or none, with an answer that names who has them.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::owner::owner_of;

/// Why an address cannot be listened on, in words for whoever chose it.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {problem}")]
pub struct BindError {
    address: SocketAddr,
    problem: String,
    #[source]
    source: io::Error,
}

/// Listens on `address`.
///
/// # Errors
/// Names the program that has the port, or what is missing.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        let problem = match source.kind() {
            io::ErrorKind::AddrInUse => {
                let owner = owner_of(address).unwrap_or_else(|| "another program".to_owned());
                format!("the port is taken by {owner}; stop it, or choose another with --listen")
            }
            io::ErrorKind::PermissionDenied => {
                format!("port {} needs root, or the capability CAP_NET_BIND_SERVICE", address.port())
            }
            io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            _ => "the system refuses it".to_owned(),
        };
        BindError { address, problem, source }
    })
}
