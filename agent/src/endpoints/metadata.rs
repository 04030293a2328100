//! The task metadata endpoint, version 4 (version 3 is the same with less; it gets the same).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use registry_aws::timestamp::iso8601;
use serde_json::{Map, Value, json};

use super::{Endpoints, Id};
use crate::task::context::TaskContext;
use crate::task::state::{Desired, Health};

pub(super) async fn container((State(endpoints), Path(id), axum::Extension(peer)): Id) -> Response {
    match endpoints.container_entry(&id, peer).await {
        Ok((context, index)) => Json(describe(&endpoints, &context, index).await).into_response(),
        Err(refusal) => refusal,
    }
}

pub(super) async fn task((State(endpoints), Path(id), axum::Extension(peer)): Id) -> Response {
    match endpoints.container_entry(&id, peer).await {
        Ok((context, _)) => Json(describe_task(&endpoints, &context).await).into_response(),
        Err(refusal) => refusal,
    }
}

pub(super) async fn task_with_tags((State(endpoints), Path(id), axum::Extension(peer)): Id) -> Response {
    match endpoints.container_entry(&id, peer).await {
        Ok((context, _)) => {
            let mut task = describe_task(&endpoints, &context).await;
            task["TaskTags"] = json!(context.task().berth_tags);
            Json(task).into_response()
        }
        Err(refusal) => refusal,
    }
}

pub(super) async fn stats((State(endpoints), Path(id), axum::Extension(peer)): Id) -> Response {
    match endpoints.container_entry(&id, peer).await {
        Ok((context, index)) => Json(statistics(&endpoints, &context, index).await).into_response(),
        Err(refusal) => refusal,
    }
}

pub(super) async fn task_stats((State(endpoints), Path(id), axum::Extension(peer)): Id) -> Response {
    let (context, _) = match endpoints.container_entry(&id, peer).await {
        Ok(entry) => entry,
        Err(refusal) => return refusal,
    };
    let mut all = Map::new();
    for (index, container) in context.state().containers.iter().enumerate() {
        if let Some(runtime_id) = &container.runtime_id {
            all.insert(runtime_id.clone(), statistics(&endpoints, &context, index).await);
        }
    }
    Json(Value::Object(all)).into_response()
}

async fn statistics(endpoints: &Endpoints, context: &TaskContext, index: usize) -> Value {
    match &context.state().containers[index].runtime_id {
        Some(runtime_id) => endpoints.0.engine.stats(runtime_id).await.unwrap_or(Value::Null),
        None => Value::Null,
    }
}

async fn describe_task(endpoints: &Endpoints, context: &Arc<TaskContext>) -> Value {
    let (task, state) = (context.task(), context.state());
    let mut containers = Vec::new();
    for index in 0..state.containers.len() {
        containers.push(describe(endpoints, context, index).await);
    }
    let mut shown = json!({
        "Cluster": endpoints.0.cluster,
        "TaskARN": task.arn,
        "Family": task.family,
        "Revision": task.version,
        "DesiredStatus": desired(state.desired),
        "KnownStatus": state.status(),
        "Containers": containers,
        "LaunchType": if task.launch_type.is_empty() { "EC2" } else { &task.launch_type },
    });
    if task.cpu.is_some() || task.memory.is_some() {
        shown["Limits"] = json!({ "CPU": task.cpu, "Memory": task.memory });
    }
    if !task.service_name.is_empty() {
        shown["ServiceName"] = json!(task.service_name);
    }
    for (name, at) in [
        ("PullStartedAt", state.pull_started_at_ms),
        ("PullStoppedAt", state.pull_stopped_at_ms),
        ("ExecutionStoppedAt", state.execution_stopped_at_ms),
    ] {
        if let Some(at) = at {
            shown[name] = json!(iso8601(at));
        }
    }
    shown
}

async fn describe(endpoints: &Endpoints, context: &TaskContext, index: usize) -> Value {
    let (task, state) = (context.task(), context.state());
    let (container, standing) = (&task.containers[index], &state.containers[index]);
    let found = match &standing.runtime_id {
        Some(runtime_id) => endpoints.0.engine.container(runtime_id).await.ok().flatten(),
        None => None,
    };
    let addresses: Vec<String> = found
        .iter()
        .flat_map(|found| &found.addresses)
        .filter(|address| address.is_ipv4())
        .map(ToString::to_string)
        .collect();
    let mode = if task.network_mode.is_empty() { "bridge" } else { &task.network_mode };
    let mut shown = json!({
        "DockerId": standing.runtime_id,
        "Name": container.name,
        "DockerName": context.engine_names[index],
        "Image": container.image,
        "ImageID": standing.image_id,
        "Labels": {
            "com.amazonaws.ecs.cluster": endpoints.0.cluster,
            "com.amazonaws.ecs.container-name": container.name,
            "com.amazonaws.ecs.task-arn": task.arn,
            "com.amazonaws.ecs.task-definition-family": task.family,
            "com.amazonaws.ecs.task-definition-version": task.version,
        },
        "DesiredStatus": desired(state.desired),
        "KnownStatus": standing.status(),
        "Limits": { "CPU": container.cpu.max(2), "Memory": container.memory },
        "Type": "NORMAL",
        "ContainerARN": container.container_arn,
        "Networks": [{ "NetworkMode": mode, "IPv4Addresses": addresses }],
    });
    let ports: Vec<Value> = standing
        .network_bindings
        .iter()
        .map(|binding| {
            json!({
                "ContainerPort": binding.container_port, "Protocol": binding.protocol,
                "HostPort": binding.host_port, "HostIp": binding.bind_ip,
            })
        })
        .collect();
    if !ports.is_empty() {
        shown["Ports"] = json!(ports);
    }
    for (name, at) in [
        ("CreatedAt", standing.created_at_ms),
        ("StartedAt", standing.started_at_ms),
        ("FinishedAt", standing.finished_at_ms),
    ] {
        if let Some(at) = at {
            shown[name] = json!(iso8601(at));
        }
    }
    if let Some(code) = standing.exit_code {
        shown["ExitCode"] = json!(code);
    }
    if standing.restarts > 0 {
        shown["RestartCount"] = json!(standing.restarts);
    }
    if container.health_check_type.is_some() && standing.health != Health::Unknown {
        let since = standing.health_since_ms.map(iso8601);
        shown["Health"] = json!({ "status": standing.health.as_str(), "statusSince": since });
    }
    shown
}

fn desired(desired: Desired) -> &'static str {
    match desired {
        Desired::Running => "RUNNING",
        Desired::Stopped => "STOPPED",
    }
}
