//! What the state machine needs to know of a task: its containers, their dependencies and policies.
//!
//! A plan is made once from the task as sent and cannot be wrong afterwards: names are unique, every
//! dependency exists, there is no cycle, and nothing in it is unsupported.

use std::collections::HashMap;

use scheduler_protocol::{Container, ContainerCondition, Task};

use crate::task::refusal;

/// Containers of a task in the order in which the task names them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) containers: Vec<ContainerPlan>,
    /// Volumes, a network or a cgroup must be made before the first container.
    pub(crate) needs_preparation: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ContainerPlan {
    pub(crate) name: String,
    pub(crate) essential: bool,
    pub(crate) dependencies: Vec<Dependency>,
    /// How long others wait for this container's COMPLETE, SUCCESS or HEALTHY, from its start.
    pub(crate) start_timeout_ms: Option<i64>,
    pub(crate) restart: Option<Restart>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Restart {
    pub(crate) ignored_exit_codes: Vec<i64>,
    pub(crate) attempt_period_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// Index of the container that is waited for.
    pub(crate) on: usize,
    pub(crate) condition: Condition,
}

/// What a dependency must have reached. `Create` comes from `volumesFrom` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    Create,
    Start,
    Complete,
    Success,
    Healthy,
}

impl Condition {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Start => "START",
            Self::Complete => "COMPLETE",
            Self::Success => "SUCCESS",
            Self::Healthy => "HEALTHY",
        }
    }
}

/// ECS's default between restarts of one container.
const DEFAULT_RESTART_ATTEMPT_PERIOD_SECONDS: i64 = 300;

impl Plan {
    /// Checks a task and reduces it to what the state machine needs; the error is the task's stop reason.
    pub(crate) fn from_task(task: &Task) -> Result<Self, String> {
        refusal::check(task)?;
        let mut index = HashMap::new();
        for (position, container) in task.containers.iter().enumerate() {
            if index.insert(container.name.as_str(), position).is_some() {
                return Err(format!("two containers are named {}", container.name));
            }
        }
        let mut containers = Vec::with_capacity(task.containers.len());
        for container in &task.containers {
            containers.push(ContainerPlan {
                name: container.name.clone(),
                essential: container.essential,
                dependencies: dependencies(task, container, &index)?,
                start_timeout_ms: container.start_timeout.map(|seconds| seconds.saturating_mul(1000)),
                restart: restart(container),
            });
        }
        let plan = Self { containers, needs_preparation: needs_preparation(task) };
        if plan.has_cycle() {
            return Err("the dependencies of the task's containers form a cycle".into());
        }
        Ok(plan)
    }

    /// Names alone, for a task that is refused and only needs to be reported.
    pub(crate) fn of_refused(task: &Task) -> Self {
        let containers = task.containers.iter().map(|container| ContainerPlan {
            name: container.name.clone(),
            essential: container.essential,
            ..ContainerPlan::default()
        });
        Self { containers: containers.collect(), needs_preparation: false }
    }

    /// The containers that wait for this one, directly.
    pub(crate) fn dependents(&self, on: usize) -> impl Iterator<Item = usize> + '_ {
        self.containers
            .iter()
            .enumerate()
            .filter(move |(_, container)| container.dependencies.iter().any(|dependency| dependency.on == on))
            .map(|(index, _)| index)
    }

    fn has_cycle(&self) -> bool {
        let mut waiting: Vec<usize> =
            self.containers.iter().map(|container| container.dependencies.len()).collect();
        let mut free: Vec<usize> = (0..waiting.len()).filter(|index| waiting[*index] == 0).collect();
        let mut seen = 0;
        while let Some(on) = free.pop() {
            seen += 1;
            for (index, container) in self.containers.iter().enumerate() {
                let edges = container.dependencies.iter().filter(|dependency| dependency.on == on).count();
                if edges > 0 {
                    waiting[index] -= edges;
                    if waiting[index] == 0 {
                        free.push(index);
                    }
                }
            }
        }
        seen != self.containers.len()
    }
}

fn needs_preparation(task: &Task) -> bool {
    !task.volumes.is_empty()
        || task.cpu.is_some()
        || task.memory.is_some()
        || task.containers.iter().any(|container| !container.secrets.is_empty())
}

fn restart(container: &Container) -> Option<Restart> {
    let policy = container.restart_policy.as_ref().filter(|policy| policy.enabled)?;
    let period = policy.restart_attempt_period.unwrap_or(DEFAULT_RESTART_ATTEMPT_PERIOD_SECONDS);
    Some(Restart {
        ignored_exit_codes: policy.ignored_exit_codes.clone(),
        attempt_period_ms: period.saturating_mul(1000),
    })
}

