//! The attributes that an instance needs for a definition, as ECS derives them (`ecs.md` 2.5).
//!
//! An agent that cannot do something does not register the attribute for it; the task is then not placed
//! there, and the failure says ATTRIBUTE. That is how features reach the hosts that have them.

use std::collections::BTreeSet;

use crate::model::{Attribute, ContainerDefinition, DefinitionContent};

const CAPABILITY: &str = "com.amazonaws.ecs.capability.";

pub(crate) fn required_attributes(content: &DefinitionContent) -> Vec<Attribute> {
    let mut needed = BTreeSet::new();
    let mut need = |name: String| {
        needed.insert(name);
    };
    if content.task_role_arn.is_some() {
        let suffix = if content.network_mode() == "host" { "-network-host" } else { "" };
        need(format!("{CAPABILITY}task-iam-role{suffix}"));
    }
    if content.network_mode() == "awsvpc" {
        need("ecs.capability.task-eni".into());
    }
    if content.cpu.is_some() || content.memory.is_some() {
        need("ecs.capability.task-cpu-mem-limit".into());
    }
    if content.pid_mode.is_some() || content.ipc_mode.is_some() {
        need("ecs.capability.pid-ipc-namespace-sharing".into());
    }
    if content.proxy_configuration.is_some() {
        need("ecs.capability.aws-appmesh".into());
    }
    for volume in &content.volumes {
        if let Some(docker) = &volume.docker_volume_configuration {
            need(format!("ecs.capability.docker-plugin.{}", docker.driver.as_deref().unwrap_or("local")));
        }
        if volume.efs_volume_configuration.is_some() {
            need("ecs.capability.efs".into());
        }
        if volume.fsx_windows_file_server_volume_configuration.is_some() {
            need("ecs.capability.fsxWindowsFileServer".into());
        }
        if volume.s3files_volume_configuration.is_some() {
            need("ecs.capability.s3files".into());
        }
        if volume.configured_at_launch == Some(true) {
            need("ecs.capability.storage.ebs-task-volume-attach".into());
        }
    }
    for container in &content.container_definitions {
        of_container(content, container, &mut need);
    }
    needed.into_iter().map(|name| Attribute { name, value: None }).collect()
}

fn of_container(content: &DefinitionContent, container: &ContainerDefinition, need: &mut impl FnMut(String)) {
    let execution_role = content.execution_role_arn.is_some();
    if container.privileged == Some(true) {
        need(format!("{CAPABILITY}privileged-container"));
    }
    if is_ecr_name(&container.image) {
        need(format!("{CAPABILITY}ecr-auth"));
        if execution_role {
            need("ecs.capability.execution-role-ecr-pull".into());
        }
    }
    if let Some(logs) = &container.log_configuration {
        need(format!("{CAPABILITY}logging-driver.{}", logs.log_driver));
        if logs.log_driver == "awslogs" && execution_role {
            need("ecs.capability.execution-role-awslogs".into());
        }
        for secret in &logs.secret_options {
            need(format!(
                "ecs.capability.secrets.{}.bootstrap.log-driver",
                secret_provider(&secret.value_from)
            ));
        }
    }
    for secret in &container.secrets {
        need(format!("ecs.capability.secrets.{}.environment-variables", secret_provider(&secret.value_from)));
    }
    if container.repository_credentials.is_some() {
        need("ecs.capability.private-registry-authentication.secretsmanager".into());
    }
    if !container.environment_files.is_empty() {
        need("ecs.capability.env-files.s3".into());
    }
    if container.health_check.is_some() {
        need("ecs.capability.container-health-check".into());
    }
    if !container.depends_on.is_empty() {
        need("ecs.capability.container-ordering".into());
    }
    if container.restart_policy.as_ref().is_some_and(|policy| policy.enabled) {
        need("ecs.capability.container-restart-policy".into());
    }
    if container.port_mappings.iter().any(|mapping| mapping.container_port_range.is_some()) {
        need("ecs.capability.network.container-port-range".into());
    }
    if let Some(kind) =
        container.firelens_configuration.as_ref().and_then(|firelens| firelens["type"].as_str())
    {
        need(format!("ecs.capability.firelens.{kind}"));
    }
}

/// `asm` for a secret of Secrets Manager, `ssm` for a parameter.
pub(crate) fn secret_provider(value_from: &str) -> &'static str {
    if value_from.starts_with("arn:") && value_from.contains(":secretsmanager:") { "asm" } else { "ssm" }
}

/// Whether the image's host is one of ECR's.
pub(crate) fn is_ecr_name(image: &str) -> bool {
    let host = image.split('/').next().unwrap_or_default();
    let mut parts = host.split('.');
    parts
        .next()
        .is_some_and(|account| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()))
        && parts.next() == Some("dkr")
        && parts.next() == Some("ecr")
        && host.ends_with(".amazonaws.com")
}

#[cfg(test)]
mod tests {
    use super::required_attributes;
    use serde_json::json;

    #[test]
    fn attributes_follow_from_what_is_used() {
        let content = serde_json::from_value(json!({
            "taskRoleArn": "arn:aws:iam::000000000000:role/t", "executionRoleArn": "arn:aws:iam::000000000000:role/e",
            "containerDefinitions": [{
                "name": "a", "image": "000000000000.dkr.ecr.us-east-1.amazonaws.com/app:1", "privileged": true,
                "logConfiguration": {"logDriver": "awslogs"}, "healthCheck": {"command": ["CMD", "true"]},
                "secrets": [{"name": "P", "valueFrom": "arn:aws:secretsmanager:us-east-1:000000000000:secret:p"}]}]}))
        .unwrap();
        let names: Vec<String> =
            required_attributes(&content).into_iter().map(|attribute| attribute.name).collect();
        assert_eq!(
            names,
            [
                "com.amazonaws.ecs.capability.ecr-auth",
                "com.amazonaws.ecs.capability.logging-driver.awslogs",
                "com.amazonaws.ecs.capability.privileged-container",
                "com.amazonaws.ecs.capability.task-iam-role",
                "ecs.capability.container-health-check",
                "ecs.capability.execution-role-awslogs",
                "ecs.capability.execution-role-ecr-pull",
                "ecs.capability.secrets.asm.environment-variables",
            ]
        );
    }

    #[test]
    fn a_plain_definition_needs_nothing() {
        let content = serde_json::from_value(
            json!({"containerDefinitions": [{"name": "a", "image": "127.0.0.1:5000/app:1"}]}),
        )
        .unwrap();
        assert_eq!(required_attributes(&content), []);
    }
}
