//! The operations that agents call: register, find the websockets, report.
//!
//! The first registration binds instance and principal. Reports of tasks that are over are answered like
//! any other: there is nothing in them that an agent could do better.

use std::collections::BTreeSet;
use std::sync::Arc;

use registry_aws::AwsError;
use scheduler_protocol::{
    DiscoverPollEndpointResponse, RegisterContainerInstanceRequest, Resource, StateChangeResponse,
    SubmitContainerStateChangeRequest, SubmitTaskStateChangeRequest,
};
use serde_json::{Value, json};

use super::clusters::active_cluster;
use super::error::{access_denied, instance_inactive, invalid, task_not_found};
use super::{Request, input, render};
use crate::agents::{bound_instance, instance_of_task};
use crate::core::Core;
use crate::ids::{ClusterName, InstanceId, TaskId};
use crate::model::{Attribute, Instance, InstanceStatus, PortSet};
use crate::reconcile::{Report, apply_container_report, apply_report, give_up_all};
use crate::state::{Draft, Record};
use crate::store::{Enrolment, StoreError};

const ZONE: &str = "ecs.availability-zone";
const MOST_ATTRIBUTES: usize = 300;

pub(super) fn discover_poll_endpoint(core: &Core, request: Request<'_>) -> Result<Value, AwsError> {
    // Whoever is no host asks for the sake of one, which may be elsewhere.
    let elsewhere = core.config.endpoint.clone().filter(|_| request.caller.instance().is_none());
    let endpoint = elsewhere.or_else(|| request.ctx.base_url(core.config.advertise.as_deref()));
    let endpoint = endpoint.ok_or_else(|| invalid("The request names no host to come back to."))?;
    let response = DiscoverPollEndpointResponse {
        telemetry_endpoint: endpoint.clone(),
        endpoint,
        berth_lease_seconds: i64::try_from(core.config.lease.as_secs()).ok(),
    };
    serde_json::to_value(response).map_err(|_| AwsError::server())
}

pub(super) async fn register_container_instance(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let input: RegisterContainerInstanceRequest = input::read(input)?;
    let cluster = core.names.parse_cluster(input.cluster.as_deref())?;
    let fixed = fixed_by_operators(core, request, &cluster).await?;
    if fixed.enrolment.as_ref().is_some_and(|enrolment| enrolment.cluster != cluster) {
        return Err(access_denied("This host's join token was for another cluster."));
    }
    let named = input.container_instance_arn.as_deref().filter(|arn| !arn.is_empty());
    let named = named.map(|arn| core.names.parse_instance(arn, &cluster)).transpose()?;
    let fresh = describe_host(core, request, &cluster, &input, &fixed)?;
    let caller = request.caller.clone();
    let instance = core
        .ledger
        .change(move |draft| {
            active_cluster(draft.state(), &cluster)?;
            let known = match named {
                Some(id) => Some(bound_instance(draft.state(), &caller, &id)?),
                None => repeated(draft, &fresh),
            };
            match known {
                Some(known) if known.status == InstanceStatus::Inactive => Err(instance_inactive()),
                Some(known) => Ok(register_again(draft, &known, fresh)),
                None => Ok(register_anew(draft, fresh)),
            }
        })
        .await?;
    core.liveness.touch(&instance.id);
    Ok(json!({ "containerInstance": render::instance(&core.names, &core.ledger.read(), &instance, true) }))
}

/// What an agent is not believed about.
struct Fixed {
    /// Of a host that joined by a token.
    enrolment: Option<Enrolment>,
    /// Names of the attributes that tokens of this cluster give: whoever has them has them by a token.
    names: Vec<String>,
}

async fn fixed_by_operators(
    core: &Core,
    request: Request<'_>,
    cluster: &ClusterName,
) -> Result<Fixed, AwsError> {
    let read = async {
        let enrolment = match request.caller.instance() {
            Some(host) => core.store.enrolment(host).await?,
            None => None,
        };
        Ok::<_, StoreError>(Fixed { enrolment, names: core.store.operator_attributes(cluster).await? })
    };
    read.await.map_err(|error| {
        tracing::error!(error = %error, "an enrolment could not be read");
        AwsError::server()
    })
}

