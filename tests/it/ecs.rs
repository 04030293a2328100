//! `aws ecs` against one host that is everything: `berth up`.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Engine, Http, Server, aws, eventually, eventually_within, run, try_run};

const ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";

/// `berth up` on an engine of its own, with `app:1` (busybox) pushed.
struct Host {
    server: Server,
    engine: Engine,
}

impl Host {
    fn start() -> Self {
        Self::with_config("")
    }

    fn with_config(config: &str) -> Self {
        let engine = Engine::start();
        let server = Server::builder().config(config).with_agent(&engine).start();
        let image = server.image("app:1");
        engine.build_busybox(&image, &[]);
        run(server.docker(&engine).args(["push", &image]));
        run(engine.docker().args(["rmi", &image]));
        eventually("the host is connected", || {
            let described = aws(&server, ["ecs", "describe-clusters", "--clusters", "default"]).ok()?;
            (described["clusters"][0]["registeredContainerInstancesCount"] == 1).then_some(())
        });
        Self { server, engine }
    }

    fn aws(&self, args: &[&str]) -> Value {
        aws(&self.server, args.iter().copied()).unwrap_or_else(|error| panic!("aws {args:?}: {error}"))
    }

    fn register(&self, family: &str, containers: &Value, extra: &[&str]) -> Value {
        let containers = containers.to_string();
        let mut args =
            vec!["ecs", "register-task-definition", "--family", family, "--execution-role-arn", ROLE];
        args.extend(["--container-definitions", &containers]);
        args.extend(extra);
        self.aws(&args)["taskDefinition"].clone()
    }

    fn run_task(&self, family: &str) -> String {
        let ran = self.aws(&["ecs", "run-task", "--task-definition", family]);
        assert_eq!(ran["failures"].as_array().unwrap().len(), 0, "{ran}");
        ran["tasks"][0]["taskArn"].as_str().unwrap().to_owned()
    }

    fn task(&self, arn: &str) -> Value {
        self.aws(&["ecs", "describe-tasks", "--tasks", arn])["tasks"][0].clone()
    }

    fn wait(&self, arn: &str, status: &str) -> Value {
        eventually_within(Duration::from_secs(60), &format!("{arn} is {status}"), || {
            let task = self.task(arn);
            let reached = task["lastStatus"] == status;
            assert!(reached || task["lastStatus"] != "STOPPED", "{task:#}");
            reached.then_some(task)
        })
    }

    fn container_of(&self, arn: &str) -> String {
        self.engine.containers(&format!("com.amazonaws.ecs.task-arn={arn}")).remove(0)
    }

    fn app(&self) -> String {
        self.server.image("app:1")
    }
}

#[test]
fn a_task_runs_reports_and_stops() {
    let host = Host::start();
    let definition = host.register(
        "web",
        &json!([{
            "name": "web", "image": host.app(), "cpu": 64, "memory": 32, "memoryReservation": 16,
            "entryPoint": ["/bin/busybox"], "command": ["httpd", "-f", "-p", "8080", "-h", "/bin"],
            "environment": [{"name": "GREETING", "value": "hello"}],
            "portMappings": [{"containerPort": 8080}],
        }]),
        &[],
    );
    assert_eq!(definition["revision"], 1);
    let arn = host.run_task("web");
    let task = host.wait(&arn, "RUNNING");
    let binding = &task["containers"][0]["networkBindings"][0];
    assert_eq!(binding["containerPort"], 8080);
    let url = format!("http://127.0.0.1:{}", binding["hostPort"]);
    eventually("the task answers on its port", || {
        (Http::new(&url).try_get("/busybox")?.status == 200).then_some(())
    });
    assert!(task["containers"][0]["imageDigest"].as_str().unwrap().starts_with("sha256:"));

    let container = host.container_of(&arn);
    assert_eq!(host.engine.inspect(&container, "{{.HostConfig.Memory}}"), (32u64 << 20).to_string());
    assert_eq!(
        host.engine.inspect(&container, "{{.HostConfig.MemoryReservation}}"),
        (16u64 << 20).to_string()
    );
    assert_eq!(host.engine.inspect(&container, "{{.HostConfig.CpuShares}}"), "64");
    assert!(host.engine.inspect(&container, "{{.Config.Env}}").contains("GREETING=hello"));

    host.aws(&["ecs", "stop-task", "--task", &arn, "--reason", "enough"]);
    let stopped = host.wait(&arn, "STOPPED");
    assert_eq!(
        (stopped["stopCode"].as_str(), stopped["stoppedReason"].as_str()),
        (Some("UserInitiated"), Some("enough"))
    );
    assert!(host.engine.containers(&format!("com.amazonaws.ecs.task-arn={arn}")).is_empty());
}

