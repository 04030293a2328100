//! Records for tests.

use std::sync::Arc;

use crate::ids::{ClusterName, DefinitionKey, Family, InstanceId, ServiceKey, ServiceName};
use crate::launch::Launch;
use crate::model::{
    Cluster, ClusterStatus, DefinitionStatus, Deployment, Instance, InstanceStatus, PortSet,
    SchedulingStrategy, Service, ServiceStatus, TaskDefinition,
};

/// An instance of the cluster `c` with 1000 CPU units and 1000 MiB.
pub(crate) fn instance(id: &str, connected: bool) -> Instance {
    Instance {
        id: InstanceId::new(id),
        cluster: ClusterName::new("c"),
        status: InstanceStatus::Active,
        principal: "p".into(),
        host: None,
        cpu: 1000,
        memory: 1000,
        reserved_tcp: PortSet::new(),
        reserved_udp: PortSet::new(),
        gpus: Vec::new(),
        attributes: Vec::new(),
        custom_attributes: Vec::new(),
        zone: None,
        agent_version: None,
        agent_hash: None,
        docker_version: None,
        registered_at: 0,
        deregistered_at: None,
        client_token: None,
        tags: Vec::new(),
        version: 1,
        connected,
        connectivity_at: None,
        lost: false,
    }
}

/// The cluster `c`.
pub(crate) fn cluster() -> Cluster {
    Cluster {
        name: ClusterName::new("c"),
        status: ClusterStatus::Active,
        created_at: 0,
        settings: Vec::new(),
        configuration: None,
        tags: Vec::new(),
    }
}

/// The service `web` of the cluster `c`, with so many tasks of one container with 16 MiB.
pub(crate) fn service(desired_count: i64) -> Service {
    let images = vec![crate::model::ImagePin::Foreign];
    Service {
        key: ServiceKey { cluster: ClusterName::new("c"), name: ServiceName::new("web") },
        status: ServiceStatus::Active,
        desired_count,
        strategy: SchedulingStrategy::Replica,
        configuration: Default::default(),
        placement_constraints: Vec::new(),
        placement_strategy: Vec::new(),
        launch_type: "EC2".into(),
        grace_period_seconds: None,
        propagate_tags: None,
        enable_managed_tags: false,
        enable_execute_command: false,
        zone_rebalancing: "DISABLED".into(),
        settings: Default::default(),
        tags: Vec::new(),
        created_at: 0,
        created_by: String::new(),
        client_token: None,
        fingerprint: String::new(),
        deployments: vec![Deployment::new(definition().key, images, 0)],
        reported: Default::default(),
    }
}

/// One container with 16 MiB.
pub(crate) fn definition() -> TaskDefinition {
    let content = serde_json::json!({"containerDefinitions": [{"name": "main", "image": "x", "memory": 16}]});
    TaskDefinition {
        key: DefinitionKey { family: Family::new("f"), revision: 1 },
        status: DefinitionStatus::Active,
        content: serde_json::from_value(content).unwrap(),
        requires_attributes: Vec::new(),
        registered_at: 0,
        deregistered_at: None,
        registered_by: String::new(),
        tags: Vec::new(),
    }
}

/// A task of one container with 16 MiB.
pub(crate) fn launch() -> Launch {
    Launch::new(
        &ClusterName::new("c"),
        Arc::new(definition()),
        Default::default(),
        vec![crate::model::ImagePin::Foreign],
        None,
    )
}
