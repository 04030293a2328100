//! The agent's side of the scheduler's protocol: registration, control connection, telemetry, reports.
//!
//! The agent calls, the scheduler never does. A connection that ends is made again with jittered pauses, and
//! what runs on the host goes on running meanwhile.

mod acs;
mod api;
mod backoff;
mod lease;
mod register;
mod socket;
mod tcs;

use std::sync::Arc;

use registry_aws::Credentials;
use registry_runtime::Shutdown;
use scheduler_protocol::{
    DiscoverPollEndpointRequest, DiscoverPollEndpointResponse, INACTIVE_INSTANCE, UNKNOWN_INSTANCE,
};
use serde::{Deserialize, Serialize};

use crate::config::OnLostLease;
use crate::host::Host;
use crate::manager::Manager;
use crate::store::Values;
use acs::Timeline;
pub(crate) use api::Api;
use api::ApiError;
use backoff::Backoff;
use lease::Lease;
pub(crate) use register::Registration;
use socket::SocketError;

const INSTANCE_KEY: &str = "instance";

/// Which container instance this host is; kept for as long as the state is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Instance {
    cluster: String,
    container_instance_arn: String,
    /// Whose key registered it, if the server said so.
    #[serde(default)]
    principal: Option<String>,
    /// The access key that it registered with last: another one is of a later token.
    #[serde(default)]
    key: Option<String>,
    /// Seconds, as the scheduler said last.
    #[serde(default)]
    lease_seconds: Option<i64>,
}

/// What both connections need to know.
struct Session {
    host: Arc<Host>,
    manager: Manager,
    credentials: Credentials,
    container_instance_arn: String,
    docker_version: String,
    endpoints: DiscoverPollEndpointResponse,
}

pub(crate) struct Link {
    pub(crate) host: Arc<Host>,
    pub(crate) manager: Manager,
    pub(crate) api: Arc<Api>,
    pub(crate) credentials: Credentials,
    pub(crate) principal: Option<String>,
    pub(crate) registration: Registration,
    /// Whether a host that was deregistered registers anew when it starts.
    pub(crate) comes_back: bool,
}

impl Link {
    /// Registers and stays connected until the agent shuts down.
    pub(crate) async fn run(self, values: &Values, shutdown: Shutdown) {
        let saved: Instance =
            values.get(INSTANCE_KEY).and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let mut instance = if self.is_own(&saved) { saved } else { Instance::default() };
        let lease = Lease::new(self.host.clock.clone(), instance.lease_seconds);
        let fence = async {
            match self.registration.settings.on_lost_lease {
                OnLostLease::Stop => lease.watch(&self.manager).await,
                OnLostLease::Keep => std::future::pending().await,
            }
        };
        let timeline = Timeline::new(&self.host.store, values);
        tokio::select! {
            () = self.stay_connected(&mut instance, &timeline, &lease, shutdown) => {}
            () = fence => {}
        }
    }