#[test]
fn containers_wait_for_each_other_and_the_essential_one_ends_the_task() {
    let host = Host::start();
    host.register(
        "ordered",
        &json!([
            {"name": "init", "image": host.app(), "memory": 16, "essential": false, "command": ["sh", "-c", "echo ready > /shared/flag"],
             "mountPoints": [{"sourceVolume": "shared", "containerPath": "/shared"}]},
            {"name": "healthy", "image": host.app(), "memory": 16, "essential": false, "command": ["sleep", "1000"],
             "healthCheck": {"command": ["CMD", "/bin/busybox", "true"], "interval": 5, "retries": 1}},
            {"name": "main", "image": host.app(), "memory": 16, "command": ["sh", "-c", "cat /shared/flag && exit 7"],
             "mountPoints": [{"sourceVolume": "shared", "containerPath": "/shared"}],
             "dependsOn": [{"containerName": "init", "condition": "SUCCESS"}, {"containerName": "healthy", "condition": "HEALTHY"}]},
        ]),
        &["--volumes", r#"[{"name":"shared"}]"#],
    );
    let arn = host.run_task("ordered");
    let task = eventually_within(Duration::from_secs(60), "the task has stopped", || {
        let task = host.task(&arn);
        (task["lastStatus"] == "STOPPED").then_some(task)
    });
    let container = |name: &str| {
        let containers = task["containers"].as_array().unwrap();
        containers.iter().find(|container| container["name"] == name).unwrap().clone()
    };
    assert_eq!(task["stopCode"], "EssentialContainerExited", "{task:#}");
    assert_eq!(task["stoppedReason"], "Essential container in task exited");
    assert_eq!(container("main")["exitCode"], 7);
    assert_eq!(container("init")["exitCode"], 0);
}

#[test]
fn a_task_that_cannot_be_ends_with_the_reason_of_ecs() {
    let host = Host::start();
    host.register(
        "missing",
        &json!([{"name": "a", "image": host.server.image("nothing:here"), "memory": 16}]),
        &[],
    );
    let arn = host.run_task("missing");
    let task = eventually("the task has stopped", || {
        let task = host.task(&arn);
        (task["lastStatus"] == "STOPPED").then_some(task)
    });
    assert_eq!(task["stopCode"], "TaskFailedToStart", "{task:#}");
    let reason = format!("{} {}", task["stoppedReason"], task["containers"][0]["reason"]);
    assert!(reason.contains("CannotPull"), "{task:#}");

    host.register("large", &json!([{"name": "a", "image": host.app(), "memory": 1_000_000}]), &[]);
    let ran = host.aws(&["ecs", "run-task", "--task-definition", "large"]);
    assert_eq!(ran["tasks"].as_array().unwrap().len(), 0);
    assert_eq!(ran["failures"][0]["reason"], "RESOURCE:MEMORY", "{ran}");

    host.register(
        "mount",
        &json!([{"name": "a", "image": host.app(), "memory": 16,
        "mountPoints": [{"sourceVolume": "etc", "containerPath": "/host"}]}]),
        &["--volumes", r#"[{"name":"etc","host":{"sourcePath":"/etc"}}]"#],
    );
    let arn = host.run_task("mount");
    let task = eventually("the task has stopped", || {
        let task = host.task(&arn);
        (task["lastStatus"] == "STOPPED").then_some(task)
    });
    assert!(
        task["containers"][0]["reason"].as_str().unwrap_or_default().contains("/etc")
            || task["stoppedReason"].as_str().unwrap_or_default().contains("/etc"),
        "{task:#}"
    );
}

#[test]
fn a_service_rolls_replaces_scales_and_ends() {
    let host = Host::start();
    let containers = |marker: &str| {
        json!([{"name": "app", "image": host.app(), "memory": 16, "command": ["sleep", "1000"], "stopTimeout": 2,
                "environment": [{"name": "MARKER", "value": marker}]}])
    };
    host.register("svc", &containers("one"), &[]);
    host.aws(&[
        "ecs",
        "create-service",
        "--service-name",
        "svc",
        "--task-definition",
        "svc",
        "--desired-count",
        "2",
    ]);
    host.aws(&["ecs", "wait", "services-stable", "--services", "svc"]);
    host.register("svc", &containers("two"), &[]);
    host.aws(&["ecs", "update-service", "--service", "svc", "--task-definition", "svc"]);
    host.aws(&["ecs", "wait", "services-stable", "--services", "svc"]);
    let ids = host.engine.containers("com.amazonaws.ecs.task-definition-family=svc");
    assert_eq!(ids.len(), 2);
    for id in &ids {
        assert!(host.engine.inspect(id, "{{.Config.Env}}").contains("MARKER=two"));
    }
    host.aws(&["ecs", "update-service", "--service", "svc", "--desired-count", "1"]);
    host.aws(&["ecs", "wait", "services-stable", "--services", "svc"]);
    let described = host.aws(&["ecs", "describe-services", "--services", "svc"]);
    let events = described["services"][0]["events"].as_array().unwrap();
    let messages: Vec<&str> = events.iter().filter_map(|event| event["message"].as_str()).collect();
    assert!(messages.contains(&"(service svc) has reached a steady state."), "{messages:?}");
    assert!(messages.iter().any(|message| message.contains("has started 2 tasks: (task ")), "{messages:?}");
    host.aws(&["ecs", "delete-service", "--service", "svc", "--force"]);
    host.aws(&["ecs", "wait", "services-inactive", "--services", "svc"]);
    eventually("no container is left", || {
        host.engine.containers("com.amazonaws.ecs.task-definition-family=svc").is_empty().then_some(())
    });
}

#[test]
fn a_rollout_stuck_on_a_static_port_says_so() {
    let host = Host::start();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let containers = |n: u32| {
        json!([{"name": "app", "image": host.app(), "memory": 16, "command": ["sleep", &n.to_string()], "stopTimeout": 2,
                "portMappings": [{"containerPort": 80, "hostPort": port}]}])
    };
    host.register("fixed", &containers(1000), &[]);
    host.aws(&[
        "ecs",
        "create-service",
        "--service-name",
        "fixed",
        "--task-definition",
        "fixed",
        "--desired-count",
        "1",
    ]);
    host.aws(&["ecs", "wait", "services-stable", "--services", "fixed"]);
    host.register("fixed", &containers(2000), &[]);
    host.aws(&["ecs", "update-service", "--service", "fixed", "--task-definition", "fixed"]);
    let message = eventually("an event names the port", || {
        let described = host.aws(&["ecs", "describe-services", "--services", "fixed"]);
        let events = described["services"][0]["events"].as_array()?.clone();
        events
            .iter()
            .filter_map(|event| event["message"].as_str())
            .find(|message| message.contains("port"))
            .map(str::to_owned)
    });
    assert!(message.contains("minimumHealthyPercent"), "{message}");
    host.aws(&[
        "ecs",
        "update-service",
        "--service",
        "fixed",
        "--deployment-configuration",
        "minimumHealthyPercent=0,maximumPercent=100",
    ]);
    host.aws(&["ecs", "wait", "services-stable", "--services", "fixed"]);
}

#[test]
fn an_unknown_key_is_refused() {
    let host = Host::start();
    let denied = try_run(
        host.server
            .aws_command_as("AKIANOTTHERE0000", "x".repeat(40).as_str())
            .args(["ecs", "list-clusters"]),
    )
    .unwrap_err();
    assert!(
        denied.contains("UnrecognizedClientException") || denied.contains("InvalidSignatureException"),
        "{denied}"
    );
}
