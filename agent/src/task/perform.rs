//! Performs the effects of a task on the host. Each ends in the event that answers it.
//!
//! On the way from an image that is present to a running container nothing is asked twice: one look at the
//! image beside one question to the registry, one creation, one start.

use std::sync::Arc;

use parking_lot::Mutex;
use scheduler_protocol::RoleType;

use crate::engine::{EngineError, NewContainer, TASK_LABEL};
use crate::host::Host;
use crate::ports::{PortLease, host_bindings};
use crate::pull::{Access, ImageRequest};
use crate::task::body::{self, Decided, Prepared};
use crate::task::context::TaskContext;
use crate::task::event::{CreatedContainer, Event, Failure, ObservedRun, PulledImage, StartedContainer};
use crate::task::prepare;

/// An answer of the registry that is older than this is asked for again before a creation.
const ALLOW_IS_FRESH_MS: i64 = 2000;
/// How often other host ports are tried when another process takes those that were picked.
const PORT_ATTEMPTS: usize = 5;
const CANNOT_CREATE: &str = "CannotCreateContainerError";
const CANNOT_START: &str = "CannotStartContainerError";

/// What the effects of one task need beside each other.
pub(crate) struct Performer {
    pub(crate) host: Arc<Host>,
    pub(crate) context: Arc<TaskContext>,
    prepared: Mutex<Arc<Prepared>>,
    /// Ports of each container, held until the task is over.
    leases: Mutex<Vec<Option<PortLease>>>,
}

impl Performer {
    pub(crate) fn new(host: Arc<Host>, context: Arc<TaskContext>) -> Self {
        let leases = context.task().containers.iter().map(|_| None).collect();
        Self { host, context, prepared: Mutex::default(), leases: Mutex::new(leases) }
    }

    /// Takes note of ports that a container of an earlier run of the agent holds.
    pub(crate) fn adopt_ports(&self, index: usize) {
        let state = self.context.state();
        let lease = self.host.ports.adopt(&state.containers[index].network_bindings);
        self.leases.lock()[index] = Some(lease);
    }

    pub(crate) fn release_ports(&self) {
        for lease in self.leases.lock().iter_mut() {
            *lease = None;
        }
    }

    pub(crate) async fn prepare(&self) -> Event {
        loop {
            let result = prepare::prepare(&self.host, &self.context).await;
            if result.is_ok() || !self.host.engine_was_away().await {
                return Event::Prepared(result.map(|prepared| *self.prepared.lock() = Arc::new(prepared)));
            }
        }
    }

    pub(crate) async fn pull(&self, index: usize) -> Event {
        loop {
            let result = self.host.images.ensure(&self.image_request(index)).await;
            // A pull that an engine's restart cut off is begun again.
            if result.is_ok() || !self.host.engine_was_away().await {
                return Event::Pulled { index, result };
            }
        }
    }

    pub(crate) async fn create(&self, index: usize) -> Event {
        Event::Created { index, result: self.try_create(index).await }
    }

    pub(crate) async fn start(&self, index: usize) -> Event {
        Event::Started { index, result: self.try_start(index).await }
    }

