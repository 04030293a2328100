//! How a host gets a key of its own: one exchange of a join token, kept in the data folder.
//!
//! The key is written 0600 before it is used; a host that restarts reads it again and keeps its identity.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use registry_aws::Credentials;
use registry_runtime::durable;
use scheduler_protocol::{JOIN_PATH, JoinRequest, JoinResponse};
use serde::{Deserialize, Serialize};

use crate::error::AgentError;

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const FILE: &str = "joined.json";

/// Where a host belongs, and its key, as the exchange returned them.
#[derive(Clone, Debug)]
pub struct JoinedConfig {
    pub server_url: String,
    pub cluster: String,
    pub region: String,
    pub account_id: String,
    pub credentials: Credentials,
}

/// The file: the server that was joined, and its answer.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    server_url: String,
    answer: JoinResponse,
}

/// Exchanges `token` at `POST SERVER/join` for a key of this host's own and saves it in `data_dir`.
///
/// A host that has joined before keeps what it has, and the token is not used.
pub async fn join(server_url: &str, token: &str, data_dir: &Path) -> Result<JoinedConfig, AgentError> {
    if let Some(joined) = joined(data_dir)? {
        return Ok(joined);
    }
    durable::create_directory(data_dir, 0o700).map_err(|source| AgentError::io(data_dir, source))?;
    let server_url = server_url.trim_end_matches('/');
    let answer = tokio::time::timeout(TIMEOUT, exchange(server_url, token))
        .await
        .map_err(|_| AgentError::Unreachable("no answer in time".into()))??;
    let saved = Saved { server_url: server_url.to_owned(), answer };
    let text = serde_json::to_vec_pretty(&saved).expect("names and strings have a JSON form");
    let path = file(data_dir);
    durable::write_file_atomically(&path, &text, 0o600).map_err(|source| AgentError::io(&path, source))?;
    Ok(saved.into())
}

/// What an earlier [`join`] saved in `data_dir`.
pub fn joined(data_dir: &Path) -> Result<Option<JoinedConfig>, AgentError> {
    let path = file(data_dir);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(AgentError::io(&path, source)),
    };
    let saved: Saved = serde_json::from_slice(&text)
        .map_err(|error| AgentError::State { path, reason: error.to_string() })?;
    Ok(Some(saved.into()))
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

impl From<Saved> for JoinedConfig {
    fn from(saved: Saved) -> Self {
        let Saved { server_url, answer } = saved;
        Self {
            // The operator typed a URL that works from here; the server's own name is a second choice.
            server_url,
            cluster: answer.cluster,
            region: answer.region,
            account_id: answer.account_id,
            credentials: Credentials::new(answer.access_key_id, answer.secret_access_key),
        }
    }
}

async fn exchange(server_url: &str, token: &str) -> Result<JoinResponse, AgentError> {
    if !server_url.starts_with("http://") {
        return Err(AgentError::ServerUrl(server_url.to_owned()));
    }
    let body =
        serde_json::to_vec(&JoinRequest { token: token.to_owned() }).expect("a string has a JSON form");
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{server_url}{JOIN_PATH}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| AgentError::ServerUrl(server_url.to_owned()))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
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
        return Err(AgentError::Refused(format!("{message} ({status})")));
    }
    serde_json::from_slice(&body)
        .map_err(|error| AgentError::Unreachable(format!("its answer is malformed: {error}")))
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

    use axum::routing::post;
    use axum::{Json, Router};
    use scheduler_protocol::JoinResponse;

    use super::{join, joined};
    use crate::error::AgentError;

    async fn server(status: u16) -> String {
        let answer = JoinResponse {
            cluster: "default".into(),
            region: "us-east-1".into(),
            account_id: "000000000000".into(),
            endpoint: None,
            access_key_id: "AKIAHOST".into(),
            secret_access_key: "secret".into(),
        };
        let status = http::StatusCode::from_u16(status).unwrap();
        let router = Router::new().route("/join", post(move || async move { (status, Json(answer)) }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum_serve(listener, router).await });
        url
    }

    async fn axum_serve(listener: tokio::net::TcpListener, router: Router) {
        let limits = registry_runtime::listener::Limits::default();
        registry_runtime::listener::serve(listener, router, limits, registry_runtime::Shutdown::new()).await;
    }

    #[tokio::test]
    async fn a_key_is_exchanged_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        assert!(joined(folder.path()).unwrap().is_none());
        let first = join(&server(200).await, "token", folder.path()).await.unwrap();
        assert_eq!(
            (first.cluster.as_str(), first.credentials.access_key_id.as_str()),
            ("default", "AKIAHOST")
        );
        let mode = std::fs::metadata(folder.path().join("joined.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = join("http://127.0.0.1:1", "used", folder.path()).await.unwrap();
        assert_eq!(again.server_url, first.server_url);
    }

    #[tokio::test]
    async fn a_refused_token_is_told_apart_from_a_server_that_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let refused = join(&server(403).await, "token", folder.path()).await.unwrap_err();
        assert!(matches!(refused, AgentError::Refused(_)), "{refused}");
        let away = join("http://127.0.0.1:1", "token", folder.path()).await.unwrap_err();
        assert!(matches!(away, AgentError::Unreachable(_)), "{away}");
        assert!(joined(folder.path()).unwrap().is_none());
    }
}
