//! StopTask, DescribeTasks, ListTasks.

use std::sync::Arc;

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::clusters::active_cluster;
use super::error::{invalid, service_not_found, task_not_found, unsupported};
use super::page::{Order, PageInput, pick};
use super::{input, page, render};
use crate::core::Core;
use crate::ids::{ServiceName, TaskId};
use crate::model::{DesiredStatus, StopCode, Task};
use crate::reconcile;

const LONGEST_REASON: usize = 255;

#[derive(Deserialize)]
struct StopTask {
    cluster: Option<String>,
    task: String,
    reason: Option<String>,
}

pub(super) async fn stop_task(core: &Arc<Core>, input: Value) -> Result<Value, AwsError> {
    let request: StopTask = input::read(input)?;
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    let id = core.names.parse_task(&request.task, &cluster)?;
    if request.reason.as_ref().is_some_and(|reason| reason.chars().count() > LONGEST_REASON) {
        return Err(invalid("The reason can have at most 255 characters."));
    }
    let reason =
        request.reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| "Task stopped by user".into());
    let task = core
        .ledger
        .change(move |draft| {
            active_cluster(draft.state(), &cluster)?;
            draft.state().task(&id).filter(|task| task.cluster == cluster).ok_or_else(task_not_found)?;
            reconcile::stop_task(draft, &id, StopCode::UserInitiated, &reason).ok_or_else(task_not_found)
        })
        .await?;
    Ok(json!({ "task": render::task(&core.names, &core.ledger.read(), &task, true) }))
}

#[derive(Deserialize)]
struct DescribeTasks {
    cluster: Option<String>,
    #[serde(default)]
    tasks: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

pub(super) fn describe_tasks(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: DescribeTasks = input::read(input)?;
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    if request.tasks.is_empty() {
        return Err(invalid("Tasks cannot be empty."));
    }
    if request.tasks.len() > 100 {
        return Err(invalid("Tasks can have at most 100 items."));
    }
    let ids: Vec<TaskId> =
        request.tasks.iter().map(|text| core.names.parse_task(text, &cluster)).collect::<Result<_, _>>()?;
    let with_tags = request.include.iter().any(|one| one == "TAGS");
    let state = core.ledger.read();
    active_cluster(&state, &cluster)?;
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for id in &ids {
        match state.task(id).filter(|task| task.cluster == cluster) {
            Some(task) => tasks.push(render::task(&core.names, &state, task, with_tags)),
            None => failures.push(render::failure(core.names.task(&cluster, id).as_str(), "MISSING")),
        }
    }
    Ok(json!({ "tasks": tasks, "failures": failures }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListTasks {
    cluster: Option<String>,
    container_instance: Option<String>,
    family: Option<String>,
    started_by: Option<String>,
    service_name: Option<String>,
    daemon_name: Option<String>,
    desired_status: Option<String>,
    launch_type: Option<String>,
    #[serde(flatten)]
    page: PageInput,
}

pub(super) fn list_tasks(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: ListTasks = input::read(input)?;
    if request.daemon_name.is_some() {
        return Err(unsupported("daemons"));
    }
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    let desired = match request.desired_status.as_deref() {
        None | Some("RUNNING") => Some(DesiredStatus::Running),
        Some("STOPPED") => Some(DesiredStatus::Stopped),
        // ECS knows the word, and no task ever has it.
        Some("PENDING") => None,
        Some(other) => return Err(invalid(format!("Invalid desired status: {other}."))),
    };
    let instance = request
        .container_instance
        .as_deref()
        .map(|text| core.names.parse_instance(text, &cluster))
        .transpose()?;
    let service =
        request.service_name.as_deref().map(|text| core.names.parse_service(text, &cluster)).transpose()?;
    let state = core.ledger.read();
    active_cluster(&state, &cluster)?;
    if service.as_ref().is_some_and(|key| state.service(key).is_none()) {
        return Err(service_not_found());
    }
    let name: Option<&ServiceName> = service.as_ref().map(|key| &key.name);
    let started_by = request.started_by.as_deref();
    let wanted = |task: &&Arc<Task>| {
        Some(task.desired_status) == desired
            && instance.as_ref().is_none_or(|instance| task.instance.as_ref() == Some(instance))
            && name.is_none_or(|name| task.service.as_ref() == Some(name))
            && request.family.as_deref().is_none_or(|family| task.definition.family.as_str() == family)
            && started_by.is_none_or(|by| task.started_by.as_deref() == Some(by))
            && request.launch_type.as_deref().is_none_or(|kind| task.launch_type == kind)
    };
    let keyed = state
        .tasks_of(&cluster)
        .filter(wanted)
        .map(|task| (task.id.to_string(), core.names.task(&cluster, &task.id).to_string()));
    let (arns, next) = pick(keyed, Order::Ascending, &request.page)?;
    Ok(page::render("taskArns", arns, next))
}
