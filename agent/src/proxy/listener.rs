//! Listens on one address for one service, through everything that can go wrong with that.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry_runtime::listener::owner_of;
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};

use super::Proxy;
use super::connection::serve;
use super::service::Service;

const BACKLOG: u32 = 1024;
/// Between two attempts to have a port that is taken.
const BIND_AGAIN: Duration = Duration::from_secs(2);
/// After an accept that failed for want of files or memory.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
const COMPLAIN_AGAIN: Duration = Duration::from_secs(30);

/// Runs until it is aborted.
pub(super) async fn listen(service: Arc<Service>, proxy: Proxy, address: SocketAddr) {
    let Some(listener) = bound(&service, &proxy, address).await else { return };
    let mut complained: Option<Instant> = None;
    loop {
        // Whoever comes while all places are taken waits in the kernel's queue.
        let Ok(place) = Arc::clone(&proxy.0.connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, peer)) => {
                let (service, proxy) = (Arc::clone(&service), proxy.clone());
                tokio::spawn(async move {
                    serve(&service, &proxy, client, peer).await;
                    drop(place);
                    proxy.ended();
                });
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() > COMPLAIN_AGAIN) {
                    complained = Some(Instant::now());
                    tracing::warn!(%error, listen.address = %address, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Tries until the port is to be had. None where there is no such family of addresses.
async fn bound(service: &Service, proxy: &Proxy, address: SocketAddr) -> Option<TcpListener> {
    loop {
        let failure = match bind(address) {
            Ok(listener) => {
                if service.set_failure(address.ip(), None) {
                    proxy.listeners_changed();
                }
                tracing::info!(listen.address = %address, "listening for a service");
                return Some(listener);
            }
            Err(error) if address.ip().is_unspecified() && is_without_family(&error) => {
                tracing::debug!(%error, listen.address = %address, "this host has no such addresses");
                return None;
            }
            Err(error) => why(address, error).await,
        };
        if service.set_failure(address.ip(), Some(failure.clone())) {
            tracing::warn!(reason = failure, "a service cannot be listened for on this host");
            proxy.listeners_changed();
        }
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn why(address: SocketAddr, error: io::Error) -> String {
    if error.kind() != io::ErrorKind::AddrInUse {
        return format!("{address}: {error}");
    }
    let owner = tokio::task::spawn_blocking(move || owner_of(address)).await.ok().flatten();
    format!("{address} is taken by {}", owner.unwrap_or_else(|| "another program".to_owned()))
}

fn is_without_family(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    let none = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    none.iter().any(|one| errno == Some(one.raw_os_error()))
}

/// The connection was gone before it was taken.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