    /// Asks a container to stop, for as long as it takes, and says how it ended.
    pub(crate) async fn stop(&self, index: usize) -> Event {
        let state = self.context.state();
        let runtime_id = state.containers[index].runtime_id.clone().unwrap_or_default();
        let own = self.context.task().containers[index].stop_timeout;
        let grace = own.and_then(|seconds| u64::try_from(seconds).ok()).map(std::time::Duration::from_secs);
        let grace = grace.unwrap_or(self.host.stop_timeout);
        let mut pause = std::time::Duration::from_secs(1);
        loop {
            let mut error = match self.host.engine.stop(&runtime_id, grace).await {
                Ok(()) | Err(EngineError::NotFound(_)) => None,
                Err(error) => Some(error),
            };
            if error.is_none() {
                match self.host.engine.container(&runtime_id).await {
                    Ok(None) => return Event::Vanished { index, runtime_id },
                    Ok(Some(container)) => match container.observed.run {
                        ObservedRun::Exited { exit, .. } => return Event::Exited { index, exit },
                        _ => error = Some(EngineError::Refused("it runs on after its stop".into())),
                    },
                    Err(failed) => error = Some(failed),
                }
            }
            if let Some(error) = error {
                tracing::warn!(task.arn = self.context.arn(), container.runtime_id = runtime_id, %error, "CannotStopContainerError: trying again");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(std::time::Duration::from_secs(60));
        }
    }

    fn image_request(&self, index: usize) -> ImageRequest {
        let container = &self.context.task().containers[index];
        ImageRequest {
            task_arn: self.context.arn().to_owned(),
            image: container.image.clone(),
            own: container.berth_image.clone(),
            access: Access::new(self.context.credentials(RoleType::TaskExecution)),
        }
    }

    async fn try_create(&self, index: usize) -> Result<CreatedContainer, Failure> {
        let state = self.context.state();
        let container = &state.containers[index];
        let request = self.image_request(index);
        let mut image_id = container.image_id.clone().unwrap_or_default();
        if self.host.clock.now_ms() - container.allowed_at_ms > ALLOW_IS_FRESH_MS {
            self.host.images.still_allowed(&request).await?;
        }
        let mut looked_again = false;
        loop {
            let error = match self.create_once(index, &image_id).await? {
                Ok(created) => return Ok(created),
                Err(error) => error,
            };
            match error {
                // Somebody removed the image between the look and the creation.
                EngineError::NotFound(_) if !looked_again => {
                    looked_again = true;
                    let PulledImage { image_id: again, .. } = self.host.images.ensure(&request).await?;
                    image_id = again;
                }
                EngineError::Conflict(why) => return self.adopt(index, &why).await,
                EngineError::Timeout => return Err(timed_out("creation")),
                error if self.host.may_repeat(&error).await => {}
                error => return Err(Failure::new(CANNOT_CREATE, error.to_string())),
            }
        }
    }

    /// One attempt; the inner error is the engine's.
    async fn create_once(
        &self,
        index: usize,
        image_id: &str,
    ) -> Result<Result<CreatedContainer, EngineError>, Failure> {
        let task = self.context.task();
        let mappings = &task.containers[index].port_mappings;
        let bindings = if task.network_mode == "host" {
            host_bindings(mappings)
        } else {
            let lease = self.host.ports.lease(mappings).map_err(|why| Failure::new(CANNOT_CREATE, why))?;
            let bindings = lease.bindings.clone();
            self.leases.lock()[index] = Some(lease);
            bindings
        };
        let prepared = self.prepared.lock().clone();
        let environment = self.host.endpoints.environment(&self.context, index);
        let extra_hosts = match task.network_mode.as_str() {
            "none" => Vec::new(),
            mode => self.host.proxy.names().extra_hosts(mode == "host"),
        };
        let decided = Decided {
            agent_id: &self.host.agent_id,
            cluster: &self.host.cluster,
            image_id,
            bindings: &bindings,
            environment: &environment,
            extra_hosts: &extra_hosts,
        };
        let body = body::build(&self.context, index, &prepared, &decided)?;
        self.host.gate.judge(&task.containers[index].name, &body)?;
        let new = NewContainer { name: self.context.engine_names[index].clone(), body };
        let created_at_ms = self.host.clock.now_ms();
        let created = self.host.engine.create(new).await;
        Ok(created.map(|runtime_id| CreatedContainer {
            runtime_id,
            network_bindings: bindings,
            created_at_ms,
        }))
    }

    /// The name is taken: by this very container, when an answer was lost, or by something else.
    async fn adopt(&self, index: usize, why: &str) -> Result<CreatedContainer, Failure> {
        let name = &self.context.engine_names[index];
        let failed = |why: String| Failure::new(CANNOT_CREATE, why);
        let found = self.host.engine.container(name).await.map_err(|error| failed(error.to_string()))?;
        let found =
            found.filter(|found| found.labels.get(TASK_LABEL).is_some_and(|arn| arn == self.context.arn()));
        let found = found.ok_or_else(|| failed(why.to_owned()))?;
        self.leases.lock()[index] = Some(self.host.ports.adopt(&found.observed.network_bindings));
        Ok(CreatedContainer {
            runtime_id: found.observed.runtime_id,
            network_bindings: found.observed.network_bindings,
            created_at_ms: found.observed.created_at_ms,
        })
    }

    async fn try_start(&self, index: usize) -> Result<StartedContainer, Failure> {
        let state = self.context.state();
        let container = &state.containers[index];
        let mut runtime_id = container.runtime_id.clone().unwrap_or_default();
        let mut replaced_by = None;
        let mut attempts = 0;
        loop {
            // Taken before the start: the end of even the shortest run comes after it.
            let started_at_ms = self.host.clock.now_ms();
            let error = match self.host.engine.start(&runtime_id).await {
                Ok(()) => return Ok(StartedContainer { started_at_ms, replaced_by }),
                Err(error) => error,
            };
            attempts += 1;
            let picked = self.leases.lock()[index].as_ref().is_some_and(|lease| lease.picked);
            if picked && attempts < PORT_ATTEMPTS && port_is_taken(&error) {
                let created = self.recreate(index, &runtime_id, container.image_id.as_deref()).await?;
                runtime_id = created.runtime_id.clone();
                replaced_by = Some(created);
            } else if error == EngineError::Timeout {
                return Err(timed_out("start"));
            } else if !self.host.may_repeat(&error).await {
                return Err(Failure::new(CANNOT_START, error.to_string()));
            }
        }
    }

    async fn recreate(
        &self,
        index: usize,
        runtime_id: &str,
        image_id: Option<&str>,
    ) -> Result<CreatedContainer, Failure> {
        let failed = |error: EngineError| Failure::new(CANNOT_START, error.to_string());
        self.host.engine.remove(runtime_id).await.map_err(failed)?;
        self.create_once(index, image_id.unwrap_or_default()).await?.map_err(failed)
    }
}

fn timed_out(what: &str) -> Failure {
    Failure::new(
        "DockerTimeoutError",
        format!("the engine did not finish the {what} of the container in time"),
    )
}

fn port_is_taken(error: &EngineError) -> bool {
    let text = error.to_string();
    text.contains("port is already allocated") || text.contains("address already in use")
}
