//! An agent against a small control plane and an engine in memory: what is promised about acknowledgements,
//! reports, restarts of either side, and rights.

use std::time::Duration;

use registry_runtime::Clock;
use scheduler_protocol::{
    AgentMessage, Container, HeartbeatMessage, RoleCredentialsMessage, RoleType, ServerMessage, Task,
    TaskIdentifier, TaskManifestMessage, TaskStopVerificationAck,
};

use crate::config::OnLostLease;
use crate::engine::Fake;
use crate::store::Store;
use crate::task::state::Health;
use crate::testing::{
    Control, EXECUTION_ROLE, INSTANCE, RunningAgent, execution_credentials, foreign_container, own_container,
    task,
};

const BUSYBOX: &str = "docker.io/library/busybox:1";

struct Scene {
    control: Control,
    engine: Fake,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let engine = Fake::new(Clock::system());
        engine.add_pullable(BUSYBOX);
        Self { control: Control::start().await, engine, folder: tempfile::tempdir().unwrap() }
    }

    fn agent(&self) -> RunningAgent {
        self.control.agent(self.control.config(self.folder.path()), &self.engine)
    }

    async fn run(&self, task: Task) -> String {
        let arn = task.arn.clone();
        let message = self.control.send_tasks(vec![task]).await;
        self.control.until_acked(&message).await;
        arn
    }

    async fn until_engine(&self, what: &str, wanted: impl Fn(&Fake) -> bool) {
        for _ in 0..400 {
            if wanted(&self.engine) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("waited in vain for {what}: {:?}", self.engine.calls());
    }
}

fn stopped(mut task: Task) -> Task {
    task.desired_status = "STOPPED".into();
    task
}

#[tokio::test]
async fn a_task_runs_and_stops_and_each_step_is_reported_once() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    let one = task("one", vec![foreign_container("web")]);
    let arn = scene.run(one.clone()).await;
    let running = scene.control.until_status(&arn, "RUNNING").await;
    assert_eq!((running.berth_epoch, running.containers[0].status.as_str()), (Some(1), "RUNNING"));
    scene.run(one.clone()).await;
    scene.control.send_tasks(vec![stopped(one)]).await;
    let end = scene.control.until_status(&arn, "STOPPED").await;
    assert_eq!(end.containers[0].exit_code, Some(143));
    scene.control.change(|heard| {
        let statuses: Vec<_> = heard.changes.iter().map(|change| change.status.clone()).collect();
        assert_eq!(statuses, ["RUNNING", "STOPPED"]);
        let registration = &heard.registrations[0];
        assert!(registration.attributes.iter().any(|attribute| attribute.name == "berth.agent"));
    });
}

#[tokio::test]
async fn reports_wait_for_a_scheduler_that_is_away_and_come_in_order() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    scene.control.change(|heard| heard.deaf = true);
    let arn = scene.run(task("one", vec![foreign_container("web")])).await;
    scene.until_engine("the container", |engine| engine.running() == 1).await;
    scene.engine.exit("web", 3);
    scene.control.disconnect();
    scene.until_engine("the exit", |engine| engine.running() == 0).await;
    scene.control.change(|heard| {
        assert!(heard.changes.is_empty());
        heard.deaf = false;
    });
    scene.control.until_status(&arn, "STOPPED").await;
    scene.control.change(|heard| {
        let statuses: Vec<_> = heard.changes.iter().map(|change| change.status.as_str()).collect();
        assert_eq!(statuses, ["RUNNING", "STOPPED"]);
        assert_eq!(heard.changes[1].containers[0].exit_code, Some(3));
    });
}

#[tokio::test]
async fn a_restarted_agent_keeps_its_identity_and_touches_no_container() {
    let scene = Scene::new().await;
    let agent = scene.agent();
    let arn = scene.run(task("one", vec![foreign_container("web")])).await;
    scene.control.until_status(&arn, "RUNNING").await;
    agent.stop(&scene.control).await;
    let before = scene.engine.calls().len();
    let _agent = scene.agent();
    scene.control.until("a second registration", |heard| heard.registrations.get(1).cloned()).await;
    scene.control.change(|heard| {
        assert_eq!(heard.registrations[1].container_instance_arn.as_deref(), Some(INSTANCE));
    });
    // The adopted container ends: its end is seen.
    scene.engine.exit("web", 9);
    let end = scene.control.until_status(&arn, "STOPPED").await;
    assert_eq!(end.containers[0].exit_code, Some(9));
    let touched =
        |call: &String| ["create", "start", "stop", "remove"].iter().any(|verb| call.starts_with(verb));
    assert!(!scene.engine.calls()[before..].iter().any(touched), "{:?}", scene.engine.calls());
}

