//! A task in the making: a definition with everything that is laid over it, before it has a place.

use std::collections::HashSet;
use std::sync::Arc;

use crate::definition::{Demand, gpus};
use crate::ids::{ClusterName, DeploymentId, InstanceId, ServiceName, TaskId};
use crate::model::{
    ContainerState, DesiredStatus, Errand, ImagePin, LastStatus, PlacementConstraint, StopCode, Tag, Task,
    TaskContainer, TaskDefinition, TaskOverrides,
};
use crate::state::{Draft, State};

#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) cluster: ClusterName,
    pub(crate) definition: Arc<TaskDefinition>,
    pub(crate) overrides: Arc<TaskOverrides>,
    /// Of each container, in the definition's order.
    pub(crate) pins: Vec<ImagePin>,
    pub(crate) group: String,
    pub(crate) started_by: Option<String>,
    pub(crate) launch_type: String,
    pub(crate) service: Option<ServiceName>,
    pub(crate) deployment: Option<DeploymentId>,
    pub(crate) task_role: Option<String>,
    pub(crate) execution_role: Option<String>,
    pub(crate) enable_execute_command: bool,
    pub(crate) tags: Vec<Tag>,
    /// Beside those of the definition.
    pub(crate) constraints: Vec<PlacementConstraint>,
}

impl Launch {
    /// What the definition and its overrides say, for the cluster with this default execution role.
    pub(crate) fn new(
        cluster: &ClusterName,
        definition: Arc<TaskDefinition>,
        overrides: TaskOverrides,
        pins: Vec<ImagePin>,
        default_execution_role: Option<&str>,
    ) -> Self {
        let (task_role, execution_role) = effective_roles(&definition, &overrides, default_execution_role);
        Self {
            cluster: cluster.clone(),
            group: format!("family:{}", definition.key.family),
            definition,
            overrides: Arc::new(overrides),
            pins,
            started_by: None,
            launch_type: "EC2".into(),
            service: None,
            deployment: None,
            task_role,
            execution_role,
            enable_execute_command: false,
            tags: Vec::new(),
            constraints: Vec::new(),
        }
    }

    pub(crate) fn demand(&self) -> Demand {
        Demand::of(&self.definition.content, &self.overrides)
    }

    /// Puts a task on an instance and tells its agent.
    pub(crate) fn start(&self, draft: &mut Draft<'_>, instance: &InstanceId) -> Arc<Task> {
        let mut task = self.task(draft.now_ms, Some(instance.clone()));
        self.assign_gpus(draft.state(), instance, &mut task);
        let task = draft.put_task(task);
        draft.enqueue(instance, &task.id, Errand::Start);
        task
    }

    /// Gives the containers GPUs that no other task on the instance has.
    fn assign_gpus(&self, state: &State, instance: &InstanceId, task: &mut Task) {
        let Some(instance) = state.instance(instance).filter(|instance| !instance.gpus.is_empty()) else {
            return;
        };
        let others = state.live_tasks_on(&instance.id).filter(|task| task.holds_resources());
        let taken: HashSet<&String> =
            others.flat_map(|task| &task.containers).flat_map(|container| &container.gpu_ids).collect();
        let mut free = instance.gpus.iter().filter(|id| !taken.contains(id)).cloned();
        let definitions = &self.definition.content.container_definitions;
        for (container, definition) in task.containers.iter_mut().zip(definitions) {
            let count = gpus(definition, self.overrides.container(&definition.name));
            container.gpu_ids = free.by_ref().take(count as usize).collect();
        }
    }

    /// The reason why no agent has to be asked: an image that is known to be missing.
    pub(crate) fn known_failure(&self) -> Option<&str> {
        self.pins.iter().find_map(|pin| match pin {
            ImagePin::Missing(reason) => Some(reason.as_str()),
            ImagePin::Foreign | ImagePin::Pinned(_) => None,
        })
    }

    /// Records a task that failed before it had a place.
    pub(crate) fn fail(&self, draft: &mut Draft<'_>, reason: &str) -> Arc<Task> {
        let now_ms = draft.now_ms;
        let mut task = self.task(now_ms, None);
        task.desired_status = DesiredStatus::Stopped;
        task.last_status = LastStatus::Stopped;
        task.stop_code = Some(StopCode::TaskFailedToStart);
        task.stopped_reason = Some(reason.to_owned());
        task.stopping_at = Some(now_ms);
        task.execution_stopped_at = Some(now_ms);
        task.stopped_at = Some(now_ms);
        for container in &mut task.containers {
            container.state.last_status = Some("STOPPED".into());
            if let ImagePin::Missing(reason) = &container.pin {
                container.state.reason = Some(reason.clone());
            }
        }
        draft.put_task(task)
    }

    fn task(&self, now_ms: i64, instance: Option<InstanceId>) -> Task {
        let content = &self.definition.content;
        let demand = self.demand();
        let containers =
            content.container_definitions.iter().zip(self.pins.iter().cloned()).map(|(container, pin)| {
                let over = self.overrides.container(&container.name);
                TaskContainer {
                    name: container.name.clone(),
                    uuid: uuid::Uuid::new_v4().to_string(),
                    image: container.image.clone(),
                    pin,
                    essential: container.is_essential(),
                    has_health_check: container.is_checked(),
                    cpu: over.and_then(|over| over.cpu).unwrap_or(container.cpu),
                    memory: over.and_then(|over| over.memory).or(container.memory),
                    memory_reservation: over
                        .and_then(|over| over.memory_reservation)
                        .or(container.memory_reservation),
                    gpu_ids: Vec::new(),
                    state: ContainerState::default(),
                }
            });
        Task {
            id: TaskId::new(&registry_runtime::random_id()),
            cluster: self.cluster.clone(),
            definition: self.definition.key.clone(),
            instance,
            service: self.service.clone(),
            deployment: self.deployment.clone(),
            group: self.group.clone(),
            started_by: self.started_by.clone(),
            launch_type: self.launch_type.clone(),
            desired_status: DesiredStatus::Running,
            last_status: LastStatus::Pending,
            stop_code: None,
            stopped_reason: None,
            containers: containers.collect(),
            cpu: demand.cpu,
            memory: demand.memory,
            cpu_limit: self.overrides.cpu.clone().or_else(|| content.cpu.clone()),
            memory_limit: self.overrides.memory.clone().or_else(|| content.memory.clone()),
            tcp_ports: demand.tcp_ports,
            udp_ports: demand.udp_ports,
            task_role: self.task_role.clone(),
            execution_role: self.execution_role.clone(),
            enable_execute_command: self.enable_execute_command,
            tags: self.tags.clone(),
            epoch: 1,
            version: 1,
            counted_healthy: false,
            created_at: now_ms,
            pull_started_at: None,
            pull_stopped_at: None,
            started_at: None,
            stopping_at: None,
            execution_stopped_at: None,
            stopped_at: None,
            overrides: Arc::clone(&self.overrides),
        }
    }
}

/// Task role and execution role after overrides; a definition without an execution role gets the cluster's.
pub(crate) fn effective_roles(
    definition: &TaskDefinition,
    overrides: &TaskOverrides,
    default_execution_role: Option<&str>,
) -> (Option<String>, Option<String>) {
    let content = &definition.content;
    let task_role = overrides.task_role_arn.clone().or_else(|| content.task_role_arn.clone());
    let execution_role = overrides
        .execution_role_arn
        .clone()
        .or_else(|| content.execution_role_arn.clone())
        .or_else(|| default_execution_role.map(str::to_owned));
    (task_role, execution_role)
}
