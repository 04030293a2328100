//! Puts an agent together and runs it until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use registry_aws::Client;
use registry_runtime::tls::Connector;
use registry_runtime::{Clock, Shutdown, random_id};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::cgroup::Cgroups;
use crate::config::{AgentConfig, TaskEndpoint};
use crate::endpoints::{Endpoints, serve_at};
use crate::engine::{Docker, Engine, EngineInfo};
use crate::error::AgentError;
use crate::host::Host;
use crate::host_access::Gate;
use crate::link::{Api, Link, Registration};
use crate::manager::Manager;
use crate::ports::HostPorts;
use crate::proxy::{Addresses, Proxy, SET_KEY};
use crate::pull::{Grants, ImageUse, Images, Rights, Upstream, bind};
use crate::resources::HostResources;
use crate::store::{Store, Values};

const IDENTITY_KEY: &str = "identity";
const ENGINE_RETRY: Duration = Duration::from_secs(1);
const SWEEP_INTERVAL: Duration = Duration::from_secs(30 * 60);

/// What an agent is and stays across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Identity {
    agent_id: String,
    pull_port: Option<u16>,
    endpoint_port: Option<u16>,
}

/// Runs a host's agent until `shutdown` begins. Containers go on running afterwards.
///
/// Returns early only when the engine or the state cannot be used; a server or an engine that cannot be
/// reached is tried again for ever.
pub async fn run(config: AgentConfig, shutdown: Shutdown) -> Result<(), AgentError> {
    registry_runtime::listener::raise_open_file_limit();
    let (store, values) = Store::open(&config.data_dir)?;
    let mut identity: Identity =
        values.get(IDENTITY_KEY).and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    if identity.agent_id.is_empty() {
        identity.agent_id = random_id();
    }
    let connected = tokio::select! {
        () = shutdown.begun() => return Ok(()),
        connected = connect(&config, &identity.agent_id) => connected,
    };
    let (engine, info) = connected;
    let clock = Clock::system();
    assemble(Start { config, engine, info, identity, store, values, clock }, shutdown).await
}

