//! The proxy between real sockets on loopback: what is promised of connections while sets change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use registry_runtime::Clock;
use scheduler_protocol::{
    BerthEndpointsMessage, BerthEndpointsReport, EndpointTarget, ProxyProtocol, ServiceEndpoints,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Addresses, Proxy};
use crate::engine::Fake;

/// A proxy on an address of its own, so that tests do not meet.
struct Scene {
    proxy: Proxy,
    port: u16,
    version: i64,
}

impl Scene {
    async fn new() -> Self {
        // A port that is free now is most likely free in a moment.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let loopback: std::net::IpAddr = [127, 0, 0, 1].into();
        let addresses = Addresses { listen: vec![loopback], own: loopback, gateway: None };
        Self { proxy: Proxy::new(addresses, Arc::new(Fake::new(Clock::system()))), port, version: 0 }
    }

    fn tell(&mut self, targets: &[(&str, SocketAddr)], proxy_protocol: Option<ProxyProtocol>) {
        self.version += 1;
        let target = |(task, address): &(&str, SocketAddr)| EndpointTarget {
            task_id: (*task).to_owned(),
            container_name: "web".to_owned(),
            container_port: 80,
            address: address.ip().to_string(),
            host_port: address.port(),
        };
        let service = ServiceEndpoints {
            service_name: "web".to_owned(),
            listen_port: self.port,
            proxy_protocol,
            targets: targets.iter().map(target).collect(),
        };
        let set = BerthEndpointsMessage {
            message_id: String::new(),
            cluster: "default".to_owned(),
            version: self.version,
            services: vec![service],
        };
        self.proxy.apply(set);
    }

    fn report(&self) -> BerthEndpointsReport {
        self.proxy.report().borrow().clone()
    }

    async fn until_reported(&self, wanted: impl FnMut(&BerthEndpointsReport) -> bool) {
        let mut report = self.proxy.report();
        timeout(Duration::from_secs(10), report.wait_for(wanted)).await.expect("reported in time").unwrap();
    }

    async fn connect(&self) -> TcpStream {
        for _ in 0..400 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody listens; {:?}", self.report());
    }

    async fn ask(&self) -> String {
        let mut stream = self.connect().await;
        stream.write_all(b"ask").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// A task that reads to the end and then answers with its name and what it has read.
async fn task(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await.unwrap();
                let mut answer = format!("{name}:").into_bytes();
                answer.extend(heard);
                stream.write_all(&answer).await.unwrap();
            });
        }
    });
    address
}

async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_end_of_one_direction_leaves_the_other_and_equals_take_turns() {
    let mut scene = Scene::new().await;
    scene.tell(&[("a", task("a").await), ("b", task("b").await)], None);
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(scene.ask().await);
    }
    answers.sort();
    assert_eq!(answers, ["a:ask", "a:ask", "b:ask", "b:ask"]);
}

#[tokio::test]
async fn a_task_that_refuses_costs_no_connection() {
    let mut scene = Scene::new().await;
    scene.tell(&[("gone", refusing().await), ("b", task("b").await), ("lost", refusing().await)], None);
    for _ in 0..20 {
        assert_eq!(scene.ask().await, "b:ask");
    }
    // While nobody takes connections, they wait for somebody.
    let (first, second) = (refusing().await, task("c").await);
    scene.tell(&[("gone", first)], None);
    let mut waiting = scene.connect().await;
    waiting.write_all(b"early").await.unwrap();
    waiting.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    scene.tell(&[("c", second)], None);
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "c:early");
}

#[tokio::test]
async fn a_large_body_goes_through_whole() {
    let mut scene = Scene::new().await;
    scene.tell(&[("a", task("a").await)], None);
    let body: Vec<u8> = (0..8_000_000u32).map(|number| (number % 251) as u8).collect();
    let stream = scene.connect().await;
    let (mut reader, mut writer) = stream.into_split();
    let sent = body.clone();
    tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).await.unwrap();
    assert!(answer[2..] == body[..], "{} bytes came back", answer.len());
}

#[tokio::test]
async fn the_clients_address_comes_first_where_it_is_asked_for() {
    let mut scene = Scene::new().await;
    scene.tell(&[("a", task("a").await)], Some(ProxyProtocol::V1));
    let answer = scene.ask().await;
    assert!(
        answer.starts_with("a:PROXY TCP4 127.0.0.1 127.0.0.1 ")
            && answer.ends_with(&format!(" {}\r\nask", scene.port)),
        "{answer}"
    );
}

#[tokio::test]
async fn a_task_that_leaves_gets_no_more_and_is_reported_until_its_connections_end() {
    let mut scene = Scene::new().await;
    let (old, new) = (task("old").await, task("new").await);
    scene.tell(&[("old", old)], None);
    let mut held = scene.connect().await;
    held.write_all(b"slow").await.unwrap();
    // Its place behind the proxy is taken once something has come through.
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.tell(&[("new", new)], None);
    assert_eq!((scene.report().version, scene.report().draining), (2, vec!["old".to_owned()]));
    for _ in 0..4 {
        assert_eq!(scene.ask().await, "new:ask");
    }
    held.shutdown().await.unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "old:slow");
    scene.until_reported(|report| report.draining.is_empty()).await;
}

#[tokio::test]
async fn a_taken_port_is_told_with_its_owner_and_taken_up_later() {
    let mut scene = Scene::new().await;
    let taken = TcpListener::bind(("127.0.0.1", scene.port)).await.unwrap();
    scene.tell(&[("a", task("a").await)], None);
    scene.until_reported(|report| !report.failed.is_empty()).await;
    let failed = scene.report().failed[0].clone();
    assert_eq!(failed.port, scene.port);
    assert!(failed.reason.ends_with(&format!("(pid {})", std::process::id())), "{}", failed.reason);
    drop(taken);
    scene.until_reported(|report| report.failed.is_empty()).await;
    assert_eq!(scene.ask().await, "a:ask");
    // A service that is gone leaves its port.
    scene.proxy.apply(BerthEndpointsMessage {
        version: 9,
        cluster: "default".to_owned(),
        ..Default::default()
    });
    for _ in 0..400 {
        if TcpListener::bind(("127.0.0.1", scene.port)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the port is still taken");
}
