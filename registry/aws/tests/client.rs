//! The client against a server of a few lines: what it sends, and what it makes of answers.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::time::Duration;

use registry_aws::{Client, ClientError, Credentials, sigv4};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "a secret of thirty-two characters";

/// Answers every request of one connection with `answer`; yields the requests as text.
async fn serve(answer: &'static str) -> (Client, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut requests = Vec::new();
        while let Some(request) = read_request(&mut connection).await {
            requests.push(request);
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    let credentials = Credentials::new("BRTHEXAMPLEEXAMPLE00", SECRET);
    let client = Client::new(&endpoint, "us-east-1", credentials).unwrap();
    (client.with_timeout(Duration::from_millis(500)), server)
}

async fn read_request(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = connection.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(text);
        }
    }
}

async fn call(client: &Client) -> Result<Value, ClientError> {
    client.call("ecs", "AmazonEC2ContainerServiceV20141113", "ListClusters", &json!({"maxResults": 1})).await
}

fn to_parts(request: &str) -> (http::request::Parts, String) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut builder = http::Request::builder().method("POST").uri("/");
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        builder = builder.header(name, value);
    }
    (builder.body(()).unwrap().into_parts().0, body.to_owned())
}

#[tokio::test]
async fn calls_are_signed_and_share_a_connection() {
    let (client, server) = serve("HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"clusterArns\":[]}").await;
    assert_eq!(call(&client).await.unwrap(), json!({"clusterArns": []}));
    assert_eq!(call(&client).await.unwrap(), json!({"clusterArns": []}));
    drop(client);
    let requests = server.await.unwrap();
    assert_eq!(requests.len(), 2);

    let (parts, body) = to_parts(&requests[0]);
    assert_eq!(body, r#"{"maxResults":1}"#);
    assert_eq!(parts.headers["x-amz-target"], "AmazonEC2ContainerServiceV20141113.ListClusters");
    let signed = sigv4::parse(&parts).unwrap().unwrap();
    let expected = sigv4::Expected {
        services: &["ecs"],
        regions: &["us-east-1"],
        now_ms: signed.timestamp_ms,
        skew_ms: 0,
        unsigned_payload: false,
    };
    signed.verify(&parts, SECRET.as_bytes(), &Sha256::digest(body).into(), &expected).unwrap();
}

#[tokio::test]
async fn service_errors_keep_code_status_and_message() {
    let body =
        r#"{"__type":"com.amazonaws.ecs#ClusterNotFoundException:http://x/","Message":"Cluster not found."}"#;
    let answer = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (client, _server) = serve(answer.leak()).await;
    let ClientError::Service(error) = call(&client).await.unwrap_err() else { panic!("a service error") };
    assert_eq!((error.status, error.code.as_ref()), (400, "ClusterNotFoundException"));
    assert_eq!(error.message, "Cluster not found.");

    let (client, _server) = serve("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>").await;
    let ClientError::Service(error) = call(&client).await.unwrap_err() else { panic!("a service error") };
    assert_eq!((error.status, error.code.as_ref()), (502, "HTTP502"));
}

#[tokio::test]
async fn silence_and_refusal_are_transport_errors() {
    let (client, _server) = serve("").await;
    assert!(matches!(call(&client).await, Err(ClientError::Transport { .. })));

    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let credentials = Credentials::new("BRTHEXAMPLEEXAMPLE00", SECRET);
    let client = Client::new(&format!("http://127.0.0.1:{port}"), "us-east-1", credentials).unwrap();
    assert!(matches!(call(&client).await, Err(ClientError::Transport { .. })));
}

#[test]
fn endpoints_are_a_scheme_a_host_and_a_port() {
    for endpoint in
        ["", "127.0.0.1:5000", "https://a", "http://a/path", "http://u:p@a", "http://a?x", "ftp://a"]
    {
        let client = Client::new(endpoint, "us-east-1", Credentials::new("A", SECRET));
        assert!(matches!(client, Err(ClientError::Endpoint(_))), "{endpoint}");
    }
}
