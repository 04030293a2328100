//! RunTask and StartTask: from a request to tasks on their way to agents.
//!
//! A bare family means one revision, found once: what was authorized is what runs. The tasks and what their
//! agents are to be told are one commit.

use std::sync::Arc;

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::clusters::active_cluster;
use super::error::{client, conflict, definition_not_found, instance_not_found, invalid, unsupported};
use super::launch_checks::{ask_again, find_definition};
use super::operation::Operation;
use super::task_definitions::own_role;
use super::{Request, check_tags, input, render};
use crate::core::Core;
use crate::definition::{check_resources, is_fargate_only, parse_cpu, parse_memory};
use crate::ids::{ClusterName, InstanceId, TaskId};
use crate::launch::Launch;
use crate::model::{
    ClientToken, ImagePin, InstanceStatus, PlacementConstraint, PlacementStrategy, Tag, TaskDefinition,
    TaskOverrides,
};
use crate::reconcile::{check_constraints, placement_request, strategies};
use crate::state::{Draft, Record};

const MOST_TASKS: i64 = 10;
const LONGEST_OVERRIDES: usize = 8192;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Input {
    cluster: Option<String>,
    task_definition: String,
    count: Option<i64>,
    container_instances: Vec<String>,
    overrides: TaskOverrides,
    group: Option<String>,
    started_by: Option<String>,
    launch_type: Option<String>,
    capacity_provider_strategy: Vec<Value>,
    network_configuration: Option<Value>,
    placement_constraints: Vec<PlacementConstraint>,
    placement_strategy: Vec<PlacementStrategy>,
    propagate_tags: Option<String>,
    #[serde(rename = "enableECSManagedTags")]
    enable_managed_tags: bool,
    enable_execute_command: bool,
    tags: Vec<Tag>,
    client_token: Option<String>,
    volume_configurations: Vec<Value>,
}

/// Tasks that came about, and what stood against the others.
struct Launched {
    tasks: Vec<TaskId>,
    failures: Vec<Value>,
}

pub(super) async fn run_task(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let fingerprint = hex::encode(Sha256::digest(input.to_string().as_bytes()));
    let raw = input;
    let input: Input = input::read(raw.clone())?;
    let count = input.count.unwrap_or(1);
    if !(1..=MOST_TASKS).contains(&count) {
        return Err(invalid("Count must be between 1 and 10."));
    }
    if !input.container_instances.is_empty() {
        return Err(invalid("Container instances are named in StartTask, not in RunTask."));
    }
    let prepared = prepare(core, request, Operation::RunTask, &raw, &input).await?;
    let token = input.client_token.as_ref().map(|token| ClientToken {
        key: format!("RunTask {} {} {token}", request.caller.principal_uid(), prepared.cluster),
        fingerprint,
        tasks: Vec::new(),
        created_at: 0,
    });
    let count = u32::try_from(count).unwrap_or(1);
    let launched = core
        .ledger
        .change(move |draft| {
            if let Some(before) = repeated(draft, token.as_ref())? {
                return Ok::<_, AwsError>(before);
            }
            let launched = place_and_start(draft, &prepared, count)?;
            if let Some(token) = token {
                let token = ClientToken { tasks: launched.tasks.clone(), created_at: draft.now_ms, ..token };
                draft.put(Record::Token(Arc::new(token)));
            }
            Ok(launched)
        })
        .await?;
    Ok(answer(core, launched))
}

pub(super) async fn start_task(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let raw = input;
    let input: Input = input::read(raw.clone())?;
    if input.container_instances.is_empty() {
        return Err(invalid("Container instances cannot be empty."));
    }
    if input.container_instances.len() > 10 {
        return Err(invalid("Container instances can have at most 10 items."));
    }
    let prepared = prepare(core, request, Operation::StartTask, &raw, &input).await?;
    let parse = |text: &String| core.names.parse_instance(text, &prepared.cluster);
    let instances: Vec<InstanceId> = input.container_instances.iter().map(parse).collect::<Result<_, _>>()?;
    let names = core.names.clone();
    let launched = core
        .ledger
        .change(move |draft| {
            active_cluster(draft.state(), &prepared.cluster)?;
            let mut launched = Launched { tasks: Vec::new(), failures: Vec::new() };
            for instance in &instances {
                match start_on(draft, &prepared, instance)? {
                    Ok(task) => launched.tasks.push(task),
                    Err(reason) => {
                        let arn = names.instance(&prepared.cluster, instance);
                        launched.failures.push(render::failure(arn.as_str(), reason));
                    }
                }
            }
            Ok::<_, AwsError>(launched)
        })
        .await?;
    Ok(answer(core, launched))
}

/// A request that is complete but for the places.
struct Prepared {
    core: Arc<Core>,
    cluster: ClusterName,
    launch: Launch,
    strategies: Vec<scheduler_engine::Strategy>,
}

