//! Records in AWS's shapes. Times are seconds since the Unix epoch.

use registry_aws::timestamp::epoch_seconds;
use serde_json::{Map, Value, json};

use crate::definition::is_fargate_only;
use crate::model::{
    Attribute, Cluster, Instance, PortSet, ServiceStatus, Tag, Task, TaskContainer, TaskDefinition,
};
use crate::names::Names;
use crate::state::State;

/// An object whose absent members are left out.
pub(super) fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let present = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

pub(super) fn time(at: Option<i64>) -> Option<Value> {
    at.map(epoch_seconds)
}

pub(super) fn failure(arn: &str, reason: &str) -> Value {
    json!({ "arn": arn, "reason": reason })
}

pub(super) fn tags(tags: &[Tag]) -> Value {
    json!(tags)
}

pub(super) fn cluster(names: &Names, state: &State, cluster: &Cluster, include: &[String]) -> Value {
    let wants = |what: &str| include.iter().any(|one| one == what);
    let (mut running, mut pending) = (0, 0);
    for task in state.tasks_of(&cluster.name).filter(|task| !task.is_stopped()) {
        if task.started_at.is_some() { running += 1 } else { pending += 1 }
    }
    let instances = state.instances_of(&cluster.name);
    let registered = instances.filter(|one| one.status != crate::model::InstanceStatus::Inactive).count();
    let services = || state.services_of(&cluster.name);
    let draining = services().filter(|one| one.status == ServiceStatus::Draining).count();
    let active = services().filter(|one| one.status == ServiceStatus::Active).count();
    let statistics = || {
        let figures = [
            ("runningEC2TasksCount", running),
            ("runningFargateTasksCount", 0),
            ("pendingEC2TasksCount", pending),
            ("pendingFargateTasksCount", 0),
            ("activeEC2ServiceCount", active),
            ("activeFargateServiceCount", 0),
            ("drainingEC2ServiceCount", draining),
            ("drainingFargateServiceCount", 0),
        ];
        figures
            .into_iter()
            .map(|(name, value)| json!({"name": name, "value": value.to_string()}))
            .collect::<Value>()
    };
    object([
        ("clusterArn", Some(json!(names.cluster(&cluster.name)))),
        ("clusterName", Some(json!(cluster.name))),
        ("status", Some(json!(cluster.status))),
        ("registeredContainerInstancesCount", Some(json!(registered))),
        ("runningTasksCount", Some(json!(running))),
        ("pendingTasksCount", Some(json!(pending))),
        ("activeServicesCount", Some(json!(active))),
        ("statistics", Some(if wants("STATISTICS") { statistics() } else { json!([]) })),
        ("tags", Some(if wants("TAGS") { tags(&cluster.tags) } else { json!([]) })),
        ("settings", Some(if wants("SETTINGS") { json!(cluster.settings) } else { json!([]) })),
        ("capacityProviders", Some(json!([]))),
        ("defaultCapacityProviderStrategy", Some(json!([]))),
        ("configuration", cluster.configuration.clone().filter(|_| wants("CONFIGURATIONS"))),
    ])
}

pub(super) fn task_definition(names: &Names, definition: &TaskDefinition) -> Value {
    let content = &definition.content;
    let mut rendered = json!(content);
    let compatibilities: &[&str] = match content.network_mode() {
        _ if is_fargate_only(content) => &["EC2", "FARGATE"],
        "awsvpc" => &["EC2"],
        _ => &["EXTERNAL", "EC2"],
    };
    let more = object([
        ("taskDefinitionArn", Some(json!(names.definition(&definition.key)))),
        ("revision", Some(json!(definition.key.revision))),
        ("status", Some(json!(definition.status))),
        ("requiresAttributes", Some(json!(definition.requires_attributes))),
        ("compatibilities", Some(json!(compatibilities))),
        ("registeredAt", time(Some(definition.registered_at))),
        ("deregisteredAt", time(definition.deregistered_at)),
        ("registeredBy", Some(json!(definition.registered_by))),
    ]);
    if let (Value::Object(rendered), Value::Object(more)) = (&mut rendered, more) {
        rendered.extend(more);
    }
    rendered
}

