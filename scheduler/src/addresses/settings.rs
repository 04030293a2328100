//! What a service's tags say of its address, and whether it can have it.

use std::sync::Arc;
use std::time::Duration;

use registry_aws::AwsError;
use scheduler_protocol::{NAME_SUFFIX, ProxyProtocol};

use super::compose::listens;
use crate::definition::Demand;
use crate::http::ecs::error::invalid;
use crate::ids::ServiceKey;
use crate::model::{
    ContainerDefinition, DefinitionContent, InstanceStatus, Service, ServiceStatus, Tag, Task, TaskDefinition,
};
use crate::state::{State, service_of};

const LISTEN: &str = "berth:listen";
const DRAIN: &str = "berth:drain";
const PROXY_PROTOCOL: &str = "berth:proxy-protocol";

const DEFAULT_DRAIN: Duration = Duration::from_secs(10);
const LONGEST_DRAIN: u64 = 3600;

/// A service's address, as its tags have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The port on which the cluster's agents listen.
    pub(crate) port: u16,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// How long connections to a task that is to stop may go on.
    pub(crate) drain: Duration,
    container: Option<String>,
    container_port: Option<u16>,
}

/// The port mapping behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen<'a> {
    pub(crate) container: &'a str,
    pub(crate) port: u16,
}

impl Address {
    /// Reads a service's tags; none when it is to have no address.
    ///
    /// # Errors
    /// Which tag is not of its form, in words for whoever set it.
    pub(crate) fn of(tags: &[Tag]) -> Result<Option<Self>, String> {
        let value = |key: &str| tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str());
        let drain = value(DRAIN).map_or(Ok(DEFAULT_DRAIN), drain_time)?;
        let proxy_protocol = value(PROXY_PROTOCOL).map(proxy_protocol).transpose()?;
        let Some(text) = value(LISTEN) else { return Ok(None) };
        let mut parts = text.split(':');
        let port = parts.next().and_then(port_number);
        let second = parts.next();
        let third = parts.next();
        let not_of_form = || {
            format!(
                "{LISTEN}: '{text}' is not PORT, PORT:CONTAINERPORT, PORT:CONTAINERNAME or \
                 PORT:CONTAINERNAME:CONTAINERPORT, with ports from 1 to 65535"
            )
        };
        let (container, container_port) = match (second, third, parts.next()) {
            (None, None, None) => (None, None),
            (Some(second), None, None) => match port_number(second) {
                Some(port) => (None, Some(port)),
                // A number that is no port is not meant as a name.
                None if second.is_empty() || second.bytes().all(|byte| byte.is_ascii_digit()) => {
                    return Err(not_of_form());
                }
                None => (Some(second.to_owned()), None),
            },
            (Some(name), Some(port), None) if !name.is_empty() => {
                (Some(name.to_owned()), Some(port_number(port).ok_or_else(not_of_form)?))
            }
            _ => return Err(not_of_form()),
        };
        let port = port.ok_or_else(not_of_form)?;
        Ok(Some(Self { port, proxy_protocol, drain, container, container_port }))
    }

    /// The port mapping of a definition that this address leads to: the first TCP one that the tag allows.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn choose<'a>(&self, content: &'a DefinitionContent) -> Result<Chosen<'a>, String> {
        if content.network_mode() == "none" {
            return Err(format!("{LISTEN}: tasks of the network mode none have no ports"));
        }
        let mut containers = content.container_definitions.iter();
        if let Some(name) = &self.container {
            let Some(named) = containers.find(|container| container.name == *name) else {
                return Err(format!("{LISTEN}: the task definition has no container '{name}'"));
            };
            return self.port_of(named).ok_or_else(|| self.no_mapping(&format!("container '{name}'")));
        }
        containers
            .find_map(|container| self.port_of(container))
            .ok_or_else(|| self.no_mapping("the task definition"))
    }

    fn port_of<'a>(&self, container: &'a ContainerDefinition) -> Option<Chosen<'a>> {
        let mut ports = container.port_mappings.iter().filter_map(|mapping| {
            let tcp = mapping.protocol.as_deref().is_none_or(|protocol| protocol == "tcp");
            mapping.container_port.filter(|_| tcp).and_then(|port| u16::try_from(port).ok())
        });
        let port = ports.find(|port| self.container_port.is_none_or(|wanted| wanted == *port))?;
        Some(Chosen { container: &container.name, port })
    }

    fn no_mapping(&self, of: &str) -> String {
        match self.container_port {
            Some(port) => format!("{LISTEN}: {of} has no TCP port mapping for container port {port}"),
            None => format!("{LISTEN}: {of} has no TCP port mapping"),
        }
    }
}

/// The port on which agents listen for a service, while it has an address.
pub(crate) fn listening_port(service: &Service) -> Option<u16> {
    let active = service.status == ServiceStatus::Active;
    let address = active.then(|| Address::of(&service.tags).ok().flatten());
    address.flatten().map(|address| address.port)
}

/// `SERVICE.CLUSTER.berth.internal`
pub(crate) fn name_of(key: &ServiceKey) -> String {
    format!("{}.{}{NAME_SUFFIX}", key.name, key.cluster)
}

