//! Clients that count what fails: some with a new connection for each request, some on one that stays.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use registry_runtime::tls::{Connector, Stream, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is asked again and again.
#[derive(Clone)]
pub(super) struct Target {
    /// `https://HOST:PORT`.
    pub(super) url: String,
    pub(super) path: String,
    pub(super) user: String,
    pub(super) password: String,
    /// Length of the whole body.
    pub(super) length: usize,
}

/// Load that runs until it is stopped.
pub(super) struct Load {
    runtime: tokio::runtime::Runtime,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

impl Load {
    /// Six clients of `target` that trust the CA of the file; two of them keep their connection.
    pub(super) fn start(target: &Target, ca: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let connector = Connector::new(&target.url, &Trust::file(ca).unwrap()).unwrap();
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..6)
            .map(|index| {
                let client = Client { target: target.clone(), connector: connector.clone(), keep: index < 2 };
                runtime.spawn(client.run(Arc::clone(&stop), Arc::clone(&answered)))
            })
            .collect();
        Self { runtime, stop, answered, clients }
    }

    pub(super) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends the load; panics when any request failed.
    pub(super) fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            self.runtime
                .block_on(client)
                .unwrap()
                .unwrap_or_else(|error| panic!("a request failed: {error}"));
        }
        self.answered.load(Ordering::Relaxed)
    }
}

struct Client {
    target: Target,
    connector: Connector,
    keep: bool,
}

impl Client {
    async fn run(self, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) -> Result<(), String> {
        let mut kept = None;
        while !stop.load(Ordering::Relaxed) {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => self
                    .connector
                    .open(self.target.url.parse().unwrap())
                    .await
                    .map_err(|error| error.to_string())?,
            };
            self.request(&mut stream).await.map_err(|error| format!("after {answered:?}: {error}"))?;
            answered.fetch_add(1, Ordering::Relaxed);
            kept = self.keep.then_some(stream);
        }
        Ok(())
    }

    async fn request(&self, stream: &mut hyper_util::rt::TokioIo<Stream>) -> Result<(), String> {
        let Target { path, user, password, length, .. } = &self.target;
        let connection = if self.keep { "keep-alive" } else { "close" };
        let basic = STANDARD.encode(format!("{user}:{password}"));
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: berth\r\nauthorization: Basic {basic}\r\nconnection: {connection}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = stream.read(&mut buffer).await.map_err(|error| error.to_string())?;
            answer.extend_from_slice(&buffer[..read]);
            if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&answer[..end]).into_owned();
                if !head.starts_with("HTTP/1.1 200") {
                    return Err(head);
                }
                if answer.len() - end - 4 == *length {
                    return Ok(());
                }
            }
            if read == 0 {
                return Err(format!("{} bytes, then nothing", answer.len()));
            }
        }
    }
}
