//! `berth agent`: a host of its own.

use std::path::PathBuf;

use ::agent::{AgentConfig, AgentSettings, Invitation};
use anyhow::{Result, bail};
use clap::Args;
use registry_runtime::Shutdown;
use registry_runtime::tls::Trust;
use serde::Deserialize;

use crate::arguments::EngineArguments;
use crate::config::private_dir;

#[derive(Args, Debug)]
pub(crate) struct AgentArguments {
    /// Address of the server, such as https://registry.example:5000
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// Token of `berth cluster join-token`; needed once. Another one lets a host join again: it stays the same
    /// container instance, or becomes a new one where that was deregistered, and gets another key
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,

    /// PEM file of the CA that the server's certificate is signed by [default: the one that the token names, else
    /// what this machine trusts]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

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
    let known = ::agent::joined(&data_dir)?;
    let server = arguments.server.as_deref().or(known.as_ref().map(|known| known.server_url.as_str()));
    let joined = match (&arguments.join, server, &known) {
        (Some(token), Some(server_url), _) => {
            let docker_host = settings.docker_host.as_deref();
            let ca_file = arguments.ca_file.as_deref();
            ::agent::join(Invitation { server_url, token, docker_host, ca_file }, &data_dir).await?
        }
        (None, _, Some(known)) => known.clone(),
        (Some(_), None, _) => bail!("--join needs the address of the server: --server URL"),
        (None, _, None) => bail!(
            "this host has not joined a cluster: run the command that `berth cluster join-token CLUSTER` prints on the server"
        ),
    };
    let trust = arguments.ca_file.as_deref().map(Trust::file).transpose()?.unwrap_or(joined.trust);
    let config = AgentConfig {
        server_url: arguments.server.unwrap_or(joined.server_url),
        trust,
        cluster: joined.cluster,
        region: joined.region,
        credentials: joined.credentials,
        principal: joined.principal,
        bounds: joined.bounds,
        comes_back: false,
        data_dir,
        protected_paths: Vec::new(),
        settings,
    };
    let shutdown = Shutdown::new();
    shutdown.listen_for_signals()?;
    Ok(::agent::run(config, shutdown).await?)
}
