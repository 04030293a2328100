//! How a host gets a key of its own: one exchange of a join token, kept in the data folder.
//!
//! The key is written 0600 before it is used; a host that restarts reads it again and keeps its identity. A host
//! that joins again by another token signs the exchange with the key it has, or is known by its machine: it
//! keeps its identity too, and gets another key. The token names the server's CA, which alone counts from then on.

mod authority;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use registry_aws::{Credentials, sigv4};
use registry_runtime::tls::{Certificate, Connector, Trust};
use registry_runtime::{Clock, durable};
use scheduler_protocol::{JOIN_PATH, JoinRequest, JoinResponse};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Bounds;
use crate::error::AgentError;

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const FILE: &str = "joined.json";
/// What a host's key signs for.
const SERVICE: &str = "ecs";
/// Where systemd or D-Bus keep a machine's id.
const MACHINE_IDS: &[&str] = &["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Where a host belongs, and its key, as the exchange returned them.
#[derive(Clone, Debug)]
pub struct JoinedConfig {
    pub server_url: String,
    /// Whose word counts for the server's certificate.
    pub trust: Trust,
    pub cluster: String,
    pub region: String,
    pub account_id: String,
    pub credentials: Credentials,
    pub principal: Option<String>,
    pub bounds: Bounds,
}

/// What a host is to join by.
#[derive(Clone, Copy)]
pub struct Invitation<'a> {
    pub server_url: &'a str,
    pub token: &'a str,
    /// The engine's socket, as configured: two agents of one machine are two hosts.
    pub docker_host: Option<&'a str>,
    /// PEM file of the CA that counts for the server, instead of the one that the token names.
    pub ca_file: Option<&'a Path>,
}

/// The file: the server that was joined, and its answer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    server_url: String,
    answer: JoinResponse,
    /// SHA-256 of the token that was exchanged. Absent: by a release that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_hash: Option<String>,
    /// The server's CA in PEM. Absent: what this machine trusts anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
}

/// Exchanges a token at `POST SERVER/join` for a key of this host's own and saves it in `data_dir`.
///
/// A token that this host has used already is not used again: the same command can start it every time.
///
/// # Errors
/// `Refused` in the server's words when the token is good for nothing, `Unreachable`; then nothing has changed.
pub async fn join(invitation: Invitation<'_>, data_dir: &Path) -> Result<JoinedConfig, AgentError> {
    let known = saved(data_dir)?;
    let token_hash = hex::encode(Sha256::digest(invitation.token.as_bytes()));
    if let Some(known) = &known
        && known.token_hash.as_ref() == Some(&token_hash)
    {
        return known.clone().try_into();
    }
    durable::create_directory(data_dir, 0o700).map_err(|source| AgentError::io(data_dir, source))?;
    let url = invitation.server_url.trim_end_matches('/');
    let ca = authority::authority(url, invitation.token, invitation.ca_file).await?;
    let exchanged = tokio::time::timeout(TIMEOUT, exchange(invitation, ca.as_ref(), known.as_ref()))
        .await
        .map_err(|_| AgentError::Unreachable("no answer in time".into()))
        .flatten();
    let answer = match (exchanged, known) {
        (Ok(answer), _) => answer,
        // Perhaps the very token by which this host joined.
        (Err(error), Some(known)) if known.token_hash.is_none() => {
            tracing::warn!(%error, "this host goes on with the key it has");
            return known.try_into();
        }
        (Err(error), _) => return Err(error),
    };
    let ca = ca.as_ref().map(Certificate::pem);
    let saved = Saved { server_url: url.to_owned(), answer, token_hash: Some(token_hash), ca };
    let text = serde_json::to_vec_pretty(&saved).expect("names and strings have a JSON form");
    let path = file(data_dir);
    durable::write_file_atomically(&path, &text, 0o600).map_err(|source| AgentError::io(&path, source))?;
    saved.try_into()
}

