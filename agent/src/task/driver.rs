//! Drives one task: feeds its state machine with events, performs the effects, keeps the reports in order.
//!
//! One such loop runs for each task until its containers are removed. The state is saved after every event;
//! a report leaves the saved queue only once it has been heard.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt;
use registry_runtime::Shutdown;
use scheduler_protocol::SubmitTaskStateChangeRequest;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::host::Host;
use crate::resources::{Demand, ResourceLease};
use crate::task::context::TaskContext;
use crate::task::event::{Effect, Event};
use crate::task::perform::Performer;
use crate::task::state::{Health, TaskState};
use crate::task::{machine, prepare, report};

/// Tells the scheduler of a change.
#[async_trait]
pub(crate) trait Reporter: Send + Sync {
    /// Returns once the change was heard, or refused for good; tries for as long as that takes.
    async fn submit(&self, change: &SubmitTaskStateChangeRequest);
}

/// What is saved of a task beside what was accepted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    pub(crate) state: TaskState,
    /// Changes that the scheduler has not heard yet, oldest first.
    pub(crate) outbox: VecDeque<SubmitTaskStateChangeRequest>,
}

/// Where the task's payload and progress lie in the store.
pub(crate) fn accepted_key(arn: &str) -> String {
    format!("task/{arn}")
}

pub(crate) fn progress_key(arn: &str) -> String {
    format!("progress/{arn}")
}

/// Before the engine is asked again to remove a container that it could not remove.
const CLEAN_UP_PAUSE: Duration = Duration::from_secs(60);

/// There when the scheduler wants the task stopped.
pub(crate) fn stop_key(arn: &str) -> String {
    format!("stop/{arn}")
}

type Submission = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Driver {
    performer: Arc<Performer>,
    state: TaskState,
    outbox: VecDeque<SubmitTaskStateChangeRequest>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Effects send their answers here.
    answers: mpsc::UnboundedSender<Event>,
    pulls: Vec<Option<AbortHandle>>,
    lease: Option<ResourceLease>,
    submission: Option<Submission>,
    /// Every container has been looked at since the agent started; until then nothing is begun or ended.
    looked_at: bool,
}

impl Driver {
    /// `looked_at` is false for a task of an earlier run of the agent: it waits for [`Event::Begin`].
    pub(crate) fn new(
        host: Arc<Host>,
        context: Arc<TaskContext>,
        progress: Progress,
        looked_at: bool,
        answers: mpsc::UnboundedSender<Event>,
        events: mpsc::UnboundedReceiver<Event>,
    ) -> Self {
        let pulls = progress.state.containers.iter().map(|_| None).collect();
        Self {
            performer: Arc::new(Performer::new(host, context)),
            state: progress.state,
            outbox: progress.outbox,
            events,
            answers,
            pulls,
            lease: None,
            submission: None,
            looked_at,
        }
    }

