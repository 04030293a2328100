//! Judges the `HostConfig` of a container, key by key; what is not known is refused.

use std::path::Path;

use scheduler_protocol::DOCKER_DEFAULT_CAPABILITIES;
use serde_json::{Map, Value};

use super::{Gate, closed, is_unset, paths, strings};
use crate::config::HostNamespace;

/// Keys that only bound or describe the container itself.
const HARMLESS: [&str; 22] = [
    "CapDrop",
    "CgroupParent",
    "CpuPeriod",
    "CpuQuota",
    "CpuShares",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "Init",
    "Links",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "PidsLimit",
    "PortBindings",
    "ReadonlyRootfs",
    "ShmSize",
    "Tmpfs",
    "Ulimits",
    "VolumesFrom",
];

/// Kernel parameters that belong to the container's own IPC namespace.
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

pub(super) fn judge(gate: &Gate, host: &Map<String, Value>) -> Result<(), String> {
    for (key, value) in host {
        if is_unset(value) {
            continue;
        }
        match key.as_str() {
            "Privileged" => {
                if !gate.access.privileged {
                    return Err(closed("wants to be privileged, which", "privileged = true"));
                }
            }
            "CapAdd" => capabilities(gate, &strings(host, key))?,
            "Devices" => devices(gate, value)?,
            "Binds" => binds(gate, &strings(host, key))?,
            "SecurityOpt" => security_options(gate, &strings(host, key))?,
            "NetworkMode" => match value.as_str().unwrap_or_default() {
                "bridge" | "default" | "none" => {}
                "host" => namespace(gate, HostNamespace::Network, "network")?,
                other => return Err(format!("wants the network {other}, which this agent does not support")),
            },
            "PidMode" => match value.as_str().unwrap_or_default() {
                "host" => namespace(gate, HostNamespace::Pid, "pid")?,
                other => {
                    return Err(format!(
                        "wants the PID namespace {other}, which this agent does not support"
                    ));
                }
            },
            "IpcMode" => match value.as_str().unwrap_or_default() {
                "none" | "private" => {}
                "host" => namespace(gate, HostNamespace::Ipc, "ipc")?,
                other => {
                    return Err(format!(
                        "wants the IPC namespace {other}, which this agent does not support"
                    ));
                }
            },
            "Sysctls" => sysctls(host, value)?,
            "LogConfig" => log(gate, value)?,
            known if HARMLESS.contains(&known) => {}
            unknown => return Err(format!("sets {unknown}, which this agent does not support")),
        }
    }
    Ok(())
}

fn namespace(gate: &Gate, wanted: HostNamespace, name: &str) -> Result<(), String> {
    if gate.access.namespaces.contains(&wanted) {
        return Ok(());
    }
    Err(closed(&format!("wants the host's {name} namespace, which"), &format!("namespaces = [\"{name}\"]")))
}

fn capabilities(gate: &Gate, wanted: &[&str]) -> Result<(), String> {
    let plain = |name: &str| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned();
    let open: Vec<String> = gate.access.capabilities.iter().map(|name| plain(name)).collect();
    for name in wanted.iter().map(|name| plain(name)) {
        let allowed = DOCKER_DEFAULT_CAPABILITIES.contains(&name.as_str())
            || open.contains(&name)
            || (name != "ALL" && open.iter().any(|open| open == "ALL"));
        if !allowed {
            return Err(closed(
                &format!("wants the capability {name}, which"),
                &format!("capabilities = [\"{name}\"]"),
            ));
        }
    }
    Ok(())
}

fn devices(gate: &Gate, value: &Value) -> Result<(), String> {
    for device in value.as_array().into_iter().flatten() {
        let path = device["PathOnHost"].as_str().unwrap_or_default();
        let resolved =
            paths::resolve(Path::new(path)).map_err(|error| format!("wants the device {path}: {error}"))?;
        let open = gate.access.devices.iter().filter_map(|open| paths::resolve(open).ok());
        if !open.into_iter().any(|open| open == resolved) || !path.starts_with("/dev/") {
            return Err(closed(
                &format!("wants the device {path}, which"),
                &format!("devices = [\"{path}\"]"),
            ));
        }
    }
    Ok(())
}

/// Sources that are paths; names of volumes were judged when the volumes were made.
fn binds(gate: &Gate, binds: &[&str]) -> Result<(), String> {
    for bind in binds {
        let source = bind.split(':').next().unwrap_or_default();
        if source.starts_with(['/', '.', '~']) {
            let resolved = gate.host_path(source).map_err(|failure| failure.message)?;
            if resolved != Path::new(source) {
                return Err(format!("mounts {source}, whose links are not resolved"));
            }
        }
    }
    Ok(())
}

fn security_options(gate: &Gate, wanted: &[&str]) -> Result<(), String> {
    let plain = |option: &str| option.replacen(':', "=", 1);
    for option in wanted.iter().map(|option| plain(option)) {
        let tightens = matches!(option.as_str(), "no-new-privileges" | "no-new-privileges=true");
        if !tightens && !gate.access.security_options.iter().any(|open| plain(open) == option) {
            return Err(closed(
                &format!("wants the security option {option}, which"),
                &format!("security_options = [\"{option}\"]"),
            ));
        }
    }
    Ok(())
}

fn sysctls(host: &Map<String, Value>, value: &Value) -> Result<(), String> {
    let mode = |key: &str| host.get(key).and_then(Value::as_str).unwrap_or_default();
    for name in value.as_object().into_iter().flat_map(Map::keys) {
        let own_network = name.starts_with("net.") && mode("NetworkMode") != "host";
        let own_ipc = (IPC_SYSCTLS.contains(&name.as_str()) || name.starts_with("fs.mqueue."))
            && mode("IpcMode") != "host";
        if !own_network && !own_ipc {
            return Err(format!("sets the kernel parameter {name}, which belongs to the host"));
        }
    }
    Ok(())
}

/// Options of logging drivers can name sockets and files of the host, which the engine opens as root.
fn log(gate: &Gate, value: &Value) -> Result<(), String> {
    let driver = value["Type"].as_str().unwrap_or_default();
    if !driver.is_empty() && !gate.log_drivers.iter().any(|known| known == driver) {
        return Err(format!("uses the logging driver {driver}, which is not among the agent's log_drivers"));
    }
    for (name, option) in value["Config"].as_object().into_iter().flatten() {
        let text = option.as_str().unwrap_or_default();
        let path =
            text.split_once("://").filter(|(scheme, _)| scheme.starts_with("unix")).map(|(_, path)| path);
        let path = path.or(Some(text).filter(|text| text.starts_with('/')));
        if let Some(path) = path {
            let judged = paths::judge(path, &gate.access.host_paths, &gate.forbidden);
            judged.map_err(|reason| format!("sets the log option {name}: {reason}"))?;
        }
    }
    Ok(())
}