#[tokio::test]
async fn a_deregistered_host_comes_back_by_another_token_or_where_there_is_none() {
    for (comes_back, key, returns) in
        [(false, "AKIAAGENT", false), (false, "AKIAANOTHER", true), (true, "AKIAAGENT", true)]
    {
        let scene = Scene::new().await;
        let agent = scene.agent();
        scene.control.until("the key", |heard| (!heard.send_credentials.is_empty()).then_some(())).await;
        agent.stop(&scene.control).await;
        scene.control.change(|heard| {
            heard.deregistered = true;
            heard.registrations.clear();
        });
        let mut config = scene.control.config(scene.folder.path());
        config.comes_back = comes_back;
        config.credentials.access_key_id = key.into();
        let _agent = scene.control.agent(config, &scene.engine);
        let registrations = scene
            .control
            .until("two attempts", |heard| {
                (heard.registrations.len() >= 2).then(|| heard.registrations.clone())
            })
            .await;
        assert_eq!(registrations[0].container_instance_arn.as_deref(), Some(INSTANCE));
        assert_eq!(registrations[1].container_instance_arn.is_none(), returns, "{comes_back} {key}");
        if returns {
            scene.control.until("its connection", |heard| heard.send_credentials.get(1).copied()).await;
        }
    }
}

#[tokio::test]
async fn a_deregistered_host_whose_key_an_older_release_did_not_note_comes_back_once() {
    let scene = Scene::new().await;
    let saved = serde_json::json!({ "cluster": "default", "container_instance_arn": INSTANCE });
    let (store, _) = Store::open(scene.folder.path()).unwrap();
    store.put_durably("instance", saved.to_string().into_bytes()).await.unwrap();
    drop(store);
    // The lock goes with the store's thread.
    while std::fs::File::open(scene.folder.path().join("agent.lock")).unwrap().try_lock().is_err() {
        tokio::task::yield_now().await;
    }
    scene.control.change(|heard| heard.deregistered = true);
    for named in [[true, false], [true, true]] {
        scene.control.change(|heard| heard.registrations.clear());
        let agent = scene.agent();
        let heard = scene
            .control
            .until("two attempts", |heard| heard.registrations.first_chunk::<2>().cloned())
            .await;
        assert_eq!(heard.map(|one| one.container_instance_arn.is_some()), named);
        if !named[1] {
            scene.control.until("its connection", |heard| heard.send_credentials.first().copied()).await;
        }
        agent.stop(&scene.control).await;
    }
}

#[tokio::test]
async fn what_ended_while_the_agent_was_away_is_reported_when_it_is_back() {
    let scene = Scene::new().await;
    let agent = scene.agent();
    let arn = scene.run(task("one", vec![foreign_container("web")])).await;
    scene.control.until_status(&arn, "RUNNING").await;
    agent.stop(&scene.control).await;
    scene.engine.exit("web", 4);
    let _agent = scene.agent();
    let end = scene.control.until_status(&arn, "STOPPED").await;
    assert_eq!(end.containers[0].exit_code, Some(4));
}

#[tokio::test]
async fn an_engine_that_restarts_is_looked_at_again() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    let arn = scene.run(task("one", vec![foreign_container("web")])).await;
    scene.control.until_status(&arn, "RUNNING").await;
    scene.engine.set_away(true, true);
    let second = scene.run(task("two", vec![foreign_container("late")])).await;
    scene.engine.set_away(false, false);
    let end = scene.control.until_status(&arn, "STOPPED").await;
    assert_eq!(end.containers[0].exit_code, Some(137));
    scene.control.until_status(&second, "RUNNING").await;
}

