//! What only one task may have: its role's credentials, asked for by everybody else.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Engine, Server, eventually, eventually_within, run, try_run};

use super::{Host, administrator};
use crate::policy_files::Files;

const EXECUTION_ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
const TASK_ROLE: &str = "arn:aws:iam::000000000000:role/appRole";

/// A server with a host, on which two tasks run with a role each may use.
struct House {
    server: Server,
    engine: Engine,
    one: Task,
    two: Task,
}

struct Task {
    arn: String,
    container: String,
    /// `/v2/credentials/…`
    credentials: String,
    /// `/v4/…`
    metadata: String,
}

impl House {
    fn new() -> Self {
        let engine = Engine::start();
        let server = Server::builder().with_agent(&engine).start();
        let trust = json!({"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"});
        let rights = json!({"Effect": "Allow", "Action": "ecr:DescribeRepositories", "Resource": "*"});
        Files(&server.data().join("policies")).write(
            "roles/appRole.json",
            &json!({
                "trustPolicy": {"Version": "2012-10-17", "Statement": trust},
                "inlinePolicies": {"own": {"Version": "2012-10-17", "Statement": rights}},
            }),
        );
        let image = server.image("app:1");
        engine.build_busybox(&image, &[]);
        run(server.docker(&engine).args(["push", &image]));
        let containers = json!([{"name": "app", "image": image, "memory": 16, "stopTimeout": 2}]);
        let definition = json!({"family": "app", "executionRoleArn": EXECUTION_ROLE, "taskRoleArn": TASK_ROLE,
                                "containerDefinitions": containers});
        let signer = crate::signed::Signer::administrator(&server);
        eventually("the role is there", || {
            let answer = signer.call(&crate::signed::ECS, "RegisterTaskDefinition", &definition.to_string());
            (answer.status == 200).then_some(())
        });
        let arns: Vec<String> = eventually("two tasks are placed", || {
            let body = json!({"taskDefinition": "app", "count": 2}).to_string();
            let answer = signer.call(&crate::signed::ECS, "RunTask", &body);
            let tasks = answer.json()["tasks"].as_array()?.clone();
            (tasks.len() == 2)
                .then(|| tasks.iter().map(|task| task["taskArn"].as_str().unwrap().to_owned()).collect())
        });
        let tasks: Vec<Task> = arns.iter().map(|arn| Task::running(&server, &engine, arn)).collect();
        let [one, two] = tasks.try_into().ok().unwrap();
        Self { server, engine, one, two }
    }

    /// What a process of this container is answered at 169.254.170.2; the error is an answer that is no 200.
    fn read(&self, container: &str, path: &str) -> Result<String, String> {
        let exec = ["exec", container, "/bin/busybox", "sh", "-c", &request(path)];
        answer(&run(self.engine.docker().args(exec)))
    }

    fn credentials(&self, task: &Task) -> Value {
        serde_json::from_str(&self.read(&task.container, &task.credentials).unwrap()).unwrap()
    }

    /// Who the credentials are, as long as they are somebody.
    fn identity(&self, credentials: &Value) -> Result<String, String> {
        let text = |name: &str| credentials[name].as_str().unwrap();
        let mut aws = self.server.aws_command_as(text("AccessKeyId"), text("SecretAccessKey"));
        aws.env("AWS_SESSION_TOKEN", text("Token")).args(["sts", "get-caller-identity", "--query", "Arn"]);
        try_run(&mut aws)
    }
}

/// Asks from within a container: a static busybox cannot look up names, so its wget is of no use. The pause keeps
/// the connection open until the answer is there.
fn request(path: &str) -> String {
    format!(
        "(printf 'GET {path} HTTP/1.0\\r\\nHost: 169.254.170.2\\r\\n\\r\\n'; sleep 1) | nc -w 5 169.254.170.2 80"
    )
}

fn answer(text: &str) -> Result<String, String> {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    if head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200") {
        Ok(body.to_owned())
    } else {
        Err(text.to_owned())
    }
}

