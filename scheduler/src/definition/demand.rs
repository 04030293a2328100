//! What a task takes from its instance, by ECS's own arithmetic (`ecs.md` 2.5).

use registry_aws::AwsError;
use serde_json::Value;

use crate::http::ecs::error::{invalid, unsupported};
use crate::model::{ContainerDefinition, ContainerOverride, DefinitionContent, TaskOverrides};

/// Integers, as placement counts them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// CPU units.
    pub(crate) cpu: i64,
    /// MiB.
    pub(crate) memory: i64,
    /// Static host ports; dynamic ones and ranges count nothing.
    pub(crate) tcp_ports: Vec<u16>,
    pub(crate) udp_ports: Vec<u16>,
    pub(crate) gpus: u32,
}

impl Demand {
    pub(crate) fn of(content: &DefinitionContent, overrides: &TaskOverrides) -> Self {
        let task_cpu = overrides.cpu.as_deref().or(content.cpu.as_deref()).and_then(parse_cpu);
        let task_memory = overrides.memory.as_deref().or(content.memory.as_deref()).and_then(parse_memory);
        let mut demand = Self::default();
        let (mut cpu, mut memory) = (0, 0);
        for container in &content.container_definitions {
            let over = overrides.container(&container.name);
            cpu += over.and_then(|over| over.cpu).unwrap_or(container.cpu);
            let reservation = over.and_then(|over| over.memory_reservation).or(container.memory_reservation);
            let limit = over.and_then(|over| over.memory).or(container.memory);
            memory += reservation.or(limit).unwrap_or(0);
            demand.gpus = demand.gpus.saturating_add(gpus(container, over));
            demand.add_ports(content, container);
        }
        demand.cpu = task_cpu.unwrap_or(cpu);
        demand.memory = task_memory.unwrap_or(memory);
        demand
    }

    /// Whether a container takes this TCP port of its host.
    pub(crate) fn takes_port(
        content: &DefinitionContent,
        container: &ContainerDefinition,
        port: u16,
    ) -> bool {
        let mut demand = Self::default();
        demand.add_ports(content, container);
        demand.tcp_ports.contains(&port)
    }

    fn add_ports(&mut self, content: &DefinitionContent, container: &ContainerDefinition) {
        if content.network_mode() == "awsvpc" {
            return;
        }
        let host_network = content.network_mode() == "host";
        for mapping in &container.port_mappings {
            // On the host's network a mapping without a host port takes the container's port there.
            let fallback = if host_network { mapping.container_port } else { None };
            let port = mapping.host_port.filter(|port| *port != 0).or(fallback);
            let Some(port) = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0) else {
                continue;
            };
            let ports = if mapping.protocol.as_deref() == Some("udp") {
                &mut self.udp_ports
            } else {
                &mut self.tcp_ports
            };
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
}

/// The GPUs that a container is to have for itself.
pub(crate) fn gpus(container: &ContainerDefinition, over: Option<&ContainerOverride>) -> u32 {
    let of_gpu = |requirement: &&Value| requirement["type"] == "GPU";
    let overridden = over.and_then(|over| over.resource_requirements.as_ref()).and_then(Value::as_array);
    let requirements = overridden.unwrap_or(&container.resource_requirements).iter().filter(of_gpu);
    requirements.filter_map(count).fold(0, u32::saturating_add)
}

fn count(requirement: &Value) -> Option<u32> {
    requirement["value"].as_str()?.parse().ok()
}

/// Refuses requirements that are not met here: only GPUs by their number are.
pub(crate) fn check_resources(requirements: &[Value]) -> Result<(), AwsError> {
    for requirement in requirements {
        if requirement["type"] != "GPU" {
            let kind = requirement["type"].as_str().unwrap_or("none");
            return Err(unsupported(&format!("resource requirements of type {kind}")));
        }
        if requirement["sharingStrategy"].is_string() || requirement["value"] == "ALL" {
            return Err(unsupported("GPUs that are shared, or all of an instance"));
        }
        if count(requirement).is_none_or(|count| count == 0) {
            return Err(invalid("The value of a resource requirement of type GPU is a number from 1."));
        }
    }
    Ok(())
}

/// `1024`, `1 vCPU` or `.5 vcpu` in CPU units.
pub(crate) fn parse_cpu(text: &str) -> Option<i64> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if let Some(number) = lower.strip_suffix("vcpu") {
        return scaled(number, 1024);
    }
    text.parse().ok().filter(|units| *units > 0)
}