#[tokio::test]
async fn an_image_that_is_present_runs_only_with_the_registrys_leave() {
    let scene = Scene::new().await;
    let digest = scene.control.put_content(b"{}");
    let agent = scene.agent();
    scene.control.until("the registration", |heard| heard.registrations.first().cloned()).await;
    // The engine holds every image of the endpoint, whatever its port.
    let first = scene.run(task("one", vec![own_container("web", &digest)])).await;
    let end = scene.control.until_status(&first, "STOPPED").await;
    let reason = end.reason.unwrap();
    assert!(
        reason.starts_with("CannotPullContainerError"),
        "the fake engine has no such image yet: {reason}"
    );
    let pull = scene.engine.calls().into_iter().find(|call| call.starts_with("pull 127.0.0.1:")).unwrap();
    assert!(pull.ends_with(" with credentials"));
    let reference = pull.split(' ').nth(1).unwrap().to_owned();
    scene.engine.add_image(&reference);

    let second = scene.run(task("two", vec![own_container("web", &digest)])).await;
    scene.control.until_status(&second, "RUNNING").await;
    let image = scene.engine.created().last().unwrap().body["Image"].clone();
    assert_eq!(image, format!("id-of-{reference}"), "containers are created by the image's id");

    scene.control.change(|heard| heard.denied.insert("app".into()));
    let third = scene.run(task("three", vec![own_container("web", &digest)])).await;
    let end = scene.control.until_status(&third, "STOPPED").await;
    let reason = end.reason.unwrap();
    assert!(reason.contains("pull access denied") && reason.contains(EXECUTION_ROLE), "{reason}");
    let without =
        Task { execution_role_credentials: None, ..task("nobody", vec![own_container("web", &digest)]) };
    let without = scene.run(without).await;
    let reason = scene.control.until_status(&without, "STOPPED").await.reason.unwrap();
    assert!(reason.contains("the task has no execution role"), "{reason}");

    // The refusal voided what was noted: an absent registry changes nothing.
    scene.control.change(|heard| heard.registry_away = true);
    let fourth = scene.run(task("four", vec![own_container("web", &digest)])).await;
    scene.control.until_status(&fourth, "STOPPED").await;
    scene.control.change(|heard| {
        heard.denied.clear();
        heard.registry_away = false;
    });
    let fifth = scene.run(task("five", vec![own_container("web", &digest)])).await;
    scene.control.until_status(&fifth, "RUNNING").await;
    agent.stop(&scene.control).await;
    let _agent = scene.agent();
    scene.control.change(|heard| heard.registry_away = true);
    let sixth = scene.run(task("six", vec![own_container("web", &digest)])).await;
    scene.control.until_status(&sixth, "RUNNING").await;
}

#[tokio::test]
async fn a_missing_image_is_said_in_the_words_of_ecs() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    let digest = format!("sha256:{}", "0".repeat(64));
    let arn = scene.run(task("one", vec![own_container("web", &digest)])).await;
    let end = scene.control.until_status(&arn, "STOPPED").await;
    let reason = end.reason.unwrap();
    assert!(
        reason.starts_with("CannotPullContainerError: failed to resolve ref 127.0.0.1:5000/app:1: not found"),
        "{reason}"
    );
}

#[tokio::test]
async fn without_a_role_the_anonymous_principal_asks() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    let digest = scene.control.put_content(b"{}");
    let mut anonymous = task("one", vec![own_container("web", &digest)]);
    anonymous.execution_role_credentials = None;
    scene.run(anonymous).await;
    let asked = scene.control.until("a question", |heard| heard.manifest_requests.first().cloned()).await;
    assert_eq!(asked, "HEAD app Bearer anonymous");
}

#[tokio::test]
async fn tasks_that_start_together_ask_about_one_image_once() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    let digest = scene.control.put_content(b"{}");
    let tasks =
        (0..10).map(|number| task(&format!("t{number}"), vec![own_container("web", &digest)])).collect();
    scene.control.send_tasks(tasks).await;
    scene.control.until("ten ends", |heard| (heard.changes.len() == 10).then_some(())).await;
    let asked = scene.control.change(|heard| heard.manifest_requests.len());
    assert!(asked < 10, "{asked}");
}

