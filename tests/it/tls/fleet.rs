//! Three machines: one has the server, two have an engine each; the third is a user's too.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Engine, Namespace, Network, Process, binary, eventually_within, run, run_with_input};

use super::site::{Site, Trusted};

/// An agent that joins by the printed line.
fn join(site: &Site, server: &Namespace, machine: &Namespace, engine: &Engine, data: &Path) -> Process {
    let mut print = server.command(binary());
    let line = run(print.args(["cluster", "join-token", "default", "--data"]).arg(site.data()));
    let words: Vec<&str> = line.strip_prefix("berth ").expect("a whole command").split(' ').collect();
    assert_eq!(words[..3], ["agent", "--server", &format!("https://{}", site.host)], "{line}");
    let mut agent = machine.command(binary());
    agent.args(words).arg("--data").arg(data).env("BERTH_DOCKER_HOST", engine.host().unwrap());
    Process::start(&mut agent, &data.join("agent.log"))
}

/// A program of a user on `machine`, with files of its own.
fn user(machine: &Namespace, program: &str, home: &Path) -> Command {
    let mut command = machine.command(program);
    command.env("HOME", home).env("REGISTRY_AUTH_FILE", home.join("auth.json"));
    command
}

#[test]
fn clients_and_hosts_of_other_machines_work_over_tls_with_no_insecure_flag() {
    let network = Network::new(3);
    let (server, second, third) = (network.machine(0), network.machine(1), network.machine(2));
    // 443 beside 5000: clients leave the port out, and Amazon's agent can verify no other.
    let site = Site::start(server, "0.0.0.0:443,0.0.0.0:5000", "instance_lease = 10");
    let host = site.host.clone();
    let engines = [Engine::start_in(second), Engine::start_in(third)];
    let home = tempfile::tempdir().unwrap();

    // Before: nobody is trusted unseen.
    let docker = || {
        let mut command = engines[1].docker();
        command.arg("--config").arg(home.path().join("docker"));
        command
    };
    let login = ["login", "--username", "AWS", "--password-stdin", &host];
    let refused = docker().args(["pull", &format!("{host}/app:1")]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("x509"), "{said}");

    let _trusted = Trusted { machine: third, host: host.clone() };
    let written = run(third.command(binary()).args(site.trust_line()));
    assert!(written.contains(&format!("export AWS_CA_BUNDLE=/etc/berth/trust/{host}.pem")), "{written}");

    // aws, docker, skopeo and podman, from the third machine.
    let password = site.aws(third, &["ecr", "get-login-password"]);
    run_with_input(docker().args(login), password.as_bytes());
    let image = format!("{host}/team/app:1");
    engines[1].build_busybox(&image, &[]);
    run(docker().args(["push", &image]));
    run(docker().args(["rmi", &image]));
    run(docker().args(["pull", &image]));
    run_with_input(user(third, "skopeo", home.path()).args(login), password.as_bytes());
    let other_port = format!("docker://{host}/team/app:2");
    run(user(third, "skopeo", home.path()).args(["copy", &format!("docker://{image}"), &other_port]));
    run_with_input(user(third, "podman", home.path()).args(login), password.as_bytes());
    let store = |name: &str| home.path().join(name).display().to_string();
    let (root, runroot) = (store("root"), store("runroot"));
    let podman = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
    run(user(third, "podman", home.path()).args(podman).args(["pull", &format!("{host}/team/app:2")]));
    run(user(third, "podman", home.path()).args(podman).args([
        "push",
        &format!("{host}/team/app:2"),
        &format!("{host}/team/app:3"),
    ]));
    let listed =
        site.aws(third, &["ecr", "list-images", "--repository-name", "team/app", "--output", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let tags: Vec<&str> =
        listed["imageIds"].as_array().unwrap().iter().filter_map(|id| id["imageTag"].as_str()).collect();
    assert_eq!(tags.len(), 3, "{tags:?}");
    run(docker().args(["rmi", &image]));

    // Both hosts join by the printed line, and each runs a task of the image.
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let _agents = [
        join(&site, server, second, &engines[0], folders[0].path()),
        join(&site, server, third, &engines[1], folders[1].path()),
    ];
    let aws = |args: &[&str]| -> Value {
        let printed = site.aws(third, &[args, &["--output", "json"]].concat());
        serde_json::from_str(&printed).unwrap_or(Value::Null)
    };
    let instances = eventually_within(Duration::from_secs(60), "both hosts have joined", || {
        let listed = aws(&["ecs", "list-container-instances"]);
        let arns = listed["containerInstanceArns"].as_array()?;
        let arns: Vec<String> = arns.iter().filter_map(|arn| arn.as_str().map(str::to_owned)).collect();
        (arns.len() == 2).then_some(arns)
    });
    let container = json!([{"name": "app", "image": image, "cpu": 16, "memory": 16}]).to_string();
    let role = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
    aws(&[
        "ecs",
        "register-task-definition",
        "--family",
        "app",
        "--execution-role-arn",
        role,
        "--container-definitions",
        &container,
    ]);
    let mut wait = vec!["ecs", "wait", "tasks-running", "--tasks"];
    let start: Vec<Value> = instances
        .iter()
        .map(|arn| aws(&["ecs", "start-task", "--task-definition", "app", "--container-instances", arn]))
        .collect();
    wait.extend(
        start
            .iter()
            .map(|started| started["tasks"][0]["taskArn"].as_str().unwrap_or_else(|| panic!("{started}"))),
    );
    aws(&wait);
    for engine in &engines {
        assert_eq!(engine.containers("com.amazonaws.ecs.task-arn").len(), 1);
    }
    // The name of the server in the image is the registry's own: nobody pulled it by that name.
    for folder in &folders {
        let log = std::fs::read_to_string(folder.path().join("agent.log")).unwrap();
        assert!(!log.contains("the pull failed"), "{log}");
    }

    // Where Amazon's agent is sent: https, and no port that it would take for a part of the name.
    let discovered = aws(&["ecs", "discover-poll-endpoint", "--container-instance", &instances[0]]);
    assert_eq!(discovered["endpoint"], format!("https://{host}"), "{discovered}");
    assert_eq!(discovered["telemetryEndpoint"], format!("https://{host}"), "{discovered}");

    let removed = run(third.command(binary()).args(["trust", &host, "--remove"]));
    assert!(removed.contains(&format!("removed /etc/docker/certs.d/{host}/ca.crt")), "{removed}");
    let refused = docker().args(["pull", &image]).output().unwrap();
    assert!(!refused.status.success(), "trust is gone");
}