fn dependencies(
    task: &Task,
    container: &Container,
    index: &HashMap<&str, usize>,
) -> Result<Vec<Dependency>, String> {
    let find = |name: &str, field: &str| {
        let on = *index.get(name).ok_or_else(|| {
            format!("{field} of container {} names {name}, which the task lacks", container.name)
        })?;
        if task.containers[on].name == container.name {
            return Err(format!("{field} of container {name} names the container itself"));
        }
        Ok(on)
    };
    let mut found = Vec::new();
    for dependency in &container.depends_on {
        let on = find(&dependency.container_name, "dependsOn")?;
        let target = &task.containers[on];
        let condition = match dependency.condition {
            ContainerCondition::Start => Condition::Start,
            ContainerCondition::Complete => Condition::Complete,
            ContainerCondition::Success => Condition::Success,
            ContainerCondition::Healthy => Condition::Healthy,
        };
        if matches!(condition, Condition::Complete | Condition::Success) && target.essential {
            return Err(format!(
                "container {} waits for {} of {}, which is essential and would stop the task",
                container.name,
                condition.as_str(),
                target.name
            ));
        }
        if condition == Condition::Healthy && target.health_check_type.is_none() {
            return Err(format!(
                "container {} waits for {} to be HEALTHY, which has no health check",
                container.name, target.name
            ));
        }
        found.push(Dependency { on, condition });
    }
    for link in &container.links {
        let name = link.split(':').next().unwrap_or_default();
        found.push(Dependency { on: find(name, "links")?, condition: Condition::Start });
    }
    for volume in &container.volumes_from {
        let on = find(&volume.source_container, "volumesFrom")?;
        found.push(Dependency { on, condition: Condition::Create });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use scheduler_protocol::{Container, ContainerCondition, ContainerDependency, Task};

    use super::{Condition, Plan};

    fn container(name: &str, depends_on: &[(&str, ContainerCondition)]) -> Container {
        let depends_on = depends_on
            .iter()
            .map(|(on, condition)| ContainerDependency {
                container_name: (*on).into(),
                condition: *condition,
            })
            .collect();
        Container {
            name: name.into(),
            image: "app".into(),
            essential: false,
            depends_on,
            ..Container::default()
        }
    }

    fn task(containers: Vec<Container>) -> Task {
        Task {
            arn: "arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef".into(),
            desired_status: "RUNNING".into(),
            family: "app".into(),
            version: "1".into(),
            containers,
            ..Task::default()
        }
    }

    #[test]
    fn links_and_volumes_from_are_dependencies() {
        let mut web = container("web", &[]);
        web.links = vec!["db:database".into()];
        web.volumes_from =
            vec![scheduler_protocol::VolumeFrom { source_container: "data".into(), read_only: true }];
        let plan = Plan::from_task(&task(vec![web, container("db", &[]), container("data", &[])])).unwrap();
        let found: Vec<_> = plan.containers[0].dependencies.iter().map(|d| (d.on, d.condition)).collect();
        assert_eq!(found, [(1, Condition::Start), (2, Condition::Create)]);
        assert_eq!(plan.dependents(1).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_cycle_is_refused() {
        let start = ContainerCondition::Start;
        let error = Plan::from_task(&task(vec![
            container("a", &[("b", start)]),
            container("b", &[("c", start)]),
            container("c", &[("a", start)]),
        ]))
        .unwrap_err();
        assert!(error.contains("cycle"), "{error}");
        assert!(Plan::from_task(&task(vec![container("a", &[("a", start)])])).is_err());
    }

    #[test]
    fn dependencies_that_can_never_be_met_are_refused() {
        let mut essential = container("init", &[]);
        essential.essential = true;
        let complete = task(vec![essential, container("app", &[("init", ContainerCondition::Complete)])]);
        assert!(Plan::from_task(&complete).unwrap_err().contains("essential"));
        let healthy =
            task(vec![container("db", &[]), container("app", &[("db", ContainerCondition::Healthy)])]);
        assert!(Plan::from_task(&healthy).unwrap_err().contains("no health check"));
        let absent = task(vec![container("app", &[("db", ContainerCondition::Start)])]);
        assert!(Plan::from_task(&absent).unwrap_err().contains("which the task lacks"));
    }
}
