//! RegisterTaskDefinition's rules, in AWS's words where AWS's clients look for them.

use std::collections::HashSet;

use registry_aws::AwsError;
use scheduler_engine::Expression;

use super::containers::validate_containers;
use super::{parse_cpu, parse_memory};
use crate::http::ecs::error::{client, unsupported};
use crate::model::{DefinitionContent, PlacementConstraint, Volume};
use crate::names::is_name;

const MOST_CONTAINERS: usize = 10;
const MOST_CONSTRAINTS: usize = 10;
const LONGEST_DEFINITION: usize = 64 * 1024;
const LONGEST_EXPRESSION: usize = 2000;

/// Checks a definition and fills in what ECS fills in: sizes as integers, defaults of ports and essentials.
pub(crate) fn validate(content: &mut DefinitionContent) -> Result<(), AwsError> {
    check_family(&content.family)?;
    let length = serde_json::to_string(content).map_or(usize::MAX, |text| text.len());
    if length > LONGEST_DEFINITION {
        return Err(client(format!(
            "Actual length: '{length}'. Max allowed length is '{LONGEST_DEFINITION}' bytes."
        )));
    }
    if content.container_definitions.is_empty() {
        return Err(client("Container list cannot be empty."));
    }
    if content.container_definitions.len() > MOST_CONTAINERS {
        return Err(client("A task definition can have at most 10 containers."));
    }
    one_of("networkMode", content.network_mode.as_deref(), &["bridge", "host", "awsvpc", "none"])?;
    one_of("pidMode", content.pid_mode.as_deref(), &["host", "task"])?;
    one_of("ipcMode", content.ipc_mode.as_deref(), &["host", "task", "none"])?;
    for compatibility in &content.requires_compatibilities {
        let known = ["EC2", "FARGATE", "EXTERNAL", "MANAGED_INSTANCES"];
        one_of("requiresCompatibilities", Some(compatibility), &known)?;
    }
    normalise_sizes(content)?;
    check_platform(content)?;
    for role in [&content.task_role_arn, &content.execution_role_arn].into_iter().flatten() {
        check_role(role)?;
    }
    check_volumes(&content.volumes)?;
    check_constraints(&content.placement_constraints)?;
    validate_containers(content)
}

fn check_family(family: &str) -> Result<(), AwsError> {
    if family.is_empty() {
        return Err(client("Family should not be null or empty."));
    }
    if family.len() > 255 {
        return Err(client("Family name is too long: 255 characters at most."));
    }
    if is_name(family) { Ok(()) } else { Err(client("Family contains invalid characters.")) }
}

pub(super) fn one_of(member: &str, value: Option<&str>, known: &[&str]) -> Result<(), AwsError> {
    match value {
        Some(value) if !known.contains(&value) => Err(client(format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must \
             satisfy enum value set: [{}]",
            known.join(", ")
        ))),
        _ => Ok(()),
    }
}

fn normalise_sizes(content: &mut DefinitionContent) -> Result<(), AwsError> {
    if let Some(cpu) = &content.cpu {
        let units = parse_cpu(cpu).filter(|units| (128..=196_608).contains(units));
        content.cpu = Some(units.ok_or_else(|| client("Invalid 'cpu' setting for task."))?.to_string());
    }
    if let Some(memory) = &content.memory {
        let mebibytes = parse_memory(memory).filter(|mebibytes| (6..=2_097_152).contains(mebibytes));
        content.memory =
            Some(mebibytes.ok_or_else(|| client("Invalid 'memory' setting for task."))?.to_string());
    }
    Ok(())
}

fn check_platform(content: &DefinitionContent) -> Result<(), AwsError> {
    let Some(platform) = &content.runtime_platform else { return Ok(()) };
    one_of("runtimePlatform.cpuArchitecture", platform.cpu_architecture.as_deref(), &["X86_64", "ARM64"])?;
    match platform.operating_system_family.as_deref() {
        None | Some("LINUX") => Ok(()),
        Some(windows) if windows.starts_with("WINDOWS_SERVER_") => {
            Err(unsupported(&format!("the operating system family {windows}")))
        }
        Some(other) => one_of("runtimePlatform.operatingSystemFamily", Some(other), &["LINUX"]),
    }
}

/// A role's ARN or name; roles of other accounts cannot be assumed here.
pub(crate) fn check_role(role: &str) -> Result<(), AwsError> {
    let path = match role.strip_prefix("arn:aws:iam::") {
        None => role,
        Some(rest) => match rest.split_once(":role/") {
            Some((_, path)) => path,
            None => return Err(client("Role is not valid.")),
        },
    };
    let characters = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
    if path.is_empty() || path.len() > 576 || !path.bytes().all(characters) {
        return Err(client("Role is not valid."));
    }
    Ok(())
}

fn check_volumes(volumes: &[Volume]) -> Result<(), AwsError> {
    let mut names = HashSet::new();
    for volume in volumes {
        let name = &volume.name;
        if !is_name(name) {
            return Err(client("Volume name contains invalid characters."));
        }
        if !names.insert(name) {
            return Err(client(format!("Duplicate volume name: {name}.")));
        }
        let kinds = [
            volume.host.is_some(),
            volume.docker_volume_configuration.is_some(),
            volume.efs_volume_configuration.is_some(),
            volume.fsx_windows_file_server_volume_configuration.is_some(),
            volume.s3files_volume_configuration.is_some(),
            volume.configured_at_launch == Some(true),
        ];
        if kinds.into_iter().filter(|present| *present).count() > 1 {
            return Err(client(format!("Only one volume configuration is allowed for volume '{name}'.")));
        }
        let path = volume.host.as_ref().and_then(|host| host.source_path.as_deref());
        if path.is_some_and(|path| !path.starts_with('/') || path.contains('\0')) {
            return Err(client(format!("Invalid host path for volume '{name}': it must be absolute.")));
        }
        if let Some(docker) = &volume.docker_volume_configuration {
            one_of("dockerVolumeConfiguration.scope", docker.scope.as_deref(), &["task", "shared"])?;
            if docker.autoprovision.is_some() && docker.scope.as_deref() != Some("shared") {
                return Err(client("Autoprovision can only be set for volumes of scope 'shared'."));
            }
        }
    }
    Ok(())
}

fn check_constraints(constraints: &[PlacementConstraint]) -> Result<(), AwsError> {
    if constraints.len() > MOST_CONSTRAINTS {
        return Err(client("A task definition can have at most 10 placement constraints."));
    }
    for constraint in constraints {
        if constraint.kind != "memberOf" {
            return Err(client("Task definition placement constraints must be of type memberOf."));
        }
        check_expression(constraint.expression.as_deref())?;
    }
    Ok(())
}

/// An expression of the cluster query language, as constraints hold one.
pub(crate) fn check_expression(expression: Option<&str>) -> Result<Expression, AwsError> {
    let text = expression.unwrap_or_default();
    if text.is_empty() {
        return Err(client("A memberOf constraint needs an expression."));
    }
    if text.len() > LONGEST_EXPRESSION {
        return Err(client("The expression of a placement constraint can have at most 2000 characters."));
    }
    Expression::parse(text).map_err(|error| client(format!("Invalid expression: {error}")))
}
