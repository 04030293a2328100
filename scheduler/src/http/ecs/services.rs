//! CreateService, UpdateService, DeleteService, DescribeServices, ListServices.
//!
//! A deployment pins the digests of its images when it is created: all of its tasks run the same bytes,
//! whatever becomes of the tags.

use std::sync::Arc;

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::clusters::active_cluster;
use super::error::{definition_not_found, invalid, service_not_active, service_not_found};
use super::launch_checks::{ask_again, find_definition};
use super::launching::check_launchable;
use super::operation::Operation;
use super::page::{Order, PageInput, pick};
use super::render::failure;
use super::service_input::{ServiceInput, check_configuration};
use super::service_output::render;
use super::{Request, check_tags, input, page};
use crate::addresses::{address_event, check_address};
use crate::core::Core;
use crate::ids::{ClusterName, ServiceKey};
use crate::model::{
    Deployment, DeploymentStatus, LaunchSettings, SchedulingStrategy, Service, ServiceStatus, TaskDefinition,
};
use crate::names::is_name;
use crate::state::{Key, Record, State};

pub(super) async fn create_service(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let raw = input;
    let fingerprint = hex::encode(Sha256::digest(without_token(&raw).to_string().as_bytes()));
    let input: ServiceInput = input::read(raw.clone())?;
    let strategy = input.strategy()?;
    input.check(strategy)?;
    if let Some(configuration) = &input.deployment_configuration {
        check_configuration(configuration, strategy)?;
    }
    check_tags(&input.tags)?;
    let cluster = core.names.parse_cluster(input.cluster.as_deref())?;
    let name = input.service_name.clone().unwrap_or_default();
    if !is_name(&name) {
        return Err(invalid("Invalid service name: letters, digits, underscores and hyphens, at most 255."));
    }
    let key = core.names.parse_service(&name, &cluster)?;
    active_cluster(&core.ledger.read(), &cluster)?;
    let Some(reference) = &input.task_definition else {
        return Err(invalid("TaskDefinition can not be blank."));
    };
    let definition = resolve(core, request, Operation::CreateService, &raw, reference)?;
    check_launchable(&definition, input.launch_type.as_deref(), input.network_configuration.as_ref())?;
    let desired_count = match (strategy, input.desired_count) {
        (SchedulingStrategy::Daemon, _) => 0,
        (SchedulingStrategy::Replica, count) => count.unwrap_or(0),
    };
    let images = core.pin_images_in(&cluster, &definition).await?;
    let now_ms = core.clock.now_ms();
    let service = Service {
        key: key.clone(),
        status: ServiceStatus::Active,
        desired_count,
        strategy,
        configuration: input.deployment_configuration.unwrap_or_default(),
        placement_constraints: input.placement_constraints.unwrap_or_default(),
        placement_strategy: input.placement_strategy.unwrap_or_default(),
        launch_type: input.launch_type.unwrap_or_else(|| "EC2".into()),
        grace_period_seconds: input.health_check_grace_period_seconds,
        propagate_tags: input.propagate_tags,
        enable_managed_tags: input.enable_managed_tags.unwrap_or(false),
        enable_execute_command: input.enable_execute_command.unwrap_or(false),
        zone_rebalancing: input.availability_zone_rebalancing.unwrap_or_else(|| "DISABLED".into()),
        settings: LaunchSettings { network_configuration: None, platform_version: input.platform_version },
        tags: input.tags,
        created_at: now_ms,
        created_by: request.caller.arn().to_owned(),
        client_token: input.client_token,
        fingerprint,
        deployments: vec![Deployment::new(definition.key.clone(), images, now_ms)],
        reported: Default::default(),
    };
    core.ledger
        .change(move |draft| {
            active_cluster(draft.state(), &service.key.cluster)?;
            let known = draft.state().service(&service.key).cloned();
            match known.as_ref().map(|known| known.status) {
                Some(ServiceStatus::Active)
                    if known.is_some_and(|known| known.fingerprint == service.fingerprint) =>
                {
                    return Ok(());
                }
                Some(ServiceStatus::Active) => {
                    return Err(invalid("Creation of service was not idempotent."));
                }
                Some(ServiceStatus::Draining) => {
                    return Err(invalid("Unable to Start a service that is still Draining."));
                }
                Some(ServiceStatus::Inactive) | None => {}
            }
            check_address(draft.state(), &service.key, &service.tags, &definition)?;
            // The history of a namesake is not this one's.
            let old: Vec<String> = draft.state().events(&service.key).map(|event| event.id.clone()).collect();
            for event in old {
                draft.remove(Key::Event(service.key.clone(), event));
            }
            let event = address_event(&service.key, None, &service);
            let key = service.key.clone();
            draft.put(Record::Service(Arc::new(service)));
            if let Some(event) = event {
                draft.add_event(&key, event);
            }
            Ok(())
        })
        .await?;
    describe(core, &key)
}

