//! A placed task as the message that its agent gets: the definition with everything laid over it.
//!
//! The agent understands little of a task definition; what Docker itself knows travels in Docker's own
//! shapes, made here. Made at the moment of sending, because it carries credentials.

use std::collections::BTreeMap;

use scheduler_protocol as wire;
use serde_json::{Map, Value, json};

use crate::definition::{is_ecr_name, secret_provider};
use crate::model::{
    ContainerDefinition, ContainerOverride, ImagePin, KeyValue, Task, TaskContainer, TaskDefinition,
};
use crate::names::Names;

#[cfg(test)]
mod tests;

/// The least Docker API whose shapes are used here.
const DOCKER_API: &str = "1.41";
const MEBIBYTE: i64 = 1024 * 1024;
const NANOSECONDS: i64 = 1_000_000_000;

/// Fresh credentials for one sending.
#[derive(Default)]
pub(crate) struct TaskCredentials {
    pub(crate) task: Option<wire::RoleCredentials>,
    pub(crate) execution: Option<wire::RoleCredentials>,
}

/// The message that starts a task. `registry` is the URL at which this agent reaches Berth's own images.
pub(crate) fn start(
    names: &Names,
    task: &Task,
    definition: &TaskDefinition,
    credentials: TaskCredentials,
    registry: &str,
) -> wire::Task {
    let content = &definition.content;
    let containers = content.container_definitions.iter().filter_map(|container| {
        let placed = task.containers.iter().find(|placed| placed.name == container.name)?;
        let use_execution_role = credentials.execution.is_some();
        let registry_authentication =
            registry_authentication(names, &placed.pin, &container.image, registry, use_execution_role);
        Some(container_message(names, task, container, placed, registry_authentication))
    });
    let volumes = content.volumes.iter().map(|volume| match &volume.docker_volume_configuration {
        Some(docker) => wire::Volume {
            name: volume.name.clone(),
            kind: "docker".into(),
            host: None,
            docker_volume_configuration: Some(wire::DockerVolumeConfiguration {
                scope: docker.scope.clone().unwrap_or_else(|| "task".into()),
                autoprovision: docker.autoprovision.unwrap_or(false),
                driver: docker.driver.clone().unwrap_or_else(|| "local".into()),
                driver_opts: docker.driver_opts.clone(),
                labels: docker.labels.clone(),
            }),
        },
        None => wire::Volume {
            name: volume.name.clone(),
            kind: "host".into(),
            host: Some(wire::HostVolume {
                source_path: volume
                    .host
                    .as_ref()
                    .and_then(|host| host.source_path.clone())
                    .unwrap_or_default(),
            }),
            docker_volume_configuration: None,
        },
    });
    let units: Option<f64> = task.cpu_limit.as_deref().and_then(|units| units.parse().ok());
    wire::Task {
        overrides: serde_json::to_string(&*task.overrides).unwrap_or_else(|_| "{}".into()),
        containers: containers.collect(),
        volumes: volumes.collect(),
        cpu: units.map(|units| units / 1024.0),
        memory: task.memory_limit.as_deref().and_then(|memory| memory.parse().ok()),
        network_mode: content.network_mode().to_owned(),
        pid_mode: content.pid_mode.clone().unwrap_or_default(),
        ipc_mode: content.ipc_mode.clone().unwrap_or_default(),
        role_credentials: credentials.task,
        execution_role_credentials: credentials.execution,
        associations: task.containers.iter().flat_map(associations).collect(),
        launch_type: task.launch_type.clone(),
        service_name: task.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        group: task.group.clone(),
        berth_tags: task.tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect(),
        ..skeleton(names, task, "RUNNING")
    }
}

/// The message that stops a task: it names it and nothing more.
pub(crate) fn stop(names: &Names, task: &Task) -> wire::Task {
    skeleton(names, task, "STOPPED")
}

