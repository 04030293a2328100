//! A websocket to the scheduler, its upgrade signed as every other request is.

use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use registry_aws::{Credentials, sigv4};
use registry_runtime::tls::Stream;
use scheduler_protocol::WEBSOCKET_PATH;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, http};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::host::Host;

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A payload holds a few tasks of at most 64 KiB each.
const MAX_MESSAGE_BYTES: usize = 8 << 20;

pub(super) type Socket = WebSocketStream<TokioIo<Stream>>;

#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// The scheduler does not take this instance, or not now: it registers again.
    #[error("refused: {0}")]
    Refused(String),
    #[error("{0}")]
    Away(String),
}

impl From<Error> for SocketError {
    fn from(error: Error) -> Self {
        match error {
            Error::Http(answer) => {
                let status = answer.status();
                let body = answer.into_body().unwrap_or_default();
                let text = reason(&body);
                if status.is_client_error() {
                    Self::Refused(format!("{text} ({status})"))
                } else {
                    Self::Away(format!("{text} ({status})"))
                }
            }
            other => Self::Away(other.to_string()),
        }
    }
}

/// The words of an error answer: `{"InactiveInstanceException":"…"}` or AWS's usual shape.
fn reason(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(members)) => {
            let said = members.get("message").or_else(|| members.values().next());
            said.and_then(Value::as_str).unwrap_or("no reason given").to_owned()
        }
        _ => "no reason given".to_owned(),
    }
}

/// Opens `ENDPOINT/ws?…`.
pub(super) async fn open(
    endpoint: &str,
    query: &[(&'static str, &str)],
    credentials: &Credentials,
    host: &Host,
) -> Result<Socket, SocketError> {
    let url: Option<Uri> = endpoint.trim_end_matches('/').parse().ok();
    let url = url.filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.path() == "/");
    let (url, authority) =
        url.and_then(|url| url.authority().cloned().map(|host| (url, host))).ok_or_else(|| {
            SocketError::Away(format!(
                "{endpoint} is no endpoint of the form https://HOST or http://HOST:PORT"
            ))
        })?;
    // The handshake is the same in both cases: whether it is encrypted is the connection's affair.
    let request = format!("ws://{authority}{WEBSOCKET_PATH}?{}", encode(query)).into_client_request()?;
    let (mut parts, ()) = request.into_parts();
    sigv4::sign(&mut parts, credentials, &host.region, "ecs", b"", host.clock.now_ms());
    let request = http::Request::from_parts(parts, ());
    let connect = async {
        let stream = host.connector.open(url).await.map_err(|error| SocketError::Away(error.to_string()))?;
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES));
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
        Ok(socket)
    };
    tokio::time::timeout(CONNECT_TIME, connect)
        .await
        .map_err(|_| SocketError::Away("no answer in time".into()))?
}

fn encode(query: &[(&'static str, &str)]) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in query {
        text.append_pair(name, value);
    }
    // In a signed query a space is %20 and never a plus.
    text.finish().replace('+', "%20")
}
