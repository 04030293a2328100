//! Docker's inspection of a container, reduced to what the agent acts on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use bollard::models::{ContainerInspectResponse, ContainerState, PortBinding};
use scheduler_protocol::NetworkBinding;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::engine::EngineContainer;
use crate::task::event::{Observed, ObservedRun};
use crate::task::state::{Exit, Health};

pub(super) fn container(inspected: ContainerInspectResponse) -> EngineContainer {
    let config = inspected.config.unwrap_or_default();
    let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let addresses = networks
        .into_values()
        .flat_map(|network| [network.ip_address, network.global_ipv6_address])
        .flatten()
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .collect();
    let bindings = inspected.host_config.and_then(|host| host.port_bindings).unwrap_or_default();
    let state = inspected.state.unwrap_or_default();
    EngineContainer {
        name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        image_id: inspected.image.unwrap_or_default(),
        addresses,
        hosts_file: inspected.hosts_path.filter(|path| !path.is_empty()).map(PathBuf::from),
        observed: Observed {
            runtime_id: inspected.id.unwrap_or_default(),
            network_bindings: network_bindings(bindings),
            created_at_ms: inspected.created.as_ref().and_then(|at| millis(&at.to_string())).unwrap_or(0),
            health: state
                .health
                .as_ref()
                .and_then(|health| health.status)
                .map_or(Health::Unknown, |status| self::health(status.as_ref())),
            run: run(&state),
        },
    }
}

fn run(state: &ContainerState) -> ObservedRun {
    // Docker writes the year 1 for what has not happened.
    let time = |text: &Option<String>| text.as_deref().and_then(millis).filter(|ms| *ms > 0);
    let Some(started_at_ms) = time(&state.started_at) else {
        return ObservedRun::NeverStarted;
    };
    if state.running.unwrap_or(false) {
        return ObservedRun::Running { started_at_ms };
    }
    let exit = Exit {
        code: state.exit_code,
        finished_at_ms: time(&state.finished_at).unwrap_or(started_at_ms),
        out_of_memory: state.oom_killed.unwrap_or(false),
    };
    ObservedRun::Exited { started_at_ms, exit }
}

pub(super) fn health(status: &str) -> Health {
    match status {
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        _ => Health::Unknown,
    }
}

/// The ports that the container was created with, as the API reports them.
fn network_bindings(ports: HashMap<String, Option<Vec<PortBinding>>>) -> Vec<NetworkBinding> {
    let mut bindings = Vec::new();
    for (port, hosts) in ports {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        for host in hosts.unwrap_or_default() {
            bindings.push(NetworkBinding {
                bind_ip: host.host_ip.filter(|ip| !ip.is_empty()).or_else(|| Some("0.0.0.0".into())),
                container_port: number.parse().ok(),
                host_port: host.host_port.and_then(|port| port.parse().ok()),
                protocol: Some(protocol.to_owned()),
                ..NetworkBinding::default()
            });
        }
    }
    bindings.sort_by_key(|binding| (binding.container_port, binding.host_port));
    bindings
}

pub(super) fn millis(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

pub(super) fn seconds(text: &str) -> Option<i64> {
    millis(text).map(|ms| ms / 1000)
}
