//! Whether a question comes from inside a task.
//!
//! In bridge mode a container has an address of its own, which the engine knows. On the host's network every
//! process of the host has the same addresses; there the secret in the path is what counts.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::engine::Engine;
use crate::task::context::TaskContext;

pub(super) async fn is_inside(engine: &dyn Engine, context: &TaskContext, peer: IpAddr) -> bool {
    if context.task().network_mode == "host" {
        return is_of_this_host(peer);
    }
    for container in &context.state().containers {
        let Some(runtime_id) = &container.runtime_id else { continue };
        if let Ok(Some(found)) = engine.container(runtime_id).await
            && found.addresses.contains(&peer)
        {
            return true;
        }
    }
    false
}

/// Only a host's own addresses can be bound.
fn is_of_this_host(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}
