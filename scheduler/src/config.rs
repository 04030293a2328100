//! What the scheduler is told at start.

use std::time::Duration;

use registry_types::{AccountId, Region};

#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    pub account_id: AccountId,
    pub region: Region,
    /// `HOST[:PORT]` that agents are sent to; absent: the Host that each used.
    pub advertise: Option<String>,
    /// Base URL under which other machines find this server, if they can at all.
    pub endpoint: Option<String>,
    /// SHA-256 of the server's CA certificate, in hexadecimal; join tokens carry it.
    pub ca_fingerprint: Option<String>,
    /// That certificate, PEM, for agents that cannot look for it by its hash.
    pub ca_certificate: Option<String>,
    /// For one of several servers of a database: where the others reach it, `HOST:PORT`, or nothing when they cannot.
    /// Absent for the only one.
    pub peer_address: Option<String>,
    /// An instance that is silent for so long is lost.
    pub lease: Duration,
    /// How long stopped tasks stay visible.
    pub keep_stopped_tasks: Duration,
}

impl SchedulerConfig {
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
    pub const DEFAULT_KEEP_STOPPED_TASKS: Duration = Duration::from_secs(3 * 24 * 3600);

    pub fn new(account_id: AccountId, region: Region) -> Self {
        Self {
            account_id,
            region,
            advertise: None,
            endpoint: None,
            ca_fingerprint: None,
            ca_certificate: None,
            peer_address: None,
            lease: Self::DEFAULT_LEASE,
            keep_stopped_tasks: Self::DEFAULT_KEEP_STOPPED_TASKS,
        }
    }
}
