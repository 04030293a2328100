//! All tasks of the host: accepts them, routes what happens to them, and finds them again after a restart.
//!
//! Invariant: a task is driven only after it was saved, and every task that was saved is driven until its
//! containers are removed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use registry_runtime::Shutdown;
use scheduler_protocol::{RoleCredentials, RoleType, SubmitTaskStateChangeRequest, Task};
use tokio::sync::mpsc;

use crate::engine::{CONTAINER_LABEL, Engine, EngineEvent, TASK_LABEL};
use crate::error::AgentError;
use crate::host::Host;
use crate::store::Values;
use crate::task::context::{Accepted, TaskContext};
use crate::task::event::{Event, ObservedRun};
use crate::task::plan::Plan;
use crate::task::state::{ContainerState, Exit, Phase, TaskState};
use crate::task::{Driver, Progress, accepted_key, progress_key, stop_key};

/// Between two looks at all containers, in case an event was lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(300);
/// Tasks that are looked at together.
const LOOKS_AT_ONCE: usize = 8;
const ENGINE_RETRY: Duration = Duration::from_millis(500);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Manager(Arc<Inner>);

struct Inner {
    host: Arc<Host>,
    shutdown: Shutdown,
    tasks: Mutex<HashMap<String, Handle>>,
}

#[derive(Clone)]
struct Handle {
    context: Arc<TaskContext>,
    events: mpsc::UnboundedSender<Event>,
}

