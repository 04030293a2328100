//! Host ports of tasks: static ones as asked for, dynamic ones picked here and reported.
//!
//! The agent picks a port itself, so that it is known before the start. A port is held by its task until the
//! task is over; what other processes of the host have is found out by binding it for a moment.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;

use parking_lot::Mutex;
use scheduler_protocol::{NetworkBinding, PortMapping};
use serde_json::{Map, Value, json};

const ANY_ADDRESS: &str = "0.0.0.0";
/// Where the kernel itself says which ports are ephemeral.
const KERNEL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const FALLBACK_RANGE: (u16, u16) = (32768, 60999);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            other => Err(format!("protocol {other} is not known")),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    fn is_free(self, port: u16) -> bool {
        match self {
            Self::Tcp => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok(),
            Self::Udp => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok(),
        }
    }
}

/// The ports that this agent has given out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HostPorts(Arc<Mutex<Given>>);

struct Given {
    first: u16,
    last: u16,
    next: u16,
    taken: HashSet<(Protocol, u16)>,
}

/// Ports of one container; given back when dropped.
pub(crate) struct PortLease {
    ports: HostPorts,
    held: Vec<(Protocol, u16)>,
    pub(crate) bindings: Vec<NetworkBinding>,
    /// Some port was picked here: another one may do when this one turns out to be taken.
    pub(crate) picked: bool,
}

impl HostPorts {
    /// `range` as configured; else the kernel's.
    pub(crate) fn new(range: Option<(u16, u16)>) -> Self {
        let (first, last) =
            range.or_else(kernel_range).filter(|(first, last)| first <= last).unwrap_or(FALLBACK_RANGE);
        // Agents that share a host do not begin at the same port.
        let spread = u16::from_be_bytes(registry_runtime::random_bytes());
        let next = first + spread % (last - first).max(1);
        Self(Arc::new(Mutex::new(Given { first, last, next, taken: HashSet::new() })))
    }

    /// The ports of a container in bridge mode.
    pub(crate) fn lease(&self, mappings: &[PortMapping]) -> Result<PortLease, String> {
        let mut lease =
            PortLease { ports: self.clone(), held: Vec::new(), bindings: Vec::new(), picked: false };
        for mapping in mappings {
            self.add(mapping, &mut lease)?;
        }
        Ok(lease)
    }

    /// The ports of a container that exists already.
    pub(crate) fn adopt(&self, bindings: &[NetworkBinding]) -> PortLease {
        let mut held = Vec::new();
        for binding in bindings {
            let protocol = Protocol::parse(binding.protocol.as_deref().unwrap_or_default());
            let range = binding.host_port_range.as_deref().and_then(|text| parse_range(text).ok());
            let range = range.or(binding.host_port.map(|port| (port, port)));
            if let (Ok(protocol), Some((first, last))) = (protocol, range) {
                held.extend((first..=last).map(|port| (protocol, port)));
            }
        }
        self.0.lock().taken.extend(held.iter().copied());
        PortLease { ports: self.clone(), held, bindings: bindings.to_vec(), picked: false }
    }

    fn add(&self, mapping: &PortMapping, lease: &mut PortLease) -> Result<(), String> {
        let protocol = Protocol::parse(&mapping.protocol)?;
        let mut binding = NetworkBinding {
            bind_ip: Some(ANY_ADDRESS.to_owned()),
            protocol: Some(protocol.as_str().to_owned()),
            ..NetworkBinding::default()
        };
        if let Some(range) = &mapping.container_port_range {
            let (first, last) = parse_range(range)?;
            let start = self.pick(protocol, last - first + 1)?;
            let end = start + (last - first);
            lease.held.extend((start..=end).map(|port| (protocol, port)));
            lease.picked = true;
            binding.container_port_range = Some(range.clone());
            binding.host_port_range = Some(format!("{start}-{end}"));
        } else {
            let container_port = mapping.container_port.ok_or("a port mapping has no containerPort")?;
            let host_port = match mapping.host_port.unwrap_or(0) {
                0 => {
                    lease.picked = true;
                    self.pick(protocol, 1)?
                }
                // Whether it is free the engine says, in words that name the port.
                port => {
                    self.0.lock().taken.insert((protocol, port));
                    port
                }
            };
            lease.held.push((protocol, host_port));
            binding.container_port = Some(container_port);
            binding.host_port = Some(host_port);
        }
        lease.bindings.push(binding);
        Ok(())
    }

