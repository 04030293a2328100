//! CreateCluster, DeleteCluster, DescribeClusters, ListClusters.

use std::sync::Arc;

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{cluster_not_found, unsupported};
use super::launch_checks::role_arn;
use super::page::{Order, PageInput, pick};
use super::{check_tags, input, page, render};
use crate::core::Core;
use crate::ids::ClusterName;
use crate::model::{
    Cluster, ClusterStatus, DEFAULT_EXECUTION_ROLE, InstanceStatus, ServiceStatus, Setting, Tag,
};
use crate::state::{Record, State};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateCluster {
    cluster_name: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    settings: Vec<Setting>,
    configuration: Option<Value>,
    #[serde(default)]
    capacity_providers: Vec<String>,
    service_connect_defaults: Option<Value>,
}

/// The same name again is no error: it answers with the cluster that is there.
pub(super) async fn create_cluster(core: &Arc<Core>, input: Value) -> Result<Value, AwsError> {
    let request: CreateCluster = input::read(input)?;
    let name = core.names.parse_cluster(request.cluster_name.as_deref())?;
    check_tags(&request.tags)?;
    if !request.capacity_providers.is_empty() {
        return Err(unsupported("capacity providers"));
    }
    refuse_service_connect(request.service_connect_defaults.as_ref())?;
    let settings =
        request.settings.into_iter().map(|setting| known_setting(core, setting)).collect::<Result<_, _>>()?;
    let cluster = Cluster {
        name: name.clone(),
        status: ClusterStatus::Active,
        created_at: core.clock.now_ms(),
        settings,
        configuration: request.configuration,
        tags: request.tags,
    };
    core.ledger
        .change(move |draft| {
            if !draft.state().cluster(&cluster.name).is_some_and(|known| known.is_active()) {
                draft.put(Record::Cluster(Arc::new(cluster)));
            }
            Ok::<_, AwsError>(())
        })
        .await?;
    describe(core, &name, &["TAGS".into(), "SETTINGS".into()])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateCluster {
    cluster: String,
    #[serde(default)]
    settings: Vec<Setting>,
    configuration: Option<Value>,
    service_connect_defaults: Option<Value>,
}

/// UpdateCluster and UpdateClusterSettings. A setting with an empty value is removed.
pub(super) async fn update_cluster(core: &Arc<Core>, input: Value) -> Result<Value, AwsError> {
    let request: UpdateCluster = input::read(input)?;
    refuse_service_connect(request.service_connect_defaults.as_ref())?;
    let name = core.names.parse_cluster(Some(&request.cluster))?;
    let of_change = name.clone();
    let settings: Vec<Setting> =
        request.settings.into_iter().map(|setting| known_setting(core, setting)).collect::<Result<_, _>>()?;
    core.ledger
        .change(move |draft| {
            let mut cluster = Cluster::clone(&*active_cluster(draft.state(), &of_change)?);
            for setting in settings {
                cluster.settings.retain(|known| known.name != setting.name);
                cluster.settings.push(setting);
            }
            cluster.settings.retain(|setting| !setting.value.is_empty());
            cluster.configuration = request.configuration.or(cluster.configuration);
            draft.put(Record::Cluster(Arc::new(cluster)));
            Ok::<_, AwsError>(())
        })
        .await?;
    describe(core, &name, &["SETTINGS".into(), "CONFIGURATIONS".into(), "TAGS".into()])
}

/// An empty namespace takes the default away.
fn refuse_service_connect(defaults: Option<&Value>) -> Result<(), AwsError> {
    match defaults {
        Some(defaults) if defaults["namespace"] != "" => Err(unsupported("Service Connect")),
        _ => Ok(()),
    }
}

fn known_setting(core: &Core, setting: Setting) -> Result<Setting, AwsError> {
    match setting.name.as_str() {
        "containerInsights" => Ok(setting),
        DEFAULT_EXECUTION_ROLE if setting.value.is_empty() => Ok(setting),
        DEFAULT_EXECUTION_ROLE => {
            let arn =
                role_arn(core, &setting.value).filter(|arn| arn.account() == core.names.account.as_str());
            let arn = arn.ok_or_else(|| super::error::invalid("The default execution role is not valid."))?;
            Ok(Setting { value: arn.as_str().to_owned(), ..setting })
        }
        other => Err(super::error::invalid(format!("Invalid cluster setting name: {other}."))),
    }
}

fn describe(core: &Core, name: &ClusterName, include: &[String]) -> Result<Value, AwsError> {
    let state = core.ledger.read();
    let cluster = state.cluster(name).ok_or_else(cluster_not_found)?;
    Ok(json!({ "cluster": render::cluster(&core.names, &state, cluster, include) }))
}

#[derive(Deserialize)]
struct DeleteCluster {
    cluster: String,
}

pub(super) async fn delete_cluster(core: &Arc<Core>, input: Value) -> Result<Value, AwsError> {
    let request: DeleteCluster = input::read(input)?;
    let name = core.names.parse_cluster(Some(&request.cluster))?;
    let of_change = name.clone();
    core.ledger
        .change(move |draft| {
            let cluster = active_cluster(draft.state(), &of_change)?;
            check_empty(draft.state(), &of_change)?;
            let mut cluster = Cluster::clone(&cluster);
            cluster.status = ClusterStatus::Inactive;
            draft.put(Record::Cluster(Arc::new(cluster)));
            Ok::<_, AwsError>(())
        })
        .await?;
    describe(core, &name, &[])
}

fn check_empty(state: &State, cluster: &ClusterName) -> Result<(), AwsError> {
    let contains = |code: &'static str, message: &str| Err(AwsError::client(code, message));
    if state.instances_of(cluster).any(|one| one.status != InstanceStatus::Inactive) {
        return contains(
            "ClusterContainsContainerInstancesException",
            "The Cluster cannot be deleted while Container Instances are active or draining.",
        );
    }
    if state.services_of(cluster).any(|one| one.status != ServiceStatus::Inactive) {
        return contains(
            "ClusterContainsServicesException",
            "The Cluster cannot be deleted while Services are active.",
        );
    }
    if state.tasks_of(cluster).any(|one| !one.is_stopped()) {
        return contains(
            "ClusterContainsTasksException",
            "The Cluster cannot be deleted while Tasks are active.",
        );
    }
    Ok(())
}

/// The cluster, unless it does not exist or was deleted.
pub(crate) fn active_cluster(state: &State, name: &ClusterName) -> Result<Arc<Cluster>, AwsError> {
    state.cluster(name).filter(|cluster| cluster.is_active()).cloned().ok_or_else(cluster_not_found)
}

#[derive(Deserialize)]
struct DescribeClusters {
    #[serde(default)]
    clusters: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

pub(super) fn describe_clusters(core: &Core, input: Value) -> Result<Value, AwsError> {
    let mut request: DescribeClusters = input::read(input)?;
    if request.clusters.is_empty() {
        request.clusters.push(crate::names::DEFAULT_CLUSTER.into());
    }
    if request.clusters.len() > 100 {
        return Err(super::error::invalid("Clusters can have at most 100 items."));
    }
    let state = core.ledger.read();
    let (mut clusters, mut failures) = (Vec::new(), Vec::new());
    for text in &request.clusters {
        let name = core.names.parse_cluster(Some(text))?;
        match state.cluster(&name) {
            Some(cluster) => clusters.push(render::cluster(&core.names, &state, cluster, &request.include)),
            None => failures.push(render::failure(core.names.cluster(&name).as_str(), "MISSING")),
        }
    }
    Ok(json!({ "clusters": clusters, "failures": failures }))
}

pub(super) fn list_clusters(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: PageInput = input::read(input)?;
    let state = core.ledger.read();
    let names = state.clusters().filter(|cluster| cluster.is_active());
    let keyed =
        names.map(|cluster| (cluster.name.to_string(), core.names.cluster(&cluster.name).to_string()));
    let (arns, next) = pick(keyed, Order::Ascending, &request)?;
    Ok(page::render("clusterArns", arns, next))
}
