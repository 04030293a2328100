//! What the scheduler and an agent say to each other: ECS's own protocol, plus members named `berth…`.
//!
//! The shapes are those of `ecs.md` section 4.2, so that Amazon's agent, unmodified, can be one of the
//! hosts. Everything of Berth's own is optional on the wire and ignored by others; unknown members and
//! unknown message types are never an error. This room is pure: values and their JSON, nothing else.

mod acs;
mod endpoints;
mod envelope;
mod http;
mod join;
mod task;
mod tcs;

pub use acs::{
    AckRequest, AgentMessage, CloseMessage, ErrorMessage, HeartbeatAckRequest, HeartbeatMessage, NackRequest,
    PayloadMessage, PollQuery, RoleCredentials, RoleCredentialsAckRequest, RoleCredentialsMessage, RoleType,
    ServerMessage, TaskIdentifier, TaskManifestMessage, TaskStopVerificationAck, TaskStopVerificationMessage,
};
pub use endpoints::{
    BerthEndpointsMessage, BerthEndpointsReport, EndpointTarget, FailedListener, ProxyProtocol,
    ServiceEndpoints, ServingTask,
};
pub use envelope::DecodeError;
pub use http::{
    AttachmentStateChange, Attribute, ContainerInstance, ContainerStateChange,
    DeregisterContainerInstanceRequest, DiscoverPollEndpointRequest, DiscoverPollEndpointResponse,
    ManagedAgentStateChange, NetworkBinding, PlatformDevice, RegisterContainerInstanceRequest,
    RegisterContainerInstanceResponse, Resource, StateChangeResponse, SubmitAttachmentStateChangesRequest,
    SubmitContainerStateChangeRequest, SubmitTaskStateChangeRequest, UpdateContainerInstancesStateRequest,
    VersionInfo,
};
pub use join::{JoinRequest, JoinResponse};
pub use task::{
    Association, AssociationContent, BerthImage, Container, ContainerCondition, ContainerDependency,
    DockerConfig, DockerVolumeConfiguration, EcrAuthData, EnvironmentFile, HostVolume, MountPoint,
    PortMapping, RegistryAuthentication, RestartPolicy, SecretReference, SecretsManagerAuthData, Task,
    Volume, VolumeFrom,
};
pub use tcs::{
    AckPublish, ContainerHealth, HealthMetadata, PublishHealthRequest, PublishInstanceStatusRequest,
    PublishMetadata, PublishMetricsRequest, TaskHealth, TelemetryAgentMessage, TelemetryHeartbeat,
    TelemetryQuery, TelemetryServerMessage,
};

/// The attribute by which Berth's own agent makes itself known; its value is the agent's version.
pub const AGENT_ATTRIBUTE: &str = "berth.agent";

/// The attribute of an agent that listens for services and wants to be told of their tasks; its value is the
/// version of the messages.
pub const PROXY_ATTRIBUTE: &str = "berth.proxy";

/// The attribute with the IP address at which other hosts reach the ports of an instance's tasks.
pub const ADDRESS_ATTRIBUTE: &str = "berth.address";

/// The attribute with the IP addresses on which an agent listens for services, separated by spaces.
pub const LISTEN_ATTRIBUTE: &str = "berth.listen";

/// Names of services end in this: `SERVICE.CLUSTER.berth.internal`.
pub const NAME_SUFFIX: &str = ".berth.internal";

/// How the refusal of a registration begins whose instance was deregistered.
pub const INACTIVE_INSTANCE: &str = "The container instance is INACTIVE";

/// The refusal of a registration whose instance is not known, as that of one deregistered long ago.
pub const UNKNOWN_INSTANCE: &str = "The referenced container instance was not found.";

/// Path of both websockets below the endpoint that DiscoverPollEndpoint returned.
pub const WEBSOCKET_PATH: &str = "/ws";

/// Path of the exchange of a join token for a host's own key.
pub const JOIN_PATH: &str = "/join";

/// Capabilities that Docker gives to every container: adding them opens nothing, to policies and to hosts alike.
pub const DOCKER_DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
