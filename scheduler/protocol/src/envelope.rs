//! The frame around every websocket message: `{"type": NAME, "message": {…}}`.
//!
//! A type that this release does not know decodes to `None`: a newer peer is not an error.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A frame that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the frame is not a JSON object with a type and a message")]
    Frame(#[source] serde_json::Error),
    #[error("the message of type {kind} has another shape")]
    Message {
        kind: String,
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
pub(crate) struct Incoming {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    message: Value,
}

impl Incoming {
    /// Reads a frame. Telemetry frames of an agent carry a block of signed headers before the JSON;
    /// the connection is authenticated already, so the block is skipped.
    pub(crate) fn read(frame: &str) -> Result<Self, DecodeError> {
        let json = if frame.trim_start().starts_with('{') {
            frame
        } else {
            frame.split_once("\r\n\r\n").map_or(frame, |(_, body)| body)
        };
        serde_json::from_str(json).map_err(DecodeError::Frame)
    }

    pub(crate) fn body<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        let Self { kind, message } = self;
        serde_json::from_value(message).map_err(|source| DecodeError::Message { kind, source })
    }
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a T,
}

pub(crate) fn write<T: Serialize>(kind: &'static str, message: &T) -> String {
    serde_json::to_string(&Outgoing { kind, message }).expect("messages hold nothing that JSON cannot write")
}

/// Declares an enum of messages with the name each bears on the wire.
macro_rules! messages {
    ($(#[$meta:meta])* $name:ident { $($variant:ident($body:ty) = $wire:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name { $($variant($body)),+ }

        impl $name {
            /// The text frame of this message.
            pub fn encode(&self) -> String {
                match self { $(Self::$variant(body) => crate::envelope::write($wire, body)),+ }
            }

            /// Reads a text frame; `None` for a type that this release does not know.
            pub fn decode(frame: &str) -> Result<Option<Self>, crate::DecodeError> {
                let incoming = crate::envelope::Incoming::read(frame)?;
                match incoming.kind.as_str() {
                    $($wire => incoming.body().map(|body| Some(Self::$variant(body))),)+
                    _ => Ok(None),
                }
            }
        }
    };
}
pub(crate) use messages;