impl Manager {
    pub(crate) fn new(host: Arc<Host>, shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner { host, shutdown, tasks: Mutex::default() }))
    }

    /// Takes up the tasks of an earlier run of the agent. They move once the engine has been looked at.
    pub(crate) fn restore(&self, values: &Values) {
        for (key, value) in values {
            if !key.starts_with(&accepted_key("")) {
                continue;
            }
            let Ok(accepted) = serde_json::from_slice::<Accepted>(value) else {
                tracing::error!(key, "a saved task cannot be read and is left alone");
                continue;
            };
            let saved = values.get(&progress_key(&accepted.task.arn));
            let mut progress: Progress =
                saved.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
            let count = accepted.task.containers.len();
            if progress.state.containers.len() != count {
                progress.state = TaskState::new(count);
            }
            progress.state = progress.state.recovered();
            let exists = progress.state.containers.iter().any(ContainerState::exists);
            let planned = if exists { Plan::from_task(&accepted.task) } else { self.plan(&accepted.task) };
            let (plan, refused) = match planned {
                Ok(plan) => (plan, None),
                Err(reason) => (Plan::of_refused(&accepted.task), Some(refusal(&reason))),
            };
            let stop = values.contains_key(&stop_key(&accepted.task.arn));
            let (handle, driver) = self.add(accepted, plan, progress, false);
            if let Some(refused) = refused {
                let _ = handle.events.send(refused);
            }
            if stop {
                let _ = handle.events.send(Event::StopRequested);
            }
            self.drive(driver, handle.context.arn().to_owned());
        }
    }

    /// Takes a task that is to run. It is known from the moment of this call, so that a stop that follows
    /// finds it; what is returned ends once it is saved. One that is known already gets the new credentials
    /// and is otherwise left as it is.
    pub(crate) fn accept(&self, task: Task) -> BoxFuture<'static, Result<(), AgentError>> {
        if let Some(handle) = self.find(&task.arn) {
            return self.clone().renew_all(handle, task).boxed();
        }
        let host = &self.0.host;
        let accepted = Accepted::new(task, host.clock.now_ms());
        let (plan, first) = match self.plan(&accepted.task) {
            Ok(plan) => (plan, Event::Begin),
            Err(reason) => {
                tracing::warn!(task.arn = accepted.task.arn, reason, "a task is refused");
                (Plan::of_refused(&accepted.task), refusal(&reason))
            }
        };
        let bytes = serde_json::to_vec(&accepted).expect("numbers and strings have a JSON form");
        let progress = Progress { state: TaskState::new(plan.containers.len()), ..Progress::default() };
        let (handle, driver) = self.add(accepted, plan, progress, true);
        let _ = handle.events.send(first);
        let manager = self.clone();
        async move {
            let arn = handle.context.arn();
            match manager.0.host.store.put_durably(&accepted_key(arn), bytes).await {
                Ok(()) => {
                    manager.drive(driver, arn.to_owned());
                    Ok(())
                }
                Err(error) => {
                    manager.0.tasks.lock().remove(arn);
                    manager.0.host.endpoints.forget(&handle.context);
                    Err(error)
                }
            }
        }
        .boxed()
    }

    async fn renew_all(self, handle: Handle, task: Task) -> Result<(), AgentError> {
        for (role, credentials) in [
            (RoleType::TaskApplication, task.role_credentials),
            (RoleType::TaskExecution, task.execution_role_credentials),
        ] {
            if let Some(credentials) = credentials {
                self.renew(&handle, role, credentials).await?;
            }
        }
        Ok(())
    }

    fn plan(&self, task: &Task) -> Result<Plan, String> {
        let plan = Plan::from_task(task)?;
        if task.role_credentials.is_some()
            && task.network_mode != "none"
            && let Some(why) = self.0.host.endpoints.unavailable()
        {
            return Err(format!("the task has a role, and this host cannot serve its credentials: {why}"));
        }
        Ok(plan)
    }

    /// The scheduler wants a task stopped. What is returned ends once that is saved; a task that this host does
    /// not know is reported as stopped, and it ends once that was heard.
    pub(crate) fn stop(&self, task: &Task) -> BoxFuture<'static, Result<(), AgentError>> {
        if self.find(&task.arn).is_some() {
            return self.stop_known(&task.arn);
        }
        let change = SubmitTaskStateChangeRequest {
            cluster: Some(self.0.host.cluster.clone()),
            task: task.arn.clone(),
            status: "STOPPED".into(),
            reason: Some("the host does not have this task".into()),
            berth_epoch: task.berth_epoch,
            ..SubmitTaskStateChangeRequest::default()
        };
        let reporter = self.0.host.reporter.clone();
        async move {
            reporter.submit(&change).await;
            Ok(())
        }
        .boxed()
    }

    /// Stops a task by its ARN; an unknown one is stopped already.
    pub(crate) fn stop_known(&self, arn: &str) -> BoxFuture<'static, Result<(), AgentError>> {
        let Some(handle) = self.find(arn) else { return std::future::ready(Ok(())).boxed() };
        let _ = handle.events.send(Event::StopRequested);
        let (store, key) = (self.0.host.store.clone(), stop_key(arn));
        async move { store.put_durably(&key, Vec::new()).await }.boxed()
    }

    /// The lease has run out: every task of this host stops.
    pub(crate) fn fence(&self) {
        let handles: Vec<Handle> = self.0.tasks.lock().values().cloned().collect();
        tracing::warn!(tasks = handles.len(), "the host lost its lease: its tasks stop");
        for handle in handles {
            let _ = handle.events.send(Event::Fenced);
        }
    }

    /// Fresh credentials for a task; false when the task is not here. Returns once they are saved.
    pub(crate) async fn set_credentials(
        &self,
        arn: &str,
        role: RoleType,
        credentials: RoleCredentials,
    ) -> Result<bool, AgentError> {
        match self.find(arn) {
            Some(handle) => self.renew(&handle, role, credentials).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn renew(&self, handle: &Handle, role: RoleType, fresh: RoleCredentials) -> Result<(), AgentError> {
        if handle.context.credentials(role).as_ref() == Some(&fresh) {
            return Ok(());
        }
        handle.context.set_credentials(role, fresh);
        let bytes =
            serde_json::to_vec(&handle.context.to_save()).expect("numbers and strings have a JSON form");
        self.0.host.store.put_durably(&accepted_key(handle.context.arn()), bytes).await
    }

    pub(crate) fn tasks(&self) -> Vec<Arc<TaskContext>> {
        self.0.tasks.lock().values().map(|handle| handle.context.clone()).collect()
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.0.host.engine
    }

    /// Digests of Berth's images that tasks which are not over name.
    pub(crate) fn digests_in_use(&self) -> HashSet<String> {
        let tasks = self.tasks();
        let live = tasks.iter().filter(|context| !context.state().all_stopped());
        let images =
            live.flat_map(|context| &context.task().containers).filter_map(|one| one.berth_image.as_ref());
        images.map(|image| image.digest.clone()).collect()
    }

    fn find(&self, arn: &str) -> Option<Handle> {
        self.0.tasks.lock().get(arn).cloned()
    }

    fn add(&self, accepted: Accepted, plan: Plan, progress: Progress, looked_at: bool) -> (Handle, Driver) {
        let context = Arc::new(TaskContext::new(accepted, plan, progress.state.clone()));
        let (events, mailbox) = mpsc::unbounded_channel();
        let handle = Handle { context: context.clone(), events: events.clone() };
        self.0.tasks.lock().insert(context.arn().to_owned(), handle.clone());
        self.0.host.endpoints.add(&context);
        self.0.host.proxy.task_changed(&context);
        (handle, Driver::new(self.0.host.clone(), context, progress, looked_at, events, mailbox))
    }

    fn drive(&self, driver: Driver, arn: String) {
        let inner = self.0.clone();
        tokio::spawn(async move {
            driver.run(inner.shutdown.clone()).await;
            inner.tasks.lock().remove(&arn);
        });
    }

    /// Follows the engine for as long as the agent runs, through its restarts.
    pub(crate) async fn follow_engine(&self) {
        let host = &self.0.host;
        loop {
            let mut events = host.engine.events();
            let mut out_of_memory = HashSet::new();
            let mut look = tokio::time::interval(LOOK_INTERVAL);
            look.reset();
            loop {
                tokio::select! {
                    () = self.0.shutdown.begun() => return,
                    event = events.next() => match event {
                        Some(EngineEvent::Connected) => {
                            if !self.look().await {
                                break;
                            }
                            host.engine_up.send_replace(true);
                        }
                        Some(event) => self.route(event, &mut out_of_memory),
                        None => break,
                    },
                    _ = look.tick() => drop(self.look().await),
                }
            }
            if host.engine_up.send_replace(false) {
                tracing::warn!("the container engine went away");
            }
            tokio::select! {
                () = self.0.shutdown.begun() => return,
                () = tokio::time::sleep(ENGINE_RETRY) => {}
            }
        }
    }

    fn route(&self, event: EngineEvent, out_of_memory: &mut HashSet<String>) {
        match event {
            EngineEvent::Connected => {}
            EngineEvent::OutOfMemory { runtime_id } => drop(out_of_memory.insert(runtime_id)),
            EngineEvent::Died { runtime_id, labels, exit_code, at_ms } => {
                if let Some(id) = labels.get(TASK_LABEL).and_then(|arn| arn.rsplit('/').next()) {
                    self.0.host.proxy.died(id, &runtime_id);
                }
                let out_of_memory = out_of_memory.remove(&runtime_id);
                let told = Exit { code: exit_code, finished_at_ms: at_ms, out_of_memory };
                let manager = self.clone();
                tokio::spawn(async move {
                    if let Some(exit) = manager.settled(&runtime_id, told).await {
                        manager.send(&labels, &runtime_id, |index| Event::Exited { index, exit });
                    }
                });
            }
            EngineEvent::Health { runtime_id, labels, health } => {
                self.send(&labels, &runtime_id, |index| Event::HealthChanged { index, health });
            }
            EngineEvent::Removed { runtime_id, labels } => {
                let gone = runtime_id.clone();
                self.send(&labels, &runtime_id, |index| Event::Vanished { index, runtime_id: gone });
            }
        }
    }

    /// The end of a container once the engine is through with it: it tells of the end first, and gives the
    /// ports back after that. None when the container runs again.
    async fn settled(&self, runtime_id: &str, told: Exit) -> Option<Exit> {
        match self.0.host.engine.container(runtime_id).await {
            Ok(Some(container)) => match container.observed.run {
                ObservedRun::Exited { exit, .. } => {
                    Some(Exit { out_of_memory: exit.out_of_memory || told.out_of_memory, ..exit })
                }
                ObservedRun::NeverStarted | ObservedRun::Running { .. } => None,
            },
            Ok(None) | Err(_) => Some(told),
        }
    }

    fn send(
        &self,
        labels: &std::collections::BTreeMap<String, String>,
        runtime_id: &str,
        event: impl FnOnce(usize) -> Event,
    ) {
        let Some((handle, index)) = self.locate(labels) else { return };
        let state = handle.context.state();
        let container = &state.containers[index];
        // While it starts it may be made anew for another port, and the new id is not known yet. Otherwise an
        // unknown id is a container that was replaced.
        if container.phase == Phase::Starting || container.runtime_id.as_deref() == Some(runtime_id) {
            let _ = handle.events.send(event(index));
        }
    }

    fn locate(&self, labels: &std::collections::BTreeMap<String, String>) -> Option<(Handle, usize)> {
        let handle = self.find(labels.get(TASK_LABEL)?)?;
        let name = labels.get(CONTAINER_LABEL)?;
        let index = handle.context.plan.containers.iter().position(|container| container.name == *name)?;
        Some((handle, index))
    }

    /// Looks at the containers of every task that is not over, and tells the task what there is of each. False
    /// when the engine did not answer.
    async fn look(&self) -> bool {
        let listed = match self.0.host.engine.containers().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "the engine's containers could not be listed");
                return false;
            }
        };
        let mut ids: HashMap<(String, usize), String> = HashMap::new();
        for container in listed {
            match self.locate(&container.labels) {
                Some((handle, index)) => {
                    ids.insert((handle.context.arn().to_owned(), index), container.runtime_id);
                }
                None => tracing::warn!(
                    container.runtime_id = container.runtime_id,
                    "a container of this agent belongs to no task; it is left alone"
                ),
            }
        }
        let handles: Vec<Handle> = self.0.tasks.lock().values().cloned().collect();
        let looks =
            stream::iter(handles).map(|handle| self.look_at(handle, &ids)).buffer_unordered(LOOKS_AT_ONCE);
        looks.all(std::future::ready).await
    }

    async fn look_at(&self, handle: Handle, ids: &HashMap<(String, usize), String>) -> bool {
        let state = handle.context.state();
        for (index, container) in state.containers.iter().enumerate() {
            if container.phase == Phase::Stopped {
                continue;
            }
            let listed = ids.get(&(handle.context.arn().to_owned(), index));
            // One that was created after the list was made is known by its id, or not yet at all.
            let Some(runtime_id) = listed.or(container.runtime_id.as_ref()).cloned() else { continue };
            let event = match self.0.host.engine.container(&runtime_id).await {
                Ok(Some(found)) => Event::Observed { index, seen: found.observed },
                Ok(None) => Event::Vanished { index, runtime_id },
                Err(_) => return false,
            };
            let _ = handle.events.send(event);
        }
        let _ = handle.events.send(Event::Begin);
        true
    }
}

fn refusal(reason: &str) -> Event {
    Event::Refused(format!("ResourceInitializationError: {reason}"))
}
