//! The rules for containers: sizes, ports, mounts, dependencies, health checks.

use std::collections::{HashMap, HashSet};

use registry_aws::AwsError;

use super::validate::one_of;
use crate::http::ecs::error::client;
use crate::model::{ContainerDefinition, DefinitionContent};
use crate::names::is_name;

/// Docker refuses less (`ecs.md` 2.2).
const LEAST_MEMORY: i64 = 6;
const LOG_DRIVERS: [&str; 10] = [
    "json-file",
    "syslog",
    "journald",
    "gelf",
    "fluentd",
    "awslogs",
    "splunk",
    "awsfirelens",
    "local",
    "none",
];
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn validate_containers(content: &mut DefinitionContent) -> Result<(), AwsError> {
    let mut names = HashSet::new();
    for container in &content.container_definitions {
        check_name(&container.name)?;
        if !names.insert(container.name.clone()) {
            return Err(client(format!("Duplicate container name: {}.", container.name)));
        }
    }
    for container in &content.container_definitions {
        check_image(&container.image)?;
        check_sizes(container, content.memory.as_deref())?;
        check_ports(container, content.network_mode())?;
        check_mounts(container, content)?;
        check_settings(container)?;
    }
    if !content.container_definitions.iter().any(ContainerDefinition::is_essential) {
        return Err(client("At least one container of a task definition must be essential."));
    }
    check_reserved_memory(content)?;
    check_host_ports(content)?;
    check_dependencies(content)?;
    fill_defaults(content);
    Ok(())
}

fn check_name(name: &str) -> Result<(), AwsError> {
    if name.is_empty() {
        return Err(client("Container.name should not be null or empty."));
    }
    if is_name(name) { Ok(()) } else { Err(client("Container.name contains invalid characters.")) }
}