/// What an earlier [`join`] saved in `data_dir`.
pub fn joined(data_dir: &Path) -> Result<Option<JoinedConfig>, AgentError> {
    saved(data_dir)?.map(JoinedConfig::try_from).transpose()
}

fn saved(data_dir: &Path) -> Result<Option<Saved>, AgentError> {
    let path = file(data_dir);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(AgentError::io(&path, source)),
    };
    let saved = serde_json::from_slice(&text);
    saved.map(Some).map_err(|error| AgentError::State { path, reason: error.to_string() })
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

impl TryFrom<Saved> for JoinedConfig {
    type Error = AgentError;

    fn try_from(saved: Saved) -> Result<Self, AgentError> {
        let Saved { server_url, answer, ca, .. } = saved;
        let trust = match ca.map(|pem| Certificate::all_from_pem(pem.as_bytes())) {
            None => Trust::system(),
            Some(Ok(authorities)) => Trust::only(authorities),
            Some(Err(reason)) => return Err(AgentError::Authority(format!("the CA in {FILE}: {reason}"))),
        };
        Ok(Self {
            trust,
            // The operator typed a URL that works from here; the server's own name is a second choice.
            server_url,
            cluster: answer.cluster,
            region: answer.region,
            account_id: answer.account_id,
            credentials: Credentials::new(answer.access_key_id, answer.secret_access_key),
            principal: answer.principal,
            bounds: Bounds { cpu: answer.max_cpu, memory: answer.max_memory },
        })
    }
}

async fn exchange(
    invitation: Invitation<'_>,
    ca: Option<&Certificate>,
    known: Option<&Saved>,
) -> Result<JoinResponse, AgentError> {
    let server_url = invitation.server_url.trim_end_matches('/');
    let trust = ca.map_or_else(Trust::system, |ca| Trust::only(vec![ca.clone()]));
    let connector = Connector::new(server_url, &trust)?;
    let machine = machine(MACHINE_IDS, invitation.docker_host);
    let body = serde_json::to_vec(&JoinRequest { token: invitation.token.to_owned(), machine })
        .expect("strings have a JSON form");
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{server_url}{JOIN_PATH}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(())
        .map_err(|_| AgentError::ServerUrl(server_url.to_owned()))?;
    let (mut parts, ()) = request.into_parts();
    if let Some(Saved { answer, .. }) = known {
        let key = Credentials::new(&answer.access_key_id, &answer.secret_access_key);
        sigv4::sign(&mut parts, &key, &answer.region, SERVICE, &body, Clock::system().now_ms());
    }
    let request = Request::from_parts(parts, Full::new(Bytes::from(body)));
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let answer = client.request(request).await.map_err(|error| AgentError::Unreachable(describe(&error)))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| AgentError::Unreachable(error.to_string()))?.to_bytes();
    if status.is_server_error() {
        return Err(AgentError::Unreachable(format!("it answered {status}")));
    }
    if !status.is_success() {
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = value.get("message").and_then(|message| message.as_str()).unwrap_or("no reason given");
        return Err(AgentError::Refused(message.to_owned()));
    }
    serde_json::from_slice(&body)
        .map_err(|error| AgentError::Unreachable(format!("its answer is malformed: {error}")))
}

/// What stays the same for this machine and engine when the data directory is lost. Not the machine's id itself,
/// which other programs use too and which must not leave the machine.
fn machine(files: &[&str], docker_host: Option<&str>) -> Option<String> {
    let id = files.iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        let id = text.trim();
        (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
    })?;
    let named = format!("berth agent\n{id}\n{}", docker_host.unwrap_or_default());
    Some(hex::encode(Sha256::digest(named)))
}

