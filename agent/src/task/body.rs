//! The body with which a container is created: what the agent builds, with the scheduler's Docker
//! configuration laid over it.
//!
//! Invariant: image, names, labels, mounts, ports and cgroup are the agent's own; what is laid over cannot
//! change them, and the gate judges the result.

use std::collections::BTreeMap;
use std::path::PathBuf;

use scheduler_protocol::{Container, NetworkBinding};
use serde_json::{Map, Value, json};

use crate::engine::{AGENT_LABEL, CONTAINER_LABEL, TASK_LABEL};
use crate::logs;
use crate::ports::docker_ports;
use crate::task::context::TaskContext;
use crate::task::event::Failure;

/// Below this Docker refuses a memory limit.
const MIN_MEMORY_BYTES: i64 = 6 << 20;
const MIB: i64 = 1 << 20;
/// What Linux takes for CPU shares.
const CPU_SHARES: (i64, i64) = (2, 262_144);
const CFS_PERIOD_MICROS: i64 = 100_000;

/// Where a volume of the task comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VolumeSource {
    /// A folder of the host, resolved.
    Path(PathBuf),
    /// A volume of the engine.
    Named(String),
}

/// What was made before the first container of the task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) volumes: BTreeMap<String, VolumeSource>,
    /// Values of `secrets`, by container and name.
    pub(crate) secrets: BTreeMap<(usize, String), String>,
    /// The cgroup that bounds the whole task.
    pub(crate) cgroup_parent: Option<String>,
}

/// What is decided at the creation.
pub(crate) struct Decided<'a> {
    pub(crate) agent_id: &'a str,
    pub(crate) cluster: &'a str,
    pub(crate) image_id: &'a str,
    pub(crate) bindings: &'a [NetworkBinding],
    /// The agent's own variables: metadata and credentials.
    pub(crate) environment: &'a [(String, String)],
    /// Names of services, `NAME:ADDRESS`.
    pub(crate) extra_hosts: &'a [String],
}

/// Keys of a host configuration that the agent alone sets, from the task's own members.
const OWN_HOST_KEYS: [&str; 8] = [
    "Binds",
    "CgroupParent",
    "CpuPeriod",
    "CpuQuota",
    "Links",
    "PortBindings",
    "PublishAllPorts",
    "VolumesFrom",
];
const OWN_KEYS: [&str; 4] = ["Env", "HostConfig", "Image", "NetworkingConfig"];

pub(crate) fn build(
    context: &TaskContext,
    index: usize,
    prepared: &Prepared,
    decided: &Decided<'_>,
) -> Result<Value, Failure> {
    let container = &context.task().containers[index];
    let refuse = |reason: String| {
        Failure::new("DockerClientConfigError", format!("container {}: {reason}", container.name))
    };
    let mut body = Map::new();
    let unprepared =
        container.mount_points.iter().find(|mount| !prepared.volumes.contains_key(&mount.source_volume));
    if let Some(mount) = unprepared {
        return Err(refuse(format!("the volume {} was not prepared", mount.source_volume)));
    }
    let mut host = base_host_config(context, container, prepared);
    overlay(&mut body, &container.docker_config.config, &OWN_KEYS).map_err(refuse)?;
    overlay(&mut host, &container.docker_config.host_config, &OWN_HOST_KEYS).map_err(refuse)?;
    if !decided.extra_hosts.is_empty() {
        let mut hosts: Vec<Value> =
            host.get("ExtraHosts").and_then(Value::as_array).cloned().unwrap_or_default();
        hosts.extend(decided.extra_hosts.iter().map(|line| json!(line)));
        host.insert("ExtraHosts".into(), hosts.into());
    }
    let log_labels = logs::translate(&mut host, &container.name, &context.id).map_err(refuse)?;

    body.insert("Image".into(), json!(decided.image_id));
    body.insert("Env".into(), json!(environment(container, index, prepared, decided.environment)));
    if let Some(entry_point) = container.entry_point.as_ref().filter(|list| !list.is_empty()) {
        body.insert("Entrypoint".into(), json!(entry_point));
    }
    if let Some(command) = command(container).map_err(refuse)?.filter(|list| !list.is_empty()) {
        body.insert("Cmd".into(), json!(command));
    }
    let (exposed, bound) = docker_ports(decided.bindings);
    if context.task().network_mode == "host" || bound.is_empty() {
        host.remove("PortBindings");
    } else {
        merge(body.entry("ExposedPorts").or_insert_with(|| json!({})), Value::Object(exposed));
        host.insert("PortBindings".into(), Value::Object(bound));
    }
    let labels = body.entry("Labels").or_insert_with(|| json!({}));
    for (name, value) in labels_of(context, container, decided).into_iter().chain(log_labels) {
        labels[name] = json!(value);
    }
    body.insert("HostConfig".into(), Value::Object(host));
    Ok(Value::Object(body))
}

