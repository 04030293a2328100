//! What is known of a request besides who sent it and what it asks for.
//!
//! The front door makes one context for each request, from the connection and its headers, and leaves it in
//! the request's extensions; nobody behind it looks at the peer or at forwarded headers again.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use registry_runtime::{OverTls, Peer, base_url, random_id};
use thiserror::Error;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The longest host name with its port.
const LONGEST_HOST: usize = 261;

/// The circumstances of one request, as conditions and the audit log see them.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Unique; returned as `x-amzn-RequestId`.
    pub request_id: String,
    /// The client's address, taken from a forwarded header only behind a trusted proxy.
    pub source_ip: IpAddr,
    /// Whether the client's connection was TLS.
    pub secure_transport: bool,
    /// Whether secrets may cross the client's connection: it was TLS, or it never left this machine.
    pub confidential: bool,
    pub user_agent: Option<String>,
    /// The validated Host of the request.
    pub host: Option<String>,
    /// When the request arrived, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// Why a request has no context, and cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContextError {
    #[error("the Host header is not one host name")]
    Host,
    /// The listener did not say who is at the other end.
    #[error("the connection has no peer address")]
    Peer,
}

impl RequestContext {
    /// The context of a request that came in over the network. `trusted_proxies` are the peers whose
    /// `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    ///
    /// # Errors
    /// Without exactly one valid host, or without a peer.
    pub fn of(parts: &Parts, trusted_proxies: &[IpAddr], now_ms: i64) -> Result<Self, ContextError> {
        let Peer(peer) = parts.extensions.get::<Peer>().ok_or(ContextError::Peer)?;
        let peer = peer.ip().to_canonical();
        let mut source_ip = peer;
        let mut secure_transport = parts.extensions.get::<OverTls>().is_some();
        // About the connection's own peer: an address that a proxy reports is not here.
        let mut on_this_machine = peer.is_loopback();
        if trusted_proxies.contains(&peer) {
            // The proxy appends what it saw; what stands before it is the client's own claim.
            let proto = last(&parts.headers, &FORWARDED_PROTO);
            let address = last(&parts.headers, &FORWARDED_FOR);
            on_this_machine &= proto.is_none() && address.is_none();
            secure_transport = proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
            source_ip = address.and_then(|address| address.parse().ok()).unwrap_or(peer);
        }
        Ok(Self {
            request_id: random_id(),
            source_ip: source_ip.to_canonical(),
            secure_transport,
            confidential: secure_transport || on_this_machine,
            user_agent: last(&parts.headers, &USER_AGENT).map(str::to_owned),
            host: Some(host(parts)?.to_owned()),
            now_ms,
        })
    }

    /// `SCHEME://HOST[:PORT]` that this client is to use: the advertised name where there is one. Whoever asks in
    /// clear from this machine stays where it is, for that name may lead out into the network.
    pub fn base_url(&self, advertise: Option<&str>) -> Option<String> {
        let in_clear_here = self.confidential && !self.secure_transport;
        let advertise = advertise.filter(|_| !in_clear_here);
        advertise.or(self.host.as_deref()).map(|host| base_url(self.secure_transport, host))
    }

    /// The context of what this process asks of itself, and of tests.
    pub fn local(now_ms: i64) -> Self {
        Self {
            request_id: random_id(),
            source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            secure_transport: false,
            confidential: true,
            user_agent: None,
            host: None,
            now_ms,
        }
    }
}

/// The last element of a header's comma-separated list, however many lines it came in.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let text = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    // A comment of the user agent may hold commas; it is one value.
    let value = if *name == USER_AGENT { text } else { text.rsplit(',').next().unwrap_or(text) };
    Some(value.trim())
}

/// The request target's own authority, else the Host header.
fn host(parts: &Parts) -> Result<&str, ContextError> {
    let mut headers = parts.headers.get_all(HOST).iter();
    let header = headers.next().map(|value| value.to_str()).transpose().map_err(|_| ContextError::Host)?;
    if headers.next().is_some() {
        return Err(ContextError::Host);
    }
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or(header);
    host.filter(|host| is_host(host)).ok_or(ContextError::Host)
}

