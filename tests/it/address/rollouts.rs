//! Updates, stops and drained hosts lose no request; a killed container loses only what it had.

use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::{eventually_within, run};

use super::load::{Load, Outcome};
use super::{Hosts, MINUTE};

fn failures(outcomes: &[Outcome]) -> Vec<&Outcome> {
    outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect()
}

#[test]
fn no_request_is_lost_while_tasks_come_and_go() {
    let hosts = Hosts::start(2);
    hosts.register("web");
    hosts.create("web", "2", &[&format!("key=berth:listen,value={}", hosts.port)]);
    hosts.stable("web");
    hosts.answers();
    let load = Load::start(&hosts.sockets());

    for _ in 0..2 {
        let before = hosts.by_container();
        hosts.aws(&["ecs", "update-service", "--service", "web", "--force-new-deployment"]);
        eventually_within(MINUTE, "every container is another one", || {
            let now = hosts.by_container();
            (now.len() == 2 && now.keys().all(|id| !before.contains_key(id))).then_some(())
        });
        hosts.stable("web");
    }

    let listed = hosts.aws(&["ecs", "list-tasks", "--service-name", "web"]);
    let task = listed["taskArns"][0].as_str().unwrap().to_owned();
    hosts.aws(&["ecs", "stop-task", "--task", &task]);
    eventually_within(MINUTE, "the stopped task is replaced", || {
        let described = hosts.aws(&["ecs", "describe-tasks", "--tasks", &task]);
        let over = described["tasks"][0]["lastStatus"] == "STOPPED";
        (over && hosts.by_container().len() == 2).then_some(())
    });
    hosts.stable("web");

    let instance = hosts.instances()[0]["containerInstanceArn"].as_str().unwrap().to_owned();
    let mut drain = vec!["ecs", "update-container-instances-state", "--status", "DRAINING"];
    drain.extend(["--container-instances", &instance]);
    hosts.aws(&drain);
    eventually_within(MINUTE, "one host has both tasks", || {
        let counts: Vec<usize> = hosts.containers().iter().map(Vec::len).collect();
        (counts.contains(&0) && counts.contains(&2)).then_some(())
    });
    let before = load.count();
    eventually_within(MINUTE, "requests go on", || (load.count() > before + 100).then_some(()));

    let outcomes = load.finish();
    assert!(
        failures(&outcomes).is_empty(),
        "{} of {}: {:#?}",
        failures(&outcomes).len(),
        outcomes.len(),
        failures(&outcomes)
    );
    for socket in hosts.sockets() {
        assert!(outcomes.iter().filter(|outcome| outcome.socket == socket).count() > 100);
    }
}

#[test]
fn a_killed_container_takes_only_its_own_requests_and_a_server_none() {
    let mut hosts = Hosts::start(2);
    hosts.register("web");
    hosts.create("web", "2", &[&format!("key=berth:listen,value={}", hosts.port)]);
    hosts.stable("web");
    hosts.answers();

    let load = Load::start(&hosts.sockets());
    let (victim, host) = hosts.by_container().into_iter().next().unwrap();
    let pid = hosts.engines[host].inspect(&victim, "{{.State.Pid}}");
    let killed = Instant::now();
    run(std::process::Command::new("sh").args(["-c", &format!("kill -9 {}", pid.trim())]));
    let replaced = || (hosts.by_container().len() == 2).then_some(());
    eventually_within(MINUTE, "the container is replaced", || {
        replaced().filter(|()| !hosts.by_container().contains_key(&victim))
    });
    hosts.stable("web");
    let outcomes = load.finish();
    let late: Vec<&Outcome> =
        failures(&outcomes).into_iter().filter(|one| one.begun > killed + Duration::from_secs(1)).collect();
    assert!(late.is_empty(), "{late:#?}");
    assert!(outcomes.iter().any(|one| one.begun > killed && one.failure.is_none()));

    // The last word of a server that is gone counts, also for an agent that starts meanwhile.
    let load = Load::start(&hosts.sockets()[..1]);
    hosts.server.kill();
    hosts.agents[1].kill();
    hosts.agents[1].start_again();
    hosts.answers();
    let before = load.count();
    eventually_within(MINUTE, "requests go on", || (load.count() > before + 100).then_some(()));
    hosts.server.start_again();
    let connected = |instance: &&Value| instance["agentConnected"] == true;
    eventually_within(MINUTE, "both hosts are connected again", || {
        (hosts.instances().iter().filter(connected).count() == 2).then_some(())
    });
    let before = load.count();
    eventually_within(MINUTE, "requests go on", || (load.count() > before + 100).then_some(()));
    let outcomes = load.finish();
    assert!(failures(&outcomes).is_empty(), "{:#?}", failures(&outcomes));
}
