//! An engine in memory for tests: its containers run until a test ends them.
//!
//! Behaves as Docker does where the agent relies on it: names are unique, a stop ends a container with 143
//! and tells so in an event, and an engine that is away answers nothing and ends its event streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use registry_runtime::{Clock, random_id};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::{
    Engine, EngineContainer, EngineError, EngineEvent, EngineImage, EngineInfo, EngineVolume, Listed,
    NewContainer, PullCredentials,
};
use crate::task::event::{Observed, ObservedRun};
use crate::task::state::{Exit, Health};

#[derive(Clone)]
pub(crate) struct Fake(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    events: Mutex<broadcast::Sender<EngineEvent>>,
    clock: Clock,
}

#[derive(Default)]
struct State {
    away: bool,
    images: BTreeSet<String>,
    pullable: BTreeSet<String>,
    containers: BTreeMap<String, FakeContainer>,
    volumes: BTreeMap<String, EngineVolume>,
    /// What was asked, in order: "create NAME", "start NAME", …
    calls: Vec<String>,
    fail_start: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct FakeContainer {
    pub(crate) name: String,
    pub(crate) body: Value,
    created_at_ms: i64,
    started_at_ms: Option<i64>,
    exit: Option<Exit>,
    health: Health,
}

impl Fake {
    pub(crate) fn new(clock: Clock) -> Self {
        let (events, _) = broadcast::channel(1000);
        Self(Arc::new(Shared { state: Mutex::default(), events: Mutex::new(events), clock }))
    }

    /// An image that is present, under a name.
    pub(crate) fn add_image(&self, reference: &str) {
        self.0.state.lock().images.insert(reference.to_owned());
    }

    /// An image that a pull will find.
    pub(crate) fn add_pullable(&self, reference: &str) {
        self.0.state.lock().pullable.insert(reference.to_owned());
    }

    /// Every start of a container whose name holds `part` fails once with Docker's words.
    pub(crate) fn fail_next_start(&self, message: &str) {
        self.0.state.lock().fail_start.push(message.to_owned());
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.0.state.lock().calls.clone()
    }

    pub(crate) fn created(&self) -> Vec<FakeContainer> {
        self.0.state.lock().containers.values().cloned().collect()
    }

    pub(crate) fn running(&self) -> usize {
        let state = self.0.state.lock();
        state.containers.values().filter(|one| one.started_at_ms.is_some() && one.exit.is_none()).count()
    }

    pub(crate) fn volumes(&self) -> Vec<String> {
        self.0.state.lock().volumes.keys().cloned().collect()
    }

    /// Ends the running container whose name holds `part`.
    pub(crate) fn exit(&self, part: &str, code: i64) {
        let ids: Vec<String> = {
            let state = self.0.state.lock();
            let matching = state.containers.iter().filter(|(_, one)| one.name.contains(part));
            matching.map(|(id, _)| id.clone()).collect()
        };
        for id in ids {
            self.end(&id, code);
        }
    }

    pub(crate) fn set_health(&self, part: &str, health: Health) {
        let mut state = self.0.state.lock();
        for (id, container) in state.containers.iter_mut().filter(|(_, one)| one.name.contains(part)) {
            container.health = health;
            let event =
                EngineEvent::Health { runtime_id: id.clone(), labels: labels(&container.body), health };
            let _ = self.0.events.lock().send(event);
        }
    }

    /// Takes the engine away, as a restart of the daemon does, or brings it back. While it is away its
    /// containers may have ended: `lose` ends them all without an event.
    pub(crate) fn set_away(&self, away: bool, lose: bool) {
        let mut state = self.0.state.lock();
        state.away = away;
        if lose {
            let now = self.0.clock.now_ms();
            for container in state.containers.values_mut().filter(|one| one.started_at_ms.is_some()) {
                container.exit = Some(Exit { code: Some(137), finished_at_ms: now, out_of_memory: false });
            }
        }
        if away {
            *self.0.events.lock() = broadcast::channel(1000).0; // ends every stream
        }
    }

    fn end(&self, id: &str, code: i64) {
        let mut state = self.0.state.lock();
        let now = self.0.clock.now_ms();
        let Some(container) = state.containers.get_mut(id) else { return };
        if container.started_at_ms.is_none() || container.exit.is_some() {
            return;
        }
        container.exit = Some(Exit { code: Some(code), finished_at_ms: now, out_of_memory: false });
        let event = EngineEvent::Died {
            runtime_id: id.to_owned(),
            labels: labels(&container.body),
            exit_code: Some(code),
            at_ms: now,
        };
        let _ = self.0.events.lock().send(event);
    }

