//! What this agent does not support, said by name.
//!
//! A field that would be silently ignored changes what a task means; such a task is refused instead, and
//! the reason becomes its stopped reason.

use scheduler_protocol::{Container, Task, Volume};

/// The first thing in `task` that this agent cannot do.
pub(crate) fn check(task: &Task) -> Result<(), String> {
    if task.containers.is_empty() {
        return Err("the task has no containers".into());
    }
    if !name_is_plain(&task.family) || !task.version.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the task's family or revision is malformed".into());
    }
    match task.network_mode.as_str() {
        "" | "bridge" | "host" | "none" => {}
        "awsvpc" => {
            return Err("network mode awsvpc is not supported on this host: use bridge, host or none".into());
        }
        other => return Err(format!("network mode {other} is not known")),
    }
    for (field, value) in [("pidMode", &task.pid_mode), ("ipcMode", &task.ipc_mode)] {
        match value.as_str() {
            "" | "host" => {}
            "none" if field == "ipcMode" => {}
            other => return Err(format!("{field} {other} is not supported by this agent")),
        }
    }
    if let Some(association) = task.associations.first() {
        return Err(format!("resources of type {} are not supported by this agent", association.kind));
    }
    for volume in &task.volumes {
        check_volume(volume)?;
    }
    for container in &task.containers {
        check_container(task, container)
            .map_err(|reason| format!("container {}: {reason}", container.name))?;
    }
    Ok(())
}

fn check_volume(volume: &Volume) -> Result<(), String> {
    if volume.name.is_empty() {
        return Err("a volume has no name".into());
    }
    match volume.kind.as_str() {
        "" | "host" => Ok(()),
        "docker" => match volume.docker_volume_configuration.as_ref().map(|docker| docker.scope.as_str()) {
            None | Some("" | "task" | "shared") => Ok(()),
            Some(other) => Err(format!("volume {}: scope {other} is not known", volume.name)),
        },
        other => {
            Err(format!("volume {}: volumes of type {other} are not supported by this agent", volume.name))
        }
    }
}

fn check_container(task: &Task, container: &Container) -> Result<(), String> {
    if !name_is_plain(&container.name) {
        return Err("the name may hold letters, digits, - and _ only".into());
    }
    if container.image.is_empty() {
        return Err("there is no image".into());
    }
    if !container.environment_files.is_empty() {
        return Err("environmentFiles are not supported by this agent".into());
    }
    if container.berth_image.is_none()
        && container.registry_authentication.as_ref().is_some_and(|auth| auth.kind == "asm")
    {
        return Err("repositoryCredentials are not supported by this agent".into());
    }
    let mode = task.network_mode.as_str();
    if mode == "none" && !container.port_mappings.is_empty() {
        return Err("network mode none has no portMappings".into());
    }
    if !matches!(mode, "" | "bridge") && !container.links.is_empty() {
        return Err("links need network mode bridge".into());
    }
    for secret in &container.secrets {
        if !matches!(secret.provider.as_str(), "ssm" | "asm") || secret.target == "LOG_DRIVER" {
            return Err(format!("secret {} is of a kind that this agent does not support", secret.name));
        }
    }
    for mount in &container.mount_points {
        if !task.volumes.iter().any(|volume| volume.name == mount.source_volume) {
            return Err(format!("mountPoints name the volume {}, which the task lacks", mount.source_volume));
        }
        if !mount.container_path.starts_with('/') || mount.container_path.contains(':') {
            return Err(format!(
                "containerPath {} is no absolute path without a colon",
                mount.container_path
            ));
        }
    }
    Ok(())
}

/// Names become parts of Docker's names and labels.
fn name_is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use scheduler_protocol::{Container, EnvironmentFile, PortMapping, Task, Volume};

    use super::check;

    fn task() -> Task {
        Task {
            family: "app".into(),
            version: "1".into(),
            containers: vec![Container { name: "web".into(), image: "app".into(), ..Container::default() }],
            ..Task::default()
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        assert_eq!(check(&task()), Ok(()));
        type Change = fn(&mut Task);
        let cases: [(&str, Change); 8] = [
            ("awsvpc", |task| task.network_mode = "awsvpc".into()),
            ("pidMode task", |task| task.pid_mode = "task".into()),
            ("ipcMode task", |task| task.ipc_mode = "task".into()),
            ("environmentFiles", |task| {
                task.containers[0].environment_files =
                    vec![EnvironmentFile { value: "arn".into(), kind: "s3".into() }];
            }),
            ("type efs", |task| {
                task.volumes = vec![Volume { name: "v".into(), kind: "efs".into(), ..Volume::default() }];
            }),
            ("no portMappings", |task| {
                task.network_mode = "none".into();
                task.containers[0].port_mappings = vec![PortMapping::default()];
            }),
            ("links", |task| {
                task.network_mode = "host".into();
                task.containers[0].links = vec!["db".into()];
            }),
            ("family", |task| task.family = "../x".into()),
        ];
        for (word, change) in cases {
            let mut task = task();
            change(&mut task);
            let reason = check(&task).unwrap_err();
            assert!(reason.contains(word), "{word}: {reason}");
        }
    }
}