fn skeleton(names: &Names, task: &Task, desired_status: &str) -> wire::Task {
    wire::Task {
        arn: names.task(&task.cluster, &task.id).as_str().to_owned(),
        task_cluster_arn: names.cluster(&task.cluster).as_str().to_owned(),
        desired_status: desired_status.to_owned(),
        family: task.definition.family.to_string(),
        version: task.definition.revision.to_string(),
        overrides: "{}".into(),
        task_definition_account_id: names.account.to_string(),
        berth_epoch: Some(task.epoch),
        ..wire::Task::default()
    }
}

fn container_message(
    names: &Names,
    task: &Task,
    container: &ContainerDefinition,
    placed: &TaskContainer,
    registry_authentication: Option<wire::RegistryAuthentication>,
) -> wire::Container {
    let over = task.overrides.container(&container.name).cloned().unwrap_or_default();
    let berth_image = match &placed.pin {
        ImagePin::Pinned(image) => {
            Some(wire::BerthImage { repository: image.repository.clone(), digest: image.digest.clone() })
        }
        ImagePin::Foreign | ImagePin::Missing(_) => None,
    };
    let overrides = json!({ "command": over.command });
    wire::Container {
        name: container.name.clone(),
        container_arn: names.container(&task.cluster, &task.id, &placed.uuid).as_str().to_owned(),
        image: container.image.clone(),
        berth_image,
        cpu: placed.cpu,
        memory: placed.memory.unwrap_or(0),
        essential: container.is_essential(),
        entry_point: container.entry_point.clone(),
        command: over.command.clone().or_else(|| container.command.clone()),
        environment: environment(container, &over),
        environment_files: container
            .environment_files
            .iter()
            .map(|file| wire::EnvironmentFile { value: file.value.clone(), kind: file.kind.clone() })
            .collect(),
        secrets: secrets(names, container),
        port_mappings: ports(container),
        links: container.links.clone(),
        depends_on: container
            .depends_on
            .iter()
            .filter_map(|dependency| {
                Some(wire::ContainerDependency {
                    container_name: dependency.container_name.clone(),
                    condition: condition(&dependency.condition)?,
                })
            })
            .collect(),
        start_timeout: container.start_timeout,
        stop_timeout: container.stop_timeout,
        restart_policy: container.restart_policy.as_ref().map(|policy| wire::RestartPolicy {
            enabled: policy.enabled,
            ignored_exit_codes: policy.ignored_exit_codes.clone(),
            restart_attempt_period: policy.restart_attempt_period,
        }),
        mount_points: container
            .mount_points
            .iter()
            .map(|mount| wire::MountPoint {
                source_volume: mount.source_volume.clone(),
                container_path: mount.container_path.clone(),
                read_only: mount.read_only.unwrap_or(false),
            })
            .collect(),
        volumes_from: container
            .volumes_from
            .iter()
            .map(|source| wire::VolumeFrom {
                source_container: source.source_container.clone(),
                read_only: source.read_only.unwrap_or(false),
            })
            .collect(),
        overrides: if over.command.is_some() { overrides.to_string() } else { "{}".into() },
        docker_config: wire::DockerConfig {
            config: config(container).to_string(),
            host_config: host_config(container, placed).to_string(),
            version: DOCKER_API.into(),
        },
        health_check_type: container.is_checked().then(|| "docker".into()),
        registry_authentication,
    }
}

/// The GPUs of a container, which is given to no other.
fn associations(container: &TaskContainer) -> impl Iterator<Item = wire::Association> {
    container.gpu_ids.iter().map(|id| wire::Association {
        name: id.clone(),
        kind: "gpu".into(),
        containers: vec![container.name.clone()],
        content: wire::AssociationContent { encoding: "base64".into(), value: String::new() },
    })
}

