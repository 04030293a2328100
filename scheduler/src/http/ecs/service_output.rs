//! Services and their deployments in AWS's shapes; what the waiters look at is counted here.

use std::net::IpAddr;
use std::sync::Arc;

use registry_aws::timestamp::epoch_seconds;
use scheduler_protocol::{ADDRESS_ATTRIBUTE, LISTEN_ATTRIBUTE};
use serde_json::{Value, json};

use super::render::{object, tags};
use crate::addresses::{Address, HostListening, name_of};
use crate::core::Core;
use crate::model::{Deployment, DeploymentStatus, InstanceStatus, Service, ServiceStatus, Task};
use crate::state::State;

/// Hosts of a service's address in one answer.
const MOST_HOSTS: usize = 100;

/// Tasks of a service or deployment that count as running and as pending.
fn counts<'a>(tasks: impl Iterator<Item = &'a Arc<Task>>) -> (usize, usize) {
    let (mut running, mut pending) = (0, 0);
    for task in tasks.filter(|task| task.wants_to_run()) {
        if task.started_at.is_some() { running += 1 } else { pending += 1 }
    }
    (running, pending)
}

pub(super) fn render(core: &Core, state: &State, service: &Service, with_tags: bool) -> Value {
    let names = &core.names;
    let (running, pending) = counts(state.live_tasks_of(&service.key));
    let deployments =
        service.deployments.iter().map(|deployment| render_deployment(core, state, service, deployment));
    let events = state.events(&service.key).rev().map(|event| {
        json!({ "id": event.id, "createdAt": epoch_seconds(event.created_at), "message": event.message })
    });
    let mut configuration = json!(service.configuration);
    let (minimum, maximum) = crate::reconcile::percentages(service);
    configuration["minimumHealthyPercent"] = json!(minimum);
    configuration["maximumPercent"] = json!(maximum);
    if service.configuration.deployment_circuit_breaker.is_none() {
        configuration["deploymentCircuitBreaker"] = json!({ "enable": false, "rollback": false });
    }
    let inactive = service.status == ServiceStatus::Inactive;
    object([
        ("serviceArn", Some(json!(names.service(&service.key)))),
        ("serviceName", Some(json!(service.key.name))),
        ("clusterArn", Some(json!(names.cluster(&service.key.cluster)))),
        ("loadBalancers", Some(json!([]))),
        ("serviceRegistries", Some(json!([]))),
        ("status", Some(json!(service.status))),
        ("desiredCount", Some(json!(service.desired_count))),
        ("runningCount", Some(json!(running))),
        ("pendingCount", Some(json!(pending))),
        ("launchType", Some(json!(service.launch_type))),
        ("platformVersion", service.settings.platform_version.as_ref().map(|text| json!(text))),
        ("taskDefinition", Some(json!(names.definition(&service.primary().definition)))),
        ("deploymentConfiguration", Some(configuration)),
        ("deployments", Some(if inactive { json!([]) } else { deployments.collect() })),
        ("events", Some(events.collect())),
        ("createdAt", Some(epoch_seconds(service.created_at))),
        ("createdBy", Some(json!(service.created_by))),
        ("placementConstraints", Some(json!(service.placement_constraints))),
        ("placementStrategy", Some(json!(service.placement_strategy))),
        ("healthCheckGracePeriodSeconds", service.grace_period_seconds.map(|seconds| json!(seconds))),
        ("schedulingStrategy", Some(json!(service.strategy))),
        ("deploymentController", Some(json!({ "type": "ECS" }))),
        ("enableECSManagedTags", Some(json!(service.enable_managed_tags))),
        ("propagateTags", Some(json!(service.propagate_tags.as_deref().unwrap_or("NONE")))),
        ("enableExecuteCommand", Some(json!(service.enable_execute_command))),
        ("availabilityZoneRebalancing", Some(json!(service.zone_rebalancing))),
        ("tags", Some(if with_tags { tags(&service.tags) } else { json!([]) })),
        ("berthAddress", address(core, state, service)),
    ])
}

/// Where a service with `berth:listen` is to be reached: Berth's own member, which clients of AWS leave aside.
fn address(core: &Core, state: &State, service: &Service) -> Option<Value> {
    let address = Address::of(&service.tags).ok().flatten()?;
    if service.status != ServiceStatus::Active {
        return None;
    }
    let hosts = state.instances_of(&service.key.cluster).filter_map(|instance| {
        let value = |name: &str| {
            let known = instance.all_attributes().find(|attribute| attribute.name == name)?;
            known.value.clone()
        };
        let listen = value(LISTEN_ATTRIBUTE).filter(|_| instance.status != InstanceStatus::Inactive)?;
        // Where it listens everywhere, its own address stands for all of them.
        let own = || value(ADDRESS_ATTRIBUTE);
        let specific: Vec<String> = listen
            .split(' ')
            .filter(|text| text.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified()))
            .map(str::to_owned)
            .collect();
        let addresses = if specific.is_empty() { own().into_iter().collect() } else { specific };
        let (status, reason) = match core.directory.listening(&service.key, &instance.id) {
            HostListening::Unknown => ("UNKNOWN", None),
            HostListening::Listening => ("LISTENING", None),
            HostListening::Failed(reason) => ("FAILED", Some(reason)),
        };
        Some(object([
            ("containerInstanceArn", Some(json!(core.names.instance(&instance.cluster, &instance.id)))),
            ("addresses", Some(json!(addresses))),
            ("connected", Some(json!(instance.connected))),
            ("status", Some(json!(status))),
            ("reason", reason.map(|reason| json!(reason))),
        ]))
    });
    let hosts: Vec<Value> = hosts.take(MOST_HOSTS).collect();
    Some(json!({ "port": address.port, "name": name_of(&service.key), "hosts": hosts }))
}

fn render_deployment(core: &Core, state: &State, service: &Service, deployment: &Deployment) -> Value {
    let own =
        state.live_tasks_of(&service.key).filter(|task| task.deployment.as_ref() == Some(&deployment.id));
    let (running, pending) = counts(own);
    // What is left of an older deployment is only kept until its successor is there.
    let desired = if deployment.status == DeploymentStatus::Primary {
        service.desired_count
    } else {
        i64::try_from(running + pending).unwrap_or(i64::MAX)
    };
    object([
        ("id", Some(json!(deployment.id))),
        ("status", Some(json!(deployment.status.as_str()))),
        ("taskDefinition", Some(json!(core.names.definition(&deployment.definition)))),
        ("desiredCount", Some(json!(desired))),
        ("runningCount", Some(json!(running))),
        ("pendingCount", Some(json!(pending))),
        ("failedTasks", Some(json!(deployment.progress.failed_tasks))),
        ("createdAt", Some(epoch_seconds(deployment.created_at))),
        ("updatedAt", Some(epoch_seconds(deployment.updated_at))),
        ("launchType", Some(json!(service.launch_type))),
        ("rolloutState", Some(json!(deployment.rollout.as_str()))),
        ("rolloutStateReason", Some(json!(deployment.rollout_reason))),
    ])
}