pub(super) fn task(names: &Names, state: &State, task: &Task, with_tags: bool) -> Value {
    let instance = task.instance.as_ref().and_then(|id| state.instance(id));
    let containers: Value = task.containers.iter().map(|one| container(names, task, one)).collect();
    let connectivity_at = instance.and_then(|one| one.connectivity_at).map(|at| at.max(task.created_at));
    let connectivity = instance.map(|one| if one.connected { "CONNECTED" } else { "DISCONNECTED" });
    object([
        ("attachments", Some(json!([]))),
        ("attributes", Some(attributes_of_task(instance.map(|one| &**one)))),
        ("availabilityZone", instance.and_then(|one| one.zone.as_ref()).map(|zone| json!(zone))),
        ("clusterArn", Some(json!(names.cluster(&task.cluster)))),
        ("connectivity", connectivity.filter(|_| !task.is_stopped()).map(|word| json!(word))),
        ("connectivityAt", time(connectivity_at.filter(|_| !task.is_stopped()))),
        ("containerInstanceArn", task.instance.as_ref().map(|id| json!(names.instance(&task.cluster, id)))),
        ("containers", Some(containers)),
        ("cpu", Some(json!(task.cpu.to_string()))),
        ("createdAt", time(Some(task.created_at))),
        ("desiredStatus", Some(json!(task.desired_status))),
        ("enableExecuteCommand", Some(json!(task.enable_execute_command))),
        ("executionStoppedAt", time(task.execution_stopped_at)),
        ("group", Some(json!(task.group))),
        ("healthStatus", Some(json!(task.health()))),
        ("lastStatus", Some(json!(task.last_status))),
        ("launchType", Some(json!(task.launch_type))),
        ("memory", Some(json!(task.memory.to_string()))),
        ("overrides", Some(json!(*task.overrides))),
        ("pullStartedAt", time(task.pull_started_at)),
        ("pullStoppedAt", time(task.pull_stopped_at)),
        ("startedAt", time(task.started_at)),
        ("startedBy", task.started_by.as_ref().map(|by| json!(by))),
        ("stopCode", task.stop_code.map(|code| json!(code.as_str()))),
        ("stoppedAt", time(task.stopped_at)),
        ("stoppedReason", task.stopped_reason.as_ref().map(|reason| json!(reason))),
        ("stoppingAt", time(task.stopping_at)),
        ("tags", Some(if with_tags { tags(&task.tags) } else { json!([]) })),
        ("taskArn", Some(json!(names.task(&task.cluster, &task.id)))),
        ("taskDefinitionArn", Some(json!(names.definition(&task.definition)))),
        ("version", Some(json!(task.version))),
    ])
}

fn attributes_of_task(instance: Option<&Instance>) -> Value {
    let architecture = instance.and_then(|one| {
        one.all_attributes()
            .find(|attribute| attribute.name == "ecs.cpu-architecture")
            .and_then(|one| one.value.clone())
    });
    architecture.map_or_else(|| json!([]), |value| json!([{"name": "ecs.cpu-architecture", "value": value}]))
}

fn container(names: &Names, task: &Task, container: &TaskContainer) -> Value {
    let state = &container.state;
    let health = container.has_health_check.then(|| state.health.as_deref().unwrap_or("UNKNOWN"));
    object([
        ("containerArn", Some(json!(names.container(&task.cluster, &task.id, &container.uuid)))),
        ("taskArn", Some(json!(names.task(&task.cluster, &task.id)))),
        ("name", Some(json!(container.name))),
        ("image", Some(json!(container.image))),
        ("imageDigest", image_digest(container).map(|digest| json!(digest))),
        ("runtimeId", state.runtime_id.as_ref().map(|id| json!(id))),
        ("lastStatus", Some(json!(state.last_status.as_deref().unwrap_or("PENDING")))),
        ("exitCode", state.exit_code.map(|code| json!(code))),
        ("reason", state.reason.as_ref().map(|reason| json!(reason))),
        ("networkBindings", Some(json!(state.network_bindings))),
        ("networkInterfaces", Some(json!([]))),
        ("healthStatus", Some(json!(health.unwrap_or("UNKNOWN")))),
        ("cpu", Some(json!(container.cpu.to_string()))),
        ("memory", container.memory.map(|size| json!(size.to_string()))),
        ("memoryReservation", container.memory_reservation.map(|size| json!(size.to_string()))),
        ("gpuIds", Some(json!(container.gpu_ids)).filter(|_| !container.gpu_ids.is_empty())),
    ])
}

