use std::sync::Arc;

use serde_json::{Value, json};

use super::{TaskCredentials, start, stop};
use crate::ids::{ClusterName, DefinitionKey, Family, InstanceId};
use crate::launch::Launch;
use crate::model::{DefinitionStatus, ImagePin, PinnedImage, TaskDefinition, TaskOverrides};
use crate::names::Names;
use crate::state::{Draft, State};

fn message(content: Value, overrides: Value) -> scheduler_protocol::Task {
    let definition = Arc::new(TaskDefinition {
        key: DefinitionKey { family: Family::new("web"), revision: 7 },
        status: DefinitionStatus::Active,
        content: serde_json::from_value(content).unwrap(),
        requires_attributes: Vec::new(),
        registered_at: 0,
        deregistered_at: None,
        registered_by: String::new(),
        tags: Vec::new(),
    });
    let overrides: TaskOverrides = serde_json::from_value(overrides).unwrap();
    let pin = ImagePin::Pinned(PinnedImage { repository: "app".into(), digest: "sha256:00".into() });
    let pins = definition.content.container_definitions.iter().map(|_| pin.clone()).collect();
    let launch = Launch::new(&ClusterName::new("c"), Arc::clone(&definition), overrides, pins, None);
    let mut state = State::default();
    let task = launch.start(&mut Draft::new(&mut state, 0), &InstanceId::new("i"));
    let names = Names { region: "us-east-1".parse().unwrap(), account: "000000000000".parse().unwrap() };
    assert!(stop(&names, &task).containers.is_empty());
    start(&names, &task, &definition, TaskCredentials::default(), "https://berth.example")
}

#[test]
fn what_docker_understands_travels_in_dockers_shapes() {
    let task = message(
        json!({"cpu": "512", "memory": "256", "containerDefinitions": [{
            "name": "main", "image": "x", "memory": 64, "memoryReservation": 32, "user": "1000", "hostname": "h",
            "workingDirectory": "/w", "pseudoTerminal": true, "interactive": false, "dockerLabels": {"a": "b"},
            "healthCheck": {"command": ["CMD", "true"], "interval": 5, "startPeriod": 2},
            "privileged": false, "readonlyRootFilesystem": true, "dnsServers": ["1.1.1.1"],
            "extraHosts": [{"hostname": "db", "ipAddress": "10.0.0.1"}],
            "ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 2}],
            "systemControls": [{"namespace": "net.core.somaxconn", "value": "9"}],
            "logConfiguration": {"logDriver": "syslog", "options": {"mode": "non-blocking"}},
            "linuxParameters": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "initProcessEnabled": true,
                "devices": [{"hostPath": "/dev/fuse", "permissions": ["read", "mknod"]}], "sharedMemorySize": 8,
                "tmpfs": [{"containerPath": "/t", "size": 4, "mountOptions": ["ro"]}], "maxSwap": 1, "swappiness": 3}}]}),
        json!({}),
    );
    assert_eq!((task.cpu, task.memory, task.version.as_str()), (Some(0.5), Some(256), "7"));
    let container = &task.containers[0];
    let config: Value = serde_json::from_str(&container.docker_config.config).unwrap();
    assert_eq!(
        config,
        json!({"Labels": {"a": "b"}, "User": "1000", "WorkingDir": "/w", "Hostname": "h", "Tty": true, "OpenStdin": false,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000_i64, "Timeout": 5_000_000_000_i64,
                "Retries": 3, "StartPeriod": 2_000_000_000_i64}})
    );
    let host: Value = serde_json::from_str(&container.docker_config.host_config).unwrap();
    assert_eq!(
        host,
        json!({"Privileged": false, "ReadonlyRootfs": true, "MemoryReservation": 33_554_432, "Dns": ["1.1.1.1"],
            "ExtraHosts": ["db:10.0.0.1"], "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "Sysctls": {"net.core.somaxconn": "9"},
            "LogConfig": {"Type": "syslog", "Config": {"mode": "non-blocking", "max-buffer-size": "10m"}},
            "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"],
            "Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rm"}],
            "Init": true, "ShmSize": 8_388_608, "Tmpfs": {"/t": "ro,size=4m"}, "MemorySwap": 68_157_440,
            "MemorySwappiness": 3})
    );
    assert_eq!(container.health_check_type.as_deref(), Some("docker"));
    assert_eq!(container.berth_image.as_ref().map(|image| image.repository.as_str()), Some("app"));
    let login =
        container.registry_authentication.as_ref().and_then(|login| login.ecr_auth_data.as_ref()).unwrap();
    assert_eq!((login.registry_id.as_str(), login.region.as_str()), ("000000000000", "us-east-1"));
    assert_eq!(login.endpoint_override, "https://berth.example");
    assert!(!login.use_execution_role);
}

#[test]
fn a_plain_container_asks_docker_for_nothing_special() {
    let task =
        message(json!({"containerDefinitions": [{"name": "main", "image": "x", "memory": 64}]}), json!({}));
    let container = &task.containers[0];
    assert_eq!(
        (container.docker_config.config.as_str(), container.docker_config.host_config.as_str()),
        ("{}", "{}")
    );
    assert_eq!((container.overrides.as_str(), &container.command, container.essential), ("{}", &None, true));
    assert_eq!((task.cpu, task.memory, task.network_mode.as_str()), (None, None, "bridge"));
}

#[test]
fn overrides_are_merged_before_they_travel() {
    let task = message(
        json!({"volumes": [{"name": "v"}, {"name": "d", "dockerVolumeConfiguration": {"scope": "shared"}}],
            "containerDefinitions": [{"name": "main", "image": "x", "cpu": 5, "memory": 64, "command": ["a"],
                "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "secrets": [{"name": "S", "valueFrom": "/s"}], "dependsOn": [{"containerName": "side", "condition": "HEALTHY"}],
                "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]}]}),
        json!({"containerOverrides": [{"name": "main", "command": ["b", "c"], "cpu": 9, "memory": 128,
            "environment": [{"name": "B", "value": "3"}]}]}),
    );
    let container = &task.containers[0];
    assert_eq!(container.command.as_deref(), Some(&["b".to_owned(), "c".to_owned()][..]));
    assert_eq!(container.overrides, r#"{"command":["b","c"]}"#);
    assert_eq!((container.cpu, container.memory), (9, 128));
    assert_eq!(container.environment.values().map(String::as_str).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(
        (container.secrets[0].provider.as_str(), container.secrets[0].target.as_str()),
        ("ssm", "CONTAINER")
    );
    assert_eq!(container.depends_on[0].condition, scheduler_protocol::ContainerCondition::Healthy);
    assert_eq!(container.port_mappings[0].host_port, Some(0));
    assert_eq!((task.volumes[0].kind.as_str(), task.volumes[1].kind.as_str()), ("host", "docker"));
    assert_eq!(task.volumes[1].docker_volume_configuration.as_ref().unwrap().driver, "local");
}

#[test]
fn a_health_check_that_is_none_is_nothing_to_wait_for() {
    for (command, kind) in [(json!(["NONE"]), None), (json!(["CMD", "true"]), Some("docker"))] {
        let container =
            json!({"name": "main", "image": "x", "memory": 8, "healthCheck": {"command": command.clone()}});
        let task = message(json!({"containerDefinitions": [container]}), json!({}));
        assert_eq!(task.containers[0].health_check_type.as_deref(), kind);
        let config: Value = serde_json::from_str(&task.containers[0].docker_config.config).unwrap();
        assert_eq!(config["Healthcheck"]["Test"], command, "the image's own check is off");
    }
}
