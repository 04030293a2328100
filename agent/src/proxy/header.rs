//! The header of the PROXY protocol (haproxy.org, `proxy-protocol.txt`, sections 2.1 and 2.2): the client's address,
//! ahead of the connection's own bytes.

use std::net::{IpAddr, SocketAddr};

use scheduler_protocol::ProxyProtocol;

const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;
const V2_TCP_OVER_IPV4: u8 = 0x11;
const V2_TCP_OVER_IPV6: u8 = 0x21;

/// The header for a connection from `client` to `own`, the address that it was made to.
pub(super) fn header(version: ProxyProtocol, client: SocketAddr, own: SocketAddr) -> Vec<u8> {
    let (client_ip, own_ip) = match (client.ip().to_canonical(), own.ip().to_canonical()) {
        // Both are of one family in the header.
        (IpAddr::V4(client), IpAddr::V6(own)) => (IpAddr::V6(client.to_ipv6_mapped()), IpAddr::V6(own)),
        (IpAddr::V6(client), IpAddr::V4(own)) => (IpAddr::V6(client), IpAddr::V6(own.to_ipv6_mapped())),
        both => both,
    };
    match version {
        ProxyProtocol::V1 => {
            let family = if client_ip.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {client_ip} {own_ip} {} {}\r\n", client.port(), own.port()).into_bytes()
        }
        ProxyProtocol::V2 => {
            let mut addresses = Vec::with_capacity(36);
            let family = match (client_ip, own_ip) {
                (IpAddr::V4(client), IpAddr::V4(own)) => {
                    addresses.extend(client.octets());
                    addresses.extend(own.octets());
                    V2_TCP_OVER_IPV4
                }
                (client, own) => {
                    for ip in [client, own] {
                        let ip = match ip {
                            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                            IpAddr::V6(ip) => ip,
                        };
                        addresses.extend(ip.octets());
                    }
                    V2_TCP_OVER_IPV6
                }
            };
            addresses.extend(client.port().to_be_bytes());
            addresses.extend(own.port().to_be_bytes());
            let length = u16::try_from(addresses.len()).expect("addresses have 12 or 36 bytes");
            let mut header = V2_SIGNATURE.to_vec();
            header.extend([V2_PROXY, family]);
            header.extend(length.to_be_bytes());
            header.extend(addresses);
            header
        }
    }
}

#[cfg(test)]
mod tests {
    use scheduler_protocol::ProxyProtocol;

    use super::header;

    #[test]
    fn headers_are_as_the_specification_writes_them() {
        let of =
            |version, client: &str, own: &str| header(version, client.parse().unwrap(), own.parse().unwrap());
        assert_eq!(
            of(ProxyProtocol::V1, "192.0.2.1:5000", "198.51.100.2:80"),
            b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\r\n"
        );
        assert_eq!(
            of(ProxyProtocol::V1, "[2001:db8::1]:5000", "[::1]:80"),
            b"PROXY TCP6 2001:db8::1 ::1 5000 80\r\n"
        );
        let v2 = of(ProxyProtocol::V2, "[::ffff:192.0.2.1]:5000", "198.51.100.2:80");
        assert_eq!(hex::encode(v2), "0d0a0d0a000d0a515549540a2111000cc0000201c633640213880050");
        let v2 = of(ProxyProtocol::V2, "[2001:db8::1]:5000", "[::1]:80");
        assert_eq!((v2.len(), v2[13], v2[15]), (52, 0x21, 36));
    }
}
