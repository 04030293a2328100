//! Where the server listens, what is spoken there, and which of its addresses it names to whom.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use registry_runtime::listener::bind;
use registry_runtime::tls::own_addresses;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::net::TcpListener;

use crate::config::Config;

/// The key `listen`: one `ADDRESS:PORT` or several, as a list or with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Vec<String>);

/// The key `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsMode {
    Auto,
    Files,
    Off,
}

/// Which certificate the listeners show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    /// Of a CA of the server's own.
    Own,
    Files {
        certificate: PathBuf,
        key: PathBuf,
        ca: Option<PathBuf>,
    },
}

/// Every port that is served, bound.
pub(crate) struct Bound {
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Listen {
    /// The addresses; a name such as `localhost` stands for its first.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let mut all = Vec::new();
        for text in &self.0 {
            let resolved =
                text.to_socket_addrs().with_context(|| format!("listen: {text} is not ADDRESS:PORT"));
            let address = resolved?.next().with_context(|| format!("listen: {text} has no address"))?;
            if !all.contains(&address) || address.port() == 0 {
                all.push(address);
            }
        }
        if all.is_empty() {
            bail!("listen: no address is given");
        }
        Ok(all)
    }
}

impl Tls {
    /// What the configuration asks for on these addresses.
    pub(crate) fn of(config: &Config, addresses: &[SocketAddr]) -> Result<Self> {
        let all_loopback = addresses.iter().all(|address| address.ip().is_loopback());
        let files = [&config.tls_cert, &config.tls_key, &config.tls_ca];
        let named = files.iter().any(|file| file.is_some());
        // A server behind a proxy, or one that shall speak in clear: TLS there has to be asked for.
        let mode = config.tls.unwrap_or(if config.plain_http { TlsMode::Off } else { TlsMode::Auto });
        if named && mode != TlsMode::Files {
            bail!("tls_cert, tls_key and tls_ca are for tls = \"files\"");
        }
        match mode {
            TlsMode::Auto if all_loopback => Ok(Self::Off),
            TlsMode::Auto => Ok(Self::Own),
            TlsMode::Off if all_loopback || config.plain_http => Ok(Self::Off),
            TlsMode::Off => bail!(
                "listen is not loopback alone, and credentials would cross the network in clear: leave `tls` out or \
                 set tls = \"files\", listen on 127.0.0.1, or set plain_http = true (then password and token logins \
                 are refused but from a trusted proxy)"
            ),
            TlsMode::Files => match (&config.tls_cert, &config.tls_key) {
                (Some(certificate), Some(key)) => Ok(Self::Files {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    ca: config.tls_ca.clone(),
                }),
                _ => bail!("tls = \"files\" needs tls_cert and tls_key, the paths of two PEM files"),
            },
        }
    }
}

impl Bound {
    /// Takes every address, and one of loopback where none is among them: for this machine's agent and commands.
    pub(crate) async fn take(addresses: &[SocketAddr]) -> Result<Self> {
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(bind(*address).await?);
        }
        let on_this_machine =
            |address: &SocketAddr| address.ip().is_loopback() || address.ip().is_unspecified();
        if !addresses.iter().any(on_this_machine) {
            let same_port = SocketAddr::from((Ipv4Addr::LOCALHOST, addresses[0].port()));
            let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let own = match bind(same_port).await {
                Ok(own) => own,
                Err(_) => bind(any_port).await?,
            };
            listeners.push(own);
        }
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        Ok(Self { listeners, addresses })
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.addresses.iter().map(SocketAddr::port).collect()
    }

    /// `http://ADDRESS:PORT` for what runs on this machine: in clear, because it never leaves it.
    pub(crate) fn local_url(&self) -> String {
        let loopback = self.addresses.iter().find(|address| address.ip().is_loopback());
        let address = loopback.copied().unwrap_or_else(|| {
            let any = self.addresses[0];
            let ip =
                if any.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            SocketAddr::new(ip, any.port())
        });
        format!("http://{address}")
    }

    /// The URL that other machines are told; `None` when none can reach this one.
    pub(crate) fn public_url(&self, config: &Config, tls: &Tls) -> Option<String> {
        let secure = *tls != Tls::Off || !config.trusted_proxies.is_empty();
        if let Some(advertise) = &config.advertise {
            return Some(registry_runtime::base_url(secure, advertise));
        }
        let address = self.addresses.iter().find(|address| !address.ip().is_loopback())?;
        let ip =
            if address.ip().is_unspecified() { primary_address(address.is_ipv4())? } else { address.ip() };
        Some(registry_runtime::base_url(*tls != Tls::Off, &SocketAddr::new(ip, address.port()).to_string()))
    }
}

