//! What must be allowed for operations that lead to tasks: the operation itself, with what the tasks would
//! open of their host, and iam:PassRole on every role they would have (`threats.md` 59 and 66).

use std::sync::Arc;

use policies_identity::{Check, Identity};
use registry_aws::AwsError;
use registry_types::Arn;
use serde_json::Value;

use super::Request;
use super::checks::{family_arn, tagging_check, with_request_tags, with_resource_tags};
use super::input::text;
use super::operation::Operation;
use crate::core::Core;
use crate::definition::HostAccess;
use crate::ids::{ClusterName, ServiceKey};
use crate::launch::effective_roles;
use crate::model::{DEFAULT_EXECUTION_ROLE, DefinitionContent, TaskDefinition, TaskOverrides};

/// The service that a task's roles are passed to.
const TASKS_SERVICE: &str = "ecs-tasks.amazonaws.com";

/// RegisterTaskDefinition.
pub(super) fn register_checks(core: &Core, input: &Value) -> Vec<Check> {
    let action = Operation::RegisterTaskDefinition.action();
    let family = text(input, "family").and_then(|family| family_arn(core, family));
    let check = family.clone().map_or_else(|| Check::any(action), |arn| Check::on(action, arn));
    let check = with_request_tags(check, input);
    // A content that cannot be read opens nothing: it is refused before it is stored.
    let content: DefinitionContent = super::read(input.clone()).unwrap_or_default();
    let mut checks = vec![with_sizes(HostAccess::of(&content).add_to(check), &content)];
    checks.extend(tagging_check(Operation::RegisterTaskDefinition, family, input));
    let roles = [content.task_role_arn, content.execution_role_arn];
    checks.extend(pass_roles(core, roles.into_iter().flatten()));
    checks
}

/// RunTask, StartTask and CreateService.
pub(super) fn launch_checks(core: &Core, operation: Operation, input: &Value) -> Vec<Check> {
    let definition = text(input, "taskDefinition").and_then(|text| find_definition(core, text));
    launch_checks_of(core, operation, input, definition.as_ref())
}

fn launch_checks_of(
    core: &Core,
    operation: Operation,
    input: &Value,
    definition: Option<&Arc<TaskDefinition>>,
) -> Vec<Check> {
    let cluster = core.names.parse_cluster(text(input, "cluster")).ok();
    let resource = match operation {
        Operation::CreateService => {
            cluster.as_ref().zip(text(input, "serviceName")).and_then(|(cluster, name)| {
                Some(core.names.service(&core.names.parse_service(name, cluster).ok()?))
            })
        }
        _ => text(input, "taskDefinition").and_then(|text| core.names.parse_definition(text).ok()).map(
            |reference| match definition {
                Some(definition) => core.names.definition(&definition.key),
                None => core.names.definition_reference(&reference),
            },
        ),
    };
    let tagged = match operation {
        Operation::CreateService => resource.clone(),
        // The tasks have no ids yet.
        _ => cluster.as_ref().map(|cluster| core.names.tasks(cluster)),
    };
    let overrides = super::read(input["overrides"].clone()).unwrap_or_default();
    let action = operation.action();
    let base = resource.map_or_else(|| Check::any(action), |arn| Check::on(action, arn));
    let base = with_request_tags(base, input);
    let mut checks = checks_for(core, base, cluster.as_ref(), definition, &overrides);
    checks.extend(tagging_check(operation, tagged, input));
    checks
}

/// UpdateService: with the definition it names, or the one the service has.
pub(super) fn update_service_checks(core: &Core, input: &Value) -> Vec<Check> {
    let named = text(input, "taskDefinition").map(|text| find_definition(core, text));
    let definition = named.unwrap_or_else(|| {
        let state = core.ledger.read();
        let service = state.service(&service_key(core, input)?)?;
        state.definition(&service.primary().definition).cloned()
    });
    update_service_checks_of(core, input, definition.as_ref())
}

fn update_service_checks_of(
    core: &Core,
    input: &Value,
    definition: Option<&Arc<TaskDefinition>>,
) -> Vec<Check> {
    let action = Operation::UpdateService.action();
    let cluster = core.names.parse_cluster(text(input, "cluster")).ok();
    let key = service_key(core, input);
    let service = key.as_ref().and_then(|key| core.ledger.read().service(key).cloned());
    let base = key.map_or_else(|| Check::any(action), |key| Check::on(action, core.names.service(&key)));
    let base = with_resource_tags(base, service.as_ref().map(|service| &*service.tags).unwrap_or_default());
    checks_for(core, base, cluster.as_ref(), definition, &TaskOverrides::default())
}

