//! A server and two hosts: joining, a service spread over both, and every process killed in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Agent, Engine, Server, aws, eventually_within, run};

/// A server and two hosts with an engine each, and the image `app:1` in the registry.
struct Fleet {
    server: Server,
    agents: Vec<Agent>,
    engines: Vec<Engine>,
}

const ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";

impl Fleet {
    fn start() -> Self {
        let server = Server::builder().config("instance_lease = 10").start();
        let engines = vec![Engine::start(), Engine::start()];
        let builder = Engine::shared();
        let image = server.image("app:1");
        builder.build_busybox(&image, &[]);
        run(server.docker(builder).args(["push", &image]));
        run(builder.docker().args(["rmi", &image]));
        let agents = engines.iter().map(|engine| server.join(engine)).collect();
        let fleet = Self { server, agents, engines };
        eventually_within(Duration::from_secs(30), "both hosts are connected", || {
            (fleet.connected_instances().len() == 2).then_some(())
        });
        fleet
    }

    fn aws(&self, args: &[&str]) -> Value {
        aws(&self.server, args.iter().copied()).unwrap_or_else(|error| panic!("aws {args:?}: {error}"))
    }

    fn connected_instances(&self) -> Vec<String> {
        let listed = self.aws(&["ecs", "list-container-instances"]);
        let arns: Vec<&str> =
            listed["containerInstanceArns"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        if arns.is_empty() {
            return Vec::new();
        }
        let mut args = vec!["ecs", "describe-container-instances", "--container-instances"];
        args.extend(&arns);
        let described = self.aws(&args);
        let instances = described["containerInstances"].as_array().unwrap();
        let connected = instances
            .iter()
            .filter(|instance| instance["agentConnected"] == true && instance["status"] == "ACTIVE");
        connected.map(|instance| instance["containerInstanceArn"].as_str().unwrap().to_owned()).collect()
    }

    fn register(&self, family: &str, image: &str) {
        let container = json!([{"name": "app", "image": image, "cpu": 32, "memory": 16, "command": ["sleep", "100000"], "stopTimeout": 2}]);
        self.aws(&[
            "ecs",
            "register-task-definition",
            "--family",
            family,
            "--execution-role-arn",
            ROLE,
            "--container-definitions",
            &container.to_string(),
        ]);
    }

    /// Running containers of all engines: id -> StartedAt.
    fn containers(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for engine in &self.engines {
            for id in engine.containers("com.amazonaws.ecs.task-arn") {
                let started = engine.inspect(&id, "{{.State.StartedAt}}");
                all.insert(id, started);
            }
        }
        all
    }

    fn running(&self, service: &str) -> (u64, u64) {
        let described = self.aws(&["ecs", "describe-services", "--services", service]);
        let service = &described["services"][0];
        (service["runningCount"].as_u64().unwrap(), service["desiredCount"].as_u64().unwrap())
    }

    /// Waits until the service has its desired count of tasks, and Docker as many containers.
    fn settled(&self, service: &str, within: Duration) -> BTreeMap<String, String> {
        eventually_within(within, "the service has its desired count", || {
            let (running, desired) = self.running(service);
            let containers = self.containers();
            (running == desired && containers.len() as u64 == desired).then_some(containers)
        })
    }
}

#[test]
fn a_fleet_survives_the_loss_of_each_part() {
    let mut fleet = Fleet::start();
    let minute = Duration::from_secs(60);
    fleet.register("app", &fleet.server.image("app:1"));
    fleet.aws(&[
        "ecs",
        "create-service",
        "--service-name",
        "app",
        "--task-definition",
        "app",
        "--desired-count",
        "4",
    ]);
    fleet.aws(&["ecs", "wait", "services-stable", "--services", "app"]);
    let before = fleet.settled("app", minute);
    for engine in &fleet.engines {
        assert_eq!(engine.containers("com.amazonaws.ecs.task-arn").len(), 2, "the service is spread");
    }

    // A container: it alone is replaced.
    let victim = before.keys().next().unwrap().clone();
    let engine = fleet
        .engines
        .iter()
        .find(|engine| engine.containers("com.amazonaws.ecs.task-arn").contains(&victim))
        .unwrap();
    run(engine.docker().args(["kill", &victim]));
    let after = eventually_within(minute, "the killed container is replaced", || {
        let now = fleet.containers();
        (now.len() == 4 && !now.contains_key(&victim)).then_some(now)
    });
    for (id, started) in before.iter().filter(|(id, _)| **id != victim) {
        assert_eq!(after.get(id), Some(started));
    }
    fleet.settled("app", minute);

    // An agent, back after 5 s: nothing moves.
    fleet.agents[0].kill();
    std::thread::sleep(Duration::from_secs(5));
    fleet.agents[0].start_again();
    let later = fleet.settled("app", minute);
    assert_eq!(later, fleet.containers());
    assert_eq!(later, after);

    // The server, back after 5 s: nothing moves.
    fleet.server.kill();
    std::thread::sleep(Duration::from_secs(5));
    fleet.server.start_again();
    eventually_within(minute, "both hosts are connected again", || {
        (fleet.connected_instances().len() == 2).then_some(())
    });
    assert_eq!(fleet.settled("app", minute), after);

    // A host that goes away: its tasks come up on the other, once its lease has run out.
    fleet.agents[1].kill();
    let gone = fleet.engines.pop().unwrap();
    drop(gone);
    let moved = eventually_within(Duration::from_secs(75), "all tasks run on the other host", || {
        let now = fleet.containers();
        (now.len() == 4).then_some(now)
    });
    for (id, started) in after.iter().filter(|(id, _)| moved.contains_key(*id)) {
        assert_eq!(moved.get(id), Some(started));
    }
    fleet.settled("app", minute);
}

#[test]
fn tasks_run_wherever_the_image_is_named_from() {
    let fleet = Fleet::start();
    let names =
        [fleet.server.image("app:1"), "000000000000.dkr.ecr.us-east-1.amazonaws.com/app:1".to_owned()];
    let instances = fleet.connected_instances();
    let mut tasks = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let family = format!("named{index}");
        fleet.register(&family, name);
        for instance in &instances {
            let started = fleet.aws(&[
                "ecs",
                "start-task",
                "--task-definition",
                &family,
                "--container-instances",
                instance,
            ]);
            assert_eq!(started["failures"].as_array().unwrap().len(), 0, "{started}");
            assert_eq!(started["tasks"][0]["containers"][0]["image"], name.as_str());
            tasks.push(started["tasks"][0]["taskArn"].as_str().unwrap().to_owned());
        }
    }
    let mut wait = vec!["ecs", "wait", "tasks-running", "--tasks"];
    wait.extend(tasks.iter().map(String::as_str));
    fleet.aws(&wait);
    for task in &tasks {
        fleet.aws(&["ecs", "stop-task", "--task", task]);
    }
    wait[2] = "tasks-stopped";
    fleet.aws(&wait);
    let mut describe = vec!["ecs", "describe-tasks", "--tasks"];
    describe.extend(tasks.iter().map(String::as_str));
    for task in fleet.aws(&describe)["tasks"].as_array().unwrap() {
        assert_eq!(task["stopCode"], "UserInitiated", "{task}");
    }
}

