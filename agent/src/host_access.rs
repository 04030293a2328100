//! The gate between tasks and the host: what the operator has not opened stays closed.
//!
//! It judges the finished body of a container, after every override and with links resolved, so that nothing
//! can be said in a second way. A refusal names the line that would open what was asked for.

mod host_config;
mod paths;

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::config::HostAccess;
use crate::task::event::Failure;

/// ECS's name for a container that the host does not take.
const REFUSED: &str = "HostConfigError";

/// The operator's openings, and what can never be opened.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    access: HostAccess,
    log_drivers: Vec<String>,
    /// Folders and sockets of the system, the engine and Berth, resolved.
    forbidden: Vec<PathBuf>,
}

impl Gate {
    /// `own` are the engine's socket and folder and Berth's own folders.
    pub(crate) fn new(access: HostAccess, log_drivers: Vec<String>, own: Vec<PathBuf>) -> Self {
        let engine =
            ["/run/docker.sock", "/run/docker", "/run/containerd", "/var/lib/docker", "/var/lib/containerd"];
        let engine = engine.iter().map(PathBuf::from);
        let forbidden = engine.chain(own).filter_map(|path| paths::resolve(&path).ok()).collect();
        Self { access, log_drivers, forbidden }
    }

    /// Judges the body of `POST /containers/create`. Its volumes by name have been judged when they were made.
    pub(crate) fn judge(&self, container: &str, body: &Value) -> Result<(), Failure> {
        let refuse = |reason: String| Failure::new(REFUSED, format!("container {container} {reason}"));
        let Value::Object(body) = body else {
            return Err(refuse("has no configuration".into()));
        };
        for (key, value) in body {
            match key.as_str() {
                "HostConfig" => {
                    let host = value.as_object().cloned().unwrap_or_default();
                    host_config::judge(self, &host).map_err(refuse)?;
                }
                "User" => user(value).map_err(refuse)?,
                known if CONTAINER_KEYS.contains(&known) => {}
                _ if is_unset(value) => {}
                unknown => return Err(refuse(format!("sets {unknown}, which this agent does not support"))),
            }
        }
        Ok(())
    }

    /// The source of a mount, resolved, when the operator has opened it.
    pub(crate) fn host_path(&self, source: &str) -> Result<PathBuf, Failure> {
        paths::judge(source, &self.access.host_paths, &self.forbidden)
            .map_err(|reason| Failure::new(REFUSED, reason))
    }

    /// A volume that Berth is about to make.
    pub(crate) fn volume(&self, name: &str, driver: &str, has_options: bool) -> Result<(), Failure> {
        if driver == "local" && !has_options {
            return Ok(());
        }
        if self.access.volume_drivers.iter().any(|open| open == driver) {
            return Ok(());
        }
        let what =
            if has_options { format!("options of driver {driver}") } else { format!("driver {driver}") };
        Err(Failure::new(
            REFUSED,
            closed(&format!("volume {name} uses {what}"), &format!("volume_drivers = [\"{driver}\"]")),
        ))
    }

    /// A volume that exists and is not of Berth's making.
    pub(crate) fn existing_volume(&self, name: &str) -> Result<(), Failure> {
        if self.access.volumes.iter().any(|open| open == name) {
            return Ok(());
        }
        let what = format!("volume {name} of the host was not made by Berth; its use");
        Err(Failure::new(REFUSED, closed(&what, &format!("volumes = [\"{name}\"]"))))
    }
}

/// Keys of a container's configuration that reach nothing outside it.
const CONTAINER_KEYS: [&str; 19] = [
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Cmd",
    "Domainname",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Hostname",
    "Image",
    "Labels",
    "NetworkDisabled",
    "OpenStdin",
    "StopSignal",
    "StopTimeout",
    "StdinOnce",
    "Tty",
    "WorkingDir",
];

/// A number beyond the kernel's ids wraps to another user, root among them.
fn user(value: &Value) -> Result<(), String> {
    let text = value.as_str().unwrap_or_default();
    let too_large = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() && part.parse::<i32>().is_err()
    };
    if text.split(':').any(too_large) {
        return Err(format!("names the user {text}, which is no user id"));
    }
    Ok(())
}

/// Docker's own way of saying nothing.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn strings<'a>(map: &'a Map<String, Value>, key: &str) -> Vec<&'a str> {
    let list = map.get(key).and_then(Value::as_array);
    list.map(|list| list.iter().map(|one| one.as_str().unwrap_or_default()).collect()).unwrap_or_default()
}

/// The words of a refusal, with the line that opens.
fn closed(what: &str, line: &str) -> String {
    format!(
        "{what} is closed to tasks on this host; to open it, add under [agent.host] of its configuration: {line}"
    )
}

#[cfg(test)]
mod tests;
