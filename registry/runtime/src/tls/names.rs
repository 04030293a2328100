//! The names and addresses that a server's certificate is for.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::TlsError;

/// More addresses than any certificate should list: a machine with many networks names its own with `advertise`.
const MOST_ADDRESSES: usize = 64;

/// A host name or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateName {
    Host(String),
    Address(IpAddr),
}

impl CertificateName {
    /// `HOST`, `HOST:PORT`, `ADDRESS`, `[ADDRESS]:PORT`: the port is left out.
    pub fn parse(text: &str) -> Result<CertificateName, TlsError> {
        if let Ok(address) = text.parse() {
            return Ok(CertificateName::Address(address));
        }
        let host = match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => text,
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(CertificateName::Address(address));
        }
        let is_name = (1..=253).contains(&host.len())
            && host.split('.').all(|label| (1..=63).contains(&label.len()))
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if !is_name {
            return Err(TlsError::Name(text.to_owned()));
        }
        Ok(CertificateName::Host(host.to_ascii_lowercase()))
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateName::Host(host) => f.write_str(host),
            CertificateName::Address(address) => address.fmt(f),
        }
    }
}

/// What a certificate is to be for.
#[derive(Clone, Debug)]
pub struct CertificateNames {
    /// Always in it; this machine's own name and loopback are added.
    pub names: Vec<CertificateName>,
    /// Whether every address that this machine has is in it too, whatever it has at the moment.
    pub every_address: bool,
}

impl CertificateNames {
    /// All names as of now.
    pub fn now(&self) -> BTreeSet<CertificateName> {
        let mut all: BTreeSet<CertificateName> = self.names.iter().cloned().collect();
        all.insert(CertificateName::Host("localhost".to_owned()));
        all.extend(
            [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(CertificateName::Address),
        );
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // A host whose name cannot be in a certificate is reached by its addresses.
        all.extend(CertificateName::parse(&host));
        if self.every_address {
            all.extend(own_addresses().into_iter().take(MOST_ADDRESSES).map(CertificateName::Address));
        }
        all
    }
}

/// The addresses of this machine, without loopback and what holds on one link only.
pub fn own_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "this machine's addresses are not known, and not in its certificate");
        Vec::new()
    });
    let global = |address: &IpAddr| match address {
        IpAddr::V4(four) => !four.is_loopback() && !four.is_link_local(),
        IpAddr::V6(six) => !six.is_loopback() && !six.is_unicast_link_local(),
    };
    interfaces.into_iter().map(|interface| interface.ip()).filter(global).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_left_out_and_nonsense_is_refused() {
        for (text, name) in [
            ("registry.example:443", "registry.example"),
            ("Registry.Example", "registry.example"),
            ("192.0.2.1:5000", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]:5000", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(CertificateName::parse(text).unwrap().to_string(), name, "{text}");
        }
        for text in ["", "a b", "a..b", "https://a", "a/b", ":5000", "ä.example"] {
            assert!(CertificateName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn this_machine_is_always_meant() {
        let names =
            CertificateNames { names: vec![CertificateName::Host("a.example".into())], every_address: false };
        let all: Vec<String> = names.now().iter().map(ToString::to_string).collect();
        for expected in ["a.example", "localhost", "127.0.0.1", "::1"] {
            assert!(all.iter().any(|name| name == expected), "{all:?}");
        }
    }
}
