//! The wish to stop, which everything that waits listens to.
//!
//! Invariant: once begun, a shutdown is never taken back.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cheap to clone; all clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Begins the shutdown on SIGTERM or SIGINT. Must be called inside a runtime.
    pub fn listen_for_signals(&self) -> std::io::Result<()> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let token = self.0.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                () = token.cancelled() => return,
            };
            tracing::info!(signal.name = name, "shutting down");
            token.cancel();
        });
        Ok(())
    }

    pub fn begin(&self) {
        self.0.cancel();
    }

    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns when the shutdown begins.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    /// The token itself, to hand on or to make children of.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clones_hear_of_it() {
        let shutdown = Shutdown::new();
        let (other, token) = (shutdown.clone(), shutdown.token());
        assert!(!other.has_begun());
        shutdown.begin();
        other.begun().await;
        assert!(token.is_cancelled());
    }
}
