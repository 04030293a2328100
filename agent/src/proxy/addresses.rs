//! Where this host's addresses are: on which it listens for services, and at which others reach its tasks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use url::Url;

use crate::config::AgentSettings;

/// Of a network that is nobody's (RFC 5737): the route to it is the default one. Nothing is sent there.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// On which services of the cluster are listened for.
    pub(crate) listen: Vec<IpAddr>,
    /// At which other hosts reach the ports of this host's tasks.
    pub(crate) own: IpAddr,
    /// Of this host on the network of its containers.
    pub(crate) gateway: Option<IpAddr>,
}

impl Addresses {
    /// As configured; else this host's address on the way to the server.
    pub(crate) async fn find(settings: &AgentSettings, server_url: &str, gateway: Option<IpAddr>) -> Self {
        let own = match settings.address {
            Some(address) => address,
            None => towards(server_url).await,
        };
        Self { listen: settings.listen_addresses.clone(), own, gateway }
    }

    /// Every address to bind for a service's port: the configured ones, and the one that containers know.
    pub(super) fn to_bind(&self) -> BTreeSet<IpAddr> {
        let mut all: BTreeSet<IpAddr> = self.listen.iter().copied().collect();
        if let Some(gateway) = self.gateway.filter(|gateway| !self.covers(*gateway)) {
            all.insert(gateway);
        }
        all
    }

    fn covers(&self, address: IpAddr) -> bool {
        let any = |one: &IpAddr| one.is_unspecified() && one.is_ipv4() == address.is_ipv4();
        self.listen.iter().any(|one| any(one) || *one == address)
    }

    /// The address under which tasks of this host find services.
    pub(super) fn for_tasks(&self, on_host_network: bool) -> IpAddr {
        let specific = || self.listen.iter().copied().find(|one| !one.is_unspecified());
        match self.gateway {
            Some(gateway) if !on_host_network => gateway,
            _ => specific().unwrap_or(Ipv4Addr::LOCALHOST.into()),
        }
    }

    /// Whether what another host says of itself is to be believed: a loopback address means this machine, and only
    /// hosts that share one may say so.
    pub(super) fn may_reach(&self, address: IpAddr) -> bool {
        let special = match address {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        !special
            && !address.is_unspecified()
            && !address.is_multicast()
            && (!address.is_loopback() || self.own.is_loopback())
    }
}

/// The address of this host from which packets to the server leave.
async fn towards(server_url: &str) -> IpAddr {
    let url = Url::parse(server_url).ok();
    let place = url.as_ref().and_then(|url| {
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some((host, url.port_or_known_default().unwrap_or(ANYWHERE.port())))
    });
    let found = match place {
        Some(place) => tokio::net::lookup_host(place).await.ok().and_then(|mut found| found.next()),
        None => None,
    };
    // A server that listens everywhere is on this machine, and may have hosts elsewhere.
    let server = found.filter(|server| !server.ip().is_unspecified());
    server.and_then(source_towards).or_else(|| source_towards(ANYWHERE)).unwrap_or(Ipv4Addr::LOCALHOST.into())
}

fn source_towards(place: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if place.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(place).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Addresses, towards};

    fn addresses(own: &str, listen: &[&str]) -> Addresses {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        Addresses {
            listen: listen.iter().map(|text| ip(text)).collect(),
            own: ip(own),
            gateway: Some(ip("172.17.0.1")),
        }
    }

    #[test]
    fn containers_can_reach_what_is_bound() {
        let everywhere = addresses("10.0.0.1", &["0.0.0.0", "::"]);
        assert_eq!(everywhere.to_bind().len(), 2);
        assert_eq!(everywhere.for_tasks(false).to_string(), "172.17.0.1");
        assert_eq!(everywhere.for_tasks(true).to_string(), "127.0.0.1");
        let one = addresses("10.0.0.1", &["10.0.0.1"]);
        assert_eq!(one.to_bind().len(), 2);
        assert_eq!(one.for_tasks(true).to_string(), "10.0.0.1");
    }

    #[test]
    fn no_host_leads_another_to_itself_or_to_its_neighbours() {
        let host = addresses("10.0.0.1", &["0.0.0.0"]);
        let may = |host: &Addresses, text: &str| host.may_reach(text.parse().unwrap());
        assert!(may(&host, "10.0.0.2"));
        for refused in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "::",
        ] {
            assert!(!may(&host, refused), "{refused}");
        }
        assert!(may(&addresses("127.0.0.2", &["127.0.0.2"]), "127.0.0.3"));
    }

    #[tokio::test]
    async fn a_host_is_where_the_server_sees_it() {
        assert_eq!(towards("http://127.0.0.1:5000").await.to_string(), "127.0.0.1");
        assert_eq!(towards("https://[::1]:5000").await.to_string(), "::1");
    }
}