/// How an agent that pulls by itself logs in: at Berth for its own images, at AWS for what lies there.
fn registry_authentication(
    names: &Names,
    pin: &ImagePin,
    image: &str,
    registry: &str,
    use_execution_role: bool,
) -> Option<wire::RegistryAuthentication> {
    let (registry_id, endpoint_override) = match pin {
        ImagePin::Pinned(_) => (names.account.to_string(), registry.to_owned()),
        ImagePin::Foreign | ImagePin::Missing(_) if is_ecr_name(image) => {
            (image.split('.').next().unwrap_or_default().to_owned(), String::new())
        }
        ImagePin::Foreign | ImagePin::Missing(_) => return None,
    };
    Some(wire::RegistryAuthentication {
        kind: "ecr".into(),
        ecr_auth_data: Some(wire::EcrAuthData {
            registry_id,
            region: names.region.to_string(),
            endpoint_override,
            use_execution_role,
        }),
        asm_auth_data: None,
    })
}

fn environment(container: &ContainerDefinition, over: &ContainerOverride) -> BTreeMap<String, String> {
    let pairs = |list: &[KeyValue]| -> Vec<(String, String)> {
        list.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect()
    };
    let mut environment: BTreeMap<String, String> = pairs(&container.environment).into_iter().collect();
    environment.extend(pairs(over.environment.as_deref().unwrap_or_default()));
    environment
}

fn secrets(names: &Names, container: &ContainerDefinition) -> Vec<wire::SecretReference> {
    let of_containers = container.secrets.iter().map(|secret| (secret, "ENVIRONMENT_VARIABLE", "CONTAINER"));
    let of_logs = container.log_configuration.iter().flat_map(|logs| &logs.secret_options);
    of_containers
        .chain(of_logs.map(|secret| (secret, "ENVIRONMENT_VARIABLE", "LOG_DRIVER")))
        .map(|(secret, kind, target)| wire::SecretReference {
            name: secret.name.clone(),
            value_from: secret.value_from.clone(),
            provider: secret_provider(&secret.value_from).into(),
            region: names.region.to_string(),
            kind: kind.into(),
            target: target.into(),
        })
        .collect()
}

fn ports(container: &ContainerDefinition) -> Vec<wire::PortMapping> {
    let port = |port: Option<i64>| port.and_then(|port| u16::try_from(port).ok());
    container
        .port_mappings
        .iter()
        .map(|mapping| wire::PortMapping {
            container_port: port(mapping.container_port),
            host_port: port(mapping.host_port),
            container_port_range: mapping.container_port_range.clone(),
            protocol: mapping.protocol.clone().unwrap_or_else(|| "tcp".into()),
        })
        .collect()
}

fn condition(text: &str) -> Option<wire::ContainerCondition> {
    match text {
        "START" => Some(wire::ContainerCondition::Start),
        "COMPLETE" => Some(wire::ContainerCondition::Complete),
        "SUCCESS" => Some(wire::ContainerCondition::Success),
        "HEALTHY" => Some(wire::ContainerCondition::Healthy),
        _ => None,
    }
}

/// Docker's `ContainerConfig`, only what the definition says.
fn config(container: &ContainerDefinition) -> Value {
    let mut config = Map::new();
    let mut set = |name: &str, value: Value| {
        config.insert(name.to_owned(), value);
    };
    if !container.docker_labels.is_empty() {
        set("Labels", json!(container.docker_labels));
    }
    for (name, value) in [
        ("User", &container.user),
        ("WorkingDir", &container.working_directory),
        ("Hostname", &container.hostname),
    ] {
        if let Some(value) = value {
            set(name, json!(value));
        }
    }
    for (name, value) in [
        ("Tty", container.pseudo_terminal),
        ("OpenStdin", container.interactive),
        ("NetworkDisabled", container.disable_networking),
    ] {
        if let Some(value) = value {
            set(name, json!(value));
        }
    }
    if let Some(check) = &container.health_check {
        let nanoseconds = |seconds: Option<i64>, default: i64| seconds.unwrap_or(default) * NANOSECONDS;
        set(
            "Healthcheck",
            json!({
                "Test": check.command,
                "Interval": nanoseconds(check.interval, 30),
                "Timeout": nanoseconds(check.timeout, 5),
                "Retries": check.retries.unwrap_or(3),
                "StartPeriod": nanoseconds(check.start_period, 0),
            }),
        );
    }
    Value::Object(config)
}