fn base_host_config(context: &TaskContext, container: &Container, prepared: &Prepared) -> Map<String, Value> {
    let task = context.task();
    let engine_name = |name: &str| {
        let index = task.containers.iter().position(|other| other.name == name);
        index.map_or_else(|| name.to_owned(), |index| context.engine_names[index].clone())
    };
    let mut host = Map::new();
    let mode = if task.network_mode.is_empty() { "bridge" } else { &task.network_mode };
    host.insert("NetworkMode".into(), json!(mode));
    for (key, value) in [("PidMode", &task.pid_mode), ("IpcMode", &task.ipc_mode)] {
        if !value.is_empty() {
            host.insert(key.into(), json!(value));
        }
    }
    host.insert("CpuShares".into(), json!(container.cpu.clamp(CPU_SHARES.0, CPU_SHARES.1)));
    let mut memory = container.memory.saturating_mul(MIB);
    match &prepared.cgroup_parent {
        Some(parent) => drop(host.insert("CgroupParent".into(), json!(parent))),
        None => {
            // Without a cgroup around the task each container gets the task's limits as its own upper bound.
            if let Some(cpu) = task.cpu {
                host.insert("CpuPeriod".into(), json!(CFS_PERIOD_MICROS));
                host.insert("CpuQuota".into(), json!((cpu * CFS_PERIOD_MICROS as f64) as i64));
            }
            if let (0, Some(whole)) = (memory, task.memory) {
                memory = whole.saturating_mul(MIB);
            }
        }
    }
    if memory > 0 {
        host.insert("Memory".into(), json!(memory.max(MIN_MEMORY_BYTES)));
    }
    let binds: Vec<String> = container
        .mount_points
        .iter()
        .filter_map(|mount| {
            let source = match prepared.volumes.get(&mount.source_volume)? {
                VolumeSource::Path(path) => path.display().to_string(),
                VolumeSource::Named(name) => name.clone(),
            };
            let mode = if mount.read_only { ":ro" } else { "" };
            Some(format!("{source}:{}{mode}", mount.container_path))
        })
        .collect();
    let links: Vec<String> = container
        .links
        .iter()
        .map(|link| {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            format!("{}:{alias}", engine_name(name))
        })
        .collect();
    let volumes_from: Vec<String> = container
        .volumes_from
        .iter()
        .map(|from| {
            format!("{}{}", engine_name(&from.source_container), if from.read_only { ":ro" } else { "" })
        })
        .collect();
    for (key, list) in [("Binds", binds), ("Links", links), ("VolumesFrom", volumes_from)] {
        if !list.is_empty() {
            host.insert(key.into(), json!(list));
        }
    }
    host
}