/// Whether a service can have the address that these tags give it, running this definition.
///
/// # Errors
/// InvalidParameterException: a tag that is not of its form, a port that is not to be had, a definition that maps
/// no port for it.
pub(crate) fn check_address(
    state: &State,
    key: &ServiceKey,
    tags: &[Tag],
    definition: &TaskDefinition,
) -> Result<(), AwsError> {
    let Some(address) = Address::of(tags).map_err(|why| invalid(format!("{why}.")))? else { return Ok(()) };
    let port = address.port;
    address.choose(&definition.content).map_err(|why| invalid(format!("{why} ({}).", definition.key)))?;
    let takes_it =
        |container: &&ContainerDefinition| Demand::takes_port(&definition.content, container, port);
    let takes_it_itself = definition.content.container_definitions.iter().find(takes_it);
    if let Some(container) = takes_it_itself {
        return Err(invalid(format!(
            "{LISTEN}: port {port} is the hostPort of container '{}' in {}: leave hostPort out, or listen on another port.",
            container.name, definition.key
        )));
    }
    let reserved = state.instances_of(&key.cluster).find(|instance| {
        instance.status != InstanceStatus::Inactive && instance.reserved_tcp.contains(&port)
    });
    if let Some(instance) = reserved {
        return Err(invalid(format!(
            "{LISTEN}: port {port} is reserved on container instance {} (reserved_ports of its agent).",
            instance.id
        )));
    }
    let mut others = state.services_of(&key.cluster).filter(|other| other.key != *key);
    if let Some(holder) = others.find(|other| listening_port(other) == Some(port)) {
        return Err(invalid(format!(
            "{LISTEN}: port {port} is held by service {} of cluster {}.",
            holder.key.name, key.cluster
        )));
    }
    if state.service(key).and_then(|service| listening_port(service)) == Some(port) {
        return Ok(());
    }
    // Its own tasks of before may still have it: those are on their way out.
    let of_others = |task: &&Arc<Task>| {
        task.holds_resources() && task.tcp_ports.contains(&port) && service_of(task).as_ref() != Some(key)
    };
    let listening = state.instances_of(&key.cluster).filter(|instance| listens(instance));
    let mut tasks = listening.filter_map(|instance| state.live_tasks_on(&instance.id).find(of_others));
    match tasks.next() {
        Some(task) => Err(invalid(format!(
            "{LISTEN}: port {port} is the hostPort of task {} ({}) on a host that would listen: stop it, or listen on another port.",
            task.id, task.group
        ))),
        None => Ok(()),
    }
}

fn port_number(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port > 0)
}

fn drain_time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u64>().ok().filter(|seconds| *seconds <= LONGEST_DRAIN);
    let seconds = seconds
        .ok_or_else(|| format!("{DRAIN}: '{text}' is no number of seconds from 0 to {LONGEST_DRAIN}"))?;
    Ok(Duration::from_secs(seconds))
}

fn proxy_protocol(text: &str) -> Result<ProxyProtocol, String> {
    match text {
        "v1" => Ok(ProxyProtocol::V1),
        "v2" => Ok(ProxyProtocol::V2),
        other => Err(format!("{PROXY_PROTOCOL}: '{other}' is neither v1 nor v2")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scheduler_protocol::ProxyProtocol;
    use serde_json::json;

    use super::{Address, Chosen};
    use crate::model::{DefinitionContent, Tag};

    fn of(tags: &[(&str, &str)]) -> Result<Option<Address>, String> {
        let tag = |(key, value): &(&str, &str)| Tag { key: (*key).into(), value: (*value).into() };
        Address::of(&tags.iter().map(tag).collect::<Vec<_>>())
    }

    fn content() -> DefinitionContent {
        let containers = json!([
            {"name": "dns", "image": "x", "portMappings": [{"containerPort": 53, "protocol": "udp"}]},
            {"name": "web", "image": "x", "portMappings": [{"containerPort": 80}, {"containerPort": 81, "protocol": "tcp"}]},
            {"name": "admin", "image": "x", "portMappings": [{"containerPort": 90}]},
        ]);
        serde_json::from_value(json!({ "containerDefinitions": containers })).unwrap()
    }

    #[test]
    fn the_tag_chooses_the_mapping() {
        let content = content();
        for (text, expected) in [
            ("8080", Some(("web", 80))),
            ("8080:81", Some(("web", 81))),
            ("8080:90", Some(("admin", 90))),
            ("8080:admin", Some(("admin", 90))),
            ("8080:web:81", Some(("web", 81))),
            ("8080:53", None),
            ("8080:dns", None),
            ("8080:web:90", None),
            ("8080:nobody", None),
        ] {
            let address = of(&[("berth:listen", text)]).unwrap().unwrap();
            assert_eq!(address.port, 8080);
            let expected = expected.map(|(container, port)| Chosen { container, port });
            assert_eq!(address.choose(&content).ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_named() {
        for text in [
            "", "0", "65536", "http", "-1", "+80", " 80", "80:", "80::", ":80", "80:0", "80:65536", "80:a:",
            "80:a:b", "80:a:1:2",
        ] {
            let error = of(&[("berth:listen", text)]).unwrap_err();
            assert!(error.starts_with("berth:listen: ") && error.contains(&format!("'{text}'")), "{error}");
        }
        for (key, value) in [
            ("berth:drain", "-1"),
            ("berth:drain", "3601"),
            ("berth:drain", "soon"),
            ("berth:proxy-protocol", "v3"),
        ] {
            let error = of(&[(key, value)]).unwrap_err();
            assert!(error.starts_with(key) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn the_other_tags_have_defaults() {
        let plain = of(&[("berth:listen", "80")]).unwrap().unwrap();
        assert_eq!((plain.proxy_protocol, plain.drain), (None, Duration::from_secs(10)));
        let set = of(&[("berth:listen", "80"), ("berth:drain", "0"), ("berth:proxy-protocol", "v2")])
            .unwrap()
            .unwrap();
        assert_eq!((set.proxy_protocol, set.drain), (Some(ProxyProtocol::V2), Duration::ZERO));
        assert_eq!(of(&[("team", "a"), ("berth:drain", "3")]), Ok(None));
    }
}
