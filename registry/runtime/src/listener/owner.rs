//! Who holds a port: what an operator wants to know when it is taken.
//!
//! From /proc, as far as this user may look: other users' programs show their user only.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const LISTENING: &str = "0A";

/// `docker-registry (pid 4711)`, or as much as can be known; `None` when nobody is found.
pub fn owner_of(address: SocketAddr) -> Option<String> {
    let (inode, user) = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| table.lines().skip(1).find_map(|line| socket(line, address)))?;
    let unknown = || format!("a program of user {user}, whose name only root can see");
    Some(process(&format!("socket:[{inode}]")).unwrap_or_else(unknown))
}

/// Inode and user of a line of /proc/net/tcp that listens where `address` would.
fn socket(line: &str, address: SocketAddr) -> Option<(String, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state) = (fields.get(1)?, fields.get(3)?);
    let (ip, port) = local.split_once(':')?;
    if *state != LISTENING || u16::from_str_radix(port, 16).ok()? != address.port() {
        return None;
    }
    let ip = parse(ip)?.to_canonical();
    let overlaps = ip.is_unspecified() || address.ip().is_unspecified() || ip == address.ip().to_canonical();
    overlaps.then(|| Some(((*fields.get(9)?).to_owned(), (*fields.get(7)?).to_owned())))?
}

/// The kernel writes addresses as words of 32 bits in the machine's own order.
fn parse(hex: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = (0..hex.len() / 8)
        .map(|index| u32::from_str_radix(hex.get(index * 8..index * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    match <[[u8; 4]; 4]>::try_from(words.as_slice()) {
        Ok(six) => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(six.concat()).ok()?))),
        Err(_) => words.first().map(|four| IpAddr::V4(Ipv4Addr::from(*four))),
    }
}

/// The program that has `socket` open.
fn process(socket: &str) -> Option<String> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = |path: &std::path::Path| fs::read_link(path).is_ok_and(|link| link.as_os_str() == socket);
        if files.flatten().any(|file| holds(&file.path())) {
            let program = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", program.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_traced_to_its_process() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let taken = listener.local_addr().unwrap();
            let mut wildcard = taken;
            wildcard.set_ip(if taken.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) });
            for address in [taken, wildcard] {
                let owner = owner_of(address).unwrap();
                assert!(owner.ends_with(&format!("(pid {})", std::process::id())), "{address}: {owner}");
            }
            drop(listener);
            assert_eq!(owner_of(taken), None);
        }
    }
}
