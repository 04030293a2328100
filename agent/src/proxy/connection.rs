//! One connection: finds a task that takes it, then carries bytes both ways until both ends are done.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    set_socket_keepalive, set_socket_linger, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Proxy;
use super::balancer::Claim;
use super::copy::copy_both_ways;
use super::header::header;
use super::service::Service;

/// Longer than the first repetition of a lost SYN.
const CONNECT_TIME: Duration = Duration::from_millis(1500);
/// For how long a client waits while no task takes connections.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before targets that did not answer are tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// An end that is gone without a word is noticed after about two minutes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

pub(super) async fn serve(service: &Service, proxy: &Proxy, mut client: TcpStream, peer: SocketAddr) {
    prepare(&client);
    let Some((mut task, claim)) = connect(service, proxy).await else {
        tracing::debug!(listen.port = service.port, "no task took a connection in time");
        reset(&client);
        return;
    };
    prepare(&task);
    let greeted = match (service.proxy_protocol(), client.local_addr()) {
        (Some(version), Ok(own)) => task.write_all(&header(version, peer, own)).await,
        _ => Ok(()),
    };
    let carried = match greeted {
        Ok(()) => copy_both_ways(&mut client, &mut task).await,
        Err(error) => Err(error),
    };
    if let Err(error) = carried {
        tracing::debug!(%error, target.address = %claim.address, "a connection broke off");
        // Each end learns that the other did not finish.
        reset(&client);
        reset(&task);
    }
}

/// A connection to some task. Nothing of the client's has been read before there is one, so nothing is lost by
/// trying another task.
async fn connect(service: &Service, proxy: &Proxy) -> Option<(TcpStream, Claim)> {
    let deadline = Instant::now() + PATIENCE;
    let mut changed = service.changed();
    let mut tried = Vec::new();
    let mut waiting = None;
    loop {
        changed.mark_unchanged();
        while let Some(claim) = service.claim(&tried) {
            let attempt = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(claim.address)).await;
            let connected = match attempt {
                Ok(Ok(stream)) => Some(stream),
                Ok(Err(error)) => {
                    tracing::debug!(%error, target.address = %claim.address, "a task did not take a connection");
                    None
                }
                Err(_) => None,
            };
            service.note(claim.address, connected.is_some());
            if let Some(stream) = connected {
                return Some((stream, claim));
            }
            tried.push(claim.address);
            drop(claim);
            proxy.ended();
        }
        if waiting.is_none() {
            waiting = service.wait_for_task();
        }
        if waiting.is_none() || Instant::now() >= deadline {
            return None;
        }
        let _ = tokio::time::timeout(TRY_AGAIN, changed.changed()).await;
        tried.clear();
    }
}

fn prepare(stream: &TcpStream) {
    let (idle, interval, count) = KEEPALIVE;
    let set = stream.set_nodelay(true).and_then(|()| {
        set_socket_keepalive(stream, true)?;
        set_tcp_keepidle(stream, idle)?;
        set_tcp_keepintvl(stream, interval)?;
        Ok(set_tcp_keepcnt(stream, count)?)
    });
    if let Err(error) = set {
        tracing::debug!(%error, "a connection keeps the system's own settings");
    }
}

/// Ends the stream with RST rather than with what looks like a proper end.
fn reset(stream: &TcpStream) {
    // Where that fails the end looks proper; there is nothing better to do.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}
