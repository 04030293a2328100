//! Connections to servers that somebody else names: only to public addresses, whatever a name resolves to.
//!
//! The address that was checked is the one that is connected to, so that a second answer of the name service changes
//! nothing. Hosts that the operator exempts may lie anywhere.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use super::TlsError;
use super::client::{Connecting, ConnectionError, Connector, Trust, client_config, explain};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a URL's host may lie anywhere.
type Exempt = Arc<dyn Fn(&Uri) -> bool + Send + Sync>;

/// Connects to public addresses, and to what is exempt. Cheap to clone.
#[derive(Clone)]
pub struct CheckedConnector {
    anywhere: Connector,
    public: HttpsConnector<HttpConnector<PublicAddresses>>,
    exempt: Exempt,
}

impl CheckedConnector {
    /// # Errors
    /// When there are no certificates to trust.
    pub fn new(
        trust: &Trust,
        exempt: impl Fn(&Uri) -> bool + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let config = client_config()?.with_root_certificates(trust.roots()?).with_no_client_auth();
        let mut http = HttpConnector::new_with_resolver(PublicAddresses);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_nodelay(true);
        http.enforce_http(false);
        Ok(Self {
            anywhere: Connector::with_config(config.clone()),
            public: HttpsConnector::from((http, config)),
            exempt: Arc::new(exempt),
        })
    }
}

impl Service<Uri> for CheckedConnector {
    type Response = super::Stream;
    type Error = ConnectionError;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.anywhere.poll_ready(context)
    }

    fn call(&mut self, url: Uri) -> Connecting {
        if (self.exempt)(&url) {
            return self.anywhere.call(url);
        }
        // An address is resolved by nobody, and so it is checked here.
        let literal = url.host().map(|host| host.trim_start_matches('[').trim_end_matches(']'));
        if let Some(address) = literal.and_then(|host| host.parse::<IpAddr>().ok())
            && !is_public(address)
        {
            let refused = ConnectionError::new(not_public(&address.to_string()));
            return Box::pin(std::future::ready(Err(refused)));
        }
        let connecting = self.public.call(url.clone());
        Box::pin(
            async move { connecting.await.map_err(|error| ConnectionError::new(explain(&url, &*error))) },
        )
    }
}

fn not_public(host: &str) -> String {
    format!("{host} is not a public address, and the configuration does not allow it")
}

/// Resolves names to the public ones among their addresses.
#[derive(Clone)]
struct PublicAddresses;

type Resolving = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

impl Service<Name> for PublicAddresses {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, not_public(name.as_str())));
            }
            Ok(public.into_iter())
        })
    }
}

/// Whether an address is one of the public internet, in whatever way it is written.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match a {
        // This network, private ones, loopback, multicast, reserved.
        0 | 10 | 127 | 224..=255 => true,
        // Shared addresses of carriers (RFC 6598).
        100 => (64..128).contains(&b),
        // Link-local, where clouds keep credentials.
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => (b, c) == (0, 0) || (b, c) == (0, 2) || (b, c) == (88, 99) || b == 168,
        198 => b == 18 || b == 19 || (b, c) == (51, 100),
        203 => (b, c) == (0, 113),
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // NAT64 and 6to4 lead to an address of IPv4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Teredo, ORCHID, benchmarks, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // All that was given out for use lies in 2000::/3.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use http::Uri;
    use tower::Service;

    use super::{CheckedConnector, PublicAddresses, is_public};
    use crate::tls::Trust;

    #[test]
    fn special_addresses_are_not_public_however_they_are_written() {
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "169.253.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.1.1",
            "198.17.0.1",
            "203.0.112.1",
            "223.255.255.255",
            "2600::1",
            "2001:4860:4860::8888",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn names_and_addresses_of_this_machine_are_refused_unless_exempt() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let exempt = |url: &Uri| url.path() == "/exempt";
        let mut connector = CheckedConnector::new(&Trust::system(), exempt).unwrap();
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
            let url: Uri = format!("http://{host}:{port}/").parse().unwrap();
            let refused = connector.call(url).await.err().unwrap();
            assert!(refused.to_string().contains("is not a public address"), "{host}: {refused}");
        }
        // What std reads in other ways of writing an address is a name for the resolver, or no URL.
        for host in ["2130706433", "0x7f.1", "127.1", "0177.0.0.1"] {
            let Ok(url) = format!("http://{host}:{port}/").parse::<Uri>() else { continue };
            assert!(connector.call(url).await.is_err(), "{host}");
        }
        let url: Uri = format!("http://127.0.0.1:{port}/exempt").parse().unwrap();
        assert!(connector.call(url).await.is_ok());
    }

    #[tokio::test]
    async fn a_name_without_a_public_address_resolves_to_nothing() {
        let mut resolver = PublicAddresses;
        let ready = std::future::poll_fn(|context| match resolver.poll_ready(context) {
            Poll::Ready(ready) => Poll::Ready(ready),
            Poll::Pending => Poll::Pending,
        });
        ready.await.unwrap();
        let error = resolver.call("localhost".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
}
