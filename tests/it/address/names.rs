//! Tasks find services by name, from one host to another, and the names follow what is there.

use test_support::{Engine, eventually_within, run, try_run};

use super::{Hosts, MINUTE, free_port};

fn inside(engine: &Engine, container: &str, command: &[&str]) -> Option<String> {
    try_run(engine.docker().args(["exec", container, "/bin/busybox"]).args(command)).ok()
}

#[test]
fn tasks_find_services_by_name() {
    let hosts = Hosts::start(2);
    hosts.register("web");
    hosts.create("web", "1", &[&format!("key=berth:listen,value={}", hosts.port)]);
    hosts.stable("web");
    hosts.answers();
    // A task without a port of its own, on each host.
    let containers = serde_json::json!([{
        "name": "client", "image": hosts.server.image("app:1"), "memory": 16, "command": ["sleep", "100000"], "stopTimeout": 2,
    }])
    .to_string();
    let mut define =
        vec!["ecs", "register-task-definition", "--family", "client", "--execution-role-arn", super::ROLE];
    define.extend(["--container-definitions", &containers]);
    hosts.aws(&define);
    let instances: Vec<String> = hosts
        .instances()
        .iter()
        .map(|instance| instance["containerInstanceArn"].as_str().unwrap().to_owned())
        .collect();
    let mut start = vec!["ecs", "start-task", "--task-definition", "client", "--container-instances"];
    start.extend(instances.iter().map(String::as_str));
    hosts.aws(&start);
    let clients: Vec<(&Engine, String)> = hosts
        .engines
        .iter()
        .map(|engine| {
            let label = "com.amazonaws.ecs.container-name=client";
            let client = eventually_within(MINUTE, "the client runs", || engine.containers(label).pop());
            (engine, client)
        })
        .collect();
    for (engine, client) in &clients {
        let url = format!("http://web.default.berth.internal:{}/", hosts.port);
        eventually_within(MINUTE, "the service answers by its name", || {
            inside(engine, client, &["wget", "-q", "-O", "-", &url]).filter(|text| text == "it runs")
        });
    }

    // A service that comes later, and one that goes.
    let port = free_port();
    hosts.create("later", "1", &[&format!("key=berth:listen,value={port}")]);
    for (engine, client) in &clients {
        let url = format!("http://later.default.berth.internal:{port}/");
        eventually_within(MINUTE, "the new service answers by its name", || {
            inside(engine, client, &["wget", "-q", "-O", "-", &url]).filter(|text| text == "it runs")
        });
    }
    hosts.aws(&["ecs", "delete-service", "--service", "later", "--force"]);
    for (engine, client) in &clients {
        let file = eventually_within(MINUTE, "the name is gone", || {
            inside(engine, client, &["cat", "/etc/hosts"]).filter(|text| !text.contains("later."))
        });
        assert!(file.contains("web.default.berth.internal") && file.contains("localhost"), "{file}");
        // Everything else is resolved as in any other container of that engine.
        let image = engine.inspect(client, "{{.Image}}");
        let plain = run(engine.docker().args(["run", "--rm", image.trim(), "cat", "/etc/resolv.conf"]));
        assert_eq!(inside(engine, client, &["cat", "/etc/resolv.conf"]).unwrap(), plain);
    }
}
