//! What happens to a task, and what is to be done about it.

use scheduler_protocol::NetworkBinding;

use crate::task::state::{Exit, Health};

/// An input of the state machine. Containers are named by their index in the plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The task was accepted, or the agent has started again and the engine has been looked at.
    Begin,
    /// The scheduler wants the task stopped.
    StopRequested,
    /// The scheduler was away for longer than the host's lease, and has replaced the task.
    Fenced,
    /// The agent cannot run this task at all.
    Refused(String),
    Prepared(Result<(), Failure>),
    Pulled {
        index: usize,
        result: Result<PulledImage, Failure>,
    },
    Created {
        index: usize,
        result: Result<CreatedContainer, Failure>,
    },
    Started {
        index: usize,
        result: Result<StartedContainer, Failure>,
    },
    Exited {
        index: usize,
        exit: Exit,
    },
    HealthChanged {
        index: usize,
        health: Health,
    },
    /// What the engine shows after the agent or the engine was away.
    Observed {
        index: usize,
        seen: Observed,
    },
    /// The engine has no such container any more.
    Vanished {
        index: usize,
        runtime_id: String,
    },
    /// Time has passed a deadline.
    Tick,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PulledImage {
    pub(crate) image_id: String,
    pub(crate) image_digest: Option<String>,
    pub(crate) allowed_at_ms: i64,
    /// When bytes had to be fetched: start and end of that.
    pub(crate) fetched: Option<(i64, i64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CreatedContainer {
    pub(crate) runtime_id: String,
    pub(crate) network_bindings: Vec<NetworkBinding>,
    pub(crate) created_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StartedContainer {
    pub(crate) started_at_ms: i64,
    /// Set when the container had to be made anew for other host ports.
    pub(crate) replaced_by: Option<CreatedContainer>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    pub(crate) runtime_id: String,
    pub(crate) network_bindings: Vec<NetworkBinding>,
    pub(crate) created_at_ms: i64,
    pub(crate) run: ObservedRun,
    pub(crate) health: Health,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ObservedRun {
    NeverStarted,
    Running { started_at_ms: i64 },
    Exited { started_at_ms: i64, exit: Exit },
}

/// Something that the agent could not do for a container, as ECS words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// ECS's name, such as `CannotPullContainerError`.
    pub(crate) name: &'static str,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, message: message.into() }
    }

    /// `<ErrorName>: <text>`, at most 1,024 characters.
    pub(crate) fn reason(&self) -> String {
        let mut text = format!("{}: {}", self.name, self.message);
        if let Some((cut, _)) = text.char_indices().nth(1024) {
            text.truncate(cut);
        }
        text
    }
}

/// An output of the state machine. Each but `Stop`, `AbandonPull` and `Report` is answered by one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Prepare,
    Pull(usize),
    /// A pull under way is of no use any more; its answer will not be heard.
    AbandonPull(usize),
    Create(usize),
    Start(usize),
    /// Ask the container to stop; its exit is the answer.
    Stop(usize),
    Report(Report),
}

/// A change that the scheduler is to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Running,
    /// One container ended and the task goes on.
    ContainerStopped(usize),
    Stopped,
}
