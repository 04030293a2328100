//! One server leads the scheduler; every server answers for it; another one takes over.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{Engine, Postgres, Server, eventually, eventually_within, run};

use super::installation::{ACCESS_KEY_ID, Installation, SECRET, admin, aws, keep_credentials};

/// A silent leader is followed after 6 s; the rest is for a busy machine.
const TAKE_OVER: Duration = Duration::from_secs(30);

/// Registers a task definition through a server.
fn register(server: &Server, family: &str) -> Result<Value, String> {
    let definition = json!({
        "family": family,
        "containerDefinitions": [{"name": "one", "image": "registry.example/none:1", "memory": 16}],
    });
    aws(server, &["ecs", "register-task-definition", "--cli-input-json", &definition.to_string()])
}

fn families(server: &Server) -> BTreeSet<String> {
    let listed = aws(server, &["ecs", "list-task-definition-families"]).unwrap();
    listed["families"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Which of the servers leads, as the database has it, by the port in its peers' address.
fn leader(installation: &Installation, ports: &[u16]) -> Option<usize> {
    let sql = "SELECT address FROM scheduler_leader WHERE holder <> ''";
    let address = Postgres::shared().psql(installation.database(), sql);
    let port: u16 = address.rsplit_once(':')?.1.parse().ok()?;
    ports.iter().position(|known| *known == port)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Servers whose peer ports are known.
fn start(installation: &Installation, count: usize) -> (Vec<Server>, Vec<u16>) {
    let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
    let starting: Vec<_> = ports
        .iter()
        .map(|port| {
            let builder = installation.builder().config(&format!("peer_listen = \"127.0.0.1:{port}\""));
            std::thread::spawn(move || builder.start())
        })
        .collect();
    let servers: Vec<Server> = starting.into_iter().map(|server| server.join().unwrap()).collect();
    servers.iter().for_each(keep_credentials);
    (servers, ports)
}

#[test]
fn every_server_answers_for_the_scheduler_and_another_takes_over_when_its_leader_is_killed() {
    let installation = Installation::new();
    let (mut servers, ports) = start(&installation, 3);
    for (index, server) in servers.iter().enumerate() {
        register(server, &format!("before-{index}")).unwrap();
    }
    for server in &servers {
        assert_eq!(families(server).len(), 3, "what one server was told, all answer");
        let refused =
            aws(server, &["ecs", "describe-task-definition", "--task-definition", "missing"]).unwrap_err();
        assert!(refused.contains("ClientException"), "{refused}");
        let stranger = server.anonymous().post(
            "/",
            &[("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListClusters")],
            b"{}",
        );
        assert_eq!(stranger.status, 400, "{stranger:?}");
        let line = "\"operation\":\"ecs:RegisterTaskDefinition\",\"principal\":\"arn:aws:iam::";
        eventually("its log tells what was asked, and by whom", || server.log().contains(line).then_some(()));
    }

    let leading = leader(&installation, &ports).expect("somebody leads");
    let mut killed = servers.remove(leading);
    killed.kill();
    let began = Instant::now();
    let registered = eventually_within(TAKE_OVER, "writes go on", || register(&servers[0], "after").ok());
    println!("writes went on {} ms after the leader was killed", began.elapsed().as_millis());
    assert_eq!(registered["taskDefinition"]["revision"], json!(1));
    assert!(families(&servers[1]).is_superset(&BTreeSet::from(["before-0", "after"].map(str::to_owned))));

    // The one that was killed comes back as one of those that follow.
    killed.start_again();
    assert!(families(&killed).contains("after"));
    assert_ne!(leader(&installation, &ports), Some(leading));
}

#[test]
fn a_leader_that_stops_hands_over_at_once() {
    let installation = Installation::new();
    let (mut servers, ports) = start(&installation, 2);
    register(&servers[0], "one").unwrap();
    let leading = leader(&installation, &ports).expect("somebody leads");
    let mut stopped = servers.remove(leading);
    assert!(stopped.stop().success());
    let began = Instant::now();
    register(&servers[0], "two").unwrap();
    println!("writes went on {} ms after the leader had stopped", began.elapsed().as_millis());
    assert!(began.elapsed() < Duration::from_secs(6), "nobody waits for a lease that was given up");
}

#[test]
fn nobody_else_speaks_to_the_port_of_the_servers() {
    let installation = Installation::new();
    let port = free_port();
    let server = installation.builder().config(&format!("peer_listen = \"127.0.0.1:{port}\"")).start();
    let plain = test_support::Http::new(&format!("http://127.0.0.1:{port}")).basic(ACCESS_KEY_ID, SECRET);
    assert!(plain.try_get("/v2/").is_none_or(|answer| answer.status >= 400), "it speaks TLS alone");
    let without_certificate = std::process::Command::new("curl")
        .args(["--silent", "--insecure", "--max-time", "5", &format!("https://127.0.0.1:{port}/healthz")])
        .output()
        .unwrap();
    assert!(!without_certificate.status.success(), "a certificate of the installation is asked for");
    let pretending = server.anonymous().send("GET", "/v2/", &[("x-berth-source", "10.0.0.1")], b"");
    assert_eq!(pretending.status, 400, "no client speaks as a server");
    assert_eq!(admin(&server).get("/v2/").status, 200);
}

/// The containers that run a family's tasks on an engine.
fn containers(engine: &Engine, family: &str) -> BTreeSet<String> {
    let label = format!("label=com.amazonaws.ecs.task-definition-family={family}");
    let listed = run(engine.docker().args(["ps", "--no-trunc", "--quiet", "--filter", &label]));
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn tasks_run_on_and_none_is_placed_twice_when_the_leader_is_killed() {
    let installation = Installation::new();
    let (mut servers, ports) = start(&installation, 2);
    let engine = Engine::start();
    let leading = leader(&installation, &ports).expect("somebody leads");
    // The host's own server follows: what it says goes through to the leader, then to whoever leads.
    let follower = servers.remove(1 - leading);
    let image = format!("{}/failover:1", follower.authority());
    engine.build_busybox(&image, &[]);
    let folder = tempfile::tempdir().unwrap();
    let mut login = engine.docker();
    login.arg("--config").arg(folder.path());
    login.args(["login", "--username", ACCESS_KEY_ID, "--password-stdin", follower.authority()]);
    test_support::run_with_input(&mut login, SECRET.as_bytes());
    run(engine.docker().arg("--config").arg(folder.path()).args(["push", &image]));
    let _agent = follower.join(&engine);
    let definition = json!({
        "family": "failover",
        "executionRoleArn": "arn:aws:iam::000000000000:role/ecsTaskExecutionRole",
        "containerDefinitions": [{"name": "one", "image": image, "memory": 16, "command": ["sleep", "1000"]}],
    });
    aws(&follower, &["ecs", "register-task-definition", "--cli-input-json", &definition.to_string()])
        .unwrap();
    let create = ["ecs", "create-service", "--service-name", "failover", "--task-definition", "failover"];
    aws(&follower, &[&create[..], &["--desired-count", "3"]].concat()).unwrap();
    let running = || {
        let found = aws(&follower, &["ecs", "describe-services", "--services", "failover"]).ok()?;
        (found["services"][0]["runningCount"] == json!(3)).then_some(())
    };
    eventually_within(Duration::from_secs(60), "three tasks run", running);
    let before = containers(&engine, "failover");
    assert_eq!(before.len(), 3);

    servers[0].kill();
    let scale = ["ecs", "update-service", "--service", "failover", "--desired-count", "4"];
    eventually_within(TAKE_OVER, "the service is scaled by the new leader", || aws(&follower, &scale).ok());
    let four = || (containers(&engine, "failover").len() == 4).then(|| containers(&engine, "failover"));
    let after = eventually_within(Duration::from_secs(60), "a fourth task runs", four);
    assert!(after.is_superset(&before), "those that ran run on");
    let tasks = aws(&follower, &["ecs", "list-tasks", "--service-name", "failover"]).unwrap();
    assert_eq!(tasks["taskArns"].as_array().unwrap().len(), 4, "none was placed twice");
}
