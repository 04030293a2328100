//! TagResource, UntagResource, ListTagsForResource, for everything that has tags.

use std::sync::Arc;

use registry_aws::AwsError;
use registry_types::Arn;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{invalid, resource_not_found};
use super::input::{self, merge_tags};
use crate::addresses::{address_event, check_address};
use crate::core::Core;
use crate::ids::{ClusterName, DefinitionKey, InstanceId, ServiceKey, TaskId};
use crate::model::{Cluster, Service, ServiceStatus, Tag, TaskDefinition};
use crate::names::Names;
use crate::state::{Draft, Record, State};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    resource_arn: String,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

/// A resource that can have tags.
#[derive(Clone)]
enum Tagged {
    Cluster(ClusterName),
    Definition(DefinitionKey),
    Service(ServiceKey),
    Task(TaskId),
    Instance(InstanceId),
}

pub(super) async fn tag_resource(core: &Arc<Core>, input: Value) -> Result<Value, AwsError> {
    let request: Input = input::read(input)?;
    if request.tags.is_empty() {
        return Err(invalid("Tags cannot be empty."));
    }
    input::check_tags(&request.tags)?;
    let tagged = parse(&core.names, &request.resource_arn)?;
    core.ledger.change(move |draft| edit(draft, &tagged, |tags| merge_tags(tags, request.tags))).await?;
    Ok(json!({}))
}

pub(super) async fn untag_resource(core: &Arc<Core>, input: Value) -> Result<Value, AwsError> {
    let request: Input = input::read(input)?;
    let tagged = parse(&core.names, &request.resource_arn)?;
    core.ledger
        .change(move |draft| {
            edit(draft, &tagged, |tags| {
                tags.retain(|tag| !request.tag_keys.contains(&tag.key));
                Ok(())
            })
        })
        .await?;
    Ok(json!({}))
}

pub(super) fn list_tags_for_resource(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: Input = input::read(input)?;
    let tagged = parse(&core.names, &request.resource_arn)?;
    let tags = tags_in(&core.ledger.read(), &tagged).ok_or_else(resource_not_found)?;
    Ok(json!({ "tags": tags }))
}

/// The tags of a resource by its ARN; None when there is no such resource.
pub(super) fn tags_of(core: &Core, arn: &Arn) -> Option<Vec<Tag>> {
    let tagged = parse(&core.names, arn.as_str()).ok()?;
    tags_in(&core.ledger.read(), &tagged)
}

fn parse(names: &Names, text: &str) -> Result<Tagged, AwsError> {
    let not_valid = || invalid("The specified ARN is not valid.");
    let arn: Arn = text.parse().map_err(|_| not_valid())?;
    let (kind, rest) = arn.resource().split_once('/').ok_or_else(not_valid)?;
    let in_cluster = || -> Result<ClusterName, AwsError> {
        let (cluster, _) = rest.split_once('/').ok_or_else(not_valid)?;
        names.parse_cluster(Some(cluster))
    };
    match kind {
        "cluster" => names.parse_cluster(Some(text)).map(Tagged::Cluster),
        "task-definition" => {
            let reference = names.parse_definition(text)?;
            let revision = reference.revision.ok_or_else(not_valid)?;
            Ok(Tagged::Definition(DefinitionKey { family: reference.family, revision }))
        }
        "service" => names.parse_service(text, &in_cluster()?).map(Tagged::Service),
        "task" => names.parse_task(text, &in_cluster()?).map(Tagged::Task),
        "container-instance" => names.parse_instance(text, &in_cluster()?).map(Tagged::Instance),
        _ => Err(not_valid()),
    }
}

fn tags_in(state: &State, tagged: &Tagged) -> Option<Vec<Tag>> {
    match tagged {
        Tagged::Cluster(name) => state.cluster(name).map(|one| one.tags.clone()),
        Tagged::Definition(key) => state.definition(key).map(|one| one.tags.clone()),
        Tagged::Service(key) => state.service(key).map(|one| one.tags.clone()),
        Tagged::Task(id) => state.task(id).map(|one| one.tags.clone()),
        Tagged::Instance(id) => state.instance(id).map(|one| one.tags.clone()),
    }
}

fn edit(
    draft: &mut Draft<'_>,
    tagged: &Tagged,
    edit: impl FnOnce(&mut Vec<Tag>) -> Result<(), AwsError>,
) -> Result<(), AwsError> {
    let mut tags = tags_in(draft.state(), tagged).ok_or_else(resource_not_found)?;
    edit(&mut tags)?;
    match tagged {
        Tagged::Cluster(name) => {
            if let Some(cluster) = draft.state().cluster(name).cloned() {
                draft.put(Record::Cluster(Arc::new(Cluster { tags, ..Cluster::clone(&cluster) })));
            }
        }
        Tagged::Definition(key) => {
            if let Some(definition) = draft.state().definition(key).cloned() {
                let changed = TaskDefinition { tags, ..TaskDefinition::clone(&definition) };
                draft.put(Record::Definition(Arc::new(changed)));
            }
        }
        Tagged::Service(key) => edit_service(draft, key, tags)?,
        Tagged::Task(id) => {
            draft.edit_task(id, |task| task.tags = tags);
        }
        Tagged::Instance(id) => {
            draft.edit_instance(id, |instance| instance.tags = tags);
        }
    }
    Ok(())
}

/// Some tags of a service say which address it has.
fn edit_service(draft: &mut Draft<'_>, key: &ServiceKey, tags: Vec<Tag>) -> Result<(), AwsError> {
    let service = draft.state().service(key).cloned().ok_or_else(resource_not_found)?;
    let definition = draft.state().definition(&service.primary().definition).cloned();
    if let Some(definition) = definition.filter(|_| service.status == ServiceStatus::Active) {
        check_address(draft.state(), key, &tags, &definition)?;
    }
    let changed = Service { tags, ..Service::clone(&service) };
    let event = address_event(key, Some(&service), &changed);
    draft.put(Record::Service(Arc::new(changed)));
    if let Some(event) = event {
        draft.add_event(key, event);
    }
    Ok(())
}