/// `1024`, `1GB` or `0.5 GB` in MiB.
pub(crate) fn parse_memory(text: &str) -> Option<i64> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if let Some(number) = lower.strip_suffix("gb") {
        return scaled(number, 1024);
    }
    text.parse().ok().filter(|mebibytes| *mebibytes > 0)
}

/// A decimal number times a whole one, rounded down; without floating point's surprises at the edges.
fn scaled(number: &str, by: i64) -> Option<i64> {
    let number = number.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 6 {
        return None;
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 9 {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let parts: i64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_i64.pow(u32::try_from(fraction.len()).ok()?);
    Some(whole * by + parts * by / scale).filter(|result| *result > 0)
}

#[cfg(test)]
mod tests {
    use super::{Demand, parse_cpu, parse_memory};
    use crate::model::{DefinitionContent, TaskOverrides};
    use serde_json::json;

    #[test]
    fn sizes_have_units_or_none() {
        for (text, units) in [
            ("1024", Some(1024)),
            ("1 vCPU", Some(1024)),
            ("1vcpu", Some(1024)),
            (".5 vcpu", Some(512)),
            ("0.25 vCPU", Some(256)),
            ("0", None),
            ("-1", None),
            ("1 GB", None),
            ("", None),
            ("vcpu", None),
            ("99999999999999 vcpu", None),
        ] {
            assert_eq!(parse_cpu(text), units, "{text}");
        }
        for (text, mebibytes) in
            [("512", Some(512)), ("1GB", Some(1024)), ("0.5 gb", Some(512)), ("1 MB", None)]
        {
            assert_eq!(parse_memory(text), mebibytes, "{text}");
        }
    }

    fn content(value: serde_json::Value) -> DefinitionContent {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn containers_add_up_and_a_reservation_counts_before_a_limit() {
        let content = content(json!({"containerDefinitions": [
            {"name": "a", "cpu": 100, "memory": 512, "memoryReservation": 128,
             "portMappings": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}, {"containerPort": 53, "hostPort": 53, "protocol": "udp"}]},
            {"name": "b", "cpu": 50, "memory": 64, "portMappings": [{"containerPort": 82, "hostPort": 0}]}]}));
        let demand = Demand::of(&content, &TaskOverrides::default());
        assert_eq!(
            demand,
            Demand { cpu: 150, memory: 192, tcp_ports: vec![8080], udp_ports: vec![53], gpus: 0 }
        );
    }

    #[test]
    fn task_sizes_and_overrides_take_precedence() {
        let content = content(
            json!({"cpu": "512", "memory": "1024", "containerDefinitions": [{"name": "a", "cpu": 10, "memory": 64}]}),
        );
        assert_eq!(Demand::of(&content, &TaskOverrides::default()).cpu, 512);
        let overrides: TaskOverrides = serde_json::from_value(
            json!({"memory": "2048", "containerOverrides": [{"name": "a", "cpu": 20}]}),
        )
        .unwrap();
        let demand = Demand::of(&content, &overrides);
        assert_eq!((demand.cpu, demand.memory), (512, 2048));
    }

    #[test]
    fn gpus_add_up_and_an_override_counts_instead() {
        let gpus = |value: &str| json!([{"type": "GPU", "value": value}]);
        let content = content(json!({"containerDefinitions": [
            {"name": "a", "resourceRequirements": gpus("2")}, {"name": "b", "resourceRequirements": gpus("1")}]}));
        assert_eq!(Demand::of(&content, &TaskOverrides::default()).gpus, 3);
        let overrides = json!({"containerOverrides": [{"name": "a", "resourceRequirements": gpus("4")}]});
        assert_eq!(Demand::of(&content, &serde_json::from_value(overrides).unwrap()).gpus, 5);
    }

    #[test]
    fn on_the_hosts_network_container_ports_are_host_ports() {
        let content = content(
            json!({"networkMode": "host", "containerDefinitions": [{"name": "a", "portMappings": [{"containerPort": 80}]}]}),
        );
        assert_eq!(Demand::of(&content, &TaskOverrides::default()).tcp_ports, [80]);
    }
}