#[tokio::test]
async fn a_task_that_the_host_refuses_says_why() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    let mut privileged = foreign_container("web");
    privileged.docker_config.host_config = r#"{"Privileged":true}"#.into();
    let arn = scene.run(task("one", vec![privileged])).await;
    let end = scene.control.until_status(&arn, "STOPPED").await;
    let reason = end.reason.unwrap();
    assert!(reason.starts_with("HostConfigError: ") && reason.contains("privileged = true"), "{reason}");
    let mut vpc = task("two", vec![foreign_container("web")]);
    vpc.network_mode = "awsvpc".into();
    let arn = scene.run(vpc).await;
    let end = scene.control.until_status(&arn, "STOPPED").await;
    assert!(end.reason.unwrap().contains("awsvpc"));
    assert!(scene.engine.created().is_empty());
    // A role on a host that cannot serve its credentials.
    let mut with_role = task("three", vec![foreign_container("web")]);
    with_role.role_credentials = Some(execution_credentials());
    let arn = scene.run(with_role).await;
    let end = scene.control.until_status(&arn, "STOPPED").await;
    assert!(end.reason.unwrap().contains("cannot serve its credentials"));
}

#[tokio::test]
async fn a_taken_port_is_replaced_by_another() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    scene.engine.fail_next_start("Bind for 0.0.0.0:40000 failed: port is already allocated");
    let mut web = foreign_container("web");
    web.port_mappings =
        vec![scheduler_protocol::PortMapping { container_port: Some(80), ..Default::default() }];
    let arn = scene.run(task("one", vec![web])).await;
    let running = scene.control.until_status(&arn, "RUNNING").await;
    let binding = &running.containers[0].network_bindings[0];
    assert_eq!(binding.container_port, Some(80));
    let bound = &scene.engine.created()[0].body["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"];
    assert_eq!(bound, &binding.host_port.unwrap().to_string());
    assert_eq!(scene.engine.created().len(), 1, "the first container is gone");
}

#[tokio::test]
async fn health_reaches_the_telemetry_connection_at_once() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    let mut web = foreign_container("web");
    web.health_check_type = Some("docker".into());
    let arn = scene.run(task("one", vec![web])).await;
    scene.control.until_status(&arn, "RUNNING").await;
    for (health, word) in [(Health::Healthy, "HEALTHY"), (Health::Unhealthy, "UNHEALTHY")] {
        scene.engine.set_health("web", health);
        let told = |heard: &crate::testing::Heard| {
            heard.health.iter().any(|one| one.health_status == word).then_some(())
        };
        scene.control.until(word, told).await;
    }
}

#[tokio::test]
async fn a_manifest_stops_nothing_until_the_scheduler_confirms() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    let arn = scene.run(task("one", vec![foreign_container("web")])).await;
    scene.control.until_status(&arn, "RUNNING").await;
    let manifest = |timeline| {
        ServerMessage::TaskManifest(TaskManifestMessage {
            cluster_arn: "default".into(),
            container_instance_arn: INSTANCE.into(),
            message_id: format!("manifest-{timeline}"),
            generated_at: 0,
            timeline,
            tasks: Vec::new(),
        })
    };
    scene.control.send(manifest(0)).await;
    scene.control.send(manifest(100)).await;
    let asked = |heard: &crate::testing::Heard| {
        heard.messages.iter().find_map(|message| match message {
            AgentMessage::TaskStopVerification(verification) => Some(verification.clone()),
            _ => None,
        })
    };
    let verification = scene.control.until("the question", asked).await;
    assert_eq!(verification.message_id, "manifest-100", "an old manifest is not believed");
    assert_eq!(scene.engine.running(), 1);
    let candidate = TaskIdentifier { task_arn: arn.clone(), ..verification.stop_candidates[0].clone() };
    let confirmed = TaskStopVerificationAck {
        message_id: verification.message_id,
        generated_at: 0,
        stop_tasks: vec![candidate],
    };
    scene.control.send(ServerMessage::TaskStopVerificationAck(confirmed)).await;
    scene.control.until_status(&arn, "STOPPED").await;
}

