//! How the store is: its replicas, what they are owed, the walk, and what is open.

use std::time::Duration;

use registry_blob::ReplicaId;
use registry_metadata::replicas::{self, ReplicaState};
use registry_metadata::scrubs::{self, FindingKind, Scrub};
use registry_metadata::{candidates, garbage, repairs};

use super::{Upkeep, told};
use crate::error::CoreError;

/// Counts go no further than this: a status costs the same whatever is stored.
const MOST: u32 = 10_000;
/// What a replica may take to say that it is there.
pub(super) const PROBE: Duration = Duration::from_secs(2);
pub(super) const SILENT: &str = "it does not answer";
pub(super) const LATE: &str = "it answered too late";

#[derive(Clone, Debug)]
pub struct StoreStatus {
    pub write_quorum: usize,
    pub replicas: Vec<ReplicaStatus>,
    pub scrub: Option<Scrub>,
    /// Findings that are not repaired, by kind, counted up to 10,000.
    pub open_findings: Vec<(FindingKind, u64)>,
    /// What the collector is to look at, counted up to 10,000 links and as many digests.
    pub candidates: u64,
}

#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    pub id: String,
    pub location: String,
    pub state: ReplicaState,
    /// Why it cannot be used at the moment.
    pub problem: Option<String>,
    /// Repairs it is owed, counted up to 10,000.
    pub repairs: u64,
    /// Objects that went while it was away, and that it deletes when it is back, counted up to 10,000.
    pub removals: u64,
    /// What stopped the last repair that did not work.
    pub repair_problem: Option<String>,
    /// How much of everything was queued for it since it was added, from 0 to 1; `None` when all is.
    pub backfilled: Option<f64>,
}

/// What a replica has not done yet.
struct Owed {
    repairs: u64,
    repair_problem: Option<String>,
    removals: u64,
}

impl Upkeep {
    /// # Errors
    /// The database's.
    pub async fn status(&self) -> Result<StoreStatus, CoreError> {
        let metadata = &self.registry.inner.metadata;
        let (rows, scrub, open_findings, candidates) = metadata
            .read(|tx| {
                let mut rows = Vec::new();
                for row in replicas::all(tx)? {
                    let owed = Owed {
                        repairs: repairs::count(tx, &row.id, MOST)?,
                        repair_problem: repairs::problem(tx, &row.id)?,
                        removals: garbage::count_removals(tx, &row.id, MOST)?,
                    };
                    rows.push((row, owed));
                }
                let mut open = Vec::new();
                for kind in FindingKind::ALL {
                    open.push((kind, scrubs::count_open(tx, kind, MOST)?));
                }
                Ok::<_, CoreError>((rows, scrubs::get(tx)?, open, candidates::count(tx, MOST)?))
            })
            .await?;
        let set = self.registry.inner.content.replicas();
        let mut found = Vec::new();
        for (row, owed) in rows {
            let Some(location) = row.location else { continue };
            let id = ReplicaId::new(&row.id);
            let problem = match set.store(&id) {
                None => Some("this server does not use it yet".to_owned()),
                Some(store) => match tokio::time::timeout(PROBE, store.probe()).await {
                    Err(_) => Some(SILENT.to_owned()),
                    Ok(Err(error)) => Some(told(&error)),
                    Ok(Ok(())) if set.is_suspect(&id) => Some(LATE.to_owned()),
                    Ok(Ok(())) => None,
                },
            };
            found.push(ReplicaStatus {
                id: row.id,
                location,
                state: row.state,
                problem,
                repairs: owed.repairs,
                removals: owed.removals,
                repair_problem: owed.repair_problem,
                backfilled: row.backfill_after.as_deref().map(replicas::fraction),
            });
        }
        Ok(StoreStatus {
            write_quorum: set.write_quorum(),
            replicas: found,
            scrub,
            open_findings,
            candidates,
        })
    }
}