#[test]
fn a_drained_host_empties_itself_and_a_token_works_once() {
    let fleet = Fleet::start();
    fleet.register("app", &fleet.server.image("app:1"));
    fleet.aws(&[
        "ecs",
        "create-service",
        "--service-name",
        "app",
        "--task-definition",
        "app",
        "--desired-count",
        "2",
    ]);
    fleet.aws(&["ecs", "wait", "services-stable", "--services", "app"]);
    let instances = fleet.connected_instances();
    fleet.aws(&[
        "ecs",
        "update-container-instances-state",
        "--status",
        "DRAINING",
        "--container-instances",
        &instances[0],
    ]);
    eventually_within(Duration::from_secs(120), "one host has both tasks", || {
        let counts: Vec<usize> = fleet
            .engines
            .iter()
            .map(|engine| engine.containers("com.amazonaws.ecs.task-arn").len())
            .collect();
        (counts.contains(&0) && counts.contains(&2)).then_some(())
    });

    let printed = run(&mut fleet.server.berth(["cluster", "join-token", "default", "--output", "json"]));
    let token = serde_json::from_str::<Value>(&printed).unwrap()["token"].as_str().unwrap().to_owned();
    let body = json!({"token": token}).to_string();
    let headers = [("content-type", "application/json")];
    let first = fleet.server.anonymous().post("/join", &headers, body.as_bytes());
    assert_eq!(first.status, 200, "{first:?}");
    let second = fleet.server.anonymous().post("/join", &headers, body.as_bytes());
    assert!((400..500).contains(&second.status), "{second:?}");
}