#[tokio::test]
async fn heartbeats_and_fresh_credentials_are_acknowledged() {
    let scene = Scene::new().await;
    let agent = scene.agent();
    let arn = scene.run(task("one", vec![foreign_container("web")])).await;
    let heartbeat = HeartbeatMessage { message_id: "beat".into(), healthy: true };
    scene.control.send(ServerMessage::Heartbeat(heartbeat)).await;
    let mut fresh = execution_credentials();
    fresh.secret_access_key = "canary-secret-key".into();
    let message = RoleCredentialsMessage {
        message_id: "fresh".into(),
        task_arn: arn,
        task_cluster_arn: None,
        role_type: RoleType::TaskExecution,
        role_credentials: fresh,
    };
    scene.control.send(ServerMessage::RoleCredentials(message)).await;
    let both = |heard: &crate::testing::Heard| {
        let beat = heard
            .messages
            .iter()
            .any(|message| matches!(message, AgentMessage::HeartbeatAck(ack) if ack.message_id == "beat"));
        let acked = heard.messages.iter().any(
            |message| matches!(message, AgentMessage::RoleCredentialsAck(ack) if ack.message_id == "fresh"),
        );
        (beat && acked).then_some(())
    };
    scene.control.until("both acknowledgements", both).await;
    agent.stop(&scene.control).await;
    let state = std::fs::read(scene.folder.path().join("state.log")).unwrap();
    assert!(!state.windows(17).any(|window| window == b"canary-secret-key"));
    let _agent = scene.agent();
    let firsts = scene.control.until("a second connection", |heard| {
        (heard.send_credentials.len() >= 2).then(|| heard.send_credentials.clone())
    });
    assert!(
        firsts.await.iter().all(|first| *first),
        "each process asks for credentials on its first connection"
    );
}

#[tokio::test]
async fn a_stop_that_follows_at_once_finds_its_task() {
    let scene = Scene::new().await;
    let _agent = scene.agent();
    let one = task("one", vec![foreign_container("web")]);
    scene.control.send_tasks(vec![one.clone()]).await;
    scene.control.send_tasks(vec![stopped(one.clone())]).await;
    scene.control.until_status(&one.arn, "STOPPED").await;
    scene.until_engine("no container", |engine| engine.running() == 0).await;
    let unknown = stopped(task("unknown", vec![foreign_container("web")]));
    scene.control.send_tasks(vec![unknown.clone()]).await;
    let end = scene.control.until_status(&unknown.arn, "STOPPED").await;
    assert_eq!(end.reason.as_deref(), Some("the host does not have this task"));
}

#[tokio::test]
async fn a_task_that_is_over_is_cleaned_up_with_its_volumes() {
    let scene = Scene::new().await;
    let mut config = scene.control.config(scene.folder.path());
    config.settings.cleanup_after_seconds = 0;
    let _agent = scene.control.agent(config, &scene.engine);
    let mut web: Container = foreign_container("web");
    web.mount_points = vec![scheduler_protocol::MountPoint {
        source_volume: "data".into(),
        container_path: "/data".into(),
        read_only: false,
    }];
    let mut one = task("one", vec![web]);
    one.volumes =
        vec![scheduler_protocol::Volume { name: "data".into(), kind: "host".into(), ..Default::default() }];
    let arn = scene.run(one.clone()).await;
    scene.control.until_status(&arn, "RUNNING").await;
    assert_eq!(scene.engine.volumes(), ["ecs-app-1-data-one"]);
    scene.control.send_tasks(vec![stopped(one)]).await;
    scene.control.until_status(&arn, "STOPPED").await;
    scene
        .until_engine("the clean-up", |engine| engine.created().is_empty() && engine.volumes().is_empty())
        .await;
}

#[tokio::test]
async fn a_host_that_lost_its_lease_stops_its_tasks_only_when_told_to() {
    for (policy, left) in [(OnLostLease::Keep, 1), (OnLostLease::Stop, 0)] {
        let scene = Scene::new().await;
        let mut config = scene.control.config(scene.folder.path());
        config.settings.on_lost_lease = policy;
        let _agent = scene.control.agent(config, &scene.engine);
        let arn = scene.run(task("one", vec![foreign_container("web")])).await;
        scene.control.until_status(&arn, "RUNNING").await;
        scene.control.change(|heard| heard.away = true);
        scene.control.disconnect();
        if left == 0 {
            scene.until_engine("the stop", |engine| engine.running() == 0).await;
            scene.control.change(|heard| heard.away = false);
            let end = scene.control.until_status(&arn, "STOPPED").await;
            assert!(end.reason.unwrap().contains("lease"));
        } else {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert_eq!(scene.engine.running(), left);
        }
    }
}