/// An error with its causes, which hyper keeps apart.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use axum::extract::State;
    use axum::routing::post;
    use axum::{Json, Router};
    use http::{HeaderMap, StatusCode};
    use parking_lot::Mutex;
    use scheduler_protocol::JoinResponse;

    use super::{Invitation, join, joined, machine};
    use crate::error::AgentError;

    /// A server that answers every exchange with this status and a key of its own, and counts them.
    #[derive(Clone)]
    struct Server {
        status: StatusCode,
        /// For each exchange whether it was signed.
        exchanges: Arc<Mutex<Vec<bool>>>,
        url: String,
    }

    impl Server {
        async fn start(status: StatusCode) -> Self {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let server = Self { status, exchanges: Arc::default(), url };
            let router = Router::new().route("/join", post(answer)).with_state(server.clone());
            let limits = registry_runtime::listener::Limits::default();
            let shutdown = registry_runtime::Shutdown::new();
            tokio::spawn(registry_runtime::listener::serve(listener, router, limits, shutdown));
            server
        }

        fn invitation<'a>(&'a self, token: &'a str) -> Invitation<'a> {
            Invitation { server_url: &self.url, token, docker_host: None, ca_file: None }
        }
    }

    async fn answer(State(server): State<Server>, headers: HeaderMap) -> (StatusCode, Json<JoinResponse>) {
        let mut exchanges = server.exchanges.lock();
        exchanges.push(headers.contains_key("authorization"));
        let answer = JoinResponse {
            cluster: "default".into(),
            region: "us-east-1".into(),
            account_id: "000000000000".into(),
            endpoint: None,
            access_key_id: format!("AKIAHOST{}", exchanges.len()),
            secret_access_key: "secret".into(),
            principal: Some("host-1".into()),
            max_cpu: Some(512),
            max_memory: None,
        };
        (server.status, Json(answer))
    }

    #[tokio::test]
    async fn a_key_is_exchanged_once_for_each_token_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        assert!(joined(folder.path()).unwrap().is_none());
        let server = Server::start(StatusCode::OK).await;
        let first = join(server.invitation("one"), folder.path()).await.unwrap();
        assert_eq!((first.cluster.as_str(), first.bounds.cpu), ("default", Some(512)));
        let mode = std::fs::metadata(folder.path().join("joined.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // The same command again, as a unit file has it.
        let again = join(server.invitation("one"), folder.path()).await.unwrap();
        assert_eq!(again.credentials.access_key_id, first.credentials.access_key_id);
        let other = join(server.invitation("two"), folder.path()).await.unwrap();
        assert_eq!(other.credentials.access_key_id, "AKIAHOST2");
        assert_eq!(*server.exchanges.lock(), [false, true], "who has a key shows it");
    }

    #[tokio::test]
    async fn a_refused_token_is_told_apart_from_a_server_that_is_away_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (refuses, accepts) =
            (Server::start(StatusCode::FORBIDDEN).await, Server::start(StatusCode::OK).await);
        let away = Invitation { server_url: "http://127.0.0.1:1", ..accepts.invitation("token") };
        for _ in 0..2 {
            let refused = join(refuses.invitation("token"), folder.path()).await.unwrap_err();
            assert!(matches!(refused, AgentError::Refused(_)), "{refused}");
            let away = join(away, folder.path()).await.unwrap_err();
            assert!(matches!(away, AgentError::Unreachable(_)), "{away}");
            let known = joined(folder.path()).unwrap().map(|known| known.credentials.access_key_id.clone());
            if known.is_none() {
                join(accepts.invitation("first"), folder.path()).await.unwrap();
            } else {
                assert_eq!(known.as_deref(), Some("AKIAHOST1"));
            }
        }
    }

    #[test]
    fn a_machine_is_named_by_its_id_and_engine_without_telling_the_id() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for text in ["", "uninitialized\n", "0123"] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(machine(&["/nowhere", path], None), None, "{text}");
        }
        std::fs::write(file.path(), "00112233445566778899aabbccddeeff\n").unwrap();
        let one = machine(&[path], None).unwrap();
        assert_eq!((one.len(), machine(&[path], None)), (64, Some(one.clone())));
        assert_ne!(machine(&[path], Some("unix:///run/other.sock")), Some(one));
    }
}