/// What the agent reported, else what was pinned.
fn image_digest(container: &TaskContainer) -> Option<&str> {
    match (&container.state.image_digest, &container.pin) {
        (Some(digest), _) => Some(digest),
        (None, crate::model::ImagePin::Pinned(image)) => Some(&image.digest),
        (None, _) => None,
    }
}

pub(super) fn instance(names: &Names, state: &State, instance: &Instance, with_tags: bool) -> Value {
    let id = instance.id.as_str().into();
    let remaining = state.placement(&instance.cluster).and_then(|cluster| cluster.remaining(&id));
    let mut free = match remaining {
        Some(left) => resources(left.cpu, left.memory, &left.ports.tcp, &left.ports.udp),
        None => resources(instance.cpu, instance.memory, &instance.reserved_tcp, &instance.reserved_udp),
    };
    let mut registered =
        resources(instance.cpu, instance.memory, &instance.reserved_tcp, &instance.reserved_udp);
    let (mut running, mut pending) = (0, 0);
    let mut gpus = instance.gpus.clone();
    for task in state.live_tasks_on(&instance.id) {
        if task.started_at.is_some() {
            running += 1
        } else {
            pending += 1
        }
        if task.holds_resources() {
            gpus.retain(|id| !task.containers.iter().any(|container| container.gpu_ids.contains(id)));
        }
    }
    if !instance.gpus.is_empty() {
        free.push(set("GPU", &gpus));
        registered.push(set("GPU", &instance.gpus));
    }
    object([
        ("containerInstanceArn", Some(json!(names.instance(&instance.cluster, &instance.id)))),
        ("version", Some(json!(instance.version))),
        (
            "versionInfo",
            Some(object([
                ("agentVersion", instance.agent_version.as_ref().map(|text| json!(text))),
                ("agentHash", instance.agent_hash.as_ref().map(|text| json!(text))),
                ("dockerVersion", instance.docker_version.as_ref().map(|text| json!(text))),
            ])),
        ),
        ("remainingResources", Some(json!(free))),
        ("registeredResources", Some(json!(registered))),
        ("status", Some(json!(instance.status))),
        ("agentConnected", Some(json!(instance.connected))),
        ("runningTasksCount", Some(json!(running))),
        ("pendingTasksCount", Some(json!(pending))),
        ("attributes", Some(attributes(instance))),
        ("registeredAt", time(Some(instance.registered_at))),
        ("attachments", Some(json!([]))),
        ("tags", Some(if with_tags { tags(&instance.tags) } else { json!([]) })),
    ])
}

fn attributes(instance: &Instance) -> Value {
    let all: Vec<&Attribute> = instance.all_attributes().collect();
    json!(all)
}

fn resources(cpu: i64, memory: i64, tcp: &PortSet, udp: &PortSet) -> Vec<Value> {
    let integer = |name: &str, value: i64| json!({"name": name, "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": value});
    let ports = |ports: &PortSet| ports.iter().map(u16::to_string).collect::<Vec<String>>();
    vec![
        integer("CPU", cpu),
        integer("MEMORY", memory),
        set("PORTS", &ports(tcp)),
        set("PORTS_UDP", &ports(udp)),
    ]
}

fn set(name: &str, values: &[String]) -> Value {
    json!({
        "name": name, "type": "STRINGSET", "doubleValue": 0.0, "longValue": 0, "integerValue": 0,
        "stringSetValue": values,
    })
}