async fn prepare(
    core: &Arc<Core>,
    request: Request<'_>,
    operation: Operation,
    raw: &Value,
    input: &Input,
) -> Result<Prepared, AwsError> {
    let cluster = core.names.parse_cluster(input.cluster.as_deref())?;
    let reference = core.names.parse_definition(&input.task_definition)?;
    let mut overrides = input.overrides.clone();
    check_request(core, input, &mut overrides)?;
    let default_role = {
        let state = core.ledger.read();
        active_cluster(&state, &cluster)?.default_execution_role().map(str::to_owned)
    };
    let definition = find_definition(core, &input.task_definition).ok_or_else(definition_not_found)?;
    if reference.revision.is_none() {
        ask_again(core, request, operation, raw, &definition)?;
    }
    check_definition(&definition, input, &overrides)?;
    check_constraints(&input.placement_constraints)?;
    let strategies = strategies(&input.placement_strategy)?;
    let pins: Vec<ImagePin> = core.pin_images(&definition, &overrides, default_role.as_deref()).await?;
    let mut launch = Launch::new(&cluster, Arc::clone(&definition), overrides, pins, default_role.as_deref());
    if let Some(group) = &input.group {
        launch.group.clone_from(group);
    }
    launch.started_by.clone_from(&input.started_by);
    launch.launch_type = input.launch_type.clone().unwrap_or_else(|| "EC2".into());
    launch.constraints.clone_from(&input.placement_constraints);
    launch.enable_execute_command = input.enable_execute_command;
    launch.tags.clone_from(&input.tags);
    if input.propagate_tags.as_deref() == Some("TASK_DEFINITION") {
        let of_definition =
            definition.tags.iter().filter(|tag| input.tags.iter().all(|own| own.key != tag.key));
        launch.tags.extend(of_definition.cloned());
    }
    if input.enable_managed_tags {
        launch.tags.push(Tag { key: "aws:ecs:clusterName".into(), value: cluster.to_string() });
    }
    // Refused now rather than inside the commit.
    placement_request(&core.ledger.read(), &launch, Vec::new(), 1, 0)?;
    Ok(Prepared { core: Arc::clone(core), cluster, launch, strategies })
}

fn check_request(core: &Core, input: &Input, overrides: &mut TaskOverrides) -> Result<(), AwsError> {
    match input.launch_type.as_deref() {
        None | Some("EC2" | "EXTERNAL") => {}
        Some(other @ ("FARGATE" | "MANAGED_INSTANCES")) => {
            return Err(unsupported(&format!("the launch type {other}")));
        }
        Some(other) => return Err(invalid(format!("Invalid launch type: {other}."))),
    }
    if !input.capacity_provider_strategy.is_empty() {
        return Err(unsupported("capacity providers"));
    }
    if !input.volume_configurations.is_empty() {
        return Err(unsupported("volumes that are configured at launch"));
    }
    check_tags(&input.tags)?;
    if input.started_by.as_ref().is_some_and(|text| text.len() > 128) {
        return Err(invalid("startedBy can have at most 128 characters."));
    }
    if input.group.as_ref().is_some_and(|group| group.is_empty() || group.len() > 255) {
        return Err(invalid("A task group has 1 to 255 characters."));
    }
    if input.group.as_ref().is_some_and(|group| group.starts_with("service:")) {
        return Err(invalid("The task group of a service cannot be used."));
    }
    if input.client_token.as_ref().is_some_and(|token| token.is_empty() || token.len() > 64) {
        return Err(invalid("clientToken has 1 to 64 characters."));
    }
    let length = serde_json::to_string(&*overrides).map_or(usize::MAX, |text| text.len());
    if length > LONGEST_OVERRIDES {
        return Err(invalid(format!("Container Overrides length must be at most {LONGEST_OVERRIDES}.")));
    }
    for role in [&mut overrides.task_role_arn, &mut overrides.execution_role_arn].into_iter().flatten() {
        *role = own_role(core, role)?;
    }
    if let Some(cpu) = &mut overrides.cpu {
        *cpu = parse_cpu(cpu).ok_or_else(|| client("Invalid 'cpu' setting for task."))?.to_string();
    }
    if let Some(memory) = &mut overrides.memory {
        *memory =
            parse_memory(memory).ok_or_else(|| client("Invalid 'memory' setting for task."))?.to_string();
    }
    Ok(())
}

