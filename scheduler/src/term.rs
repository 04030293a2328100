//! Terms: how this server comes to lead, what it does while it leads, and how it stops.
//!
//! The only server of a database leads from its start to its end. Of several, one holds the lease; the others
//! watch it, and the first that sees it silent for long enough takes over. Invariant: nothing of a term goes on
//! after its end, and what memory held then is read anew before the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use registry_aws::AwsError;
use registry_runtime::{Shutdown, worker};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::addresses::Directory;
use crate::agents::{Liveness, Sessions};
use crate::core::Core;
use crate::ids::ClusterName;
use crate::lead::{Lead, Leader};
use crate::model::{Cluster, ClusterStatus};
use crate::names::DEFAULT_CLUSTER;
use crate::reconcile::{Reconciler, resolve_missing_images};
use crate::scheduler::Parts;
use crate::state::{Clerk, Ledger, Record};
use crate::store::{Lease, Store, StoreError, read_lease};

const TICK: Duration = Duration::from_millis(500);
const IMAGES_AGAIN: Duration = Duration::from_secs(3);
/// How often a leader says that it lives, and how often the others look.
const BEAT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(500);
/// A leader that could not say so for this long leads no more …
const GIVES_UP: Duration = Duration::from_secs(4);
/// … and one that was not seen to say so for this long is followed by another.
const SILENT: Duration = Duration::from_secs(6);

/// A term that has begun: the cluster is in memory, and nobody else can write.
pub(crate) struct Term {
    pub(crate) core: Arc<Core>,
    clerk: Clerk,
    reconciler: Arc<Reconciler>,
}

impl Term {
    /// Reads what the terms before left.
    pub(crate) async fn begin(parts: &Parts, store: Store) -> Result<Term, StoreError> {
        let state = store.load().await?;
        let (config, clock) = (parts.config.clone(), parts.clock.clone());
        let (ledger, clerk) = Ledger::new(state, store.clone(), clock.clone());
        let directory = Directory::new(clock.clone(), &ledger.read());
        let (sessions, liveness) = (Sessions::default(), Liveness::new(clock.clone()));
        let reconciler =
            Reconciler::new(config.clone(), liveness.clone(), sessions.clone(), directory.clone());
        let core = Core {
            config,
            names: parts.names.clone(),
            ledger,
            store,
            identity: parts.identity.clone(),
            images: Arc::clone(&parts.images),
            sealer: Arc::clone(&parts.sealer),
            clock,
            sessions,
            liveness,
            directory,
            stopping: CancellationToken::new(),
        };
        Ok(Term { core: Arc::new(core), clerk, reconciler })
    }

    /// Sets everything to work, until `stopping`; what was asked is finished until `closed`.
    fn start(self, stopping: &Shutdown, closed: &CancellationToken) -> JoinHandle<()> {
        let Term { core, clerk, reconciler } = self;
        core.liveness.begin();
        let running = tokio::spawn(clerk.run(reconciler, TICK, stopping.clone(), closed.clone()));
        let (begun, ended) = (stopping.clone(), core.stopping.clone());
        tokio::spawn(async move {
            begun.begun().await;
            ended.cancel();
        });
        let (draining, begun) = (Arc::clone(&core), stopping.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = begun.begun() => {}
                () = release_drained(&draining) => {}
            }
        });
        worker::spawn("resolve missing images", IMAGES_AGAIN, stopping, move || {
            let core = Arc::clone(&core);
            async move { resolve_missing_images(&core).await }
        });
        running
    }
}

/// Stops tasks whose connections had time enough to end.
async fn release_drained(core: &Core) {
    loop {
        for instance in core.directory.expired().await {
            core.sessions.nudge(&instance);
        }
    }
}

/// Makes the cluster `default` if it does not exist.
pub(crate) async fn ensure_default_cluster(core: &Core) -> Result<(), AwsError> {
    let change = core.ledger.change(|draft| {
        let name = ClusterName::new(DEFAULT_CLUSTER);
        if draft.state().cluster(&name).is_none() {
            draft.put(Record::Cluster(Arc::new(Cluster {
                name,
                status: ClusterStatus::Active,
                created_at: draft.now_ms,
                settings: Vec::new(),
                configuration: None,
                tags: Vec::new(),
            })));
        }
        Ok::<_, AwsError>(())
    });
    change.await
}

