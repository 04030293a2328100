//! What a host that fell into the wrong hands tries, each as a test against the real binary: its key is its own
//! and good for nothing else, and what a task may have only that task gets (issue 4; threats 62 and 63).

mod credentials;
mod host_key;
mod join_token;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use registry_aws::{Credentials, sigv4};
use serde_json::{Value, json};
use test_support::{Response, Server, run};

use crate::signed::{BERTH, ECS, Signer};

/// A host by its key alone: what the agent would do, done by hand.
pub(crate) struct Host {
    key: String,
    secret: String,
    authority: String,
    signer: Signer,
    pub(crate) arn: String,
}

impl Host {
    /// Joins by a token with these limits, and does not register yet.
    pub(crate) fn join(server: &Server, limits: Value) -> Self {
        Self::with_token(server, &token(server, limits))
    }

    /// Joins at a server by a token that some server made.
    pub(crate) fn with_token(server: &Server, token: &str) -> Self {
        let answer = exchange(server, token);
        assert_eq!(answer.status, 200, "{answer:?}");
        let joined = answer.json();
        let text = |name: &str| joined[name].as_str().unwrap().to_owned();
        let (key, secret) = (text("accessKeyId"), text("secretAccessKey"));
        let signer = Signer::new(server.endpoint(), Some((&key, &secret)));
        Self { key, secret, authority: server.authority().to_owned(), signer, arn: String::new() }
    }

    /// Joins and registers 2048 CPU units and 4096 MiB.
    fn working(server: &Server) -> Self {
        let mut host = Self::join(server, json!({}));
        let answer = host.register(json!({"clientToken": "boot"}));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["containerInstance"]["containerInstanceArn"]
            .as_str()
            .unwrap()
            .clone_into(&mut host.arn);
        host
    }

    pub(crate) fn register(&self, more: Value) -> Response {
        let mut input = json!({"cluster": "default", "totalResources": resources(2048, 4096)});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.ecs("RegisterContainerInstance", &input)
    }

    pub(crate) fn ecs(&self, operation: &str, input: &Value) -> Response {
        self.signer.call(&ECS, operation, &input.to_string())
    }

    /// The status with which a websocket is answered, 101 when it is open, and the head of the answer.
    fn open(&self, query: &[(&str, &str)]) -> (u16, String) {
        let (_stream, answer) = self.connect(query);
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    /// Asks for a websocket; the connection, and all that was answered so far.
    pub(crate) fn connect(&self, query: &[(&str, &str)]) -> (TcpStream, String) {
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let path = format!("/ws?{}", query.join("&"));
        let request = axum::http::Request::get(&path).header("host", &self.authority);
        let mut parts = request.body(()).unwrap().into_parts().0;
        let credentials = Credentials::new(&self.key, &self.secret);
        let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        sigv4::sign(&mut parts, &credentials, "us-east-1", "ecs", b"", i64::try_from(now_ms).unwrap());
        let mut text = format!("GET {path} HTTP/1.1\r\n");
        for (name, value) in &parts.headers {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        text.push_str("connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n");
        text.push_str("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        let mut stream = TcpStream::connect(&self.authority).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            let length = stream.read(&mut piece).unwrap();
            assert_ne!(length, 0, "the server answered nothing");
            answer.extend_from_slice(&piece[..length]);
        }
        (stream, String::from_utf8_lossy(&answer).into_owned())
    }

    /// The control connection of an instance.
    fn poll(&self, instance: &str) -> (u16, String) {
        self.open(&poll_query(instance))
    }

    /// What the control connection of an instance brings within this time.
    fn listen(&self, instance: &str, time: Duration) -> String {
        let (mut stream, mut heard) = self.connect(&poll_query(instance));
        let deadline = Instant::now() + time;
        let mut piece = [0; 64 * 1024];
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            stream.set_read_timeout(Some(left)).unwrap();
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(length) => heard.push_str(&String::from_utf8_lossy(&piece[..length])),
            }
        }
        heard
    }

    /// The telemetry connection of an instance.
    fn telemetry(&self, instance: &str) -> (u16, String) {
        self.open(&[("cluster", "default"), ("containerInstance", instance)])
    }
}

pub(crate) fn poll_query(instance: &str) -> [(&str, &str); 5] {
    [
        ("clusterArn", "default"),
        ("containerInstanceArn", instance),
        ("protocolVersion", "2"),
        ("sendCredentials", "true"),
        ("seqNum", "1"),
    ]
}

fn escape(value: &str) -> String {
    value.replace(':', "%3A").replace('/', "%2F")
}

pub(crate) fn resources(cpu: i64, memory: i64) -> Value {
    json!([{"name": "CPU", "type": "INTEGER", "integerValue": cpu},
           {"name": "MEMORY", "type": "INTEGER", "integerValue": memory}])
}

pub(crate) fn administrator(server: &Server, operation: &str, input: &Value) -> Value {
    let answer = Signer::administrator(server).call(&ECS, operation, &input.to_string());
    assert_eq!(answer.status, 200, "{operation}: {answer:?}");
    answer.json()
}

fn token(server: &Server, limits: Value) -> String {
    let answer = Signer::administrator(server).call(&BERTH, "CreateJoinToken", &limits.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

fn exchange(server: &Server, token: &str) -> Response {
    let body = json!({ "token": token }).to_string();
    server.anonymous().post("/join", &[("content-type", "application/json")], body.as_bytes())
}

/// A refusal for want of rights, which tells nothing about what was asked for.
fn assert_denied(what: &str, answer: &Response) {
    assert_eq!(
        (answer.status, answer.json()["__type"].as_str()),
        (400, Some("AccessDeniedException")),
        "{what}: {answer:?}"
    );
}

fn instance(server: &Server, arn: &str) -> Value {
    let described =
        administrator(server, "DescribeContainerInstances", &json!({"containerInstances": [arn]}));
    let mut instance = described["containerInstances"][0].clone();
    // They change by themselves.
    for member in ["version", "agentConnected"] {
        instance.as_object_mut().unwrap().remove(member);
    }
    instance
}

/// `berth ARGS` as the administrator; what it prints.
fn berth(server: &Server, args: &[&str]) -> String {
    run(&mut server.berth(args.iter().copied()))
}