fn check_definition(
    definition: &TaskDefinition,
    input: &Input,
    overrides: &TaskOverrides,
) -> Result<(), AwsError> {
    if !definition.is_active() {
        return Err(client("TaskDefinition is inactive"));
    }
    check_launchable(definition, input.launch_type.as_deref(), input.network_configuration.as_ref())?;
    for container in &overrides.container_overrides {
        let name = container.name.as_deref().unwrap_or_default();
        if definition.container(name).is_none() {
            return Err(invalid(format!(
                "Override for container named {name} is not a container in the TaskDefinition."
            )));
        }
        if container.memory.is_some_and(|memory| memory < 6) || container.cpu.is_some_and(|cpu| cpu < 0) {
            return Err(invalid(format!("Invalid override of cpu or memory for container {name}.")));
        }
        check_resources(
            container.resource_requirements.as_ref().and_then(Value::as_array).map_or(&[], Vec::as_slice),
        )?;
    }
    Ok(())
}

/// Whether the definition can run where Berth runs tasks at all.
pub(super) fn check_launchable(
    definition: &TaskDefinition,
    launch_type: Option<&str>,
    network: Option<&Value>,
) -> Result<(), AwsError> {
    let launch_type = launch_type.unwrap_or("EC2");
    if is_fargate_only(&definition.content) {
        return Err(invalid(format!("Task definition does not support launch_type {launch_type}.")));
    }
    if definition.content.network_mode() == "awsvpc" {
        return Err(unsupported("the network mode awsvpc"));
    }
    for container in &definition.content.container_definitions {
        check_resources(&container.resource_requirements)?;
    }
    if network.is_some() {
        return Err(invalid(
            "Network Configuration is not valid for the given networkMode of this task definition.",
        ));
    }
    Ok(())
}

/// What the same token brought about before; a conflict if the request was another one.
fn repeated(draft: &Draft<'_>, token: Option<&ClientToken>) -> Result<Option<Launched>, AwsError> {
    let Some(token) = token else { return Ok(None) };
    let Some(before) = draft.state().token(&token.key) else { return Ok(None) };
    if before.fingerprint != token.fingerprint {
        return Err(conflict("The clientToken was used for a request with other parameters."));
    }
    Ok(Some(Launched { tasks: before.tasks.clone(), failures: Vec::new() }))
}

fn place_and_start(draft: &mut Draft<'_>, prepared: &Prepared, count: u32) -> Result<Launched, AwsError> {
    let Prepared { core, cluster, launch, strategies } = prepared;
    active_cluster(draft.state(), cluster)?;
    if let Some(reason) = launch.known_failure() {
        let tasks = (0..count).map(|_| launch.fail(draft, reason).id.clone()).collect();
        return Ok(Launched { tasks, failures: Vec::new() });
    }
    let seed = u64::from_be_bytes(registry_runtime::random_bytes());
    let request = placement_request(draft.state(), launch, strategies.clone(), count, seed)?;
    let Some(placement) = draft.place(cluster, &request) else {
        return Err(invalid("No Container Instances were found in your cluster."));
    };
    let tasks = placement
        .placed
        .iter()
        .map(|instance| launch.start(draft, &InstanceId::new(instance.as_str())).id.clone())
        .collect();
    let failures = placement.refusals.iter().map(|refusal| {
        let arn = core.names.instance(cluster, &InstanceId::new(refusal.instance.as_str()));
        render::failure(arn.as_str(), refusal.reason.as_str())
    });
    Ok(Launched { tasks, failures: failures.collect() })
}

/// Starts a task on a named instance, or says what stands against it.
fn start_on(
    draft: &mut Draft<'_>,
    prepared: &Prepared,
    instance: &InstanceId,
) -> Result<Result<TaskId, &'static str>, AwsError> {
    let found = draft.state().instance(instance).filter(|found| found.cluster == prepared.cluster);
    match found.map(|found| found.status) {
        None => return Ok(Err("MISSING")),
        Some(InstanceStatus::Inactive) => return Ok(Err("INACTIVE")),
        Some(InstanceStatus::Active | InstanceStatus::Draining) => {}
    }
    if let Some(reason) = prepared.launch.known_failure() {
        return Ok(Ok(prepared.launch.fail(draft, reason).id.clone()));
    }
    let request = placement_request(draft.state(), &prepared.launch, Vec::new(), 1, 0)?;
    let cluster = draft.state().placement(&prepared.cluster).ok_or_else(instance_not_found)?;
    if let Err(reason) = scheduler_engine::fits(cluster, &request, &instance.as_str().into()) {
        return Ok(Err(reason.as_str()));
    }
    Ok(Ok(prepared.launch.start(draft, instance).id.clone()))
}

fn answer(core: &Core, launched: Launched) -> Value {
    let state = core.ledger.read();
    let tasks: Vec<Value> = launched
        .tasks
        .iter()
        .filter_map(|id| state.task(id))
        .map(|task| render::task(&core.names, &state, task, true))
        .collect();
    json!({ "tasks": tasks, "failures": launched.failures })
}