    fn call(&self, what: String) -> Result<(), EngineError> {
        let mut state = self.0.state.lock();
        if state.away {
            return Err(EngineError::Unreachable("away".into()));
        }
        state.calls.push(what);
        Ok(())
    }
}

fn labels(body: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(body["Labels"].clone()).unwrap_or_default()
}

fn shown(id: &str, container: &FakeContainer) -> EngineContainer {
    let run = match (container.started_at_ms, &container.exit) {
        (None, _) => ObservedRun::NeverStarted,
        (Some(started_at_ms), None) => ObservedRun::Running { started_at_ms },
        (Some(started_at_ms), Some(exit)) => ObservedRun::Exited { started_at_ms, exit: exit.clone() },
    };
    EngineContainer {
        name: container.name.clone(),
        labels: labels(&container.body),
        image_id: container.body["Image"].as_str().unwrap_or_default().to_owned(),
        addresses: vec![[127, 0, 0, 1].into()],
        hosts_file: None,
        observed: Observed {
            runtime_id: id.to_owned(),
            network_bindings: Vec::new(),
            created_at_ms: container.created_at_ms,
            run,
            health: container.health,
        },
    }
}

#[async_trait]
impl Engine for Fake {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.call("info".into())?;
        Ok(EngineInfo {
            version: "fake".into(),
            api_version: "1.41".into(),
            cpus: 2,
            memory_bytes: 4096 << 20,
            architecture: "x86_64".into(),
            log_drivers: vec!["json-file".into()],
            ..EngineInfo::default()
        })
    }

    async fn image(&self, reference: &str) -> Result<Option<EngineImage>, EngineError> {
        self.call(format!("image {reference}"))?;
        let present = self.0.state.lock().images.contains(reference);
        Ok(present.then(|| EngineImage {
            id: format!("id-of-{reference}"),
            repo_digests: vec![reference.to_owned()],
            repo_tags: vec![reference.to_owned()],
        }))
    }

    async fn pull(&self, reference: &str, credentials: Option<PullCredentials>) -> Result<(), EngineError> {
        let with = if credentials.is_some() { " with credentials" } else { "" };
        self.call(format!("pull {reference}{with}"))?;
        let mut state = self.0.state.lock();
        if state.pullable.contains(reference) {
            state.images.insert(reference.to_owned());
            Ok(())
        } else {
            Err(EngineError::NotFound(format!("manifest for {reference} not found")))
        }
    }

    async fn tag(&self, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        self.call(format!("tag {image_id} {repository}:{tag}"))
    }

    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        self.call(format!("remove-image {name}"))?;
        self.0.state.lock().images.remove(name);
        Ok(())
    }

    async fn create(&self, container: NewContainer) -> Result<String, EngineError> {
        self.call(format!("create {}", container.name))?;
        let mut state = self.0.state.lock();
        if state.containers.values().any(|other| other.name == container.name) {
            return Err(EngineError::Conflict(format!("the name {} is in use", container.name)));
        }
        let id = random_id();
        let made = FakeContainer {
            name: container.name,
            body: container.body,
            created_at_ms: self.0.clock.now_ms(),
            started_at_ms: None,
            exit: None,
            health: Health::Unknown,
        };
        state.containers.insert(id.clone(), made);
        Ok(id)
    }

    async fn start(&self, runtime_id: &str) -> Result<(), EngineError> {
        self.call(format!("start {runtime_id}"))?;
        let mut state = self.0.state.lock();
        if let Some(message) = state.fail_start.pop() {
            return Err(EngineError::Refused(message));
        }
        let now = self.0.clock.now_ms();
        let container = state
            .containers
            .get_mut(runtime_id)
            .ok_or_else(|| EngineError::NotFound(format!("no container {runtime_id}")))?;
        if container.started_at_ms.is_none() || container.exit.is_some() {
            container.started_at_ms = Some(now);
            container.exit = None;
        }
        Ok(())
    }

    async fn stop(&self, runtime_id: &str, _grace: Duration) -> Result<(), EngineError> {
        self.call(format!("stop {runtime_id}"))?;
        self.end(runtime_id, 143);
        Ok(())
    }

    async fn remove(&self, runtime_id: &str) -> Result<(), EngineError> {
        self.call(format!("remove {runtime_id}"))?;
        self.end(runtime_id, 137);
        self.0.state.lock().containers.remove(runtime_id);
        Ok(())
    }

    async fn container(&self, id_or_name: &str) -> Result<Option<EngineContainer>, EngineError> {
        self.call(format!("inspect {id_or_name}"))?;
        let state = self.0.state.lock();
        let found = state.containers.iter().find(|(id, one)| *id == id_or_name || one.name == id_or_name);
        Ok(found.map(|(id, container)| shown(id, container)))
    }

    async fn containers(&self) -> Result<Vec<Listed>, EngineError> {
        self.call("list".into())?;
        let state = self.0.state.lock();
        let listed = state
            .containers
            .iter()
            .map(|(id, container)| Listed { runtime_id: id.clone(), labels: labels(&container.body) });
        Ok(listed.collect())
    }

    async fn stats(&self, _runtime_id: &str) -> Result<Value, EngineError> {
        Ok(json!({}))
    }

    async fn volume(&self, name: &str) -> Result<Option<EngineVolume>, EngineError> {
        self.call(format!("volume {name}"))?;
        Ok(self.0.state.lock().volumes.get(name).cloned())
    }

    async fn create_volume(&self, name: &str, volume: &EngineVolume) -> Result<(), EngineError> {
        self.call(format!("create-volume {name}"))?;
        self.0.state.lock().volumes.insert(name.to_owned(), volume.clone());
        Ok(())
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.call(format!("remove-volume {name}"))?;
        self.0.state.lock().volumes.remove(name);
        Ok(())
    }

    fn events(&self) -> BoxStream<'static, EngineEvent> {
        if self.0.state.lock().away {
            return stream::empty().boxed();
        }
        let receiver = self.0.events.lock().subscribe();
        let events = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.ok().map(|event| (event, receiver))
        });
        stream::iter([EngineEvent::Connected]).chain(events).boxed()
    }
}