/// Connects to the engine, for as long as that takes.
async fn connect(config: &AgentConfig, agent_id: &str) -> (Arc<dyn Engine>, EngineInfo) {
    let mut told = false;
    loop {
        let docker = Docker::connect(config.settings.docker_host.as_deref(), agent_id).await;
        let error = match docker {
            Ok(docker) => match docker.info().await {
                Ok(info) => return (Arc::new(docker), info),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if !told {
            tracing::warn!(%error, "Docker cannot be used yet; no task runs on this host until it can");
            told = true;
        }
        tokio::time::sleep(ENGINE_RETRY).await;
    }
}

/// Everything that an agent begins with.
struct Start {
    config: AgentConfig,
    engine: Arc<dyn Engine>,
    info: EngineInfo,
    identity: Identity,
    store: Store,
    values: Values,
    clock: Clock,
}

/// As [`run`], on an engine that a test brings.
#[cfg(test)]
pub(crate) async fn run_on(
    config: AgentConfig,
    engine: Arc<dyn Engine>,
    shutdown: Shutdown,
) -> Result<(), AgentError> {
    // What an earlier agent of this process has spawned lets go of the folder a moment after it ended.
    let mut opened = Store::open(&config.data_dir);
    for _ in 0..200 {
        if opened.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        opened = Store::open(&config.data_dir);
    }
    let (store, values) = opened?;
    let saved = values.get(IDENTITY_KEY).and_then(|bytes| serde_json::from_slice(bytes).ok());
    let identity = saved.unwrap_or_else(|| Identity { agent_id: random_id(), ..Identity::default() });
    let info = engine.info().await.expect("the test's engine answers");
    let clock = Clock::system();
    assemble(Start { config, engine, info, identity, store, values, clock }, shutdown).await
}

async fn assemble(start: Start, shutdown: Shutdown) -> Result<(), AgentError> {
    let Start { config, engine, info, mut identity, store, values, clock } = start;
    warn_about(&info);
    let settings = &config.settings;
    let connector = Connector::new(&config.server_url, &config.trust)?;
    let upstream =
        Arc::new(Upstream::new(&config.server_url, &config.region, connector.clone(), clock.clone())?);
    let grants = Grants::default();
    let (pull_port, pull_endpoint) =
        bind(identity.pull_port, grants.clone(), upstream.clone(), shutdown.clone()).await?;
    identity.pull_port = Some(pull_port);

    let endpoints = Endpoints::new(engine.clone(), &config.cluster);
    let mut endpoint_address = None;
    if settings.task_endpoint == TaskEndpoint::Auto {
        let served =
            serve_at(identity.endpoint_port, info.bridge.as_deref(), endpoints.router(), &shutdown).await;
        match served {
            Ok(address) => {
                identity.endpoint_port = Some(address.port);
                endpoint_address = Some(address);
                endpoints.set_available(Ok(()));
            }
            Err(why) => {
                tracing::warn!(
                    reason = why,
                    "tasks with a role cannot run on this host: 169.254.170.2 is not served"
                );
                endpoints.set_available(Err(why));
            }
        }
    }
    let bytes = serde_json::to_vec(&identity).expect("strings and numbers have a JSON form");
    store.put_durably(IDENTITY_KEY, bytes).await?;

    let unusable =
        |error: registry_aws::ClientError| AgentError::ServerUrl(format!("{} ({error})", config.server_url));
    let client = Client::with_connector(
        &config.server_url,
        &config.region,
        config.credentials.clone(),
        connector.clone(),
    )
    .map_err(unusable)?;
    let api = Arc::new(Api::new(client));
    let grace_ms = i64::from(settings.offline_pull_grace_seconds) * 1000;
    let rights = Rights::new(upstream, store.clone(), &values, clock.clone(), grace_ms);
    let uses = ImageUse::new(store.clone(), &values, clock.clone());
    let registration = Registration::new(info.clone(), settings.clone(), config.bounds);
    let mut own_paths = config.protected_paths.clone();
    own_paths.push(config.data_dir.clone());
    own_paths.extend(info.root.clone());
    own_paths.extend(info.socket.clone());
    let addresses = Addresses::find(settings, &config.server_url, info.gateway).await;
    let proxy = Proxy::new(addresses, engine.clone());
    let state = store.clone();
    let host = Arc::new(Host {
        images: Images::new(engine.clone(), rights, grants, uses.clone(), pull_port, clock.clone()),
        engine,
        engine_up: watch::Sender::new(false),
        gate: Gate::new(settings.host.clone(), settings.log_drivers.clone(), own_paths),
        ports: HostPorts::new(settings.dynamic_ports),
        resources: HostResources::new(registration.cpu, registration.memory),
        cgroups: Cgroups::new(info.cgroup),
        store,
        clock,
        endpoints,
        proxy: proxy.clone(),
        reporter: api.clone(),
        health_changed: Notify::new(),
        agent_id: identity.agent_id,
        cluster: config.cluster.clone(),
        server_url: config.server_url.clone(),
        connector,
        region: config.region.clone(),
        stop_timeout: Duration::from_secs(u64::from(settings.stop_timeout_seconds)),
        cleanup_after_ms: i64::from(settings.cleanup_after_seconds) * 1000,
    });
    let manager = Manager::new(host.clone(), shutdown.clone());
    manager.restore(&values);
    // What the scheduler said last counts until it says more.
    if let Some(set) = values.get(SET_KEY).and_then(|bytes| serde_json::from_slice(bytes).ok()) {
        proxy.apply(set);
    }
    let (credentials, principal) = (config.credentials, config.principal);
    let comes_back = config.comes_back;
    let link = Link { host, manager: manager.clone(), api, credentials, principal, registration, comes_back };
    let keep_ms = i64::from(settings.image_keep_seconds) * 1000;
    let sweeps = sweep(&manager, &uses, keep_ms, &shutdown);
    tokio::join!(
        manager.follow_engine(),
        link.run(&values, shutdown.clone()),
        sweeps,
        proxy.run(shutdown.clone())
    );
    if let Some(address) = endpoint_address {
        address.remove().await;
    }
    state.flush().await?;
    if pull_endpoint.await.is_err() {
        tracing::error!("the pull endpoint ended in a panic");
    }
    Ok(())
}

/// Removes unused images now and then.
async fn sweep(manager: &Manager, uses: &ImageUse, keep_ms: i64, shutdown: &Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
        }
        uses.sweep(manager.engine(), keep_ms, &manager.digests_in_use()).await;
    }
}

/// Engines whose flaws let a container out.
fn warn_about(info: &EngineInfo) {
    tracing::info!(engine.version = info.version, engine.api_version = info.api_version, "using Docker");
    let minor = info.api_version.rsplit('.').next().and_then(|minor| minor.parse::<u32>().ok());
    if minor.is_some_and(|minor| minor < 41) {
        tracing::warn!(
            engine.api_version = info.api_version,
            "this Docker is older than Berth supports (API 1.41)"
        );
    }
    if info.version.starts_with("20.10.") {
        tracing::warn!(
            engine.version = info.version,
            "Docker 20.10 comes with a runc (1.1.5 on Debian) that known flaws let containers out of; prefer a newer one"
        );
    }
}