fn service_key(core: &Core, input: &Value) -> Option<ServiceKey> {
    let cluster = core.names.parse_cluster(text(input, "cluster")).ok()?;
    core.names.parse_service(text(input, "service")?, &cluster).ok()
}

/// A bare family may mean a newer revision than when the gate was asked: it is asked about the one that is taken, with
/// everything else that the request says.
///
/// # Errors
/// The gate's.
pub(super) fn ask_again(
    core: &Core,
    request: Request<'_>,
    operation: Operation,
    input: &Value,
    definition: &Arc<TaskDefinition>,
) -> Result<(), AwsError> {
    let checks = match operation {
        Operation::UpdateService => update_service_checks_of(core, input, Some(definition)),
        _ => launch_checks_of(core, operation, input, Some(definition)),
    };
    for check in checks {
        core.identity.authorize(request.ctx, request.caller, operation.name(), &check)?;
    }
    Ok(())
}

/// A cluster's default execution role is passed by whoever sets it.
pub(super) fn default_role_checks(core: &Core, input: &Value) -> Vec<Check> {
    let settings = input["settings"].as_array().into_iter().flatten();
    let roles = settings.filter(|setting| text(setting, "name") == Some(DEFAULT_EXECUTION_ROLE));
    pass_roles(core, roles.filter_map(|setting| text(setting, "value").map(str::to_owned)))
}

/// The checks for one revision.
fn checks_for(
    core: &Core,
    base: Check,
    cluster: Option<&ClusterName>,
    definition: Option<&Arc<TaskDefinition>>,
    overrides: &TaskOverrides,
) -> Vec<Check> {
    let mut base = base;
    let mut default_role = None;
    if let Some(cluster) = cluster {
        base = base.with("ecs:cluster", core.names.cluster(cluster).as_str());
        let state = core.ledger.read();
        default_role =
            state.cluster(cluster).and_then(|found| found.default_execution_role().map(str::to_owned));
    }
    let Some(definition) = definition else {
        let named = [overrides.task_role_arn.clone(), overrides.execution_role_arn.clone()];
        let mut checks = vec![base];
        checks.extend(pass_roles(core, named.into_iter().flatten()));
        return checks;
    };
    base = base.with("ecs:task-definition", core.names.definition(&definition.key).as_str());
    base = with_sizes(HostAccess::of(&definition.content).add_to(base), &definition.content);
    let (task_role, execution_role) = effective_roles(definition, overrides, default_role.as_deref());
    let mut checks = vec![base];
    checks.extend(pass_roles(core, [task_role, execution_role].into_iter().flatten()));
    checks
}

/// The revision that a reference means at this moment: the newest ACTIVE one of a bare family.
pub(super) fn find_definition(core: &Core, reference: &str) -> Option<Arc<TaskDefinition>> {
    let reference = core.names.parse_definition(reference).ok()?;
    let state = core.ledger.read();
    let mut revisions = state.revisions(&reference.family).rev();
    match reference.revision {
        Some(revision) => revisions.find(|definition| definition.key.revision == revision).cloned(),
        None => revisions.find(|definition| definition.is_active()).cloned(),
    }
}

fn pass_roles(core: &Core, roles: impl Iterator<Item = String>) -> Vec<Check> {
    let mut arns: Vec<Arn> = roles.filter_map(|role| role_arn(core, &role)).collect();
    arns.sort_unstable();
    arns.dedup();
    arns.iter().map(|arn| Identity::pass_role_check(arn, TASKS_SERVICE)).collect()
}

/// A role's ARN; a short name is one of this account.
pub(super) fn role_arn(core: &Core, role: &str) -> Option<Arn> {
    if role.starts_with("arn:") {
        return role.parse().ok();
    }
    crate::definition::check_role(role).ok()?;
    Some(Arn::global("iam", &core.names.account, &format!("role/{role}")))
}

fn with_sizes(check: Check, content: &DefinitionContent) -> Check {
    let mut check = check;
    for (key, size) in [("ecs:task-cpu", &content.cpu), ("ecs:task-memory", &content.memory)] {
        if let Some(size) = size {
            check = check.with(key, size.clone());
        }
    }
    check
}
