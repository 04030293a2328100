//! What an operator sets for a host, and what the host's agent is told by its caller.
//!
//! Everything that opens the host to tasks is closed by default and stands under `[host]`; a refusal
//! names the line to add there. Unknown keys are errors.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use registry_aws::Credentials;
use registry_runtime::tls::Trust;
use serde::Deserialize;

/// An agent's whole configuration: who it is, whom it serves, and the operator's settings.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Base URL of the server, `https://HOST[:PORT]`, or `http://` on this machine.
    pub server_url: String,
    /// Whose word counts for the server's certificate.
    pub trust: Trust,
    /// Name of the cluster.
    pub cluster: String,
    /// Region that requests are signed for.
    pub region: String,
    /// The host's own key.
    pub credentials: Credentials,
    /// Whose key that is, if the server said so: under another name this host is another container instance.
    pub principal: Option<String>,
    pub bounds: Bounds,
    /// Whether the host comes back as a new container instance at the next start after it was deregistered. Otherwise it
    /// does once it has joined by another token.
    pub comes_back: bool,
    /// Where the agent keeps its state; made 0700 when it does not exist.
    pub data_dir: PathBuf,
    /// Folders besides `data_dir` that no task may ever see: the server's data and key folders.
    pub protected_paths: Vec<PathBuf>,
    pub settings: AgentSettings,
}

/// The most that this host may offer, as its join token says; absent: all it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// CPU units.
    pub cpu: Option<i64>,
    /// MiB.
    pub memory: Option<i64>,
}

/// The operator's settings, the `[agent]` section of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    /// `unix:///run/docker.sock`; absent: that one.
    pub docker_host: Option<String>,
    /// CPU units (1024 a core) to offer; absent: all of the host's.
    pub cpu: Option<i64>,
    /// Memory to offer in MiB; absent: all of the host's less `reserved_memory`.
    pub memory: Option<i64>,
    /// MiB that tasks do not get.
    pub reserved_memory: i64,
    /// TCP ports that tasks cannot have.
    pub reserved_ports: Vec<u16>,
    /// UDP ports that tasks cannot have.
    pub reserved_udp_ports: Vec<u16>,
    /// First and last host port for `hostPort` 0; absent: the kernel's ephemeral range.
    pub dynamic_ports: Option<(u16, u16)>,
    /// Where the agent listens for services that have `berth:listen`.
    pub listen_addresses: Vec<IpAddr>,
    /// At which other hosts reach the ports of this host's tasks; absent: the address towards the server.
    pub address: Option<IpAddr>,
    /// Custom attributes of this instance.
    pub attributes: BTreeMap<String, String>,
    /// Serve 169.254.170.2 to tasks: `auto` where the address can be set, or `off`.
    pub task_endpoint: TaskEndpoint,
    /// Seconds between SIGTERM and SIGKILL of a container that states no `stopTimeout`.
    pub stop_timeout_seconds: u32,
    /// Seconds that containers and volumes of a stopped task are kept.
    pub cleanup_after_seconds: u32,
    /// Seconds that an image which no task uses is kept.
    pub image_keep_seconds: u32,
    /// Seconds for which an allow recorded on this host stands in for a registry that cannot be reached.
    pub offline_pull_grace_seconds: u32,
    /// What tasks do when the scheduler was away for longer than this host's lease and has replaced them.
    pub on_lost_lease: OnLostLease,
    /// Logging drivers that task definitions may name.
    pub log_drivers: Vec<String>,
    /// What tasks may have of the host.
    pub host: HostAccess,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            docker_host: None,
            cpu: None,
            memory: None,
            reserved_memory: 0,
            reserved_ports: vec![22, 2375, 2376],
            reserved_udp_ports: Vec::new(),
            dynamic_ports: None,
            listen_addresses: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            address: None,
            attributes: BTreeMap::new(),
            task_endpoint: TaskEndpoint::Auto,
            stop_timeout_seconds: 30,
            cleanup_after_seconds: 3 * 3600,
            image_keep_seconds: 7 * 24 * 3600,
            offline_pull_grace_seconds: 24 * 3600,
            on_lost_lease: OnLostLease::Keep,
            log_drivers: [
                "json-file",
                "local",
                "none",
                "syslog",
                "journald",
                "gelf",
                "fluentd",
                "splunk",
                "awslogs",
            ]
            .map(String::from)
            .to_vec(),
            host: HostAccess::default(),
        }
    }
}

/// Whether the agent serves metadata and role credentials to tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskEndpoint {
    #[default]
    Auto,
    Off,
}

/// Tasks of a host that has lost its lease: run on until the scheduler says otherwise, or stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLostLease {
    #[default]
    Keep,
    Stop,
}

/// What the operator opens of the host to tasks; everything is closed by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostAccess {
    /// Folders (and everything below them) that tasks may mount.
    pub host_paths: Vec<PathBuf>,
    /// Host devices that tasks may have, such as `/dev/fuse`.
    pub devices: Vec<PathBuf>,
    /// Capabilities beyond Docker's default set, such as `NET_ADMIN`; `ALL` opens every one.
    pub capabilities: Vec<String>,
    pub privileged: bool,
    /// Any of `network`, `pid`, `ipc`.
    pub namespaces: Vec<HostNamespace>,
    /// Security options as Docker spells them, such as `seccomp=unconfined`.
    pub security_options: Vec<String>,
    /// Volume drivers other than `local`, and `local` with options when it is named here.
    pub volume_drivers: Vec<String>,
    /// Docker volumes that exist outside Berth and that tasks may mount.
    pub volumes: Vec<String>,
}

/// A namespace that a task may share with the host once it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostNamespace {
    Network,
    Pid,
    Ipc,
}
