//! What a host says of itself when it registers: resources and capabilities.

use scheduler_protocol::{
    ADDRESS_ATTRIBUTE, AGENT_ATTRIBUTE, Attribute, LISTEN_ATTRIBUTE, PROXY_ATTRIBUTE,
    RegisterContainerInstanceRequest, Resource, VersionInfo,
};

use crate::config::{AgentSettings, Bounds, HostNamespace};
use crate::engine::EngineInfo;
use crate::host::Host;
use crate::proxy::Addresses;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Facts about this host that do not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    info: EngineInfo,
    pub(super) settings: AgentSettings,
    /// CPU units to offer.
    pub(crate) cpu: i64,
    /// MiB to offer.
    pub(crate) memory: i64,
}

impl Registration {
    /// What is not set offers all that the host has and its token allows.
    pub(crate) fn new(info: EngineInfo, settings: AgentSettings, bounds: Bounds) -> Self {
        let within = |all: i64, most: Option<i64>| most.map_or(all, |most| all.min(most));
        let cpu = settings.cpu.unwrap_or(within(info.cpus * 1024, bounds.cpu));
        let all = (info.memory_bytes >> 20) - settings.reserved_memory;
        let memory = settings.memory.unwrap_or(within(all, bounds.memory)).max(0);
        Self { info, settings, cpu, memory }
    }

    pub(super) fn docker_version(&self) -> String {
        format!("DockerVersion: {}", self.info.version)
    }

    pub(super) fn request(&self, host: &Host, known: Option<String>) -> RegisterContainerInstanceRequest {
        let ports = |ports: &[u16]| ports.iter().map(ToString::to_string).collect();
        RegisterContainerInstanceRequest {
            cluster: Some(host.cluster.clone()),
            total_resources: vec![
                Resource::integer("CPU", self.cpu),
                Resource::integer("MEMORY", self.memory),
                Resource::string_set("PORTS", ports(&self.settings.reserved_ports)),
                Resource::string_set("PORTS_UDP", ports(&self.settings.reserved_udp_ports)),
            ],
            version_info: Some(VersionInfo {
                agent_version: Some(VERSION.to_owned()),
                agent_hash: None,
                docker_version: Some(self.docker_version()),
            }),
            container_instance_arn: known,
            attributes: self.attributes(host.endpoints.unavailable().is_none(), host.proxy.addresses()),
            // The same for the same host: a registration whose answer was lost makes no second instance.
            client_token: Some(host.agent_id.clone()),
            ..RegisterContainerInstanceRequest::default()
        }
    }

