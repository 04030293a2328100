//! `berth agent`: a host of its own.

use std::path::PathBuf;

use ::agent::{AgentConfig, AgentSettings};
use anyhow::{Result, bail};
use clap::Args;
use registry_runtime::Shutdown;
use serde::Deserialize;

use crate::arguments::EngineArguments;
use crate::config::private_dir;

#[derive(Args, Debug)]
pub(crate) struct AgentArguments {
    /// Address of the server, such as http://127.0.0.1:5000
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// Token of `berth cluster join-token`; needed once
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,

    /// Where the host's key and the state of its tasks are kept [default: /var/lib/berth/agent as root]
    #[arg(long, env = "BERTH_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    /// Configuration file; its section [agent] says what this host offers and opens
    #[arg(long, env = "BERTH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArguments,
}

/// The part of a configuration file that an agent reads.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    agent: AgentSettings,
}

/// Joins if this host has not yet, then runs the agent until told to stop.
pub(crate) async fn run(arguments: AgentArguments) -> Result<()> {
    registry_runtime::telemetry::init(registry_runtime::telemetry::Format::default());
    let config: Config = registry_runtime::config::load(arguments.config.as_deref(), "BERTH_")?;
    let mut settings = config.agent;
    if let Some(docker_host) = arguments.engine.docker_host {
        settings.docker_host = Some(docker_host);
    }
    let data_dir = arguments.data.unwrap_or_else(|| registry_runtime::default_data_dir().join("agent"));
    private_dir(&data_dir)?;
    let data_dir = std::path::absolute(data_dir)?;
    let joined = match (::agent::joined(&data_dir)?, &arguments.server, &arguments.join) {
        (Some(joined), _, _) => joined,
        (None, Some(server), Some(token)) => ::agent::join(server, token, &data_dir).await?,
        (None, _, _) => bail!(
            "this host has not joined a cluster: run the command that `berth cluster join-token CLUSTER` prints on the server"
        ),
    };
    let config = AgentConfig {
        server_url: arguments.server.unwrap_or(joined.server_url),
        cluster: joined.cluster,
        region: joined.region,
        credentials: joined.credentials,
        data_dir,
        protected_paths: Vec::new(),
        settings,
    };
    let shutdown = Shutdown::new();
    shutdown.listen_for_signals()?;
    Ok(::agent::run(config, shutdown).await?)
}
