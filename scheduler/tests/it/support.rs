//! A scheduler on a port of its own, and agents that speak the real protocol to it.

mod agent;
mod server;

pub(crate) use agent::{Agent, Behaviour, get, post};
pub(crate) use server::{DIGEST, Server, Settings, own_image, refused};

use std::future::Future;
use std::time::{Duration, Instant};

/// Waits until something is there, or fails with what was waited for.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "still waiting for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