/// Docker's `HostConfig`, only what the definition says.
fn host_config(container: &ContainerDefinition, placed: &TaskContainer) -> Value {
    let mut host = Map::new();
    let mut set = |name: &str, value: Value| {
        host.insert(name.to_owned(), value);
    };
    if let Some(privileged) = container.privileged {
        set("Privileged", json!(privileged));
    }
    if let Some(read_only) = container.readonly_root_filesystem {
        set("ReadonlyRootfs", json!(read_only));
    }
    if let Some(reservation) = placed.memory_reservation {
        set("MemoryReservation", json!(reservation * MEBIBYTE));
    }
    for (name, list) in [
        ("Dns", &container.dns_servers),
        ("DnsSearch", &container.dns_search_domains),
        ("SecurityOpt", &container.docker_security_options),
    ] {
        if !list.is_empty() {
            set(name, json!(list));
        }
    }
    if !container.extra_hosts.is_empty() {
        let hosts =
            container.extra_hosts.iter().map(|entry| format!("{}:{}", entry.hostname, entry.ip_address));
        set("ExtraHosts", hosts.collect());
    }
    if !container.ulimits.is_empty() {
        let ulimits = container.ulimits.iter();
        set(
            "Ulimits",
            ulimits
                .map(|limit| json!({"Name": limit.name, "Soft": limit.soft_limit, "Hard": limit.hard_limit}))
                .collect(),
        );
    }
    if !container.system_controls.is_empty() {
        let controls: BTreeMap<&str, &str> = container
            .system_controls
            .iter()
            .map(|one| (one.namespace.as_str(), one.value.as_str()))
            .collect();
        set("Sysctls", json!(controls));
    }
    if let Some(logs) = &container.log_configuration {
        let mut options = logs.options.clone();
        if options.get("mode").is_some_and(|mode| mode == "non-blocking") {
            options.entry("max-buffer-size".into()).or_insert_with(|| "10m".into());
        }
        set("LogConfig", json!({"Type": logs.log_driver, "Config": options}));
    }
    if let Some(linux) = &container.linux_parameters {
        for (name, value) in linux_parameters(linux, placed) {
            set(name, value);
        }
    }
    Value::Object(host)
}

fn linux_parameters(
    linux: &crate::model::LinuxParameters,
    placed: &TaskContainer,
) -> Vec<(&'static str, Value)> {
    let mut members = Vec::new();
    if let Some(capabilities) = &linux.capabilities {
        for (name, list) in [("CapAdd", &capabilities.add), ("CapDrop", &capabilities.drop)] {
            if !list.is_empty() {
                members.push((name, json!(list)));
            }
        }
    }
    if !linux.devices.is_empty() {
        let devices = linux.devices.iter().map(|device| {
            let letters: String = if device.permissions.is_empty() {
                "rwm".into()
            } else {
                device.permissions.iter().filter_map(|permission| permission.chars().next()).collect()
            };
            let inside = device.container_path.as_ref().unwrap_or(&device.host_path);
            json!({"PathOnHost": device.host_path, "PathInContainer": inside, "CgroupPermissions": letters})
        });
        members.push(("Devices", devices.collect()));
    }
    if let Some(init) = linux.init_process_enabled {
        members.push(("Init", json!(init)));
    }
    if let Some(size) = linux.shared_memory_size {
        members.push(("ShmSize", json!(size * MEBIBYTE)));
    }
    if !linux.tmpfs.is_empty() {
        let mounts: BTreeMap<&str, String> = linux
            .tmpfs
            .iter()
            .map(|mount| {
                let mut options = mount.mount_options.clone();
                options.push(format!("size={}m", mount.size));
                (mount.container_path.as_str(), options.join(","))
            })
            .collect();
        members.push(("Tmpfs", json!(mounts)));
    }
    if let (Some(swap), Some(memory)) = (linux.max_swap, placed.memory) {
        members.push(("MemorySwap", json!((memory + swap) * MEBIBYTE)));
    }
    if let Some(swappiness) = linux.swappiness {
        members.push(("MemorySwappiness", json!(swappiness)));
    }
    members
}