    fn attributes(&self, serves_credentials: bool, addresses: &Addresses) -> Vec<Attribute> {
        let mut names: Vec<String> = [
            "com.amazonaws.ecs.capability.ecr-auth",
            "com.amazonaws.ecs.capability.task-cpu-mem-limit",
            "ecs.capability.container-health-check",
            "ecs.capability.container-ordering",
            "ecs.capability.container-restart-policy",
            "ecs.capability.docker-plugin.local",
            "ecs.capability.execution-role-awslogs",
            "ecs.capability.execution-role-ecr-pull",
            "ecs.capability.external",
            "ecs.capability.full-sync",
            "ecs.capability.network.container-port-range",
            "ecs.capability.secrets.asm.environment-variables",
            "ecs.capability.secrets.ssm.environment-variables",
            "ecs.capability.task-cpu-mem-limit",
        ]
        .map(str::to_owned)
        .to_vec();
        if serves_credentials {
            names.push("com.amazonaws.ecs.capability.task-iam-role".into());
            names.push("com.amazonaws.ecs.capability.task-iam-role-network-host".into());
        }
        let open = &self.settings.host;
        if open.privileged {
            names.push("com.amazonaws.ecs.capability.privileged-container".into());
        }
        if open
            .namespaces
            .iter()
            .any(|namespace| matches!(namespace, HostNamespace::Pid | HostNamespace::Ipc))
        {
            names.push("ecs.capability.pid-ipc-namespace-sharing".into());
        }
        let minor =
            self.info.api_version.rsplit('.').next().and_then(|minor| minor.parse().ok()).unwrap_or(17);
        names.extend(
            (17..=minor)
                .map(|minor: u32| format!("com.amazonaws.ecs.capability.docker-remote-api.1.{minor}")),
        );
        for driver in &self.settings.log_drivers {
            // awslogs is kept on this host; Docker's list never names `none`.
            let there =
                matches!(driver.as_str(), "awslogs" | "none") || self.info.log_drivers.contains(driver);
            if there {
                names.push(format!("com.amazonaws.ecs.capability.logging-driver.{driver}"));
            }
        }
        let architecture = match self.info.architecture.as_str() {
            "aarch64" => "arm64",
            other => other,
        };
        let mut attributes: Vec<Attribute> =
            names.into_iter().map(|name| Attribute { name, value: None }).collect();
        let address = addresses.own.to_string();
        let listen = addresses.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let own = [
            ("ecs.os-type", "linux"),
            ("ecs.os-family", "LINUX"),
            ("ecs.cpu-architecture", architecture),
            (AGENT_ATTRIBUTE, VERSION),
            (PROXY_ATTRIBUTE, "1"),
            (ADDRESS_ATTRIBUTE, &address),
            (LISTEN_ATTRIBUTE, &listen),
        ];
        let custom = self.settings.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.into_iter().chain(custom) {
            attributes.push(Attribute { name: name.to_owned(), value: Some(value.to_owned()) });
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::Registration;
    use crate::config::{AgentSettings, Bounds};
    use crate::engine::EngineInfo;
    use crate::proxy::Addresses;

    #[test]
    fn capabilities_follow_the_engine_and_the_operators_openings() {
        let info = EngineInfo {
            api_version: "1.41".into(),
            cpus: 4,
            memory_bytes: 8 << 30,
            log_drivers: vec!["json-file".into(), "syslog".into()],
            ..EngineInfo::default()
        };
        let mut settings = AgentSettings { reserved_memory: 192, ..AgentSettings::default() };
        let registration = Registration::new(info.clone(), settings.clone(), Bounds::default());
        assert_eq!((registration.cpu, registration.memory), (4096, 8000));
        let address: std::net::IpAddr = "10.0.0.1".parse().unwrap();
        let addresses = Addresses { listen: vec![address], own: address, gateway: None };
        let has = |registration: &Registration, end: &str| {
            registration.attributes(true, &addresses).iter().any(|attribute| attribute.name.ends_with(end))
        };
        assert!(
            has(&registration, "docker-remote-api.1.41") && !has(&registration, "docker-remote-api.1.42")
        );
        assert!(
            has(&registration, "logging-driver.syslog") && !has(&registration, "logging-driver.journald")
        );
        assert!(!has(&registration, "privileged-container"));
        settings.host.privileged = true;
        assert!(has(&Registration::new(info, settings, Bounds::default()), "privileged-container"));
    }

    #[test]
    fn a_host_offers_no_more_than_its_token_allows_unless_it_is_told_to() {
        let info = EngineInfo { cpus: 4, memory_bytes: 8 << 30, ..EngineInfo::default() };
        let offered = |settings: AgentSettings, cpu, memory| {
            let registration = Registration::new(info.clone(), settings, Bounds { cpu, memory });
            (registration.cpu, registration.memory)
        };
        let settings = AgentSettings::default();
        assert_eq!(offered(settings.clone(), Some(1024), Some(512)), (1024, 512));
        assert_eq!(offered(settings.clone(), Some(9999), Some(99_999)), (4096, 8192));
        // The server says what is wrong with it.
        assert_eq!(offered(AgentSettings { cpu: Some(2048), ..settings }, Some(1024), None), (2048, 8192));
    }
}
