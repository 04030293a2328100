//! What cannot be had is refused, or said where the operator looks, and changes nothing else.

use std::net::TcpListener;

use serde_json::json;
use test_support::{eventually_within, run};

use super::{Hosts, MINUTE, load};

#[test]
fn a_port_that_is_not_to_be_had_is_named() {
    let mut hosts = Hosts::start(1);
    hosts.register("web");
    let static_port = json!([{"name": "web", "image": "x", "memory": 16, "portMappings": [{"containerPort": 80, "hostPort": hosts.port}]}]);
    let udp = json!([{"name": "dns", "image": "x", "memory": 16, "portMappings": [{"containerPort": 53, "protocol": "udp"}]}]);
    for (family, containers) in [("static", static_port), ("udp", udp)] {
        let containers = containers.to_string();
        hosts.aws(&[
            "ecs",
            "register-task-definition",
            "--family",
            family,
            "--container-definitions",
            &containers,
        ]);
    }
    // Somebody else has the port: the service runs, and says so.
    let taken = TcpListener::bind((hosts.addresses[0], hosts.port)).unwrap();
    let port = hosts.port.to_string();
    let listen = format!("key=berth:listen,value={port}");
    hosts.create("web", "1", &[&listen]);
    hosts.stable("web");
    let event = eventually_within(MINUTE, "an event names host and owner", || {
        hosts.events("web").into_iter().find(|event| event.contains("cannot listen on port"))
    });
    let id =
        hosts.instances()[0]["containerInstanceArn"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert!(event.contains(&port) && event.contains(&id), "{event}");
    assert!(event.contains(&format!("(pid {})", std::process::id())), "{event}");
    drop(taken);
    hosts.answers();
    eventually_within(MINUTE, "an event says that it is well", || {
        hosts.events("web").into_iter().find(|event| event.contains("listens on port"))
    });

    let arn = hosts.service("web")["serviceArn"].as_str().unwrap().to_owned();
    let before = hosts.containers();
    for (definition, value, expected) in [
        ("web", "http", "'http' is not PORT"),
        ("web", "0", "'0' is not PORT"),
        ("web", "70000", "'70000' is not PORT"),
        ("web", "22", "port 22 is reserved on container instance"),
        ("web", &port, "is held by service web of cluster default"),
        ("web", "8081:81", "no TCP port mapping for container port 81"),
        ("web", "8081:nobody", "no container 'nobody'"),
        ("udp", "8081", "has no TCP port mapping"),
    ] {
        let tag = format!("key=berth:listen,value={value}");
        let mut create =
            vec!["ecs", "create-service", "--service-name", "other", "--task-definition", definition];
        create.extend(["--desired-count", "0", "--tags", &tag]);
        let refusal = hosts.refusal(&create);
        assert!(
            refusal.contains("InvalidParameterException") && refusal.contains(expected),
            "{value}: {refusal}"
        );
    }
    let mut own = vec!["ecs", "update-service", "--service", "web", "--task-definition", "static"];
    assert!(hosts.refusal(&own).contains("is the hostPort of container 'web'"));
    own[5] = "udp";
    assert!(hosts.refusal(&own).contains("has no TCP port mapping"));
    for tag in ["key=berth:drain,value=soon", "key=berth:proxy-protocol,value=v3", "key=berth:listen,value=x"]
    {
        let refusal = hosts.refusal(&["ecs", "tag-resource", "--resource-arn", &arn, "--tags", tag]);
        assert!(refusal.contains("InvalidParameterException"), "{tag}: {refusal}");
    }
    assert_eq!(hosts.containers(), before);
    assert!(load::ask(hosts.sockets()[0]).is_ok());

    // The tag decides; without it the port is free again.
    hosts.aws(&["ecs", "untag-resource", "--resource-arn", &arn, "--tag-keys", "berth:listen"]);
    eventually_within(MINUTE, "nobody listens any more", || {
        TcpListener::bind((hosts.addresses[0], hosts.port)).ok()
    });
    hosts.aws(&["ecs", "tag-resource", "--resource-arn", &arn, "--tags", &listen]);
    hosts.answers();
    assert_eq!(hosts.containers(), before);

    // Nothing of the agent listens beyond this host but what the service asked for.
    let listening = run(std::process::Command::new("ss").args(["-H", "-l", "-t", "-n", "-p"]));
    let agent = format!("pid={},", hosts.agent_process());
    let gateways = hosts.gateways();
    for line in listening.lines().filter(|line| line.contains(&agent)) {
        let address = line.split_whitespace().nth(3).unwrap();
        let local = address.starts_with("127.") || address.starts_with("169.254.170.2");
        let service = gateways.iter().any(|gateway| address == format!("{gateway}:{port}"));
        assert!(local || service, "{line}");
    }
}
