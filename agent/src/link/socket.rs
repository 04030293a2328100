//! A websocket to the scheduler, its upgrade signed as every other request is.

use std::time::Duration;

use registry_aws::{Credentials, sigv4};
use scheduler_protocol::WEBSOCKET_PATH;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, http};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A payload holds a few tasks of at most 64 KiB each.
const MAX_MESSAGE_BYTES: usize = 8 << 20;

pub(super) type Socket = WebSocketStream<TcpStream>;

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
    region: &str,
    now_ms: i64,
) -> Result<Socket, SocketError> {
    let authority = endpoint.trim_end_matches('/').strip_prefix("http://");
    let authority = authority.filter(|authority| !authority.contains('/'));
    let authority = authority.ok_or_else(|| {
        SocketError::Away(format!("{endpoint} is no endpoint of the form http://HOST:PORT"))
    })?;
    let request = format!("ws://{authority}{WEBSOCKET_PATH}?{}", encode(query)).into_client_request()?;
    let (mut parts, ()) = request.into_parts();
    sigv4::sign(&mut parts, credentials, region, "ecs", b"", now_ms);
    let request = http::Request::from_parts(parts, ());
    let connect = async {
        let address = if has_port(authority) { authority.to_owned() } else { format!("{authority}:80") };
        let stream =
            TcpStream::connect(address).await.map_err(|error| SocketError::Away(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| SocketError::Away(error.to_string()))?;
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

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_ok())
}