/// Refuses a host that offers more than the token by which it joined allows.
fn check_bounds(enrolment: Option<&Enrolment>, cpu: i64, memory: i64) -> Result<(), AwsError> {
    let Some(enrolment) = enrolment else { return Ok(()) };
    for (name, unit, offered, most) in
        [("CPU", "units", cpu, enrolment.max_cpu), ("MEMORY", "MiB", memory, enrolment.max_memory)]
    {
        if let Some(most) = most.filter(|most| offered > *most) {
            return Err(invalid(format!(
                "The host registers {offered} {unit} of {name}, and the token by which it joined allows at most {most}."
            )));
        }
    }
    Ok(())
}

fn describe_host(
    core: &Core,
    request: Request<'_>,
    cluster: &ClusterName,
    input: &RegisterContainerInstanceRequest,
    fixed: &Fixed,
) -> Result<Instance, AwsError> {
    let integer = |name: &str| {
        let resource = input.total_resources.iter().find(|resource| resource.name == name);
        resource.and_then(|resource| resource.integer_value.or(resource.long_value)).unwrap_or(0)
    };
    let version = input.version_info.clone().unwrap_or_default();
    let (cpu, memory) = (integer("CPU"), integer("MEMORY"));
    if !(0..=i64::from(i32::MAX)).contains(&cpu) || !(0..=i64::from(i32::MAX)).contains(&memory) {
        return Err(invalid("CPU and MEMORY must not be negative."));
    }
    let enrolment = fixed.enrolment.as_ref();
    check_bounds(enrolment, cpu, memory)?;
    if input.attributes.len() > MOST_ATTRIBUTES {
        return Err(invalid("An instance registers at most 300 attributes."));
    }
    let zone = enrolment.and_then(|enrolment| enrolment.zone.clone());
    Ok(Instance {
        id: InstanceId::new(&registry_runtime::random_id()),
        cluster: cluster.clone(),
        status: InstanceStatus::Active,
        principal: request.caller.principal_uid().to_owned(),
        host: request.caller.instance().map(str::to_owned),
        cpu,
        memory,
        reserved_tcp: ports(&input.total_resources, "PORTS")?,
        reserved_udp: ports(&input.total_resources, "PORTS_UDP")?,
        gpus: gpus(input),
        attributes: attributes(input, fixed),
        custom_attributes: Vec::new(),
        zone,
        agent_version: version.agent_version,
        agent_hash: version.agent_hash,
        docker_version: version.docker_version,
        registered_at: core.clock.now_ms(),
        deregistered_at: None,
        client_token: input.client_token.clone().filter(|token| !token.is_empty()),
        tags: Vec::new(),
        version: 1,
        connected: false,
        connectivity_at: None,
        lost: false,
    })
}

/// What the agent says of itself, under what the operator fixed: that an agent cannot change.
fn attributes(input: &RegisterContainerInstanceRequest, fixed: &Fixed) -> Vec<Attribute> {
    let enrolment = fixed.enrolment.as_ref();
    let mut given: Vec<Attribute> =
        enrolment.map(|enrolment| enrolment.attributes.clone()).unwrap_or_default();
    if let Some(zone) = enrolment.and_then(|enrolment| enrolment.zone.clone()) {
        given.push(Attribute { name: ZONE.into(), value: Some(zone) });
    }
    let mut attributes: Vec<Attribute> = input
        .attributes
        .iter()
        .filter(|attribute| given.iter().all(|given| given.name != attribute.name))
        .filter(|attribute| !fixed.names.contains(&attribute.name))
        // Where a host stands is never for itself to say.
        .filter(|attribute| attribute.name != ZONE)
        .map(|attribute| Attribute { name: attribute.name.clone(), value: attribute.value.clone() })
        .collect();
    attributes.extend(given);
    attributes.sort_unstable();
    attributes.dedup_by(|one, other| one.name == other.name);
    attributes
}

fn ports(resources: &[Resource], name: &str) -> Result<PortSet, AwsError> {
    let resource = resources.iter().find(|resource| resource.name == name);
    let listed = resource.and_then(|resource| resource.string_set_value.as_deref()).unwrap_or_default();
    listed
        .iter()
        .map(|port| port.parse().map_err(|_| invalid(format!("Invalid port in {name}: {port}."))))
        .collect()
}

/// Ids of a host's GPUs: its devices of that type, and the resource of that name.
fn gpus(input: &RegisterContainerInstanceRequest) -> Vec<String> {
    let devices =
        input.platform_devices.iter().filter(|device| device.kind == "GPU").map(|device| &device.id);
    let resources = input.total_resources.iter().filter(|resource| resource.name == "GPU");
    let named = resources.filter_map(|resource| resource.string_set_value.as_ref()).flatten();
    let ids: BTreeSet<String> = devices.chain(named).cloned().collect();
    ids.into_iter().collect()
}