fn check_image(image: &str) -> Result<(), AwsError> {
    if image.is_empty() {
        return Err(client("Container.image should not be null or empty."));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:./#@+[]".contains(&byte);
    if image.len() > 255 || !image.bytes().all(allowed) {
        return Err(client("Container.image contains invalid characters."));
    }
    Ok(())
}

fn check_sizes(container: &ContainerDefinition, task_memory: Option<&str>) -> Result<(), AwsError> {
    let name = &container.name;
    if container.cpu < 0 || container.cpu > 196_608 {
        return Err(client(format!("Invalid 'cpu' setting for container '{name}'.")));
    }
    if container.memory.is_none() && container.memory_reservation.is_none() && task_memory.is_none() {
        return Err(client(format!(
            "Invalid setting for container '{name}'. At least one of 'memory' or 'memoryReservation' must be \
             specified."
        )));
    }
    for (member, size) in [("memory", container.memory), ("memoryReservation", container.memory_reservation)]
    {
        if size.is_some_and(|size| !(LEAST_MEMORY..=2_097_152).contains(&size)) {
            return Err(client(format!(
                "Invalid '{member}' setting for container '{name}'. It must be at least {LEAST_MEMORY}."
            )));
        }
    }
    if let (Some(memory), Some(reservation)) = (container.memory, container.memory_reservation)
        && reservation > memory
    {
        return Err(client(format!(
            "Invalid setting for container '{name}'. 'memory' should be greater than or equal to \
             'memoryReservation'."
        )));
    }
    let task_limit: Option<i64> = task_memory.and_then(|memory| memory.parse().ok());
    if let (Some(memory), Some(limit)) = (container.memory, task_limit)
        && memory > limit
    {
        return Err(client(format!(
            "The 'memory' setting for container '{name}' is greater than for the task."
        )));
    }
    Ok(())
}

/// What the containers reserve together fits into the task.
fn check_reserved_memory(content: &DefinitionContent) -> Result<(), AwsError> {
    let limit: Option<i64> = content.memory.as_deref().and_then(|memory| memory.parse().ok());
    let reserved =
        content.container_definitions.iter().filter_map(|one| one.memory_reservation.or(one.memory));
    let reserved: i64 = reserved.sum();
    if limit.is_some_and(|limit| reserved > limit) {
        return Err(client(format!(
            "The containers reserve {reserved} MiB of memory together, which is more than the 'memory' of the task."
        )));
    }
    Ok(())
}

fn check_ports(container: &ContainerDefinition, network_mode: &str) -> Result<(), AwsError> {
    let name = &container.name;
    if network_mode == "none" && !container.port_mappings.is_empty() {
        return Err(client("Port mappings cannot be specified when networkMode=none."));
    }
    for mapping in &container.port_mappings {
        one_of("portMappings.protocol", mapping.protocol.as_deref(), &["tcp", "udp"])?;
        if let Some(range) = &mapping.container_port_range {
            let ends = range
                .split_once('-')
                .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
            let valid = |(first, last): (u16, u16)| first > 0 && first <= last;
            if !ends.is_some_and(valid) || mapping.container_port.is_some() || mapping.host_port.is_some() {
                return Err(client(format!("Invalid 'containerPortRange' setting for container '{name}'.")));
            }
            continue;
        }
        if !mapping.container_port.is_some_and(|port| (1..=65_535).contains(&port)) {
            return Err(client(format!("Invalid 'containerPort' setting for container '{name}'.")));
        }
        if mapping.host_port.is_some_and(|port| !(0..=65_535).contains(&port)) {
            return Err(client(format!("Invalid 'hostPort' setting for container '{name}'.")));
        }
        let elsewhere =
            mapping.host_port.is_some_and(|port| port != 0 && mapping.container_port != Some(port));
        if matches!(network_mode, "host" | "awsvpc") && elsewhere {
            return Err(client(format!(
                "When networkMode={network_mode}, the host ports and container ports in port mappings must match."
            )));
        }
    }
    Ok(())
}

/// One task cannot bind a host port twice.
fn check_host_ports(content: &DefinitionContent) -> Result<(), AwsError> {
    let mut taken = HashSet::new();
    for container in &content.container_definitions {
        for mapping in &container.port_mappings {
            let Some(port) = mapping.host_port.filter(|port| *port != 0) else { continue };
            if !taken.insert((port, mapping.protocol.as_deref() == Some("udp"))) {
                return Err(client(format!("Duplicate host port: {port}.")));
            }
        }
    }
    Ok(())
}

fn check_mounts(container: &ContainerDefinition, content: &DefinitionContent) -> Result<(), AwsError> {
    let containers = || content.container_definitions.iter().map(|other| other.name.as_str());
    for mount in &container.mount_points {
        if !content.volumes.iter().any(|volume| volume.name == mount.source_volume) {
            return Err(client(format!("Unknown volume '{}'.", mount.source_volume)));
        }
        if !mount.container_path.starts_with('/') {
            return Err(client(format!(
                "Invalid 'containerPath' setting for container '{}': it must be absolute.",
                container.name
            )));
        }
    }
    for source in &container.volumes_from {
        if source.source_container == container.name
            || !containers().any(|name| name == source.source_container)
        {
            return Err(client(format!("Unknown container '{}' in volumesFrom.", source.source_container)));
        }
    }
    if !container.links.is_empty() && content.network_mode() != "bridge" {
        return Err(client("Links are only supported when networkMode=bridge."));
    }
    for link in &container.links {
        let target = link.split(':').next().unwrap_or_default();
        if target == container.name || !containers().any(|name| name == target) {
            return Err(client(format!("Unknown container '{target}' in links.")));
        }
    }
    Ok(())
}

fn check_settings(container: &ContainerDefinition) -> Result<(), AwsError> {
    let name = &container.name;
    let within = |member: &str, value: Option<i64>, least: i64, most: i64| match value {
        Some(value) if !(least..=most).contains(&value) => Err(client(format!(
            "Invalid '{member}' setting for container '{name}'. It must be between {least} and {most}."
        ))),
        _ => Ok(()),
    };
    within("startTimeout", container.start_timeout, 0, 86_400)?;
    within("stopTimeout", container.stop_timeout, 0, 86_400)?;
    if let Some(check) = &container.health_check {
        if !matches!(check.command.first().map(String::as_str), Some("CMD" | "CMD-SHELL" | "NONE")) {
            return Err(client(format!(
                "Invalid 'healthCheck' setting for container '{name}'. The command must begin with CMD or CMD-SHELL."
            )));
        }
        if container.is_checked() && check.command.len() < 2 {
            return Err(client(format!(
                "Invalid 'healthCheck' setting for container '{name}'. There is no command."
            )));
        }
        within("healthCheck.interval", check.interval, 5, 300)?;
        within("healthCheck.timeout", check.timeout, 2, 60)?;
        within("healthCheck.retries", check.retries, 1, 10)?;
        within("healthCheck.startPeriod", check.start_period, 0, 300)?;
    }
    if let Some(policy) = &container.restart_policy {
        within("restartPolicy.restartAttemptPeriod", policy.restart_attempt_period, 60, 1800)?;
        if policy.ignored_exit_codes.len() > 50 {
            return Err(client("A restart policy can ignore at most 50 exit codes."));
        }
    }
    if let Some(linux) = &container.linux_parameters {
        within("linuxParameters.swappiness", linux.swappiness, 0, 100)?;
        within("linuxParameters.maxSwap", linux.max_swap, 0, i64::from(i32::MAX))?;
    }
    if let Some(logs) = &container.log_configuration {
        one_of("logConfiguration.logDriver", Some(&logs.log_driver), &LOG_DRIVERS)?;
    }
    for ulimit in &container.ulimits {
        one_of("ulimits.name", Some(&ulimit.name), &ULIMITS)?;
        let unlimited = ulimit.hard_limit == -1;
        if !unlimited && (ulimit.soft_limit > ulimit.hard_limit || ulimit.soft_limit == -1) {
            return Err(client(format!(
                "Invalid 'ulimits' setting for container '{name}'. The soft limit of {} is above the hard limit.",
                ulimit.name
            )));
        }
    }
    one_of("versionConsistency", container.version_consistency.as_deref(), &["enabled", "disabled"])?;
    let mut variables = HashSet::new();
    for variable in container
        .environment
        .iter()
        .map(|variable| &variable.name)
        .chain(container.secrets.iter().map(|secret| &secret.name))
    {
        if variable.is_empty() || variable.contains(['=', '\0']) {
            return Err(client(format!(
                "Container '{name}' has an environment variable without a valid name."
            )));
        }
        variables.insert(variable);
    }
    for secret in &container.secrets {
        if container.environment.iter().any(|variable| variable.name == secret.name) {
            return Err(client(format!(
                "The secret name must be unique and not shared with any new or existing environment variables set on the container, such as '{}'.",
                secret.name
            )));
        }
    }
    Ok(())
}

/// Every dependency exists and can come true, and none goes round in a circle.
fn check_dependencies(content: &DefinitionContent) -> Result<(), AwsError> {
    let by_name: HashMap<&str, &ContainerDefinition> =
        content.container_definitions.iter().map(|container| (container.name.as_str(), container)).collect();
    let mut edges: HashMap<&str, Vec<&str>> = HashMap::new();
    for container in &content.container_definitions {
        for dependency in &container.depends_on {
            let name = dependency.container_name.as_str();
            let Some(target) = by_name.get(name).filter(|_| name != container.name) else {
                return Err(client(format!(
                    "Container '{}' depends on the unknown container '{name}'.",
                    container.name
                )));
            };
            match dependency.condition.as_str() {
                "START" => {}
                "COMPLETE" | "SUCCESS" if target.is_essential() => {
                    return Err(client(format!(
                        "Container '{}' cannot depend on the {} of the essential container '{name}'.",
                        container.name, dependency.condition
                    )));
                }
                "COMPLETE" | "SUCCESS" => {}
                "HEALTHY" if !target.is_checked() => {
                    return Err(client(format!(
                        "Container '{}' depends on '{name}' being HEALTHY, but '{name}' has no health check.",
                        container.name
                    )));
                }
                "HEALTHY" => {}
                other => {
                    one_of("dependsOn.condition", Some(other), &["START", "COMPLETE", "SUCCESS", "HEALTHY"])?
                }
            }
            edges.entry(&container.name).or_default().push(name);
        }
        // Links and volumesFrom order containers as well.
        let links = container.links.iter().map(|link| link.split(':').next().unwrap_or_default());
        let sources = container.volumes_from.iter().map(|source| source.source_container.as_str());
        edges.entry(&container.name).or_default().extend(links.chain(sources));
    }
    // Ten containers at most: a container that reaches itself within ten steps is on a circle.
    for start in by_name.keys() {
        let mut reached: HashSet<&str> = HashSet::new();
        let mut open: Vec<&str> = edges.get(start).cloned().unwrap_or_default();
        while let Some(name) = open.pop() {
            if name == *start {
                return Err(client("Containers must not have a circular dependency."));
            }
            if reached.insert(name) {
                open.extend(edges.get(name).into_iter().flatten());
            }
        }
    }
    Ok(())
}

fn fill_defaults(content: &mut DefinitionContent) {
    let network_mode = content.network_mode().to_owned();
    for container in &mut content.container_definitions {
        container.essential = Some(container.is_essential());
        for mapping in &mut container.port_mappings {
            mapping.protocol.get_or_insert_with(|| "tcp".into());
            if mapping.container_port_range.is_some() {
                continue;
            }
            if matches!(network_mode.as_str(), "host" | "awsvpc") {
                mapping.host_port = mapping.container_port;
            } else {
                mapping.host_port.get_or_insert(0);
            }
        }
        if let Some(check) = &mut container.health_check {
            check.interval.get_or_insert(30);
            check.timeout.get_or_insert(5);
            check.retries.get_or_insert(3);
        }
    }
}
