//! The Docker Engine, API 1.41 and up, over its socket.

mod inspect;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bollard::auth::DockerCredentials;
use bollard::models::{ContainerCreateBody, EventMessage, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StatsOptionsBuilder,
    StopContainerOptionsBuilder, TagImageOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, errors::Error};
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::Value;

use super::{
    AGENT_LABEL, Cgroup, Engine, EngineContainer, EngineError, EngineEvent, EngineImage, EngineInfo,
    EngineVolume, Listed, NewContainer, PullCredentials,
};

/// Where Docker listens unless the operator says otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Creating and starting containers take seconds on a loaded host; four minutes is ECS's own limit.
const TIMEOUT_SECONDS: u64 = 240;

/// How long a pull may make no progress at all.
const PULL_SILENCE: Duration = Duration::from_secs(300);

pub(crate) struct Docker {
    client: bollard::Docker,
    socket: PathBuf,
    agent_id: String,
}

impl Docker {
    /// Connects to `docker_host` (`unix:///PATH`, or the usual socket) and settles on an API version.
    pub(crate) async fn connect(docker_host: Option<&str>, agent_id: &str) -> Result<Self, EngineError> {
        let socket = match docker_host {
            None => DEFAULT_SOCKET.to_owned(),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) => path.to_owned(),
                None => return Err(EngineError::Refused(format!("{host}: only unix:///PATH is supported"))),
            },
        };
        let client = bollard::Docker::connect_with_unix(&socket, TIMEOUT_SECONDS, API_DEFAULT_VERSION)
            .map_err(refine)?
            .negotiate_version()
            .await
            .map_err(refine)?;
        Ok(Self { client, socket: socket.into(), agent_id: agent_id.to_owned() })
    }

    /// The device of the network `bridge`; none when the engine runs without it.
    /// Device of the default network, and the host's address on it.
    async fn bridge(&self) -> (Option<String>, Option<IpAddr>) {
        let options = None::<bollard::query_parameters::InspectNetworkOptions>;
        let Ok(network) = self.client.inspect_network("bridge", options).await else { return (None, None) };
        let device = network.options.and_then(|mut options| options.remove("com.docker.network.bridge.name"));
        let ranges = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let gateways = ranges.into_iter().filter_map(|range| range.gateway);
        let mut addresses = gateways.filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok());
        (device, addresses.find(IpAddr::is_ipv4))
    }

    fn own_containers(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{AGENT_LABEL}={}", self.agent_id)])])
    }
}

