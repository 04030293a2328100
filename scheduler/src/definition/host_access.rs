//! What a task definition would open of the host: the condition keys that policies are asked with.
//!
//! IAM has a key for `privileged` alone; the others are Berth's. Paths are brought into one form first,
//! so that `/srv/../etc` is asked about as `/etc`.

use policies_identity::Check;
use scheduler_protocol::DOCKER_DEFAULT_CAPABILITIES;

use crate::model::DefinitionContent;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostAccess {
    pub(crate) privileged: bool,
    pub(crate) paths: Vec<String>,
    /// Beyond Docker's default set; without `CAP_`, in capitals.
    pub(crate) capabilities: Vec<String>,
    pub(crate) devices: Vec<String>,
    /// `pid`, `ipc`, `network`.
    pub(crate) namespaces: Vec<String>,
}

impl HostAccess {
    pub(crate) fn of(content: &DefinitionContent) -> Self {
        let mut access = Self::default();
        for volume in &content.volumes {
            if let Some(path) = volume.host.as_ref().and_then(|host| host.source_path.as_deref()) {
                access.paths.push(normal_path(path));
            }
            // A local volume may be a bind mount in disguise.
            let options = volume.docker_volume_configuration.as_ref().map(|volume| &volume.driver_opts);
            if let Some(device) = options.and_then(|options| options.get("device")) {
                access.paths.push(normal_path(device));
            }
        }
        for container in &content.container_definitions {
            access.privileged |= container.privileged == Some(true);
            let Some(linux) = &container.linux_parameters else { continue };
            access.devices.extend(linux.devices.iter().map(|device| normal_path(&device.host_path)));
            for capability in linux.capabilities.iter().flat_map(|capabilities| &capabilities.add) {
                let upper = capability.to_ascii_uppercase();
                let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
                if !DOCKER_DEFAULT_CAPABILITIES.contains(&name) {
                    access.capabilities.push(name.to_owned());
                }
            }
        }
        for (mode, name) in [
            (content.pid_mode.as_deref(), "pid"),
            (content.ipc_mode.as_deref(), "ipc"),
            (content.network_mode.as_deref(), "network"),
        ] {
            if mode == Some("host") {
                access.namespaces.push(name.to_owned());
            }
        }
        for list in [&mut access.paths, &mut access.capabilities, &mut access.devices] {
            list.sort_unstable();
            list.dedup();
        }
        access
    }

    /// Adds the keys to a check. A list key is absent when nothing of its kind is opened.
    pub(crate) fn add_to(&self, check: Check) -> Check {
        let mut check = check.with("ecs:privileged", if self.privileged { "true" } else { "false" });
        for (key, values) in [
            ("berth:HostPaths", &self.paths),
            ("berth:Capabilities", &self.capabilities),
            ("berth:Devices", &self.devices),
            ("berth:HostNamespaces", &self.namespaces),
        ] {
            if !values.is_empty() {
                check = check.with_many(key, values.clone());
            }
        }
        check
    }
}

/// An absolute path without `.`, `..` and repeated slashes. Symlinks are the agent's to resolve.
fn normal_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::HostAccess;
    use serde_json::json;

    #[test]
    fn everything_that_opens_the_host_is_named() {
        let content = serde_json::from_value(json!({
            "networkMode": "host", "pidMode": "host", "ipcMode": "task",
            "volumes": [
                {"name": "a", "host": {"sourcePath": "/srv/../etc//x/."}},
                {"name": "b", "dockerVolumeConfiguration": {"driverOpts": {"type": "none", "device": "/root", "o": "bind"}}},
                {"name": "c", "host": {}}],
            "containerDefinitions": [
                {"name": "a", "privileged": true, "linuxParameters": {
                    "capabilities": {"add": ["cap_sys_admin", "CHOWN", "NET_ADMIN"]}, "devices": [{"hostPath": "/dev/fuse"}]}},
                {"name": "b", "privileged": false}]}))
        .unwrap();
        let access = HostAccess::of(&content);
        assert!(access.privileged);
        assert_eq!(access.paths, ["/etc/x", "/root"]);
        assert_eq!(access.capabilities, ["NET_ADMIN", "SYS_ADMIN"]);
        assert_eq!(access.devices, ["/dev/fuse"]);
        assert_eq!(access.namespaces, ["pid", "network"]);
    }

    #[test]
    fn a_plain_definition_opens_nothing() {
        let content = serde_json::from_value(json!({"containerDefinitions": [{"name": "a"}]})).unwrap();
        assert_eq!(HostAccess::of(&content), HostAccess::default());
    }
}
