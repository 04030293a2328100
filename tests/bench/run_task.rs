//! From sending RunTask until DescribeTasks, polled every 20 ms, shows all tasks RUNNING, beside creating and
//! starting the same containers at once through the raw Docker API: on the same engine, in turns.
//!
//! `cargo bench --bench run_task [-- --rounds N]`. The image is present, and its rights are known.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use registry_aws::{Client, Credentials};
use serde_json::{Value, json};
use test_support::{Engine, Server, eventually, run};

const ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";

fn main() {
    let mut rounds = 10;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--rounds" {
            rounds = arguments.next().unwrap().parse().unwrap();
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(compare(rounds));
}

async fn compare(rounds: usize) {
    let engine = Engine::start();
    let server = Server::builder().with_agent(&engine).start();
    let image = server.image("app:1");
    engine.build_busybox(&image, &[]);
    run(server.docker(&engine).args(["push", &image]));
    let image_id = engine.inspect(&image, "{{.Id}}");
    let ecs = Ecs::new(&server);
    let containers = json!([{"name": "app", "image": image, "memory": 16, "stopTimeout": 2, "command": ["sleep", "100000"]}]);
    let definition = json!({"family": "app", "executionRoleArn": ROLE, "containerDefinitions": containers});
    ecs.call("RegisterTaskDefinition", definition).await;
    eventually("the host is connected", || {
        let described =
            test_support::aws(&server, ["ecs", "describe-clusters", "--clusters", "default"]).ok()?;
        (described["clusters"][0]["registeredContainerInstancesCount"] == 1).then_some(())
    });
    // The first task pulls, and warms what both sides use.
    ecs.run(1).await;
    raw_docker(&engine, &image_id, 1);

    println!("{:<10} {:>14} {:>14} {:>10}", "tasks", "RunTask s", "raw Docker s", "ratio");
    for count in [1, 20] {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(ecs.run(count).await);
            raw.push(raw_docker(&engine, &image_id, count));
        }
        let (ours, raw) = (median(ours), median(raw));
        println!(
            "{count:<10} {:>14.3} {:>14.3} {:>10.2}",
            ours.as_secs_f64(),
            raw.as_secs_f64(),
            ours.as_secs_f64() / raw.as_secs_f64()
        );
    }
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The ECS API as a program calls it.
struct Ecs {
    client: Client,
}

impl Ecs {
    fn new(server: &Server) -> Self {
        let credentials = Credentials::new(server.access_key_id(), server.secret());
        Self { client: Client::new(server.endpoint(), "us-east-1", credentials).unwrap() }
    }

    async fn call(&self, operation: &str, input: Value) -> Value {
        self.client.call("ecs", "AmazonEC2ContainerServiceV20141113", operation, &input).await.unwrap()
    }

    /// Runs `count` tasks (two calls at once for more than ten) and stops them again; the time until all ran.
    async fn run(&self, count: usize) -> Duration {
        let begin = Instant::now();
        let (first, second) =
            tokio::join!(self.run_task(count.min(10)), self.run_task(count.saturating_sub(10)));
        let arns: Vec<Value> = first.into_iter().chain(second).collect();
        assert_eq!(arns.len(), count);
        let taken = loop {
            let described = self.call("DescribeTasks", json!({"tasks": arns})).await;
            let tasks = described["tasks"].as_array().unwrap();
            assert!(tasks.iter().all(|task| task["lastStatus"] != "STOPPED"), "{described:#}");
            if tasks.iter().all(|task| task["lastStatus"] == "RUNNING") {
                break begin.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        for arn in &arns {
            self.call("StopTask", json!({"task": arn})).await;
        }
        loop {
            let described = self.call("DescribeTasks", json!({"tasks": arns})).await;
            if described["tasks"].as_array().unwrap().iter().all(|task| task["lastStatus"] == "STOPPED") {
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn run_task(&self, count: usize) -> Vec<Value> {
        if count == 0 {
            return Vec::new();
        }
        let ran = self.call("RunTask", json!({"taskDefinition": "app", "count": count})).await;
        assert_eq!(ran["failures"], json!([]), "{ran:#}");
        ran["tasks"].as_array().unwrap().iter().map(|task| task["taskArn"].clone()).collect()
    }
}

/// Creates and starts `count` containers at once; from the first create until the last start has answered.
fn raw_docker(engine: &Engine, image_id: &str, count: usize) -> Duration {
    let socket = engine.host().unwrap().trim_start_matches("unix://").to_owned();
    let body = json!({
        "Image": image_id,
        "Cmd": ["sleep", "100000"],
        "HostConfig": {"Memory": 16 << 20, "CpuShares": 2, "NetworkMode": "bridge"},
    })
    .to_string();
    let begin = Instant::now();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    let created = request(&socket, "POST", "/containers/create", &body);
                    let created: Value = serde_json::from_str(&created).unwrap();
                    let id = created["Id"].as_str().unwrap().to_owned();
                    request(&socket, "POST", &format!("/containers/{id}/start"), "");
                    id
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let taken = begin.elapsed();
    for id in ids {
        request(&socket, "DELETE", &format!("/containers/{id}?force=true"), "");
    }
    taken
}

/// One request to the Docker Engine on a connection of its own; the body of the answer.
fn request(socket: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')),
        "{method} {path}: {answer}"
    );
    body.to_owned()
}
