//! What each operation must be allowed, from its request alone (`iam.md` 1.3).
//!
//! A request that names nothing sensible is asked about with the resource `*`: its own error comes only to
//! callers who may do the operation everywhere. Tags of a resource are given along when it exists.

use policies_identity::Check;
use registry_types::Arn;
use serde_json::Value;

use super::input::{text, texts};
use super::launch_checks::{default_role_checks, launch_checks, register_checks, update_service_checks};
use super::operation::{Operation, action_of};
use crate::core::Core;
use crate::ids::{ClusterName, Family};
use crate::model::Tag;
use crate::names::DefinitionReference;

pub(super) fn checks(core: &Core, name: &str, input: &Value) -> Vec<Check> {
    let Some(operation) = Operation::parse(name) else {
        return action_of(name).map(Check::any).into_iter().collect();
    };
    let action = operation.action();
    let checks = Checks { core, input, action };
    match operation {
        Operation::CreateCluster => checks.create_cluster(),
        Operation::UpdateCluster | Operation::UpdateClusterSettings => {
            let mut on_cluster = checks.on_cluster(text(input, "cluster"));
            on_cluster.extend(default_role_checks(core, input));
            on_cluster
        }
        Operation::DeleteCluster => checks.on_cluster(text(input, "cluster")),
        Operation::DescribeClusters => checks.describe_clusters(),
        Operation::RegisterContainerInstance
        | Operation::DeregisterContainerInstance
        | Operation::ListContainerInstances
        | Operation::ListAttributes
        | Operation::SubmitTaskStateChange
        | Operation::SubmitContainerStateChange
        | Operation::SubmitAttachmentStateChanges => checks.on_cluster(text(input, "cluster")),
        Operation::ListClusters
        | Operation::DescribeTaskDefinition
        | Operation::DeregisterTaskDefinition
        | Operation::ListTaskDefinitions
        | Operation::ListTaskDefinitionFamilies
        | Operation::DiscoverPollEndpoint => vec![Check::any(action)],
        Operation::ListServices => vec![checks.in_cluster(Check::any(action))],
        Operation::ListTasks => checks.list_tasks(),
        Operation::RegisterTaskDefinition => register_checks(core, input),
        Operation::RunTask | Operation::StartTask => launch_checks(core, operation, input),
        Operation::CreateService => launch_checks(core, operation, input),
        Operation::UpdateService => update_service_checks(core, input),
        Operation::DeleteService => checks.on_members("service", text(input, "service")),
        Operation::DescribeServices => checks.on_members("service", texts(input, "services")),
        Operation::StopTask => checks.on_members("task", text(input, "task")),
        Operation::DescribeTasks => checks.on_members("task", texts(input, "tasks")),
        Operation::DescribeContainerInstances | Operation::UpdateContainerInstancesState => {
            checks.on_members("container-instance", texts(input, "containerInstances"))
        }
        Operation::PutAttributes | Operation::DeleteAttributes => {
            let targets = input["attributes"].as_array().into_iter().flatten();
            checks
                .on_members("container-instance", targets.filter_map(|attribute| text(attribute, "targetId")))
        }
        Operation::TagResource | Operation::UntagResource | Operation::ListTagsForResource => {
            checks.on_resource()
        }
    }
}

/// No operation takes more names. One with more is refused in its own words, and must not fill the audit log before.
const MOST_NAMED: usize = 100;

struct Checks<'a> {
    core: &'a Core,
    input: &'a Value,
    action: &'static str,
}