impl Task {
    fn running(server: &Server, engine: &Engine, arn: &str) -> Self {
        let container = eventually_within(Duration::from_secs(60), "the task runs", || {
            let described = administrator(server, "DescribeTasks", &json!({"tasks": [arn]}));
            let task = &described["tasks"][0];
            assert_ne!(task["lastStatus"], "STOPPED", "{task:#}");
            (task["lastStatus"] == "RUNNING")
                .then(|| task["containers"][0]["runtimeId"].as_str().unwrap().to_owned())
        });
        let variable = |name: &str| {
            let echo = format!("echo ${name}");
            run(engine.docker().args(["exec", &container, "/bin/busybox", "sh", "-c", &echo]))
        };
        let credentials = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let metadata = variable("ECS_CONTAINER_METADATA_URI_V4").replace("http://169.254.170.2", "");
        Self { arn: arn.to_owned(), container, credentials, metadata }
    }
}

#[test]
fn credentials_go_to_their_task_alone_and_end_with_it() {
    let house = House::new();
    let (one, two) = (&house.one, &house.two);
    let of_one = house.credentials(one);
    let session = format!("assumed-role/appRole/{}", one.arn.rsplit('/').next().unwrap());
    assert!(house.identity(&of_one).unwrap().contains(&session));
    assert!(house.read(&two.container, &two.metadata).unwrap().contains("DockerId"));

    // From another task's container, with ids that leaked; and with ids that are guessed.
    let leaked = one.credentials.clone();
    let guessed = format!("/v2/credentials/{}", "0".repeat(64));
    let short = leaked[..leaked.len() - 1].to_owned();
    for url in [&leaked, &one.metadata, &format!("{}/task", one.metadata), &guessed, &short] {
        let refused = house.read(&two.container, url).unwrap_err();
        assert!(refused.contains("400") && !refused.contains("SecretAccessKey"), "{url}: {refused}");
    }
    // Its own metadata id is no credentials id.
    let id = one.metadata.rsplit('/').next().unwrap();
    let confused = house.read(&one.container, &format!("/v2/credentials/{id}")).unwrap_err();
    assert!(confused.contains("400"), "{confused}");

    // From a container that is no task, and from the host's own network.
    let image = house.server.image("app:1");
    let stranger = ["run", "--rm", &image, "sh", "-c", &request(&leaked)];
    let refused = answer(&run(house.engine.docker().args(stranger))).unwrap_err();
    assert!(refused.contains("400"), "{refused}");
    let mut curl = Command::new("curl");
    let from_host = run(curl
        .args(["-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg(format!("http://169.254.170.2{leaked}")));
    assert_eq!(from_host, "400");

    // Over the control connection of another host: nothing of tasks that are not its own.
    let thief = Host::working(&house.server);
    let heard = thief.listen(&thief.arn, Duration::from_secs(2));
    assert!(heard.starts_with("HTTP/1.1 101") && heard.contains("TaskManifestMessage"), "{heard}");
    let id = one.credentials.rsplit('/').next().unwrap();
    for secret in [one.arn.as_str(), id, "roleCredentials", "secretAccessKey"] {
        assert!(!heard.contains(secret), "{heard}");
    }

    // A task that is over takes its credentials with it, wherever they leaked to.
    administrator(&house.server, "StopTask", &json!({"task": one.arn}));
    eventually_within(Duration::from_secs(30), "the task is over", || {
        let described = administrator(&house.server, "DescribeTasks", &json!({"tasks": [one.arn]}));
        (described["tasks"][0]["lastStatus"] == "STOPPED").then_some(())
    });
    let refused = house.identity(&of_one).unwrap_err();
    assert!(refused.contains("InvalidClientTokenId"), "{refused}");
    assert!(house.read(&two.container, &leaked).unwrap_err().contains("400"));
    assert!(house.identity(&house.credentials(two)).is_ok(), "the other task is not harmed");
}
