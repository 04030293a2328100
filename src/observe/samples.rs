//! What is looked up when somebody asks for the numbers: the state of the store, the fleet and this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use registry_core::{Activity, Census, CoreError, Registry, StoreStatus, Upkeep};
use registry_sql::{ChangeLogStatus, Database};
use scheduler::{Fleet, Scheduler};
use tokio::sync::Mutex;

use crate::dispatch::Ready;

/// However often the numbers are read, replicas and database are asked once in this time.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// Where samples are taken.
pub(crate) struct Samples {
    registry: Registry,
    upkeep: Upkeep,
    database: Database,
    scheduler: Scheduler,
    ready: Ready,
    taken: Mutex<Option<(Instant, Arc<Sample>)>>,
}

/// How everything was at one moment.
pub(super) struct Sample {
    pub(super) ready: bool,
    /// `None` while the database does not answer.
    pub(super) store: Option<(StoreStatus, Census)>,
    pub(super) change_log: Option<ChangeLogStatus>,
    /// `None` where another server leads the scheduler.
    pub(super) fleet: Option<Fleet>,
    pub(super) resident_bytes: Option<u64>,
}

impl Samples {
    pub(crate) fn new(
        registry: Registry,
        upkeep: Upkeep,
        database: Database,
        scheduler: Scheduler,
        ready: Ready,
    ) -> Self {
        Self { registry, upkeep, database, scheduler, ready, taken: Mutex::default() }
    }

    pub(super) fn activity(&self) -> &Activity {
        self.registry.activity()
    }

    pub(super) async fn take(&self) -> Arc<Sample> {
        // Held while replicas are asked, so that any number of readers wait for one answer; requests never take it.
        let mut taken = self.taken.lock().await;
        if let Some((at, sample)) = &*taken
            && at.elapsed() < KEPT_FOR
        {
            return Arc::clone(sample);
        }
        let store = self.store().await;
        if let Err(error) = &store {
            tracing::debug!(%error, "the store's numbers cannot be read");
        }
        let sample = Arc::new(Sample {
            ready: self.ready.is_ready(),
            store: store.ok(),
            change_log: self.database.change_log(),
            fleet: self.scheduler.fleet(),
            resident_bytes: resident_bytes(),
        });
        *taken = Some((Instant::now(), Arc::clone(&sample)));
        sample
    }

    async fn store(&self) -> Result<(StoreStatus, Census), CoreError> {
        Ok((self.upkeep.status().await?, self.registry.census().await?))
    }
}

/// Memory of this process, as `/proc` has it.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
