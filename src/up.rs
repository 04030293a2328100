//! `berth up`: everything on one machine. The agent joins the server in the same process as any host would.

use std::path::Path;

use ::agent::{AgentConfig, Invitation, JoinedConfig};
use anyhow::{Context, Result};
use registry_runtime::Shutdown;
use registry_runtime::tls::Trust;

use crate::arguments::UpArguments;
use crate::config::Settings;
use crate::serve::{self, Serving};

/// The cluster that this host is in.
const CLUSTER: &str = "default";

/// Serves, and runs this host's agent, until told to stop.
pub(crate) async fn run(arguments: UpArguments) -> Result<()> {
    let mut settings = Settings::load(&arguments.serve)?;
    if let Some(docker_host) = arguments.engine.docker_host {
        settings.config.agent.docker_host = Some(docker_host);
    }
    let protected_paths = settings.protected_paths();
    let agent_settings = settings.config.agent.clone();
    let data_dir = settings.data.join("agent");
    let shutdown = Shutdown::new();
    let serving = serve::start(settings, shutdown.clone()).await?;

    let joined = join(&serving, &data_dir, agent_settings.docker_host.as_deref()).await?;
    let config = AgentConfig {
        server_url: serving.endpoint.clone(),
        // Not used: nothing leaves this machine.
        trust: Trust::system(),
        cluster: joined.cluster,
        region: joined.region,
        credentials: joined.credentials,
        principal: joined.principal,
        bounds: joined.bounds,
        // There is no token by which its operator could say so.
        comes_back: true,
        data_dir,
        protected_paths,
        settings: agent_settings,
    };
    let agent = tokio::spawn(::agent::run(config, shutdown.clone()));
    let served = serving.until_stopped().await;
    agent.await.context("the agent ended by a panic")?.context("the agent ended")?;
    served
}

/// The key of this host: the one it has, or a new one for a token that nobody sees.
async fn join(serving: &Serving, data_dir: &Path, docker_host: Option<&str>) -> Result<JoinedConfig> {
    if let Some(joined) = ::agent::joined(data_dir)? {
        return Ok(joined);
    }
    let token = serving.scheduler.local_join_token(CLUSTER).await.context("cannot make a join token")?;
    let invitation = Invitation { server_url: &serving.endpoint, token: &token, docker_host, ca_file: None };
    Ok(::agent::join(invitation, data_dir).await?)
}