    /// Runs until the task has been cleaned up, or the agent shuts down.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        if self.state.containers.iter().any(crate::task::state::ContainerState::exists) {
            self.adopt();
        } else if !self.state.all_stopped() && self.queue(&shutdown).await {
            self.handle(Event::Begin);
        }
        loop {
            self.keep_submitting();
            let deadline = machine::next_deadline(&self.context().plan, &self.state);
            let deadline = deadline.map(|at_ms| self.until(at_ms));
            let clean_up = self.clean_up_at().map(|at_ms| self.until(at_ms));
            tokio::select! {
                () = shutdown.begun() => return,
                event = self.events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                () = wait(self.submission.as_mut()) => {
                    self.submission = None;
                    self.outbox.pop_front();
                    self.save();
                }
                () = sleep(deadline) => self.handle(Event::Tick),
                () = sleep(clean_up) => {
                    if remove_all(&self.performer.clone(), self.state.clone()).await {
                        return;
                    }
                    tokio::select! {
                        () = shutdown.begun() => return,
                        () = tokio::time::sleep(CLEAN_UP_PAUSE) => {}
                    }
                }
            }
        }
    }

    fn host(&self) -> &Arc<Host> {
        &self.performer.host
    }

    fn context(&self) -> &Arc<TaskContext> {
        &self.performer.context
    }

    /// Containers of an earlier run of the agent hold their share of the host already.
    fn adopt(&mut self) {
        if !self.state.all_stopped() {
            self.lease = Some(self.host().resources.adopt(Demand::of(self.context().task())));
            for index in 0..self.state.containers.len() {
                self.performer.adopt_ports(index);
            }
        }
    }

    /// Waits for a share of the host; a task that is stopped meanwhile needs none. True when the task has been
    /// told to begin.
    async fn queue(&mut self, shutdown: &Shutdown) -> bool {
        let resources = self.host().resources.clone();
        let mut share = Box::pin(resources.acquire(Demand::of(self.context().task())));
        if let Some(lease) = share.as_mut().now_or_never() {
            self.lease = Some(lease);
            return false;
        }
        let mut begun = false;
        tracing::info!(task.arn = self.context().arn(), "the task waits for others of this host to end");
        loop {
            tokio::select! {
                () = shutdown.begun() => return false,
                lease = &mut share => {
                    self.lease = Some(lease);
                    return begun;
                }
                event = self.events.recv() => match event {
                    Some(end @ (Event::StopRequested | Event::Fenced | Event::Refused(_))) => {
                        self.handle(end);
                        return false;
                    }
                    Some(Event::Begin) => begun = true,
                    // It has a container after all: the agent ended before it could note that.
                    Some(seen @ Event::Observed { .. }) => {
                        self.handle(seen);
                        self.adopt();
                        return false;
                    }
                    Some(_) => {}
                    None => return false,
                },
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let health_before: Vec<Health> =
            self.state.containers.iter().map(|container| container.health).collect();
        let before = std::mem::take(&mut self.state);
        let now_ms = self.host().clock.now_ms();
        tracing::debug!(task.id = self.context().id, ?event, "an event");
        self.looked_at |= event == Event::Begin;
        let step = if self.looked_at { machine::step } else { machine::absorb };
        let (state, effects) = step(&self.context().plan, before.clone(), event, now_ms);
        self.state = state;
        self.context().set_state(self.state.clone());
        self.host().proxy.task_changed(self.context());
        if self.state.all_stopped() {
            self.lease = None;
            self.performer.release_ports();
        }
        let reported = effects.iter().any(|effect| matches!(effect, Effect::Report(_)));
        for effect in effects {
            self.perform(effect);
        }
        if reported || self.state != before {
            self.save();
        }
        let health = self.state.containers.iter().map(|container| container.health);
        if !health.eq(health_before) {
            self.host().health_changed.notify_one();
        }
    }

    fn perform(&mut self, effect: Effect) {
        let performer = self.performer.clone();
        match effect {
            Effect::Prepare => drop(self.spawn("prepare", async move { performer.prepare().await })),
            Effect::Pull(index) => {
                let handle = self.spawn("pull", async move { performer.pull(index).await });
                self.pulls[index] = Some(handle);
            }
            Effect::AbandonPull(index) => {
                if let Some(pull) = self.pulls[index].take() {
                    pull.abort();
                }
            }
            Effect::Create(index) => drop(self.spawn("create", async move { performer.create(index).await })),
            Effect::Start(index) => drop(self.spawn("start", async move { performer.start(index).await })),
            Effect::Stop(index) => drop(self.spawn("stop", async move { performer.stop(index).await })),
            Effect::Report(what) => {
                let change = report::render(self.context(), &self.state, &what, &self.host().cluster);
                tracing::info!(
                    task.arn = change.task,
                    task.status = change.status,
                    reason = change.reason,
                    "the task changed"
                );
                self.outbox.push_back(change);
            }
        }
    }

    fn spawn(&self, name: &'static str, effect: impl Future<Output = Event> + Send + 'static) -> AbortHandle {
        let (answers, arn) = (self.answers.clone(), self.context().id.clone());
        let began = Instant::now();
        let task = async move {
            let answer = effect.await;
            let duration_ms = began.elapsed().as_secs_f64() * 1000.0;
            tracing::debug!(task.id = arn, effect = name, duration_ms, "an effect ended");
            // The driver may be gone by now, with the agent.
            let _ = answers.send(answer);
        };
        tokio::spawn(task).abort_handle()
    }

    fn keep_submitting(&mut self) {
        if self.submission.is_none()
            && let Some(change) = self.outbox.front().cloned()
        {
            let reporter = self.host().reporter.clone();
            self.submission = Some(Box::pin(async move { reporter.submit(&change).await }));
        }
    }

    fn save(&self) {
        let progress = Progress { state: self.state.clone(), outbox: self.outbox.clone() };
        let bytes = serde_json::to_vec(&progress).expect("numbers and strings have a JSON form");
        self.host().store.put(&progress_key(self.context().arn()), bytes);
    }

    /// Containers of a stopped task are kept for a while, for their logs.
    fn clean_up_at(&self) -> Option<i64> {
        if !self.state.stopped_reported || !self.outbox.is_empty() {
            return None;
        }
        let finished = self.state.containers.iter().filter_map(|container| container.finished_at_ms).max();
        let finished = finished.unwrap_or(self.context().accepted.accepted_at_ms);
        Some(finished + self.host().cleanup_after_ms)
    }

    fn until(&self, at_ms: i64) -> Duration {
        let wait = at_ms - self.host().clock.now_ms();
        Duration::from_millis(u64::try_from(wait).unwrap_or(0))
    }
}

/// Removes what a task that is over left. False when the engine did not remove everything: it is asked later.
async fn remove_all(performer: &Performer, state: TaskState) -> bool {
    let (host, context) = (&performer.host, &performer.context);
    for container in &state.containers {
        if let Some(runtime_id) = &container.runtime_id
            && let Err(error) = host.engine.remove(runtime_id).await
        {
            tracing::warn!(container.runtime_id = runtime_id, %error, "a stopped container could not be removed");
            return false;
        }
    }
    prepare::clean_up(host, context).await;
    host.endpoints.forget(context);
    host.proxy.forget(&context.id);
    host.store.delete(&progress_key(context.arn()));
    host.store.delete(&stop_key(context.arn()));
    host.store.delete(&accepted_key(context.arn()));
    tracing::info!(task.arn = context.arn(), "the task was cleaned up");
    true
}

async fn wait(submission: Option<&mut Submission>) {
    match submission {
        Some(submission) => submission.await,
        None => std::future::pending().await,
    }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
