//! `berth instance`: the hosts of a cluster, as operators see and steer them.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::connection::{Api, Connection, Output};
use crate::table::{self, id, text};

/// How many instances one DescribeContainerInstances or UpdateContainerInstancesState takes.
const PAGE: usize = 100;
const MOST_UPDATED: usize = 10;
/// What every agent says of itself, of no use to a reader.
const CAPABILITIES: [&str; 2] = ["ecs.capability.", "com.amazonaws.ecs.capability."];

/// List and steer the hosts of a cluster
#[derive(Debug, Subcommand)]
pub enum Instance {
    List(List),
    Show(Show),
    Drain(Steer),
    Activate(Activate),
    Revoke(Revoke),
}

/// List the container instances of a cluster
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    of: OfCluster,
}

/// Show one container instance: its resources, attributes and tasks
#[derive(Args, Debug)]
pub struct Show {
    /// Id or ARN of the instance, or the beginning of an id
    #[arg(value_name = "INSTANCE")]
    instance: String,

    #[command(flatten)]
    of: OfCluster,
}

/// Let no more tasks come to a host, and move the tasks of services away
#[derive(Args, Debug)]
pub struct Steer {
    /// Ids or ARNs of the instances, or the beginnings of ids
    #[arg(value_name = "INSTANCE", required = true)]
    instances: Vec<String>,

    #[command(flatten)]
    of: OfCluster,
}

/// Let tasks come to a drained host again
#[derive(Args, Debug)]
pub struct Activate {
    #[command(flatten)]
    steer: Steer,
}

/// Cut a host off: its key is void within a second, its tasks are replaced elsewhere
///
/// To come back, the host joins by a new token, as another container instance.
#[derive(Args, Debug)]
pub struct Revoke {
    /// Id or ARN of the instance, or the beginning of its id
    #[arg(value_name = "INSTANCE")]
    instance: String,

    #[command(flatten)]
    of: OfCluster,
}

#[derive(Args, Debug)]
struct OfCluster {
    #[arg(long, value_name = "CLUSTER", default_value = "default")]
    cluster: String,

    #[command(flatten)]
    connection: Connection,
}

impl Instance {
    /// # Errors
    /// When the server cannot be reached or refuses, or when there is no such instance.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Drain(steer) => steer.run("DRAINING").await,
            Self::Activate(activate) => activate.steer.run("ACTIVE").await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}

/// The ARN of an instance that is named by its ARN, its id, or the beginning of its id.
///
/// # Errors
/// When no instance of the cluster or more than one is meant.
pub(crate) async fn resolve(api: &Api, cluster: &str, named: &str) -> Result<String> {
    if named.starts_with("arn:") {
        return Ok(named.to_owned());
    }
    let mut meant = arns(api, cluster).await?;
    meant.retain(|arn| arn.rsplit('/').next().is_some_and(|id| id.starts_with(named)));
    match meant.len() {
        0 => bail!("the cluster {cluster} has no container instance whose id begins with '{named}'"),
        1 => Ok(meant.remove(0)),
        many => bail!("{many} container instances of the cluster {cluster} begin with '{named}'"),
    }
}

async fn arns(api: &Api, cluster: &str) -> Result<Vec<String>> {
    let mut arns = Vec::new();
    let mut input = json!({ "cluster": cluster });
    loop {
        let mut answer = api.ecs("ListContainerInstances", &input).await?;
        let page = answer["containerInstanceArns"].as_array().into_iter().flatten();
        arns.extend(page.filter_map(Value::as_str).map(str::to_owned));
        if answer["nextToken"].is_null() {
            return Ok(arns);
        }
        input["nextToken"] = answer["nextToken"].take();
    }
}

async fn describe(api: &Api, cluster: &str, arns: &[String]) -> Result<Vec<Value>> {
    let mut instances = Vec::new();
    for page in arns.chunks(PAGE) {
        let input = json!({ "cluster": cluster, "containerInstances": page, "include": ["TAGS"] });
        let mut answer = api.ecs("DescribeContainerInstances", &input).await?;
        if let Value::Array(page) = answer["containerInstances"].take() {
            instances.extend(page);
        }
    }
    Ok(instances)
}

impl List {
    async fn run(self) -> Result<()> {
        let (api, cluster) = (self.of.connection.client()?, &self.of.cluster);
        let instances = describe(&api, cluster, &arns(&api, cluster).await?).await?;
        match self.of.connection.output {
            Output::Text => table::print(
                &["INSTANCE", "STATUS", "AGENT", "ZONE", "TASKS", "CPU FREE", "MEMORY FREE", "VERSION"],
                instances.iter().map(row),
            ),
            Output::Json => println!("{:#}", json!({ "containerInstances": instances })),
        }
        Ok(())
    }
}