#[async_trait]
impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let info = self.client.info().await.map_err(refine)?;
        let managed = info.cgroup_driver.map(|driver| driver.to_string()) != Some("cgroupfs".into());
        let cgroup = match info.cgroup_version.map(|version| version.to_string()).as_deref() {
            _ if managed => Cgroup::Managed,
            Some("2") => Cgroup::V2,
            _ => Cgroup::V1,
        };
        let log_drivers = info.plugins.and_then(|plugins| plugins.log).unwrap_or_default();
        let (bridge, gateway) = self.bridge().await;
        Ok(EngineInfo {
            version: info.server_version.unwrap_or_default(),
            api_version: self.client.client_version().to_string(),
            cpus: info.ncpu.unwrap_or(1),
            memory_bytes: info.mem_total.unwrap_or(0),
            architecture: info.architecture.unwrap_or_default(),
            operating_system: info.operating_system.unwrap_or_default(),
            root: info.docker_root_dir.map(PathBuf::from),
            socket: Some(self.socket.clone()),
            cgroup,
            log_drivers,
            runc_version: info.runc_commit.and_then(|commit| commit.id),
            bridge,
            gateway,
        })
    }

    async fn image(&self, reference: &str) -> Result<Option<EngineImage>, EngineError> {
        let found = none_if_absent(self.client.inspect_image(reference).await)?;
        Ok(found.map(|image| EngineImage {
            id: image.id.unwrap_or_default(),
            repo_digests: image.repo_digests.unwrap_or_default(),
            repo_tags: image.repo_tags.unwrap_or_default(),
        }))
    }

    async fn pull(&self, reference: &str, credentials: Option<PullCredentials>) -> Result<(), EngineError> {
        let options = CreateImageOptionsBuilder::default().from_image(reference).build();
        let credentials = credentials.map(|credentials| DockerCredentials {
            username: Some(credentials.username),
            password: Some(credentials.password),
            ..DockerCredentials::default()
        });
        let mut progress = self.client.create_image(Some(options), None, credentials).boxed();
        loop {
            match tokio::time::timeout(PULL_SILENCE, progress.next()).await {
                Err(_) => return Err(EngineError::Timeout),
                Ok(None) => return Ok(()),
                Ok(Some(step)) => drop(step.map_err(refine)?),
            }
        }
    }

    async fn tag(&self, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        self.client.tag_image(image_id, Some(options)).await.map_err(refine)
    }

    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        let options = None::<bollard::query_parameters::RemoveImageOptions>;
        none_if_absent(self.client.remove_image(name, options, None).await).map(|_| ())
    }

    async fn create(&self, container: NewContainer) -> Result<String, EngineError> {
        let body: ContainerCreateBody = serde_json::from_value(container.body).map_err(|error| {
            EngineError::Refused(format!("the container's configuration is malformed: {error}"))
        })?;
        let options = CreateContainerOptionsBuilder::default().name(&container.name).build();
        let created = self.client.create_container(Some(options), body).await.map_err(refine)?;
        Ok(created.id)
    }

    async fn start(&self, runtime_id: &str) -> Result<(), EngineError> {
        self.client.start_container(runtime_id, None).await.map_err(refine)
    }

    async fn stop(&self, runtime_id: &str, grace: Duration) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let client = self.client.clone().with_timeout(grace + Duration::from_secs(TIMEOUT_SECONDS));
        client.stop_container(runtime_id, Some(options)).await.map_err(refine)
    }

    async fn remove(&self, runtime_id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        none_if_absent(self.client.remove_container(runtime_id, Some(options)).await).map(|_| ())
    }

    async fn container(&self, id_or_name: &str) -> Result<Option<EngineContainer>, EngineError> {
        let found = self.client.inspect_container(id_or_name, None::<InspectContainerOptions>).await;
        Ok(none_if_absent(found)?.map(inspect::container))
    }

    async fn containers(&self) -> Result<Vec<Listed>, EngineError> {
        let options =
            ListContainersOptionsBuilder::default().all(true).filters(&self.own_containers()).build();
        let listed = self.client.list_containers(Some(options)).await.map_err(refine)?;
        let listed = listed.into_iter().map(|summary| Listed {
            runtime_id: summary.id.unwrap_or_default(),
            labels: summary.labels.unwrap_or_default().into_iter().collect(),
        });
        Ok(listed.collect())
    }

    async fn stats(&self, runtime_id: &str) -> Result<Value, EngineError> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut stats = self.client.stats(runtime_id, Some(options)).boxed();
        match stats.next().await {
            Some(stats) => serde_json::to_value(stats.map_err(refine)?)
                .map_err(|error| EngineError::Refused(error.to_string())),
            None => Err(EngineError::NotFound(format!("no statistics of {runtime_id}"))),
        }
    }

    async fn volume(&self, name: &str) -> Result<Option<EngineVolume>, EngineError> {
        let found = none_if_absent(self.client.inspect_volume(name).await)?;
        Ok(found.map(|volume| EngineVolume {
            driver: volume.driver,
            labels: volume.labels.into_iter().collect(),
            options: volume.options.into_iter().collect(),
        }))
    }

    async fn create_volume(&self, name: &str, volume: &EngineVolume) -> Result<(), EngineError> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            driver: Some(volume.driver.clone()),
            driver_opts: Some(volume.options.clone().into_iter().collect()),
            labels: Some(volume.labels.clone().into_iter().collect()),
            ..VolumeCreateRequest::default()
        };
        self.client.create_volume(request).await.map(|_| ()).map_err(refine)
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
        none_if_absent(self.client.remove_volume(name, options).await).map(|_| ())
    }

    fn events(&self) -> BoxStream<'static, EngineEvent> {
        let client = self.client.clone();
        let mut filters = self.own_containers();
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        let connected = async move {
            // Asking from one second ago leaves no gap between the look-up that follows and the stream.
            let since = client.info().await.ok().and_then(|info| info.system_time);
            let since =
                since.and_then(|time| inspect::seconds(&time)).map(|seconds| (seconds - 1).to_string());
            let Some(since) = since else { return stream::empty().boxed() };
            let options = EventsOptionsBuilder::default().filters(&filters).since(&since).build();
            let events = client.events(Some(options));
            let translated = events
                .take_while(|event| std::future::ready(event.is_ok()))
                .filter_map(|event| std::future::ready(event.ok().and_then(translate)));
            stream::iter([EngineEvent::Connected]).chain(translated).boxed()
        };
        stream::once(connected).flatten().boxed()
    }
}

fn translate(event: EventMessage) -> Option<EngineEvent> {
    let at_ms = event.time_nano.map_or_else(|| event.time.unwrap_or(0) * 1000, |nanos| nanos / 1_000_000);
    let actor = event.actor?;
    let runtime_id = actor.id?;
    let labels: std::collections::BTreeMap<_, _> = actor.attributes.unwrap_or_default().into_iter().collect();
    let action = event.action?;
    if let Some(status) = action.strip_prefix("health_status: ") {
        return Some(EngineEvent::Health { runtime_id, labels, health: inspect::health(status) });
    }
    match action.as_str() {
        "die" => {
            let exit_code = labels.get("exitCode").and_then(|code| code.parse().ok());
            Some(EngineEvent::Died { runtime_id, labels, exit_code, at_ms })
        }
        "oom" => Some(EngineEvent::OutOfMemory { runtime_id }),
        "destroy" => Some(EngineEvent::Removed { runtime_id, labels }),
        _ => None,
    }
}

fn none_if_absent<T>(result: Result<T, Error>) -> Result<Option<T>, EngineError> {
    match result.map_err(refine) {
        Ok(found) => Ok(Some(found)),
        Err(EngineError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sorts the client's errors by what a caller can do about them.
fn refine(error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code: 404, message } => EngineError::NotFound(message),
        Error::DockerResponseServerError { status_code: 409, message } => EngineError::Conflict(message),
        Error::DockerResponseServerError { message, .. } => EngineError::Refused(message),
        Error::DockerStreamError { error } => EngineError::Refused(error),
        Error::RequestTimeoutError => EngineError::Timeout,
        error
        @ (Error::JsonDataError { .. } | Error::JsonSerdeError { .. } | Error::StrParseError { .. }) => {
            EngineError::Refused(format!("the engine's answer cannot be read: {error}"))
        }
        other => EngineError::Unreachable(other.to_string()),
    }
}