/// A repetition of a request may carry another token, or none.
fn without_token(input: &Value) -> Value {
    let mut input = input.clone();
    if let Some(members) = input.as_object_mut() {
        members.remove("clientToken");
    }
    input
}

/// The definition that the service is to run. A bare family is resolved once, and the gate asked about the result.
fn resolve(
    core: &Core,
    request: Request<'_>,
    operation: Operation,
    raw: &Value,
    text: &str,
) -> Result<Arc<TaskDefinition>, AwsError> {
    let reference = core.names.parse_definition(text)?;
    let definition = find_definition(core, text).ok_or_else(definition_not_found)?;
    if reference.revision.is_none() {
        ask_again(core, request, operation, raw, &definition)?;
    }
    if !definition.is_active() {
        return Err(super::error::client("TaskDefinition is inactive"));
    }
    Ok(definition)
}

pub(super) async fn update_service(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let raw = input;
    let input: ServiceInput = input::read(raw.clone())?;
    let cluster = core.names.parse_cluster(input.cluster.as_deref())?;
    let key = core.names.parse_service(input.service.as_deref().unwrap_or_default(), &cluster)?;
    let service = active_service(&core.ledger.read(), &key)?;
    input.check(service.strategy)?;
    let definition = match &input.task_definition {
        Some(text) => Some(resolve(core, request, Operation::UpdateService, &raw, text)?),
        None => core.ledger.read().definition(&service.primary().definition).cloned(),
    };
    let definition = definition.ok_or_else(definition_not_found)?;
    check_launchable(&definition, None, input.network_configuration.as_ref())?;
    let starts_anew = input.force_new_deployment || definition.key != service.primary().definition;
    let images = if starts_anew { Some(core.pin_images_in(&key.cluster, &definition).await?) } else { None };
    let of_change = key.clone();
    core.ledger
        .change(move |draft| {
            let now_ms = draft.now_ms;
            let mut service = Service::clone(&*active_service(draft.state(), &of_change)?);
            check_address(draft.state(), &of_change, &service.tags, &definition)?;
            let configured = input.deployment_configuration.is_some();
            settle(&mut service, input);
            if configured {
                check_configuration(&service.configuration, service.strategy)?;
            }
            if let Some(images) = images {
                deploy(&mut service, Deployment::new(definition.key.clone(), images, now_ms));
            } else if let Some(primary) = service.deployments.first_mut() {
                primary.updated_at = now_ms;
                // An update ends the waiting after failures. These count on: the deployment is the same.
                primary.progress.failed_waves = 0;
                primary.progress.retry_at = 0;
                primary.progress.unplaced_at = None;
            }
            draft.put(Record::Service(Arc::new(service)));
            Ok::<_, AwsError>(())
        })
        .await?;
    describe(core, &key)
}

fn settle(service: &mut Service, input: ServiceInput) {
    fn set<T>(known: &mut T, new: Option<T>) {
        if let Some(new) = new {
            *known = new;
        }
    }
    set(&mut service.desired_count, input.desired_count);
    let configuration = input.deployment_configuration.map(|new| merge(&service.configuration, new));
    set(&mut service.configuration, configuration);
    set(&mut service.placement_constraints, input.placement_constraints);
    set(&mut service.placement_strategy, input.placement_strategy);
    set(&mut service.enable_managed_tags, input.enable_managed_tags);
    set(&mut service.enable_execute_command, input.enable_execute_command);
    set(&mut service.zone_rebalancing, input.availability_zone_rebalancing);
    if input.health_check_grace_period_seconds.is_some() {
        service.grace_period_seconds = input.health_check_grace_period_seconds;
    }
    if input.propagate_tags.is_some() {
        service.propagate_tags = input.propagate_tags;
    }
    service.reported.steady = false;
}

/// Members that an update leaves out stay as they are.
fn merge(
    known: &crate::model::DeploymentConfiguration,
    new: crate::model::DeploymentConfiguration,
) -> crate::model::DeploymentConfiguration {
    crate::model::DeploymentConfiguration {
        deployment_circuit_breaker: new.deployment_circuit_breaker.or(known.deployment_circuit_breaker),
        maximum_percent: new.maximum_percent.or(known.maximum_percent),
        minimum_healthy_percent: new.minimum_healthy_percent.or(known.minimum_healthy_percent),
        alarms: new.alarms.or_else(|| known.alarms.clone()),
        strategy: new.strategy.or_else(|| known.strategy.clone()),
        bake_time_in_minutes: new.bake_time_in_minutes.or(known.bake_time_in_minutes),
        lifecycle_hooks: new.lifecycle_hooks,
        linear_configuration: new.linear_configuration,
        canary_configuration: new.canary_configuration,
        early_success_criteria: new.early_success_criteria,
    }
}