/// Later ones win: the definition's, then secrets, then the agent's own.
fn environment(
    container: &Container,
    index: usize,
    prepared: &Prepared,
    own: &[(String, String)],
) -> Vec<String> {
    let mut variables: BTreeMap<&str, &str> =
        container.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for ((_, name), value) in prepared.secrets.iter().filter(|((owner, _), _)| *owner == index) {
        variables.insert(name, value);
    }
    for (name, value) in own {
        variables.insert(name, value);
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The command of the overrides, else the definition's.
fn command(container: &Container) -> Result<Option<Vec<String>>, String> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Overrides {
        command: Option<Vec<String>>,
    }
    let text = container.overrides.trim();
    if text.is_empty() {
        return Ok(container.command.clone());
    }
    let overrides: Overrides =
        serde_json::from_str(text).map_err(|error| format!("malformed overrides: {error}"))?;
    Ok(overrides.command.filter(|command| !command.is_empty()).or_else(|| container.command.clone()))
}

fn labels_of(
    context: &TaskContext,
    container: &Container,
    decided: &Decided<'_>,
) -> Vec<(&'static str, String)> {
    let task = context.task();
    vec![
        ("com.amazonaws.ecs.cluster", decided.cluster.to_owned()),
        (CONTAINER_LABEL, container.name.clone()),
        (TASK_LABEL, task.arn.clone()),
        ("com.amazonaws.ecs.task-definition-family", task.family.clone()),
        ("com.amazonaws.ecs.task-definition-version", task.version.clone()),
        (AGENT_LABEL, decided.agent_id.to_owned()),
    ]
}

/// Lays a JSON string in Docker's shapes over a map, as the agents of ECS do.
fn overlay(target: &mut Map<String, Value>, text: &str, own: &[&str]) -> Result<(), String> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let over: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("malformed Docker configuration: {error}"))?;
    for (key, value) in over {
        if own.contains(&key.as_str()) {
            if !value.is_null()
                && value != json!([])
                && value != json!({})
                && value != json!(false)
                && value != json!("")
            {
                return Err(format!("the Docker configuration may not set {key}"));
            }
            continue;
        }
        merge(target.entry(key).or_insert(Value::Null), value);
    }
    Ok(())
}

