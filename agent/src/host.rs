//! What all tasks of a host share: the engine, images, the gate, ports, resources, state.

use std::sync::Arc;
use std::time::Duration;

use registry_runtime::Clock;
use registry_runtime::tls::Connector;
use tokio::sync::{Notify, watch};

use crate::cgroup::Cgroups;
use crate::endpoints::Endpoints;
use crate::engine::{Engine, EngineError};
use crate::host_access::Gate;
use crate::ports::HostPorts;
use crate::proxy::Proxy;
use crate::pull::Images;
use crate::resources::HostResources;
use crate::store::Store;
use crate::task::Reporter;

/// How long an operation waits for an engine that is away before it fails.
const ENGINE_PATIENCE: Duration = Duration::from_secs(240);
/// The event stream notices an engine that is away a moment after a call does.
const ENGINE_PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct Host {
    pub(crate) engine: Arc<dyn Engine>,
    /// Whether the engine's event stream stands.
    pub(crate) engine_up: watch::Sender<bool>,
    pub(crate) images: Images,
    pub(crate) gate: Gate,
    pub(crate) ports: HostPorts,
    pub(crate) resources: HostResources,
    pub(crate) cgroups: Cgroups,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) endpoints: Endpoints,
    pub(crate) proxy: Proxy,
    pub(crate) reporter: Arc<dyn Reporter>,
    /// Nudged when the health of a container changed.
    pub(crate) health_changed: Notify,
    /// This agent's identity, by which it knows its containers.
    pub(crate) agent_id: String,
    pub(crate) cluster: String,
    pub(crate) server_url: String,
    /// What connects to it.
    pub(crate) connector: Connector,
    pub(crate) region: String,
    pub(crate) stop_timeout: Duration,
    pub(crate) cleanup_after_ms: i64,
}

impl Host {
    /// Waits until the engine answers again; false when it stayed away too long.
    pub(crate) async fn engine_is_back(&self) -> bool {
        tokio::time::sleep(ENGINE_PAUSE).await;
        let mut up = self.engine_up.subscribe();
        matches!(tokio::time::timeout(ENGINE_PATIENCE, up.wait_for(|up| *up)).await, Ok(Ok(_)))
    }

    /// After a failure: whether the engine was away, and is back.
    pub(crate) async fn engine_was_away(&self) -> bool {
        tokio::time::sleep(ENGINE_PAUSE).await;
        let away = !*self.engine_up.borrow();
        away && self.engine_is_back().await
    }

    /// Whether a call that failed may be made again once the engine is back.
    pub(crate) async fn may_repeat(&self, error: &EngineError) -> bool {
        matches!(error, EngineError::Unreachable(_)) && self.engine_is_back().await
    }
}