/// Binds addresses that serve something of their own.
pub(crate) async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(bind(*address).await?);
    }
    Ok(listeners)
}

/// The address that this machine uses towards others.
fn primary_address(four: bool) -> Option<IpAddr> {
    // Nothing is sent: connecting a UDP socket only chooses the route.
    let routed = || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let all = own_addresses();
    let of_family = || all.iter().find(|address| address.is_ipv4() == four).copied();
    // A socket for IPv6 takes IPv4 too.
    routed().or_else(of_family).or_else(|| all.first().copied())
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ADDRESS:PORT, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
                let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
                Ok(Listen(all.map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Listen, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(Listen(all))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

#[cfg(test)]
mod tests {
    use super::{Listen, Tls, TlsMode};
    use crate::config::Config;

    fn config(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        registry_runtime::config::load_from(Some(file.path()), "BERTH_", &|_| None).unwrap()
    }

    fn tls(text: &str) -> Result<Tls, String> {
        let config = config(text);
        Tls::of(&config, &config.listen.addresses().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_address_or_several_are_read_from_file_and_environment() {
        let several = Listen(vec!["0.0.0.0:443".to_owned(), "127.0.0.1:5000".to_owned()]);
        assert_eq!(config("listen = [\"0.0.0.0:443\", \"127.0.0.1:5000\"]").listen, several);
        let from_environment =
            |name: &str| (name == "BERTH_LISTEN").then(|| "0.0.0.0:443,127.0.0.1:5000".to_owned());
        let loaded: Config = registry_runtime::config::load_from(None, "BERTH_", &from_environment).unwrap();
        assert_eq!(loaded.listen, several);
        assert_eq!(config("listen = \"127.0.0.1:1\"").listen, Listen(vec!["127.0.0.1:1".to_owned()]));
        for wrong in ["", "nowhere", "127.0.0.1"] {
            assert!(Listen(vec![wrong.to_owned()]).addresses().is_err(), "{wrong}");
        }
        assert!(Listen(Vec::new()).addresses().is_err());
    }

    #[test]
    fn what_leaves_this_machine_is_encrypted_unless_somebody_said_otherwise() {
        let outside = "listen = [\"127.0.0.1:1\", \"192.0.2.1:2\"]\n";
        for (text, expected) in [
            ("", Tls::Off),
            ("tls = \"auto\"", Tls::Off),
            (outside, Tls::Own),
            (&format!("{outside}plain_http = true"), Tls::Off),
            (&format!("{outside}plain_http = true\ntls = \"auto\""), Tls::Own),
            (&format!("{outside}plain_http = true\ntls = \"off\""), Tls::Off),
            (
                "tls = \"files\"\ntls_cert = \"/c\"\ntls_key = \"/k\"",
                Tls::Files { certificate: "/c".into(), key: "/k".into(), ca: None },
            ),
        ] {
            assert_eq!(tls(text), Ok(expected), "{text}");
        }
        for (text, message) in [
            (format!("{outside}tls = \"off\""), "plain_http"),
            (format!("{outside}tls = \"files\""), "needs tls_cert and tls_key"),
            (format!("{outside}tls_cert = \"/c\""), "are for tls = \"files\""),
        ] {
            assert!(tls(&text).unwrap_err().contains(message), "{text}");
        }
        assert_eq!(config("tls = \"files\"").tls, Some(TlsMode::Files));
    }
}