    /// The first of `count` free ports in a row.
    fn pick(&self, protocol: Protocol, count: u16) -> Result<u16, String> {
        let mut given = self.0.lock();
        let size = u32::from(given.last - given.first) + 1;
        let mut start = given.next;
        for _ in 0..size {
            let end = u32::from(start) + u32::from(count) - 1;
            let fits = end <= u32::from(given.last);
            let free = |port: u32| {
                let port = u16::try_from(port).unwrap_or(u16::MAX);
                !given.taken.contains(&(protocol, port)) && protocol.is_free(port)
            };
            if fits && (u32::from(start)..=end).all(free) {
                let end = u16::try_from(end).unwrap_or(u16::MAX);
                given.taken.extend((start..=end).map(|port| (protocol, port)));
                given.next = if end == given.last { given.first } else { end + 1 };
                return Ok(start);
            }
            start = if start == given.last { given.first } else { start + 1 };
        }
        Err(format!("no {count} free {} ports in a row are left on this host", protocol.as_str()))
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        let mut given = self.ports.0.lock();
        for held in &self.held {
            given.taken.remove(held);
        }
    }
}

/// Bindings of a container on the host's network: its ports are the host's.
pub(crate) fn host_bindings(mappings: &[PortMapping]) -> Vec<NetworkBinding> {
    let bindings = mappings.iter().map(|mapping| NetworkBinding {
        bind_ip: Some(ANY_ADDRESS.to_owned()),
        container_port: mapping.container_port,
        host_port: mapping.container_port,
        protocol: Some(if mapping.protocol.is_empty() { "tcp".into() } else { mapping.protocol.clone() }),
        container_port_range: mapping.container_port_range.clone(),
        host_port_range: mapping.container_port_range.clone(),
    });
    bindings.collect()
}

/// `ExposedPorts` and `PortBindings` of Docker's API.
pub(crate) fn docker_ports(bindings: &[NetworkBinding]) -> (Map<String, Value>, Map<String, Value>) {
    let (mut exposed, mut bound) = (Map::new(), Map::new());
    let mut add = |container: u16, host: u16, protocol: &str| {
        let key = format!("{container}/{protocol}");
        exposed.insert(key.clone(), json!({}));
        let list = bound.entry(key).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(json!({ "HostIp": "", "HostPort": host.to_string() }));
        }
    };
    for binding in bindings {
        let protocol = binding.protocol.as_deref().unwrap_or("tcp");
        if let (Some(container), Some(host)) = (binding.container_port, binding.host_port) {
            add(container, host, protocol);
        }
        let range = |text: &Option<String>| text.as_deref().and_then(|text| parse_range(text).ok());
        if let (Some((first, last)), Some((start, _))) =
            (range(&binding.container_port_range), range(&binding.host_port_range))
        {
            for offset in 0..=(last - first) {
                add(first + offset, start + offset, protocol);
            }
        }
    }
    (exposed, bound)
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let parsed =
        text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    parsed
        .filter(|(first, last)| first <= last && *first > 0)
        .ok_or_else(|| format!("{text} is no range of ports"))
}

fn kernel_range() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string(KERNEL_RANGE).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use scheduler_protocol::PortMapping;

    use super::{HostPorts, docker_ports};

    fn mapping(container: u16, host: u16) -> PortMapping {
        PortMapping { container_port: Some(container), host_port: Some(host), ..PortMapping::default() }
    }

    #[test]
    fn dynamic_ports_are_free_and_given_once() {
        let taken = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let Some(end) = port.checked_add(20) else { return };
        let ports = HostPorts::new(Some((port, end)));
        let leases: Vec<_> = (0..5).map(|_| ports.lease(&[mapping(80, 0)]).unwrap()).collect();
        let mut given: Vec<_> = leases.iter().map(|lease| lease.bindings[0].host_port.unwrap()).collect();
        assert!(!given.contains(&port));
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 5);
    }

    #[test]
    fn a_range_is_one_block_and_goes_back_when_dropped() {
        let ports = HostPorts::new(Some((40000, 40009)));
        let range = PortMapping { container_port_range: Some("8000-8007".into()), ..PortMapping::default() };
        let lease = ports.lease(std::slice::from_ref(&range)).unwrap();
        let (exposed, bound) = docker_ports(&lease.bindings);
        assert_eq!((exposed.len(), bound.len()), (8, 8));
        assert!(ports.lease(std::slice::from_ref(&range)).is_err());
        drop(lease);
        assert!(ports.lease(&[range]).is_ok());
    }

    #[test]
    fn malformed_mappings_are_refused() {
        let ports = HostPorts::new(None);
        assert!(ports.lease(&[PortMapping::default()]).is_err());
        let sctp = PortMapping { protocol: "sctp".into(), ..mapping(80, 0) };
        assert!(ports.lease(&[sctp]).is_err());
        let backwards = PortMapping { container_port_range: Some("9-8".into()), ..PortMapping::default() };
        assert!(ports.lease(&[backwards]).is_err());
    }
}
