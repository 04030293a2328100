//! The events of a service, with the texts that ECS's clients search for.
//!
//! Events are values; the text is made in one place. Invariant: nothing but the fix that is added to some of
//! them departs from ECS's words.

use std::fmt;

use crate::ids::{DeploymentId, InstanceId, TaskId};
use crate::placement::Reason;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    SteadyState {
        service: String,
    },
    Started {
        service: String,
        tasks: Vec<TaskId>,
    },
    Stopped {
        service: String,
        tasks: Vec<TaskId>,
    },
    DeploymentCompleted {
        service: String,
    },
    DeploymentFailed {
        service: String,
        deployment: DeploymentId,
    },
    RollingBack {
        service: String,
        deployment: DeploymentId,
    },
    /// Starting keeps failing; attempts are further and further apart.
    Throttled {
        service: String,
    },
    /// Neither bound leaves room for a step.
    BlockedByConfiguration {
        service: String,
    },
    /// More tasks are protected than are wanted.
    BlockedByProtection {
        service: String,
        deployment: DeploymentId,
    },
    /// No place for a task.
    Unplaced {
        service: String,
        closest: Option<(InstanceId, Reason)>,
        fix: Option<String>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::SteadyState { service } => write!(f, "(service {service}) has reached a steady state."),
            Event::Started { service, tasks } => {
                write!(f, "(service {service}) has started {} tasks:{}.", tasks.len(), Tasks(tasks))
            }
            Event::Stopped { service, tasks } => {
                write!(f, "(service {service}) has stopped {} running tasks:{}.", tasks.len(), Tasks(tasks))
            }
            Event::DeploymentCompleted { service } => write!(f, "(service {service}) deployment completed."),
            Event::DeploymentFailed { service, deployment } => {
                write!(
                    f,
                    "(service {service}) (deployment {deployment}) deployment failed: tasks failed to start."
                )
            }
            Event::RollingBack { service, deployment } => {
                write!(f, "(service {service}) rolling back to deployment {deployment}.")
            }
            Event::Throttled { service } => {
                write!(f, "(service {service}) is unable to consistently start tasks successfully.")
            }
            Event::BlockedByConfiguration { service } => write!(
                f,
                "(service {service}) was unable to stop or start tasks during a deployment because of the service \
                 deployment configuration. Update the minimumHealthyPercent or maximumPercent value and try again."
            ),
            Event::BlockedByProtection { service, deployment } => write!(
                f,
                "(service {service}) was unable to reach steady state because task set ({deployment}) was unable \
                 to scale in. Reason: The number of protected tasks are more than the desired count of tasks."
            ),
            Event::Unplaced { service, closest, fix } => {
                write!(
                    f,
                    "(service {service}) was unable to place a task because no container instance met all of its \
                     requirements."
                )?;
                match closest {
                    None => f.write_str(" Reason: No Container Instances were found in your cluster.")?,
                    Some((instance, reason)) => write!(
                        f,
                        " The closest matching (container-instance {instance}) {}.",
                        closest_text(*reason)
                    )?,
                }
                fix.as_ref().map_or(Ok(()), |fix| write!(f, " {fix}"))
            }
        }
    }
}

fn closest_text(reason: Reason) -> &'static str {
    match reason {
        Reason::Cpu => "has insufficient CPU units available",
        Reason::Memory => "has insufficient memory available",
        Reason::Ports => "is already using a port required by your task",
        Reason::Attribute => "is missing an attribute required by your task",
        Reason::Gpus => "has insufficient GPUs available",
        Reason::Agent => "encountered error \"AGENT\"",
        Reason::Inactive => "encountered error \"INACTIVE\"",
        Reason::Missing => "encountered error \"MISSING\"",
        Reason::MemberOf => "encountered error \"MemberOf placement constraint unsatisfied.\"",
        Reason::DistinctInstance => {
            "encountered error \"DistinctInstance placement constraint unsatisfied.\""
        }
    }
}

struct Tasks<'a>(&'a [TaskId]);

impl fmt::Display for Tasks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|task| write!(f, " (task {task})"))
    }
}
