//! Where the task endpoint listens, and how tasks reach it.
//!
//! 169.254.170.2 is added to the loopback interface, and the agent listens there on a port that is kept. Each
//! socket is bound to one device, the engine's bridge or the loopback, so that a packet from any other network
//! is not for it. A rule turns port 80 into that port: port 80 itself stays free for tasks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
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

/// What was set up, to be kept for the next start of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointAddress {
    pub(crate) port: u16,
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
    if let Some(old) = kept_port.filter(|old| *old != port) {
        redirect(bridge, old, false).await?;
    }
    redirect(bridge, port, true).await?;
    for listener in listeners {
        tokio::spawn(serve(listener, router.clone(), Limits::default(), shutdown.clone()));
    }
    Ok(EndpointAddress { port })
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
    let added = command("ip", &["addr", "add", "169.254.170.2/32", "dev", LOOPBACK]).await?;
    if added { Ok(()) } else { Err("`ip addr add 169.254.170.2/32 dev lo` failed".into()) }
}

/// Puts the rules for the bridge and for tasks on the host's network in place, or takes them away.
async fn redirect(bridge: Option<&str>, port: u16, wanted: bool) -> Result<(), String> {
    let target = format!("169.254.170.2:{port}");
    let rule =
        ["-d", "169.254.170.2/32", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", &target];
    let mut chains = vec![vec!["OUTPUT"]];
    if let Some(bridge) = bridge {
        chains.push(vec!["PREROUTING", "-i", bridge]);
    }
    for chain in chains {
        let with = |action| {
            let mut words = vec!["-w", "-t", "nat", action];
            words.extend(&chain);
            words.extend(rule);
            words
        };
        let there = command("iptables", &with("-C")).await?;
        let done = match (wanted, there) {
            (true, false) => command("iptables", &with("-I")).await?,
            (false, true) => command("iptables", &with("-D")).await?,
            _ => true,
        };
        if !done {
            return Err(format!("iptables refused the rule that leads 169.254.170.2:80 to port {port}"));
        }
    }
    Ok(())
}

/// Whether a command succeeded; an error when there is no such command.
async fn command(program: &str, arguments: &[&str]) -> Result<bool, String> {
    let run = Command::new(program).args(arguments).kill_on_drop(true).output();
    match tokio::time::timeout(COMMAND_TIME, run).await {
        Ok(Ok(output)) => Ok(output.status.success()),
        Ok(Err(error)) => Err(format!("{program} could not be run: {error}")),
        Err(_) => Err(format!("{program} did not end")),
    }
}