fn deploy(service: &mut Service, deployment: Deployment) {
    for older in &mut service.deployments {
        older.status = DeploymentStatus::Active;
    }
    service.deployments.insert(0, deployment);
}

/// The service, unless it does not exist or is going.
fn active_service(state: &State, key: &ServiceKey) -> Result<Arc<Service>, AwsError> {
    active_cluster(state, &key.cluster)?;
    let service = state.service(key).ok_or_else(service_not_found)?;
    if service.status == ServiceStatus::Active { Ok(Arc::clone(service)) } else { Err(service_not_active()) }
}

#[derive(Deserialize)]
struct DeleteService {
    cluster: Option<String>,
    service: String,
    #[serde(default)]
    force: bool,
}

pub(super) async fn delete_service(core: &Arc<Core>, input: Value) -> Result<Value, AwsError> {
    let request: DeleteService = input::read(input)?;
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    let key = core.names.parse_service(&request.service, &cluster)?;
    let of_change = key.clone();
    core.ledger
        .change(move |draft| {
            active_cluster(draft.state(), &of_change.cluster)?;
            let service = draft.state().service(&of_change).cloned().ok_or_else(service_not_found)?;
            if service.status != ServiceStatus::Active {
                return Ok(());
            }
            let scaled = service.strategy == SchedulingStrategy::Replica && service.desired_count > 0;
            if scaled && !request.force {
                return Err(invalid("The service cannot be stopped while it is scaled above 0."));
            }
            let now_ms = draft.now_ms;
            draft.edit_service(&of_change, |service| {
                service.status = ServiceStatus::Draining;
                service.desired_count = 0;
                for deployment in &mut service.deployments {
                    deployment.updated_at = now_ms;
                }
            });
            Ok(())
        })
        .await?;
    describe(core, &key)
}

#[derive(Deserialize)]
struct DescribeServices {
    cluster: Option<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

pub(super) fn describe_services(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: DescribeServices = input::read(input)?;
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    if request.services.is_empty() {
        return Err(invalid("Services cannot be empty."));
    }
    if request.services.len() > 10 {
        return Err(invalid("Services can have at most 10 items."));
    }
    let with_tags = request.include.iter().any(|one| one == "TAGS");
    let state = core.ledger.read();
    active_cluster(&state, &cluster)?;
    let (mut services, mut failures) = (Vec::new(), Vec::new());
    for text in &request.services {
        let key = core.names.parse_service(text, &cluster)?;
        match state.service(&key) {
            Some(service) => services.push(render(core, &state, service, with_tags)),
            None => failures.push(failure(core.names.service(&key).as_str(), "MISSING")),
        }
    }
    Ok(json!({ "services": services, "failures": failures }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListServices {
    cluster: Option<String>,
    launch_type: Option<String>,
    scheduling_strategy: Option<String>,
    resource_management_type: Option<String>,
    #[serde(flatten)]
    page: PageInput,
}

pub(super) fn list_services(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: ListServices = input::read(input)?;
    let cluster: ClusterName = core.names.parse_cluster(request.cluster.as_deref())?;
    let state = core.ledger.read();
    active_cluster(&state, &cluster)?;
    let wanted = state.services_of(&cluster).filter(|service| {
        service.status != ServiceStatus::Inactive
            && request.launch_type.as_deref().is_none_or(|kind| service.launch_type == kind)
            && request.scheduling_strategy.as_deref().is_none_or(|kind| service.strategy.as_str() == kind)
            // ECS manages none of them by itself.
            && request.resource_management_type.as_deref().is_none_or(|kind| kind == "CUSTOMER")
    });
    let keyed =
        wanted.map(|service| (service.key.name.to_string(), core.names.service(&service.key).to_string()));
    let (arns, next) = pick(keyed, Order::Ascending, &request.page)?;
    Ok(page::render("serviceArns", arns, next))
}

fn describe(core: &Core, key: &ServiceKey) -> Result<Value, AwsError> {
    let state = core.ledger.read();
    let service = state.service(key).ok_or_else(service_not_found)?;
    Ok(json!({ "service": render(core, &state, service, true) }))
}
