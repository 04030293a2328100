//! Between servers: requests to the scheduler are passed on to the server that leads it.
//!
//! A request goes as it came, with its own credentials, over mutual TLS to the leader's `peer_listen`, and with what
//! only the first server knows of it: the client's address, how it was connected, and up to which security generation
//! that server has read. Invariant: no decision travels. The leader catches up with the sender, then authenticates and
//! authorizes by itself; and a request that may have been received is never sent twice.

mod authority;
mod forward;
mod receive;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use policies_identity::Identity;
use registry_runtime::listener::{Transport, bind};
use registry_runtime::{Clock, Sealer, Shutdown};
use registry_sql::Database;
use rustls::ClientConfig;
use scheduler::Leader;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) use forward::pass_on;
pub(crate) use receive::router;

use crate::config::Settings;
use authority::Authority;

/// The headers of a request between servers. Nobody else may send them.
const SOURCE: &str = "x-berth-source";
const TRANSPORT: &str = "x-berth-transport";
const GENERATION: &str = "x-berth-security-generation";
const REQUEST_ID: &str = "x-berth-request-id";

/// The header of an answer between servers: who was proven to ask.
const PRINCIPAL: &str = "x-berth-principal";

/// The values of [`TRANSPORT`].
const OVER_TLS: &str = "tls";
const ON_THE_MACHINE: &str = "machine";
const IN_CLEAR: &str = "clear";

/// This server's place among the others: what it shows them, and where they reach it.
pub(crate) struct Place {
    listener: TcpListener,
    authority: Authority,
    /// `HOST:PORT` for the others.
    pub(crate) address: String,
}

impl Place {
    /// Takes the port of `peer_listen`, if there is one. The authority is made by the first server that needs it.
    pub(crate) async fn take(
        settings: &Settings,
        database: &Database,
        sealer: &Sealer,
        clock: &Clock,
    ) -> Result<Option<Place>> {
        let Some(listen) = settings.peer_listen()? else { return Ok(None) };
        let listener = bind(listen).await.context("peer_listen")?;
        let bound = listener.local_addr()?;
        let address = match &settings.config.peer_advertise {
            Some(address) => address.clone(),
            None if bound.ip().is_unspecified() => {
                bail!(
                    "peer_listen is every address of this machine: say in peer_advertise, HOST:PORT, where the others reach it"
                )
            }
            None => bound.to_string(),
        };
        let authority =
            Authority::open(database, sealer, clock).await.context("the authority of the servers")?;
        Ok(Some(Place { listener, authority, address }))
    }

    /// What other servers are served with.
    pub(crate) fn serve(self) -> Result<((TcpListener, Transport), Caller)> {
        let (config, client) = self.authority.configurations()?;
        Ok(((self.listener, Transport::Tls { config, plain: false }), Caller(client)))
    }
}

/// Calls other servers.
#[derive(Clone)]
pub(crate) struct Caller(Arc<ClientConfig>);

/// What passes requests on.
pub(crate) struct Peers {
    pub(crate) leader: watch::Receiver<Leader>,
    /// None without `peer_listen`.
    pub(crate) caller: Option<Caller>,
    pub(crate) identity: Identity,
    pub(crate) shutdown: Shutdown,
}

/// `ADDRESS:PORT`.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr> {
    use std::net::ToSocketAddrs;
    let mut addresses =
        text.to_socket_addrs().with_context(|| format!("peer_listen: {text} is not ADDRESS:PORT"))?;
    addresses.next().with_context(|| format!("peer_listen: {text} has no address"))
}