fn row(instance: &Value) -> Vec<String> {
    vec![
        id(&instance["containerInstanceArn"]),
        text(&instance["status"]),
        connected(instance).to_owned(),
        text(attribute(instance, "ecs.availability-zone")),
        tasks(instance).to_string(),
        free(instance, "CPU"),
        free(instance, "MEMORY"),
        text(&instance["versionInfo"]["agentVersion"]),
    ]
}

fn connected(instance: &Value) -> &'static str {
    if instance["agentConnected"] == true { "connected" } else { "away" }
}

fn tasks(instance: &Value) -> i64 {
    let count = |name: &str| instance[name].as_i64().unwrap_or(0);
    count("runningTasksCount") + count("pendingTasksCount")
}

fn attribute<'a>(instance: &'a Value, name: &str) -> &'a Value {
    let mut attributes = instance["attributes"].as_array().into_iter().flatten();
    attributes.find(|attribute| attribute["name"] == name).map_or(&Value::Null, |found| &found["value"])
}

/// `REMAINING/REGISTERED`.
fn free(instance: &Value, name: &str) -> String {
    let of = |member: &str| {
        let mut resources = instance[member].as_array().into_iter().flatten();
        text(
            resources
                .find(|resource| resource["name"] == name)
                .map_or(&Value::Null, |one| &one["integerValue"]),
        )
    };
    format!("{}/{}", of("remainingResources"), of("registeredResources"))
}

impl Show {
    async fn run(self) -> Result<()> {
        let (api, cluster) = (self.of.connection.client()?, &self.of.cluster);
        let arn = resolve(&api, cluster, &self.instance).await?;
        let instance = describe(&api, cluster, std::slice::from_ref(&arn)).await?.pop();
        let mut instance = instance.with_context(|| format!("there is no container instance {arn}"))?;
        let input = json!({ "cluster": cluster, "containerInstance": arn });
        instance["taskArns"] = api.ecs("ListTasks", &input).await?["taskArns"].take();
        match self.of.connection.output {
            Output::Text => print_instance(&instance),
            Output::Json => println!("{instance:#}"),
        }
        Ok(())
    }
}

fn print_instance(instance: &Value) {
    let version = &instance["versionInfo"];
    for (name, value) in [
        ("instance", text(&instance["containerInstanceArn"])),
        ("status", text(&instance["status"])),
        ("agent", format!("{}, version {}", connected(instance), text(&version["agentVersion"]))),
        ("engine", text(&version["dockerVersion"])),
        ("registered", table::time(&instance["registeredAt"])),
        ("cpu free", free(instance, "CPU")),
        ("memory free", free(instance, "MEMORY")),
    ] {
        println!("{name:<12} {value}");
    }
    for attribute in instance["attributes"].as_array().into_iter().flatten() {
        let name = text(&attribute["name"]);
        if !CAPABILITIES.iter().any(|prefix| name.starts_with(prefix)) {
            println!("attribute    {name}={}", attribute["value"].as_str().unwrap_or_default());
        }
    }
    for task in instance["taskArns"].as_array().into_iter().flatten() {
        println!("task         {}", id(task));
    }
}

impl Steer {
    async fn run(self, status: &str) -> Result<()> {
        let (api, cluster) = (self.of.connection.client()?, &self.of.cluster);
        let mut arns = Vec::new();
        for named in &self.instances {
            arns.push(resolve(&api, cluster, named).await?);
        }
        let mut instances = Vec::new();
        for page in arns.chunks(MOST_UPDATED) {
            let input = json!({ "cluster": cluster, "containerInstances": page, "status": status });
            let mut answer = api.ecs("UpdateContainerInstancesState", &input).await?;
            if let Some(missing) = answer["failures"].get(0) {
                bail!("there is no container instance {}", text(&missing["arn"]));
            }
            if let Value::Array(page) = answer["containerInstances"].take() {
                instances.extend(page);
            }
        }
        match self.of.connection.output {
            Output::Text => {
                for instance in &instances {
                    let (id, tasks) = (id(&instance["containerInstanceArn"]), tasks(instance));
                    println!("{id} is {} with {tasks} tasks", text(&instance["status"]));
                }
            }
            Output::Json => println!("{:#}", json!({ "containerInstances": instances })),
        }
        Ok(())
    }
}

impl Revoke {
    async fn run(self) -> Result<()> {
        let (api, cluster) = (self.of.connection.client()?, &self.of.cluster);
        let arn = resolve(&api, cluster, &self.instance).await?;
        let input = json!({ "cluster": cluster, "containerInstance": arn });
        let answer = api.berth("RevokeInstance", &input).await?;
        match self.of.connection.output {
            Output::Text => println!("{} is cut off", id(&answer["containerInstanceArn"])),
            Output::Json => println!("{answer:#}"),
        }
        Ok(())
    }
}