/// A host name or address, with or without a port, that can be quoted in a header and a URL.
fn is_host(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= LONGEST_HOST && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::Request;
    use http::request::Parts;
    use registry_runtime::{OverTls, Peer};

    use super::{ContextError, RequestContext};

    fn parts(peer: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/v2/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(Peer(peer.parse().unwrap()));
        parts
    }

    fn context(peer: &str, headers: &[(&str, &str)]) -> RequestContext {
        let proxies = ["10.0.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let headers: Vec<_> = [("host", "berth:5000")].iter().chain(headers).copied().collect();
        RequestContext::of(&parts(peer, &headers), &proxies, 7).unwrap()
    }

    #[test]
    fn only_loopback_and_tls_carry_secrets() {
        let proto = |value| ("x-forwarded-proto", value);
        let from = ("x-forwarded-for", "192.0.2.9");
        for (what, peer, headers, confidential) in [
            ("loopback", "127.0.0.1:1", &[][..], true),
            ("all of loopback", "127.8.0.1:1", &[], true),
            ("loopback of IPv6", "[::1]:1", &[], true),
            ("loopback of a listener for both", "[::ffff:127.0.0.1]:1", &[], true),
            ("another machine", "192.0.2.1:1", &[], false),
            ("what another machine claims", "192.0.2.1:1", &[proto("https")], false),
            ("a claim of loopback", "192.0.2.1:1", &[("x-forwarded-for", "127.0.0.1")], false),
            ("a proxy with TLS", "10.0.0.1:1", &[proto("https"), from], true),
            ("a proxy without TLS", "10.0.0.1:1", &[proto("http"), from], false),
            ("a proxy that does not say", "10.0.0.1:1", &[from], false),
            ("a claim of loopback past a proxy", "10.0.0.1:1", &[("x-forwarded-for", "127.0.0.1")], false),
            ("a claim before the proxy's word", "10.0.0.1:1", &[proto("https, http"), from], false),
            ("a claim on a line of its own", "10.0.0.1:1", &[proto("https"), proto("http")], false),
            ("a proxy on this machine", "127.0.0.1:1", &[proto("http"), from], false),
            ("its neighbour", "127.0.0.1:1", &[], true),
        ] {
            assert_eq!(context(peer, headers).confidential, confidential, "{what}");
        }
    }

    #[test]
    fn tls_counts_for_whoever_holds_its_other_end() {
        let over_tls = |peer: &str, headers: &[(&str, &str)]| {
            let headers: Vec<_> = [("host", "berth")].iter().chain(headers).copied().collect();
            let mut parts = parts(peer, &headers);
            parts.extensions.insert(OverTls);
            RequestContext::of(&parts, &["10.0.0.1".parse().unwrap()], 7).unwrap()
        };
        let direct = over_tls("192.0.2.1:1", &[]);
        assert!(direct.secure_transport && direct.confidential);
        // A proxy's own connection is encrypted; what its client used, only the proxy knows.
        assert!(!over_tls("10.0.0.1:1", &[]).secure_transport);
        assert!(over_tls("10.0.0.1:1", &[("x-forwarded-proto", "https")]).confidential);
    }

    #[test]
    fn clients_are_sent_to_the_advertised_name_but_not_out_of_this_machine() {
        let advertise = Some("registry.example:443");
        let tls = RequestContext { secure_transport: true, ..context("192.0.2.1:1", &[]) };
        assert_eq!(tls.base_url(advertise).as_deref(), Some("https://registry.example"));
        assert_eq!(tls.base_url(None).as_deref(), Some("https://berth:5000"));
        assert_eq!(context("192.0.2.1:1", &[]).base_url(Some("a:80")).as_deref(), Some("http://a"));
        assert_eq!(context("127.8.0.1:1", &[]).base_url(advertise).as_deref(), Some("http://berth:5000"));
    }

    #[test]
    fn the_address_is_the_one_that_the_trusted_proxy_saw() {
        let from = |value| [("x-forwarded-for", value)];
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(context("10.0.0.1:1", &from("1.1.1.1, 192.0.2.9")).source_ip, ip("192.0.2.9"));
        assert_eq!(context("10.0.0.1:1", &from("::ffff:192.0.2.9")).source_ip, ip("192.0.2.9"));
        assert_eq!(context("10.0.0.1:1", &from("nobody")).source_ip, ip("10.0.0.1"));
        assert_eq!(context("192.0.2.1:1", &from("1.1.1.1")).source_ip, ip("192.0.2.1"));
    }

    #[test]
    fn a_request_has_one_host_that_can_be_quoted() {
        let of = |headers: &[(&str, &str)]| {
            RequestContext::of(&parts("127.0.0.1:1", headers), &[], 7).map(|context| context.host)
        };
        assert_eq!(of(&[("host", "[::1]:5000")]), Ok(Some("[::1]:5000".to_owned())));
        for hosts in [&[][..], &["a\"b"], &["a/b"], &["user@a"], &["a", "b"], &[""]] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(of(&headers), Err(ContextError::Host), "{hosts:?}");
        }
        let mut parts = parts("127.0.0.1:1", &[("host", "a")]);
        parts.extensions.clear();
        assert_eq!(RequestContext::of(&parts, &[], 7).err(), Some(ContextError::Peer));
    }
}