    async fn stay_connected(
        &self,
        instance: &mut Instance,
        timeline: &Timeline,
        lease: &Lease,
        shutdown: Shutdown,
    ) {
        let mut first = true;
        let mut backoff = Backoff::new();
        // Of a release that did not note the key nobody can say by which token its host joined.
        let joined_again = instance.key.as_ref() != Some(&self.credentials.access_key_id);
        let mut may_be_new = self.comes_back || joined_again;
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                () = self.register(instance, may_be_new) => {}
            }
            // Who deregisters a host that is connected does not want it back at once.
            may_be_new = false;
            // Connected again and again under one registration, until the scheduler refuses the instance.
            loop {
                let ended = tokio::select! {
                    () = shutdown.begun() => return,
                    ended = self.connect_once(instance, timeline, lease, &mut first, &mut backoff) => ended,
                };
                let refused = matches!(ended, Err(SocketError::Refused(_)));
                match ended {
                    Ok(()) => tracing::info!("the scheduler closed the connection"),
                    Err(error) => tracing::warn!(%error, "the scheduler cannot be reached"),
                }
                tokio::select! {
                    () = shutdown.begun() => return,
                    () = backoff.pause() => {}
                }
                if refused {
                    break;
                }
            }
        }
    }

    /// Whether the instance of an earlier start is this host's still: nobody else's key may speak for it.
    fn is_own(&self, saved: &Instance) -> bool {
        let same = saved.principal.as_ref().zip(self.principal.as_ref()).is_none_or(|(was, is)| was == is);
        same && saved.cluster == self.host.cluster
    }

    /// Registers as the instance that this host is, or as a new one: where that one is gone and it `may_be_new`.
    async fn register(&self, instance: &mut Instance, may_be_new: bool) {
        let mut backoff = Backoff::new();
        loop {
            let known = Some(instance.container_instance_arn.clone()).filter(|arn| !arn.is_empty());
            let request = self.registration.request(&self.host, known);
            match self.api.register(&request).await {
                Ok(answer) => {
                    let arn = answer.container_instance.container_instance_arn;
                    tracing::info!(container_instance.arn = arn, "registered");
                    instance.cluster.clone_from(&self.host.cluster);
                    instance.container_instance_arn = arn;
                    instance.principal.clone_from(&self.principal);
                    instance.key = Some(self.credentials.access_key_id.clone());
                    self.save(instance).await;
                    return;
                }
                Err(error)
                    if is_gone(&error) && may_be_new && !instance.container_instance_arn.is_empty() =>
                {
                    tracing::warn!(%error, "the host registers as a new container instance");
                    instance.container_instance_arn.clear();
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "the host could not be registered");
                }
            }
            backoff.pause().await;
        }
    }

    async fn save(&self, instance: &Instance) {
        let bytes = serde_json::to_vec(instance).expect("strings have a JSON form");
        if let Err(error) = self.host.store.put_durably(INSTANCE_KEY, bytes).await {
            tracing::error!(%error, "the instance's identity could not be saved");
        }
    }

    async fn connect_once(
        &self,
        instance: &mut Instance,
        timeline: &Timeline,
        lease: &Lease,
        first: &mut bool,
        backoff: &mut Backoff,
    ) -> Result<(), SocketError> {
        let request = DiscoverPollEndpointRequest {
            container_instance: Some(instance.container_instance_arn.clone()),
            cluster: Some(self.host.cluster.clone()),
        };
        let mut endpoints = self.api.discover(&request).await.map_err(|error| match error {
            ApiError::Refused { .. } => SocketError::Refused(error.to_string()),
            ApiError::Away(why) => SocketError::Away(why),
        })?;
        lease.set(endpoints.berth_lease_seconds);
        if instance.lease_seconds != endpoints.berth_lease_seconds {
            instance.lease_seconds = endpoints.berth_lease_seconds;
            self.save(instance).await;
        }
        for endpoint in [&mut endpoints.endpoint, &mut endpoints.telemetry_endpoint] {
            if endpoint.is_empty() {
                *endpoint = self.host.server_url.clone();
            }
        }
        let session = Session {
            host: self.host.clone(),
            manager: self.manager.clone(),
            credentials: self.credentials.clone(),
            container_instance_arn: instance.container_instance_arn.clone(),
            docker_version: self.registration.docker_version(),
            endpoints,
        };
        let control = acs::connect(&session, *first).await?;
        *first = false;
        backoff.reset();
        lease.heard();
        self.api.connected();
        tokio::select! {
            ended = acs::run(&session, timeline, lease, control) => ended,
            () = tcs::run(&session) => Ok(()),
        }
    }
}

/// Whether a registration was refused because the instance that it names is none any more.
fn is_gone(error: &ApiError) -> bool {
    match error {
        ApiError::Refused { message, .. } => {
            message.starts_with(INACTIVE_INSTANCE) || message == UNKNOWN_INSTANCE
        }
        ApiError::Away(_) => false,
    }
}

#[cfg(test)]
mod tests;
