//! Where the task endpoint listens, and how tasks reach it.
//!
//! 169.254.170.2 is added to the loopback interface, and the agent listens there on a port that is kept. Each
//! socket is bound to one device, the engine's bridge or the loopback, so that a packet from any other network
//! is not for it. A rule turns port 80 into that port: port 80 itself stays free for tasks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use registry_runtime::Shutdown;
use registry_runtime::listener::{Limits, serve};
use tokio::net::{TcpListener, TcpSocket};
use tokio::process::Command;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
const LOOPBACK: &str = "lo";
const BACKLOG: u32 = 256;
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// What was set up: the port is kept for the next start, the rules are taken away at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointAddress {
    pub(crate) port: u16,
    bridge: Option<String>,
}

/// Sets the address up and serves `router` on it; the error says what is missing.
pub(crate) async fn serve_at(
    kept_port: Option<u16>,
    bridge: Option<&str>,
    router: Router,
    shutdown: &Shutdown,
) -> Result<EndpointAddress, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("the agent is not root and cannot set the address 169.254.170.2".into());
    }
    add_address().await?;
    let mut listeners = listen(kept_port.unwrap_or(0), bridge);
    if listeners.is_err() && kept_port.is_some() {
        listeners = listen(0, bridge);
    }
    let listeners = listeners.map_err(|error| format!("169.254.170.2 could not be bound: {error}"))?;
    let port = listeners[0].local_addr().map_err(|error| error.to_string())?.port();
    let address = EndpointAddress { port, bridge: bridge.map(str::to_owned) };
    remove_stale_rules(&address).await?;
    for rule in address.rules() {
        rule.put_in_place().await?;
    }
    for listener in listeners {
        tokio::spawn(serve(listener, router.clone(), Limits::default(), shutdown.clone()));
    }
    Ok(address)
}

impl EndpointAddress {
    /// For the bridge, and for tasks on the host's network.
    fn rules(&self) -> Vec<Rule> {
        let output = Rule { device: None, port: self.port };
        let bridge = self.bridge.clone().map(|bridge| Rule { device: Some(bridge), port: self.port });
        std::iter::once(output).chain(bridge).collect()
    }

    /// Takes the rules away when the agent ends.
    pub(crate) async fn remove(&self) {
        for rule in self.rules() {
            if let Err(why) = rule.remove().await {
                tracing::warn!(reason = why, "a rule for 169.254.170.2 could not be removed");
            }
        }
    }
}

/// Leads 169.254.170.2:80 to a port, for what comes from a device, or from the host itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    device: Option<String>,
    port: u16,
}

impl Rule {
    /// Reads a line of `iptables -S`; none when the rule is another one.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).copied()
        };
        let port = after("--to-destination")?.strip_prefix("169.254.170.2:")?.parse().ok()?;
        let device = match after("-A")? {
            "OUTPUT" => None,
            "PREROUTING" => Some(after("-i")?.to_owned()),
            _ => return None,
        };
        (after("-d") == Some("169.254.170.2/32")).then_some(Self { device, port })
    }

    async fn put_in_place(&self) -> Result<(), String> {
        if self.run("-C").await? || self.run("-I").await? {
            return Ok(());
        }
        Err(format!("iptables refused the rule that leads 169.254.170.2:80 to port {}", self.port))
    }

    async fn remove(&self) -> Result<(), String> {
        self.run("-D").await.map(drop)
    }

    async fn run(&self, action: &str) -> Result<bool, String> {
        let target = format!("169.254.170.2:{}", self.port);
        let mut words = vec!["-w", "-t", "nat", action];
        match &self.device {
            Some(device) => words.extend(["PREROUTING", "-i", device]),
            None => words.push("OUTPUT"),
        }
        words.extend([
            "-d",
            "169.254.170.2/32",
            "-p",
            "tcp",
            "--dport",
            "80",
            "-j",
            "DNAT",
            "--to-destination",
            &target,
        ]);
        Ok(command("iptables", &words).await?.0)
    }

    /// Nobody will ever answer there: left by an agent that was killed.
    fn is_stale(&self, own: &EndpointAddress) -> bool {
        match &self.device {
            Some(device) if Some(device) == own.bridge.as_ref() => self.port != own.port,
            Some(device) => !Path::new("/sys/class/net").join(device).exists(),
            None => self.port != own.port && bind(self.port, LOOPBACK).is_ok(),
        }
    }
}

async fn remove_stale_rules(own: &EndpointAddress) -> Result<(), String> {
    let (_, listed) = command("iptables", &["-w", "-t", "nat", "-S"]).await?;
    for rule in listed.lines().filter_map(Rule::parse).filter(|rule| rule.is_stale(own)) {
        rule.remove().await?;
    }
    Ok(())
}

fn listen(port: u16, bridge: Option<&str>) -> io::Result<Vec<TcpListener>> {
    let first = bind(port, bridge.unwrap_or(LOOPBACK))?;
    let port = first.local_addr()?.port();
    let mut listeners = vec![first];
    if bridge.is_some() {
        listeners.push(bind(port, LOOPBACK)?);
    }
    Ok(listeners)
}

fn bind(port: u16, device: &str) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.bind(SocketAddr::from((ADDRESS, port)))?;
    socket.listen(BACKLOG)
}

async fn add_address() -> Result<(), String> {
    if std::net::UdpSocket::bind((ADDRESS, 0)).is_ok() {
        return Ok(());
    }
    let (added, _) = command("ip", &["addr", "add", "169.254.170.2/32", "dev", LOOPBACK]).await?;
    if added { Ok(()) } else { Err("`ip addr add 169.254.170.2/32 dev lo` failed".into()) }
}

/// Whether a command succeeded, and what it said; an error when there is no such command.
async fn command(program: &str, arguments: &[&str]) -> Result<(bool, String), String> {
    let run = Command::new(program).args(arguments).kill_on_drop(true).output();
    match tokio::time::timeout(COMMAND_TIME, run).await {
        Ok(Ok(output)) => Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())),
        Ok(Err(error)) => Err(format!("{program} could not be run: {error}")),
        Err(_) => Err(format!("{program} did not end")),
    }
}

#[cfg(test)]
mod tests {
    use super::Rule;

    #[test]
    fn rules_of_agents_are_told_from_others() {
        let own = "-A PREROUTING -d 169.254.170.2/32 -i docker0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 169.254.170.2:4000";
        assert_eq!(Rule::parse(own), Some(Rule { device: Some("docker0".into()), port: 4000 }));
        let output = "-A OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 169.254.170.2:4000";
        assert_eq!(Rule::parse(output), Some(Rule { device: None, port: 4000 }));
        for other in [
            "-P OUTPUT ACCEPT",
            "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80",
            "-A PREROUTING -d 169.254.170.2/32 -i eth0 -p tcp -j DNAT --to-destination 127.0.0.1:51679",
        ] {
            assert_eq!(Rule::parse(other), None, "{other}");
        }
    }
}
