//! RegisterTaskDefinition, DescribeTaskDefinition, DeregisterTaskDefinition and their lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{client, invalid, limit};
use super::launch_checks::role_arn;
use super::page::{Order, PageInput, pick};
use super::{Request, check_tags, input, page, render};
use crate::core::Core;
use crate::definition::{check_role, required_attributes, validate};
use crate::ids::{DefinitionKey, Family};
use crate::model::{DefinitionContent, DefinitionStatus, Tag, TaskDefinition};
use crate::state::{Record, State};

const MOST_REVISIONS: i64 = 1_000_000;

pub(super) async fn register_task_definition(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    let tags: Vec<Tag> = match input.get("tags") {
        Some(tags) if !tags.is_null() => input::read(tags.clone())?,
        _ => Vec::new(),
    };
    check_tags(&tags)?;
    let mut content: DefinitionContent = input::read(input)?;
    validate(&mut content)?;
    for role in [&mut content.task_role_arn, &mut content.execution_role_arn].into_iter().flatten() {
        *role = own_role(core, role)?;
    }
    let registered_by = request.caller.arn().to_owned();
    let requires_attributes = required_attributes(&content);
    let key = core
        .ledger
        .change(move |draft| {
            let family = Family::new(&content.family);
            // Numbers never return: definitions stay when they are deregistered.
            let last = draft.state().revisions(&family).next_back().map_or(0, |newest| newest.key.revision);
            if last >= MOST_REVISIONS {
                return Err(limit("The maximum number of revisions of this family has been reached."));
            }
            let key = DefinitionKey { family, revision: last + 1 };
            draft.put(Record::Definition(Arc::new(TaskDefinition {
                key: key.clone(),
                status: DefinitionStatus::Active,
                content,
                requires_attributes,
                registered_at: draft.now_ms,
                deregistered_at: None,
                registered_by,
                tags,
            })));
            Ok(key)
        })
        .await?;
    describe(core, &key, true)
}

/// A role's ARN in this account. Roles of other accounts cannot be assumed here.
pub(super) fn own_role(core: &Core, role: &str) -> Result<String, AwsError> {
    check_role_or_account(core, role)?;
    role_arn(core, role).map(|arn| arn.as_str().to_owned()).ok_or_else(|| client("Role is not valid."))
}

fn check_role_or_account(core: &Core, role: &str) -> Result<(), AwsError> {
    let account = role.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split(':').next());
    match account {
        Some(account) if account != core.names.account.as_str() => Err(client(format!(
            "The role {role} belongs to another account. Start Berth with account_id = \"{account}\" to use it."
        ))),
        _ => check_role(role),
    }
}

fn describe(core: &Core, key: &DefinitionKey, with_tags: bool) -> Result<Value, AwsError> {
    let state = core.ledger.read();
    let definition = state.definition(key).ok_or_else(|| client("Unable to describe task definition."))?;
    let mut output = json!({ "taskDefinition": render::task_definition(&core.names, definition) });
    if with_tags {
        output["tags"] = render::tags(&definition.tags);
    }
    Ok(output)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    task_definition: String,
    #[serde(default)]
    include: Vec<String>,
}

/// The newest ACTIVE revision for a bare family, else exactly the one that is named.
fn find(core: &Core, state: &State, text: &str) -> Result<Option<Arc<TaskDefinition>>, AwsError> {
    let reference = core.names.parse_definition(text)?;
    let mut revisions = state.revisions(&reference.family).rev();
    Ok(match reference.revision {
        Some(revision) => revisions.find(|definition| definition.key.revision == revision).cloned(),
        None => revisions.find(|definition| definition.is_active()).cloned(),
    })
}

pub(super) fn describe_task_definition(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: Named = input::read(input)?;
    let found = find(core, &core.ledger.read(), &request.task_definition)?;
    let definition = found.ok_or_else(|| client("Unable to describe task definition."))?;
    describe(core, &definition.key, request.include.iter().any(|one| one == "TAGS"))
}

pub(super) async fn deregister_task_definition(core: &Arc<Core>, input: Value) -> Result<Value, AwsError> {
    let request: Named = input::read(input)?;
    let reference = core.names.parse_definition(&request.task_definition)?;
    let Some(revision) = reference.revision else {
        return Err(client("Invalid revision number. Number: null"));
    };
    let key = DefinitionKey { family: reference.family, revision };
    let of_change = key.clone();
    core.ledger
        .change(move |draft| {
            let definition = draft.state().definition(&of_change).cloned();
            let definition =
                definition.ok_or_else(|| client("The specified task definition does not exist."))?;
            let mut definition = TaskDefinition::clone(&definition);
            if definition.is_active() {
                definition.status = DefinitionStatus::Inactive;
                definition.deregistered_at = Some(draft.now_ms);
                draft.put(Record::Definition(Arc::new(definition)));
            }
            Ok::<_, AwsError>(())
        })
        .await?;
    describe(core, &key, false)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    family_prefix: Option<String>,
    status: Option<String>,
    sort: Option<String>,
    #[serde(flatten)]
    page: PageInput,
}

/// `familyPrefix` names a whole family here, as AWS has it.
pub(super) fn list_task_definitions(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: List = input::read(input)?;
    let status = match request.status.as_deref() {
        None | Some("ACTIVE") => Some(DefinitionStatus::Active),
        Some("INACTIVE") => Some(DefinitionStatus::Inactive),
        Some("DELETE_IN_PROGRESS") => None,
        Some(other) => return Err(invalid(format!("Invalid status: {other}."))),
    };
    let order = match request.sort.as_deref() {
        None | Some("ASC") => Order::Ascending,
        Some("DESC") => Order::Descending,
        Some(other) => return Err(invalid(format!("Invalid sort: {other}."))),
    };
    let state = core.ledger.read();
    let family = request.family_prefix.as_deref();
    let wanted = state.definitions().filter(|definition| {
        family.is_none_or(|family| definition.key.family.as_str() == family)
            && Some(definition.status) == status
    });
    // Revisions are compared as numbers.
    let keyed = wanted.map(|definition| {
        let key = &definition.key;
        (format!("{} {:07}", key.family, key.revision), core.names.definition(key).to_string())
    });
    let (arns, next) = pick(keyed, order, &request.page)?;
    Ok(page::render("taskDefinitionArns", arns, next))
}

pub(super) fn list_task_definition_families(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: List = input::read(input)?;
    let state = core.ledger.read();
    // A family is ACTIVE while one of its revisions is.
    let mut families: BTreeMap<&Family, bool> = BTreeMap::new();
    for definition in state.definitions() {
        *families.entry(&definition.key.family).or_default() |= definition.is_active();
    }
    let wanted = match request.status.as_deref() {
        None | Some("ALL") => None,
        Some("ACTIVE") => Some(true),
        Some("INACTIVE") => Some(false),
        Some(other) => return Err(invalid(format!("Invalid status: {other}."))),
    };
    let prefix = request.family_prefix.unwrap_or_default();
    let keyed = families
        .into_iter()
        .filter(|(family, active)| {
            family.as_str().starts_with(&prefix) && wanted.is_none_or(|wanted| wanted == *active)
        })
        .map(|(family, _)| (family.to_string(), family.to_string()));
    let (families, next) = pick(keyed, Order::Ascending, &request.page)?;
    Ok(page::render("families", families, next))
}
