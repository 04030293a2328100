//! The sending side: a request to the scheduler that came to a server which does not lead.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use policies_identity::RequestContext;
use registry_aws::AwsError;
use registry_runtime::{OperationName, Served};
use rustls::pki_types::ServerName;
use scheduler::{Leader, Scheduler};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::NAME;
use super::{
    Caller, GENERATION, IN_CLEAR, ON_THE_MACHINE, OVER_TLS, PRINCIPAL, Peers, REQUEST_ID, SOURCE, TRANSPORT,
};
use crate::observe::of_path;

/// How long a request waits while nobody leads: longer than it takes another server to take over.
const PATIENCE: Duration = Duration::from_secs(15);
const CONNECTING: Duration = Duration::from_secs(2);
/// An answer of the scheduler begins within this time.
const ANSWERING: Duration = Duration::from_secs(60);

/// Passes a request to the scheduler on to the server that leads it; every other one goes on here.
pub(crate) async fn pass_on(State(peers): State<Arc<Peers>>, request: Request, next: Next) -> Response {
    let Some(operation) = asked(&request) else { return next.run(request).await };
    let mut response = find_leader(&peers, request, next).await;
    // A room that answered here has told this and more.
    if response.extensions().get::<Served>().is_none() {
        let principal = response.headers_mut().remove(PRINCIPAL);
        let principal = principal.and_then(|value| Some(value.to_str().ok()?.into()));
        response.extensions_mut().insert(Served { operation, principal });
    }
    response
}

async fn find_leader(peers: &Peers, request: Request, next: Next) -> Response {
    let mut leader = peers.leader.clone();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let known = leader.borrow_and_update().clone();
        match (known, &peers.caller) {
            (Leader::Here, _) => return next.run(request).await,
            (Leader::At(address), Some(caller)) if !address.is_empty() => {
                match caller.connect(&address).await {
                    Ok(stream) => return send(peers, stream, request).await,
                    Err(error) => {
                        tracing::debug!(peer.address = address, %error, "the leader cannot be reached")
                    }
                }
            }
            (Leader::At(_), _) => {
                return unavailable(
                    "Another server leads the scheduler, and peer_listen is not set on both.",
                );
            }
            (Leader::Unknown, _) => {}
        }
        // Nothing was sent yet: whoever leads next may have it. One that cannot be reached now may be in a moment.
        let again = Instant::now() + Duration::from_millis(500);
        if Instant::now() >= deadline || peers.shutdown.has_begun() {
            return unavailable("No server leads the scheduler at the moment. Try again.");
        }
        let _ = timeout_at(again.min(deadline), leader.changed()).await;
    }
}

/// What a request asks of the scheduler; `None` for what it asks of others.
fn asked(request: &Request) -> Option<OperationName> {
    let path = request.uri().path();
    if matches!(path, scheduler::WEBSOCKET_PATH | scheduler::JOIN_PATH) {
        return Some(of_path(path));
    }
    let target = request.headers().get("x-amz-target")?.to_str().ok()?;
    let (prefix, operation) = target.rsplit_once('.')?;
    let known = |names: &[&'static str]| names.iter().find(|name| **name == operation).copied();
    // What ECS knows is its own by prefix, known or not; Berth's operations live in several rooms under one.
    if prefix.starts_with("AmazonEC2ContainerService") {
        let name = known(Scheduler::ECS_OPERATIONS).unwrap_or(OperationName::UNKNOWN.name);
        return Some(OperationName::new("ecs", name));
    }
    known(Scheduler::BERTH_OPERATIONS).map(|name| OperationName::new("berth", name))
}

impl Caller {
    async fn connect(&self, address: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(NAME).map_err(std::io::Error::other)?;
            TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
        };
        timeout(CONNECTING, connecting).await?
    }
}

async fn send(peers: &Peers, stream: TlsStream<TcpStream>, mut request: Request) -> Response {
    if let Err(problem) = address(peers, &mut request) {
        tracing::error!(problem, "a request cannot be passed on");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let upgrades = request.headers().contains_key(header::UPGRADE);
    let client = hyper::upgrade::on(&mut request);
    let answer = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await
    };
    let mut answer = match timeout(ANSWERING, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => return unavailable("The server that leads the scheduler did not answer."),
    };
    if upgrades && answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (leader, shutdown) = (hyper::upgrade::on(&mut answer), peers.shutdown.clone());
        tokio::spawn(async move {
            let (Ok(client), Ok(leader)) = tokio::join!(client, leader) else { return };
            let (mut client, mut leader) = (TokioIo::new(client), TokioIo::new(leader));
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut leader) => {}
                () = shutdown.begun() => {}
            }
        });
    }
    answer.map(Body::new)
}

/// Writes down what only this server knows of the request, and how it looks on an HTTP/1.1 connection.
fn address(peers: &Peers, request: &mut Request) -> Result<(), &'static str> {
    let context = request.extensions().get::<RequestContext>().ok_or("it has no context")?.clone();
    let transport = match (context.secure_transport, context.confidential) {
        (true, _) => OVER_TLS,
        (false, true) => ON_THE_MACHINE,
        (false, false) => IN_CLEAR,
    };
    let values = [
        (SOURCE, context.source_ip.to_string()),
        (TRANSPORT, transport.to_owned()),
        (GENERATION, peers.identity.security_generation().to_string()),
        (REQUEST_ID, context.request_id),
    ];
    let headers = request.headers_mut();
    for (name, value) in values {
        headers.insert(name, HeaderValue::from_str(&value).map_err(|_| "a header cannot be written")?);
    }
    if let Some(host) = context.host {
        headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(|_| "its host cannot be written")?);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| "its path cannot be written")?;
    *request.version_mut() = axum::http::Version::HTTP_11;
    Ok(())
}

fn unavailable(message: &'static str) -> Response {
    AwsError::unavailable(message).to_json_response(&registry_runtime::random_id()).map(Body::from)
}