/// The instance that the same request made before: an agent that did not see the answer asks again.
fn repeated(draft: &Draft<'_>, fresh: &Instance) -> Option<Arc<Instance>> {
    let token = fresh.client_token.as_ref()?;
    let same = |known: &&Arc<Instance>| {
        known.client_token.as_ref() == Some(token)
            && known.principal == fresh.principal
            && known.status != InstanceStatus::Inactive
    };
    draft.state().instances_of(&fresh.cluster).find(same).cloned()
}

fn register_again(draft: &mut Draft<'_>, known: &Arc<Instance>, fresh: Instance) -> Arc<Instance> {
    let changed = draft.edit_instance(&known.id, |instance| {
        let before = instance.clone();
        *instance = Instance {
            id: before.id,
            status: before.status,
            custom_attributes: before.custom_attributes,
            registered_at: before.registered_at,
            client_token: before.client_token,
            tags: before.tags,
            version: before.version,
            connected: before.connected,
            connectivity_at: before.connectivity_at,
            lost: before.lost,
            ..fresh
        };
    });
    changed.unwrap_or_else(|| Arc::clone(known))
}

/// An enrolled host has one instance, and keeps it when it comes back without its state. Of the tasks it had it
/// knows nothing: they are over.
fn register_anew(draft: &mut Draft<'_>, fresh: Instance) -> Arc<Instance> {
    let same_host = |one: &&Arc<Instance>| {
        fresh.host.is_some() && one.principal == fresh.principal && one.status != InstanceStatus::Inactive
    };
    let Some(known) = draft.state().instances_of(&fresh.cluster).find(same_host).cloned() else {
        let instance = Arc::new(fresh);
        draft.put(Record::Instance(Arc::clone(&instance)));
        return instance;
    };
    give_up_all(draft, &known.id, "The host registered again without its state");
    let token = fresh.client_token.clone();
    register_again(draft, &known, fresh);
    let changed = draft.edit_instance(&known.id, |instance| instance.client_token = token);
    changed.unwrap_or(known)
}

pub(super) async fn submit_task_state_change(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let report: SubmitTaskStateChangeRequest = input::read(input)?;
    if !matches!(
        report.status.as_str(),
        "" | "PENDING" | "RUNNING" | "STOPPED" | "MANIFEST_PULLED" | "CREATED"
    ) {
        return Err(invalid(format!("Invalid task status: {}.", report.status)));
    }
    let (instance, task) = reported(core, request, report.cluster.as_deref(), &report.task)?;
    core.liveness.touch(&instance);
    let heard = core
        .ledger
        .change(move |draft| Ok::<_, AwsError>(apply_report(draft, &instance, &task, &report)))
        .await?;
    acknowledge(heard)
}

pub(super) async fn submit_container_state_change(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let report: SubmitContainerStateChangeRequest = input::read(input)?;
    let (instance, task) = reported(core, request, report.cluster.as_deref(), &report.task)?;
    core.liveness.touch(&instance);
    let heard = core
        .ledger
        .change(move |draft| {
            Ok::<_, AwsError>(apply_container_report(draft, &instance, &task, &report.change))
        })
        .await?;
    acknowledge(heard)
}

/// Attachments do not exist here; Amazon's agent reports the ones of its tasks all the same.
pub(super) fn submit_attachment_state_changes() -> Result<Value, AwsError> {
    acknowledge(Report::Heard)
}

/// The task that a report is about, if the caller is the host on which it was placed.
fn reported(
    core: &Core,
    request: Request<'_>,
    cluster: Option<&str>,
    task: &str,
) -> Result<(InstanceId, TaskId), AwsError> {
    let cluster = core.names.parse_cluster(cluster)?;
    let task = core.names.parse_task(task, &cluster)?;
    let state = core.ledger.read();
    let instance = instance_of_task(&state, request.caller, &task).ok_or_else(task_not_found)?;
    if instance.cluster != cluster {
        return Err(task_not_found());
    }
    Ok((instance.id.clone(), task))
}

fn acknowledge(report: Report) -> Result<Value, AwsError> {
    match report {
        Report::Heard | Report::Stale => {
            serde_json::to_value(StateChangeResponse { acknowledgment: "ACCEPTED".into() })
                .map_err(|_| AwsError::server())
        }
        Report::Unknown => Err(task_not_found()),
    }
}
