//! Container instances as operators see them: list, describe, drain, deregister.

use std::sync::Arc;

use registry_aws::AwsError;
use scheduler_engine::Expression;
use serde::Deserialize;
use serde_json::{Value, json};

use super::clusters::active_cluster;
use super::error::{access_denied, instance_not_found, invalid};
use super::page::{Order, PageInput, pick};
use super::render::{failure, instance as render_instance};
use super::{Request, input, page};
use crate::agents::own_instance_only;
use crate::core::Core;
use crate::ids::{ClusterName, InstanceId};
use crate::model::{Instance, InstanceStatus};
use crate::reconcile::give_up_all;
use crate::state::{Draft, State};

#[derive(Deserialize)]
struct ListContainerInstances {
    cluster: Option<String>,
    filter: Option<String>,
    status: Option<String>,
    #[serde(flatten)]
    page: PageInput,
}

pub(super) fn list_container_instances(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: ListContainerInstances = input::read(input)?;
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    let status = match request.status.as_deref() {
        None => None,
        Some("ACTIVE") => Some(InstanceStatus::Active),
        Some("DRAINING") => Some(InstanceStatus::Draining),
        // States of EC2's own, in which no instance is here.
        Some("REGISTERING" | "DEREGISTERING" | "REGISTRATION_FAILED") => Some(InstanceStatus::Inactive),
        Some(other) => return Err(invalid(format!("Invalid status: {other}."))),
    };
    let filter =
        request.filter.as_deref().filter(|filter| !filter.is_empty()).map(Expression::parse).transpose();
    let filter = filter.map_err(|error| invalid(format!("Invalid filter: {error}")))?;
    let state = core.ledger.read();
    active_cluster(&state, &cluster)?;
    let placement = state.placement(&cluster);
    let wanted = state.instances_of(&cluster).filter(|instance| {
        instance.status != InstanceStatus::Inactive
            && status.is_none_or(|status| instance.status == status)
            && filter.as_ref().is_none_or(|filter| {
                placement.is_some_and(|placement| placement.matches(&instance.id.as_str().into(), filter))
            })
    });
    let keyed = wanted.map(|one| (one.id.to_string(), core.names.instance(&cluster, &one.id).to_string()));
    let (arns, next) = pick(keyed, Order::Ascending, &request.page)?;
    Ok(page::render("containerInstanceArns", arns, next))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeContainerInstances {
    cluster: Option<String>,
    #[serde(default)]
    container_instances: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

pub(super) fn describe_container_instances(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: DescribeContainerInstances = input::read(input)?;
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    let ids = ids(core, &cluster, &request.container_instances, 100)?;
    let with_tags = request.include.iter().any(|one| one == "TAGS");
    let state = core.ledger.read();
    active_cluster(&state, &cluster)?;
    Ok(describe(core, &state, &cluster, &ids, with_tags))
}

fn ids(
    core: &Core,
    cluster: &ClusterName,
    named: &[String],
    most: usize,
) -> Result<Vec<InstanceId>, AwsError> {
    if named.is_empty() {
        return Err(invalid("Container instances cannot be empty."));
    }
    if named.len() > most {
        return Err(invalid(format!("Container instances can have at most {most} items.")));
    }
    named.iter().map(|text| core.names.parse_instance(text, cluster)).collect()
}

fn describe(core: &Core, state: &State, cluster: &ClusterName, ids: &[InstanceId], with_tags: bool) -> Value {
    let (mut instances, mut failures) = (Vec::new(), Vec::new());
    for id in ids {
        match state.instance(id).filter(|instance| instance.cluster == *cluster) {
            Some(instance) => instances.push(render_instance(&core.names, state, instance, with_tags)),
            None => failures.push(failure(core.names.instance(cluster, id).as_str(), "MISSING")),
        }
    }
    json!({ "containerInstances": instances, "failures": failures })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeregisterContainerInstance {
    cluster: Option<String>,
    container_instance: String,
    #[serde(default)]
    force: bool,
}

/// An operator may deregister any host that policies let him; a host only itself.
pub(super) async fn deregister_container_instance(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let input: DeregisterContainerInstance = input::read(input)?;
    let cluster = core.names.parse_cluster(input.cluster.as_deref())?;
    let id = core.names.parse_instance(&input.container_instance, &cluster)?;
    let caller = request.caller.clone();
    let instance = core
        .ledger
        .change(move |draft| {
            active_cluster(draft.state(), &cluster)?;
            let found = draft.state().instance(&id).filter(|found| found.cluster == cluster).cloned();
            let instance = found.ok_or_else(instance_not_found)?;
            own_instance_only(draft.state(), &caller, &id)?;
            if instance.status == InstanceStatus::Inactive {
                return Ok(instance);
            }
            if draft.state().live_tasks_on(&id).next().is_some() && !input.force {
                return Err(invalid("Found running tasks on the instance."));
            }
            Ok(deregister(draft, &id, "Container instance deregistration forced by user").unwrap_or(instance))
        })
        .await?;
    Ok(json!({ "containerInstance": render_instance(&core.names, &core.ledger.read(), &instance, true) }))
}

/// Takes an instance out of the cluster; its tasks are over.
pub(crate) fn deregister(draft: &mut Draft<'_>, id: &InstanceId, reason: &str) -> Option<Arc<Instance>> {
    give_up_all(draft, id, reason);
    let now_ms = draft.now_ms;
    draft.edit_instance(id, |instance| {
        instance.status = InstanceStatus::Inactive;
        instance.deregistered_at = Some(now_ms);
        instance.connected = false;
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateContainerInstancesState {
    cluster: Option<String>,
    #[serde(default)]
    container_instances: Vec<String>,
    status: String,
}

pub(super) async fn update_container_instances_state(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let input: UpdateContainerInstancesState = input::read(input)?;
    let cluster = core.names.parse_cluster(input.cluster.as_deref())?;
    let status = match input.status.as_str() {
        "ACTIVE" => InstanceStatus::Active,
        "DRAINING" => InstanceStatus::Draining,
        _ => return Err(invalid("Container instance status should be one of [ACTIVE, DRAINING]")),
    };
    let ids = ids(core, &cluster, &input.container_instances, 10)?;
    let (caller, of_change, named) = (request.caller.clone(), cluster.clone(), ids.clone());
    core.ledger
        .change(move |draft| {
            active_cluster(draft.state(), &of_change)?;
            for id in &named {
                let known = draft.state().instance(id).filter(|known| known.cluster == of_change);
                let Some(known) = known.cloned() else { continue };
                own_instance_only(draft.state(), &caller, id)?;
                if known.status == InstanceStatus::Inactive {
                    return Err(invalid("The container instance is INACTIVE."));
                }
                if caller.instance().is_some() && status == InstanceStatus::Active {
                    return Err(access_denied(
                        "A host may drain itself; that tasks come to it again is for an operator to say.",
                    ));
                }
                if known.status != status {
                    draft.edit_instance(id, |instance| instance.status = status);
                }
            }
            Ok::<_, AwsError>(())
        })
        .await?;
    Ok(describe(core, &core.ledger.read(), &cluster, &ids, true))
}