/// Objects merge, everything else replaces, and null changes nothing.
fn merge(target: &mut Value, over: Value) {
    match (target, over) {
        (_, Value::Null) => {}
        (Value::Object(target), Value::Object(over)) => {
            for (key, value) in over {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, over) => *target = over,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use scheduler_protocol::{Container, DockerConfig, MountPoint, NetworkBinding, Task, VolumeFrom};
    use serde_json::{Value, json};

    use super::{Decided, Prepared, VolumeSource, build};
    use crate::task::context::{Accepted, TaskContext};
    use crate::task::plan::Plan;
    use crate::task::state::TaskState;

    fn body(task: Task, prepared: &Prepared, bindings: &[NetworkBinding]) -> Result<Value, String> {
        let count = task.containers.len();
        let plan = Plan::from_task(&task).unwrap();
        let context = TaskContext::new(Accepted::new(task, 0), plan, TaskState::new(count));
        let environment = [("ECS_AGENT_URI".to_owned(), "http://a".to_owned())];
        let decided = Decided {
            agent_id: "agent",
            cluster: "default",
            image_id: "sha256:1",
            bindings,
            environment: &environment,
            extra_hosts: &[],
        };
        build(&context, 0, prepared, &decided).map_err(|failure| failure.message)
    }

    fn task(container: Container) -> Task {
        let other = Container { name: "db".into(), image: "db".into(), ..Container::default() };
        Task {
            arn: "arn:aws:ecs:r:0:task/default/abc".into(),
            family: "app".into(),
            version: "3".into(),
            containers: vec![container, other],
            ..Task::default()
        }
    }

    fn container() -> Container {
        Container { name: "web".into(), image: "app:1".into(), ..Container::default() }
    }

    #[test]
    fn members_of_the_task_become_docker_configuration() {
        let mut web = container();
        web.cpu = 1;
        web.memory = 128;
        web.command = Some(vec!["serve".into()]);
        web.environment = BTreeMap::from([("A".into(), "1".into()), ("ECS_AGENT_URI".into(), "mine".into())]);
        web.links = vec!["db:database".into()];
        web.volumes_from = vec![VolumeFrom { source_container: "db".into(), read_only: true }];
        web.mount_points = vec![MountPoint {
            source_volume: "data".into(),
            container_path: "/data".into(),
            read_only: true,
        }];
        let mut task = task(web);
        task.volumes = vec![scheduler_protocol::Volume { name: "data".into(), ..Default::default() }];
        let prepared = Prepared {
            volumes: BTreeMap::from([("data".into(), VolumeSource::Named("ecs-data".into()))]),
            ..Prepared::default()
        };
        let binding = NetworkBinding {
            container_port: Some(80),
            host_port: Some(8080),
            protocol: Some("tcp".into()),
            ..NetworkBinding::default()
        };
        let body = body(task, &prepared, &[binding]).unwrap();
        assert_eq!(body["Image"], "sha256:1");
        assert_eq!(body["Cmd"], json!(["serve"]));
        assert_eq!(body["Env"], json!(["A=1", "ECS_AGENT_URI=http://a"]));
        assert_eq!(body["Labels"]["com.amazonaws.ecs.task-definition-version"], "3");
        let host = &body["HostConfig"];
        assert_eq!(host["CpuShares"], 2);
        assert_eq!(host["Memory"], 128 << 20);
        assert_eq!(host["Binds"], json!(["ecs-data:/data:ro"]));
        assert_eq!(host["PortBindings"]["80/tcp"][0]["HostPort"], "8080");
        let link = host["Links"][0].as_str().unwrap();
        assert!(link.starts_with("ecs-app-3-db-") && link.ends_with(":database"), "{link}");
        assert!(host["VolumesFrom"][0].as_str().unwrap().ends_with(":ro"));
    }

    #[test]
    fn the_docker_configuration_is_laid_over_but_not_over_what_is_the_agents() {
        let mut web = container();
        web.docker_config = DockerConfig {
            config:
                json!({ "User": "1000", "Labels": { "team": "a", "berth.agent-id": "other" }, "Env": null })
                    .to_string(),
            host_config: json!({ "MemoryReservation": 1000, "CapAdd": null, "Binds": [] }).to_string(),
            version: String::new(),
        };
        web.overrides = r#"{"command":["other"]}"#.into();
        let made = body(task(web.clone()), &Prepared::default(), &[]).unwrap();
        assert_eq!((&made["User"], &made["Cmd"]), (&json!("1000"), &json!(["other"])));
        assert_eq!(made["Labels"]["team"], "a");
        assert_eq!(made["Labels"]["berth.agent-id"], "agent");
        assert_eq!(made["HostConfig"]["MemoryReservation"], 1000);
        for (config, host_config) in [
            ("{}", r#"{"Binds":["/etc:/x"]}"#),
            (r#"{"Image":"x"}"#, "{}"),
            ("{}", r#"{"CgroupParent":"/"}"#),
            ("[]", ""),
        ] {
            web.docker_config.config = config.into();
            web.docker_config.host_config = host_config.into();
            assert!(body(task(web.clone()), &Prepared::default(), &[]).is_err(), "{config} {host_config}");
        }
    }

    #[test]
    fn task_limits_bound_the_container_where_there_is_no_cgroup() {
        let mut limited = task(container());
        limited.cpu = Some(0.25);
        limited.memory = Some(64);
        let alone = body(limited.clone(), &Prepared::default(), &[]).unwrap();
        assert_eq!(alone["HostConfig"]["CpuQuota"], 25_000);
        assert_eq!(alone["HostConfig"]["Memory"], 64 << 20);
        let prepared = Prepared { cgroup_parent: Some("/ecs/abc".into()), ..Prepared::default() };
        let inside = body(limited, &prepared, &[]).unwrap();
        assert_eq!(inside["HostConfig"]["CgroupParent"], "/ecs/abc");
        assert_eq!(inside["HostConfig"].get("CpuQuota"), None);
    }
}
