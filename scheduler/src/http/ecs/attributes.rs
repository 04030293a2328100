//! Custom attributes of container instances. They are the operator's: a host cannot set them.

use std::sync::Arc;

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::clusters::active_cluster;
use super::error::{access_denied, invalid, target_not_found};
use super::page::{Order, PageInput, pick};
use super::{Request, input};
use crate::core::Core;
use crate::ids::{ClusterName, InstanceId};
use crate::model::{Attribute, Instance, InstanceStatus};
use crate::state::Draft;

const MOST_CUSTOM: usize = 10;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    name: String,
    value: Option<String>,
    target_id: Option<String>,
}

#[derive(Deserialize)]
struct Attributes {
    cluster: Option<String>,
    #[serde(default)]
    attributes: Vec<Target>,
}

pub(super) async fn put_attributes(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    change(core, request, input, |instance, attribute| {
        instance.custom_attributes.retain(|known| known.name != attribute.name);
        instance.custom_attributes.push(attribute);
        if instance.custom_attributes.len() > MOST_CUSTOM {
            return Err(AwsError::client(
                "AttributeLimitExceededException",
                "A container instance can have at most 10 custom attributes.",
            ));
        }
        Ok(())
    })
    .await
}

pub(super) async fn delete_attributes(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
) -> Result<Value, AwsError> {
    change(core, request, input, |instance, attribute| {
        instance.custom_attributes.retain(|known| known.name != attribute.name);
        Ok(())
    })
    .await
}

async fn change(
    core: &Arc<Core>,
    request: Request<'_>,
    input: Value,
    edit: fn(&mut Instance, Attribute) -> Result<(), AwsError>,
) -> Result<Value, AwsError> {
    let input: Attributes = input::read(input)?;
    let cluster = core.names.parse_cluster(input.cluster.as_deref())?;
    if request.caller.instance().is_some() {
        return Err(access_denied("A host cannot set attributes."));
    }
    if input.attributes.is_empty() || input.attributes.len() > 10 {
        return Err(invalid("Attributes must have between 1 and 10 items."));
    }
    let mut targets = Vec::new();
    for target in input.attributes {
        check(&target)?;
        let Some(id) = &target.target_id else { return Err(invalid("An attribute needs a targetId.")) };
        let id = core.names.parse_instance(id, &cluster)?;
        targets.push((id, Attribute { name: target.name, value: target.value }));
    }
    let (names, answered) = (core.names.clone(), targets.clone());
    let of_change = cluster.clone();
    core.ledger
        .change(move |draft| {
            active_cluster(draft.state(), &of_change)?;
            targets
                .into_iter()
                .try_for_each(|(id, attribute)| edit_one(draft, &of_change, &id, attribute, edit))
        })
        .await?;
    let attributes: Vec<Value> = answered
        .iter()
        .map(|(id, attribute)| {
            let mut rendered = json!(attribute);
            rendered["targetId"] = json!(names.instance(&cluster, id));
            rendered
        })
        .collect();
    Ok(json!({ "attributes": attributes }))
}

fn edit_one(
    draft: &mut Draft<'_>,
    cluster: &ClusterName,
    id: &InstanceId,
    attribute: Attribute,
    edit: fn(&mut Instance, Attribute) -> Result<(), AwsError>,
) -> Result<(), AwsError> {
    let known = draft.state().instance(id).filter(|known| known.cluster == *cluster);
    if known.is_none_or(|known| known.status == InstanceStatus::Inactive) {
        return Err(target_not_found(id.as_str()));
    }
    let mut outcome = Ok(());
    draft.edit_instance(id, |instance| outcome = edit(instance, attribute));
    outcome
}

fn check(target: &Target) -> Result<(), AwsError> {
    let name = &target.name;
    let characters = |text: &str, more: &[u8]| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte) || more.contains(&byte))
    };
    if name.is_empty() || name.len() > 128 || !characters(name, b"\\") {
        return Err(invalid("An attribute's name has 1 to 128 letters, digits and -_./\\ in it."));
    }
    if ["ecs.", "com.amazonaws.", "berth."].iter().any(|reserved| name.starts_with(reserved)) {
        return Err(invalid(format!("The attribute {name} cannot be set.")));
    }
    match &target.value {
        Some(value) if value.len() > 128 || !characters(value, b"@:\\ ") || value.trim() != value => {
            Err(invalid("An attribute's value has at most 128 letters, digits, spaces and -_./@:\\ in it."))
        }
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListAttributes {
    cluster: Option<String>,
    target_type: Option<String>,
    attribute_name: Option<String>,
    attribute_value: Option<String>,
    #[serde(flatten)]
    page: PageInput,
}

pub(super) fn list_attributes(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: ListAttributes = input::read(input)?;
    if let Some(other) = request.target_type.as_deref().filter(|kind| *kind != "container-instance") {
        return Err(invalid(format!("Invalid targetType: {other}.")));
    }
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    let state = core.ledger.read();
    active_cluster(&state, &cluster)?;
    let mut keyed = Vec::new();
    for instance in state.instances_of(&cluster).filter(|one| one.status != InstanceStatus::Inactive) {
        for attribute in instance.all_attributes() {
            let named = request.attribute_name.as_ref().is_none_or(|name| attribute.name == *name);
            let valued =
                request.attribute_value.as_ref().is_none_or(|value| attribute.value.as_ref() == Some(value));
            if named && valued {
                let mut rendered = json!(attribute);
                rendered["targetId"] = json!(core.names.instance(&cluster, &instance.id));
                keyed.push((format!("{} {}", instance.id, attribute.name), rendered));
            }
        }
    }
    let (attributes, next) = pick(keyed, Order::Ascending, &request.page)?;
    let mut output = json!({ "attributes": attributes });
    if let Some(next) = next {
        output["nextToken"] = json!(next);
    }
    Ok(output)
}
