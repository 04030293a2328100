//! The circumstances of a request, as the gate and the audit log want them.
//!
//! The front door knows about proxies and TLS and leaves a [`RequestContext`] in the request's extensions;
//! where it did not, the connection itself speaks.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{HOST, USER_AGENT};
use http::request::Parts;
use policies_identity::RequestContext;
use registry_runtime::listener::Peer;
use registry_runtime::{Clock, random_id};

/// The context that the front door left, or what the connection tells.
pub(crate) fn request_context(parts: &Parts, clock: &Clock) -> RequestContext {
    if let Some(context) = parts.extensions.get::<RequestContext>() {
        return context.clone();
    }
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = text(HOST).or(authority).filter(|host| is_host(host));
    let peer = parts.extensions.get::<Peer>();
    RequestContext {
        request_id: random_id(),
        source_ip: peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip()),
        secure_transport: false,
        user_agent: text(USER_AGENT).map(str::to_owned),
        host: host.map(str::to_owned),
        now_ms: clock.now_ms(),
    }
}

/// A host name or address, with or without a port, that can be quoted in a header and a URL.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= 261 && text.bytes().all(allowed)
}