/// Leads alone, until `closed`.
pub(crate) async fn lead_alone(term: Term, shutdown: Shutdown, closed: CancellationToken) {
    ended(term.start(&shutdown, &closed).await);
}

/// Leads or follows, until `closed`.
pub(crate) async fn take_turns(
    parts: Arc<Parts>,
    address: String,
    lead: Lead,
    shutdown: Shutdown,
    closed: CancellationToken,
) {
    let mut watcher = Watcher::default();
    while !shutdown.has_begun() {
        match follow(&parts, &address, &lead, &mut watcher).await {
            Ok(Some(term)) => serve_term(term, &lead, &shutdown, &closed).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(error = %error, "nobody knows who leads the scheduler"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.begun() => {}
        }
    }
    closed.cancelled().await;
}

/// Looks who leads, and begins a term when nobody does.
async fn follow(
    parts: &Parts,
    address: &str,
    lead: &Lead,
    watcher: &mut Watcher,
) -> Result<Option<Term>, StoreError> {
    let seen = read_lease(&parts.database).await?;
    if !watcher.is_vacant(&seen) {
        parts.follower.refresh(&parts.database, seen.commits).await?;
        lead.follow(Leader::At(seen.address));
        return Ok(None);
    }
    lead.follow(Leader::Unknown);
    let store = Store::lead(parts.database.clone(), Arc::clone(&parts.sealer), seen, address.to_owned());
    let Some(store) = store.await? else { return Ok(None) };
    Term::begin(parts, store).await.map(Some)
}

/// Leads for as long as the lease can be held.
async fn serve_term(term: Term, lead: &Lead, shutdown: &Shutdown, closed: &CancellationToken) {
    let (core, lost) = (Arc::clone(&term.core), term.clerk.lost());
    let (stopping, over) = (Shutdown::new(), closed.child_token());
    let running = term.start(&stopping, &over);
    lead.begin(Arc::clone(&core));
    tracing::info!("this server leads the scheduler");
    if let Err(error) = ensure_default_cluster(&core).await {
        tracing::warn!(error = %error, "the cluster `default` could not be made");
    }
    let mut held = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            () = lost.cancelled() => break,
            // Requests in flight are finished, and the lease is held, until the listener has ended.
            () = shutdown.begun(), if !stopping.has_begun() => stopping.begin(),
            () = closed.cancelled() => break,
        }
        let asked = Instant::now();
        match timeout(GIVES_UP, core.store.renew()).await {
            Ok(Ok(())) => held = asked,
            Ok(Err(StoreError::Fenced)) => break,
            Ok(Err(error)) => tracing::warn!(error = %error, "the lead could not be renewed"),
            Err(_) => {}
        }
        if held.elapsed() > GIVES_UP {
            break;
        }
    }
    let stops = closed.is_cancelled();
    stopping.begin();
    over.cancel();
    ended(running.await);
    lead.end();
    if stops && let Err(error) = core.store.release().await {
        tracing::debug!(error = %error, "the lead was not given up: it runs out by itself");
    }
    tracing::info!("this server does not lead the scheduler any more");
}

fn ended(running: Result<(), tokio::task::JoinError>) {
    if let Err(error) = running {
        tracing::error!(error = %error, "the scheduler's ledger did not end as it should");
    }
}

/// When a follower last saw the lease move, by its own clock.
#[derive(Default)]
struct Watcher {
    last: Option<(i64, i64, Instant)>,
}

impl Watcher {
    fn is_vacant(&mut self, seen: &Lease) -> bool {
        if seen.holder.is_empty() {
            return true;
        }
        match self.last {
            Some((epoch, beat, since)) if (epoch, beat) == (seen.epoch, seen.beat) => {
                since.elapsed() > SILENT
            }
            _ => {
                self.last = Some((seen.epoch, seen.beat, Instant::now()));
                false
            }
        }
    }
}
