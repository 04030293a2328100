//! Records for tests.

use std::sync::Arc;

use crate::ids::{ClusterName, DefinitionKey, Family, InstanceId};
use crate::launch::Launch;
use crate::model::{DefinitionStatus, Instance, InstanceStatus, PortSet, TaskDefinition};

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

/// A task of one container with 16 MiB.
pub(crate) fn launch() -> Launch {
    let content = serde_json::json!({"containerDefinitions": [{"name": "main", "image": "x", "memory": 16}]});
    let definition = Arc::new(TaskDefinition {
        key: DefinitionKey { family: Family::new("f"), revision: 1 },
        status: DefinitionStatus::Active,
        content: serde_json::from_value(content).unwrap(),
        requires_attributes: Vec::new(),
        registered_at: 0,
        deregistered_at: None,
        registered_by: String::new(),
        tags: Vec::new(),
    });
    Launch::new(
        &ClusterName::new("c"),
        definition,
        Default::default(),
        vec![crate::model::ImagePin::Foreign],
        None,
    )
}
