//! What is known of a request besides who sent it and what it asks for.

use std::net::IpAddr;

/// The circumstances of one request, as conditions and the audit log see them.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Unique; returned as `x-amzn-RequestId`.
    pub request_id: String,
    /// The client's address, taken from a forwarded header only behind a trusted proxy.
    pub source_ip: IpAddr,
    /// Whether the client's connection was TLS.
    pub secure_transport: bool,
    pub user_agent: Option<String>,
    /// The validated Host of the request.
    pub host: Option<String>,
    /// When the request arrived, milliseconds since the Unix epoch.
    pub now_ms: i64,
}