impl Checks<'_> {
    fn cluster(&self) -> Option<ClusterName> {
        self.core.names.parse_cluster(text(self.input, "cluster")).ok()
    }

    fn in_cluster(&self, check: Check) -> Check {
        match self.cluster() {
            Some(cluster) => check.with("ecs:cluster", self.core.names.cluster(&cluster).as_str()),
            None => check,
        }
    }

    fn on_cluster(&self, named: Option<&str>) -> Vec<Check> {
        let Ok(cluster) = self.core.names.parse_cluster(named) else { return vec![Check::any(self.action)] };
        let arn = self.core.names.cluster(&cluster);
        let tags =
            self.core.ledger.read().cluster(&cluster).map(|cluster| cluster.tags.clone()).unwrap_or_default();
        let check = Check::on(self.action, arn.clone()).with("ecs:cluster", arn.as_str());
        vec![with_resource_tags(check, &tags)]
    }

    fn create_cluster(&self) -> Vec<Check> {
        let Ok(cluster) = self.core.names.parse_cluster(text(self.input, "clusterName")) else {
            return vec![Check::any(self.action)];
        };
        let arn = self.core.names.cluster(&cluster);
        let check = Check::on(self.action, arn.clone());
        let mut checks = vec![with_request_tags(check, self.input)];
        checks.extend(tagging_check(Operation::CreateCluster, Some(arn), self.input));
        checks.extend(default_role_checks(self.core, self.input));
        checks
    }

    fn describe_clusters(&self) -> Vec<Check> {
        let named: Vec<&str> = texts(self.input, "clusters").take(MOST_NAMED + 1).collect();
        if named.is_empty() {
            return self.on_cluster(None);
        }
        if named.len() > MOST_NAMED {
            return vec![Check::any(self.action)];
        }
        named.into_iter().flat_map(|cluster| self.on_cluster(Some(cluster))).collect()
    }

    fn list_tasks(&self) -> Vec<Check> {
        let instance =
            text(self.input, "containerInstance").zip(self.cluster()).and_then(|(text, cluster)| {
                let instance = self.core.names.parse_instance(text, &cluster).ok()?;
                Some(self.core.names.instance(&cluster, &instance))
            });
        vec![
            self.in_cluster(
                instance.map_or_else(|| Check::any(self.action), |arn| Check::on(self.action, arn)),
            ),
        ]
    }

    /// Things that live in the request's cluster, each with a check of its own.
    fn on_members<'t>(&self, kind: &str, named: impl IntoIterator<Item = &'t str>) -> Vec<Check> {
        let anything = || vec![self.in_cluster(Check::any(self.action))];
        let Some(cluster) = self.cluster() else { return anything() };
        let named: Vec<&str> = named.into_iter().take(MOST_NAMED + 1).collect();
        if named.len() > MOST_NAMED {
            return anything();
        }
        let check = |text: &str| {
            let (arn, tags) = self.member(kind, text, &cluster)?;
            Some(with_resource_tags(self.in_cluster(Check::on(self.action, arn)), &tags))
        };
        let checks: Vec<Check> = named
            .into_iter()
            .map(|text| check(text).unwrap_or_else(|| self.in_cluster(Check::any(self.action))))
            .collect();
        if checks.is_empty() { anything() } else { checks }
    }

    fn member(&self, kind: &str, text: &str, cluster: &ClusterName) -> Option<(Arn, Vec<Tag>)> {
        let names = &self.core.names;
        let state = self.core.ledger.read();
        match kind {
            "service" => {
                let key = names.parse_service(text, cluster).ok()?;
                Some((
                    names.service(&key),
                    state.service(&key).map(|one| one.tags.clone()).unwrap_or_default(),
                ))
            }
            "task" => {
                let id = names.parse_task(text, cluster).ok()?;
                Some((
                    names.task(cluster, &id),
                    state.task(&id).map(|one| one.tags.clone()).unwrap_or_default(),
                ))
            }
            _ => {
                let id = names.parse_instance(text, cluster).ok()?;
                let tags = state.instance(&id).map(|one| one.tags.clone()).unwrap_or_default();
                Some((names.instance(cluster, &id), tags))
            }
        }
    }

    fn on_resource(&self) -> Vec<Check> {
        let arn = text(self.input, "resourceArn").and_then(|arn| arn.parse::<Arn>().ok());
        let Some(arn) = arn.filter(|arn| arn.service() == "ecs") else {
            return vec![Check::any(self.action)];
        };
        let tags = super::tags::tags_of(self.core, &arn).unwrap_or_default();
        let check = with_resource_tags(Check::on(self.action, arn), &tags);
        vec![with_tag_keys(with_request_tags(check, self.input), self.input)]
    }
}

pub(super) fn with_resource_tags(mut check: Check, tags: &[Tag]) -> Check {
    for tag in tags {
        check = check.with(format!("aws:ResourceTag/{}", tag.key), tag.value.clone());
        check = check.with(format!("ecs:ResourceTag/{}", tag.key), tag.value.clone());
    }
    check
}

pub(super) fn with_request_tags(mut check: Check, input: &Value) -> Check {
    let tags: Vec<(&str, &str)> = input["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tag| Some((text(tag, "key")?, text(tag, "value").unwrap_or_default())))
        .collect();
    if tags.is_empty() {
        return check;
    }
    for (key, value) in &tags {
        check = check.with(format!("aws:RequestTag/{key}"), *value);
    }
    check.with_many("aws:TagKeys", tags.into_iter().map(|(key, _)| key.to_owned()).collect())
}

/// Whoever creates with tags needs the right to tag as well; of the creation itself, `ecs:CreateAction` tells policies.
pub(super) fn tagging_check(operation: Operation, resource: Option<Arn>, input: &Value) -> Option<Check> {
    input["tags"].as_array().filter(|tags| !tags.is_empty())?;
    let action = Operation::TagResource.action();
    let check = resource.map_or_else(|| Check::any(action), |arn| Check::on(action, arn));
    Some(with_request_tags(check.with("ecs:CreateAction", operation.name()), input))
}

fn with_tag_keys(check: Check, input: &Value) -> Check {
    let keys: Vec<String> = texts(input, "tagKeys").map(str::to_owned).collect();
    if keys.is_empty() { check } else { check.with_many("aws:TagKeys", keys) }
}

/// The ARN that a definition is asked about: its family's, when nothing else can be said.
pub(super) fn family_arn(core: &Core, family: &str) -> Option<Arn> {
    crate::names::is_name(family).then(|| {
        let reference = DefinitionReference { family: Family::new(family), revision: None };
        core.names.definition_reference(&reference)
    })
}
