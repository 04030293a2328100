//! The handle that everything else holds: store, snapshot, clock and audit log together.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use registry_aws::AwsError;
use registry_aws::sigv4::ReplayGuard;
use registry_runtime::{Clock, Sealer, Throttle};
use registry_sql::Database;
use registry_types::{AccountId, Arn, Region};
use tokio::time::MissedTickBehavior;

use crate::api::BodyBudget;
use crate::audit::{self, AuditLog, CheckpointPlaces, Keeper, Line, Outcome, Who};
use crate::authenticate::OpenedSession;
use crate::caller::Caller;
use crate::config::IdentityConfig;
use crate::context::RequestContext;
use crate::directory::{Directory, FRESH_FOR, milliseconds, spawn_refresher};
use crate::error::IdentityError;
use crate::first_start::Bootstrap;
use crate::oidc::{Issuers, KeyCache};
use crate::roles::LiveTasks;
use crate::store;

/// How often records of changes that are in the audit log are forgotten, and a moved log is noticed.
const KEEP_AUDIT_EVERY: Duration = Duration::from_secs(1);

/// How many opened sessions are remembered, so that a token is opened and compiled once.
const OPENED_SESSIONS: usize = 1024;

/// How many verified bearer tokens are remembered: a client shows the same one for minutes.
const VERIFIED_BEARERS: usize = 1024;

/// How many signatures of single-use requests are remembered for the time they could be replayed.
const REMEMBERED_SIGNATURES: usize = 100_000;

/// Who may do what. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) database: Database,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) config: IdentityConfig,
    pub(crate) clock: Clock,
    pub(crate) directory: ArcSwap<Directory>,
    /// When the directory was last known to be current, by the monotonic clock.
    pub(crate) confirmed_at_ms: AtomicU64,
    pub(crate) refreshing: tokio::sync::Mutex<()>,
    pub(crate) sessions: Cache<[u8; 32], Arc<OpenedSession>>,
    pub(crate) bearers: Cache<Box<str>, Caller>,
    pub(crate) replays: Mutex<ReplayGuard>,
    pub(crate) bodies: BodyBudget,
    /// The way to issuers of OIDC tokens, and their keys.
    pub(crate) issuers: OnceLock<Issuers>,
    pub(crate) oidc_keys: KeyCache,
    /// Who knows which tasks are over.
    pub(crate) tasks: OnceLock<Arc<dyn LiveTasks>>,
    /// Requests of each principal, by its unique id; unlimited until it is set.
    throttle: OnceLock<Throttle<Box<str>>>,
    secrets_in_clear: AtomicBool,
    audit: AuditLog,
    keeper: Keeper,
    anonymous: Caller,
    closed: AtomicBool,
}

impl Identity {
    /// Whether this release can open what the database holds; nothing is changed.
    ///
    /// # Errors
    /// For the schema of a newer release, naming both versions.
    pub async fn check_schema(database: &Database) -> Result<(), registry_sql::Error> {
        database.check_schema(store::NAMESPACE, store::MIGRATIONS).await
    }

    /// Opens the store, creates what the first start needs, loads the snapshot and keeps it young.
    ///
    /// # Errors
    /// A bootstrap key that is too short, another account id than the one stored, or the database's.
    pub async fn open(
        database: Database,
        sealer: Arc<Sealer>,
        config: IdentityConfig,
        clock: Clock,
    ) -> Result<(Identity, Bootstrap), IdentityError> {
        database.migrate(store::NAMESPACE, store::MIGRATIONS).await?;
        let bootstrap = crate::first_start::run(&database, &sealer, &config, clock.now_ms()).await?;
        let (keeper, audit) =
            Keeper::open(database.clone(), Arc::clone(&sealer), &config.audit_log, clock.now_ms()).await?;
        let inner = Arc::new(Inner {
            database,
            sealer,
            anonymous: Caller::anonymous(&config.account_id),
            replays: Mutex::new(ReplayGuard::new(REMEMBERED_SIGNATURES, config.clock_skew_ms)),
            bodies: BodyBudget::default(),
            issuers: OnceLock::new(),
            oidc_keys: KeyCache::default(),
            tasks: OnceLock::new(),
            throttle: OnceLock::new(),
            secrets_in_clear: AtomicBool::new(false),
            config,
            clock,
            directory: ArcSwap::default(),
            confirmed_at_ms: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::new(()),
            sessions: Cache::new(OPENED_SESSIONS),
            bearers: Cache::new(VERIFIED_BEARERS),
            audit,
            keeper,
            closed: AtomicBool::new(false),
        });
        let refreshed: Weak<Inner> = Arc::downgrade(&inner);
        let identity = Identity { inner };
        identity.refresh().await?;
        identity.rotate_token_keys().await?;
        spawn_refresher(refreshed.clone());
        spawn_keeper(refreshed);
        Ok((identity, bootstrap))
    }

    /// Keeps the audit log's signed checkpoints at these places, too, from now on.
    pub fn keep_checkpoints_at(&self, places: Arc<dyn CheckpointPlaces>) {
        self.inner.keeper.keep_at(places);
        spawn_mirror(Arc::downgrade(&self.inner));
    }

    /// What is wrong with the places that keep the audit log's checkpoints, for people.
    pub fn audit_problem(&self) -> Option<String> {
        self.inner.keeper.problem()
    }

    /// Lets every principal make so many requests a second from now on, and ten times as many at once.
    pub fn limit_principals(&self, per_second: NonZeroU32) {
        // A limit that is set stays.
        let _ = self.inner.throttle.set(Throttle::new(per_second));
    }

    /// Lets answers that hold a secret cross the network in clear from now on, as the operator wants everything to.
    pub fn answer_secrets_in_clear(&self) {
        self.inner.secrets_in_clear.store(true, Ordering::Relaxed);
    }

    /// Whether an answer that holds a secret can be given to this request.
    ///
    /// # Errors
    /// AccessDenied where somebody on the way could read it.
    pub(crate) fn may_answer_with_secret(&self, ctx: &RequestContext) -> Result<(), AwsError> {
        if ctx.confidential || self.inner.secrets_in_clear.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(AwsError::access_denied("The answer holds a secret, and is given over TLS or loopback only."))
    }

    /// Counts a request of an authenticated caller. What this machine asks itself is not counted.
    ///
    /// # Errors
    /// How long to wait, when the principal made too many.
    pub fn admit(&self, ctx: &RequestContext, caller: &Caller) -> Result<(), Duration> {
        match self.inner.throttle.get() {
            Some(throttle) if !ctx.source_ip.is_loopback() && !caller.is_anonymous() => {
                throttle.ask(&caller.principal_uid().into())
            }
            _ => Ok(()),
        }
    }

    /// Writes what is left of the audit log and ends the refreshing. Afterwards nothing is decided any more.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.audit.stop_taking();
        if let Err(error) = self.write_uses().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the last uses of keys are not written down"
            );
        }
        if let Err(error) = self.inner.keeper.tend(self.now_ms(), true).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the audit log was not signed at its end"
            );
        }
        if let Err(error) = self.inner.keeper.mirror().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the last checkpoint is in the metadata alone"
            );
        }
        let inner = Arc::clone(&self.inner);
        // Joins the writer's thread.
        let _ = tokio::task::spawn_blocking(move || inner.audit.close()).await;
    }

    /// Waits until every decision made so far is in the audit log.
    pub async fn flush_audit(&self) {
        let inner = Arc::clone(&self.inner);
        let _ = tokio::task::spawn_blocking(move || inner.audit.flush()).await;
    }

    /// Runs what serves one request: its changes commit together with the audit lines of what allowed them.
    pub async fn recorded<F: Future>(&self, request: F) -> F::Output {
        audit::recorded(self.inner.audit.clone(), request).await
    }

    /// Writes the audit line of something that Berth is about to do by itself, because of `why`. False when it
    /// cannot be recorded: then it is not to be done.
    #[must_use]
    pub fn record_own(&self, operation: &str, action: &'static str, resource: &Arn, why: &str) -> bool {
        let request = RequestContext::local(self.now_ms());
        let directory = self.inner.directory.load();
        let line = Line {
            request: &request,
            caller: Who { arn: "berth", user_id: "berth", access_key_id: None, source_identity: None },
            operation,
            asked: Some((action, resource.as_str())),
            outcome: Outcome::Own(why),
            generations: (directory.security_generation, directory.file_generation),
        };
        self.audit(&line).is_ok()
    }

    /// The account that owns everything here.
    pub fn account_id(&self) -> &AccountId {
        &self.inner.config.account_id
    }

    pub fn region(&self) -> &Region {
        &self.inner.config.region
    }

    /// The caller of requests without credentials.
    pub fn anonymous(&self) -> Caller {
        self.inner.anonymous.clone()
    }

    /// The security generation of the snapshot: it changes whenever a decision may change. Whoever keeps a
    /// decision (a websocket) asks again when it does.
    pub fn security_generation(&self) -> i64 {
        self.inner.directory.load().security_generation
    }

    /// The snapshot to decide with; None when it was not confirmed for a second.
    pub(crate) fn directory(&self) -> Option<Guard<Arc<Directory>>> {
        let now_ms = milliseconds(self.inner.clock.monotonic());
        let age_ms = now_ms.saturating_sub(self.inner.confirmed_at_ms.load(Ordering::Acquire));
        (age_ms <= milliseconds(FRESH_FOR)).then(|| self.inner.directory.load())
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    pub(crate) fn audit_log(&self) -> &AuditLog {
        &self.inner.audit
    }
}

/// Looks after the audit log until the last `Identity` is gone or closed.
fn spawn_keeper(inner: Weak<Inner>) {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(KEEP_AUDIT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let Some(identity) = inner.upgrade().map(Identity::from_inner) else { return };
            if identity.is_closed() {
                return;
            }
            match identity.inner.keeper.tend(identity.now_ms(), false).await {
                Ok(()) => failing = false,
                Err(error) if !failing && !identity.is_closed() => {
                    failing = true;
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the audit log cannot be signed"
                    );
                }
                Err(_) => {}
            }
        }
    });
}

/// Brings the places of checkpoints up to date, beside everything else: one of them may hang.
fn spawn_mirror(inner: Weak<Inner>) {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(KEEP_AUDIT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let Some(identity) = inner.upgrade().map(Identity::from_inner) else { return };
            if identity.is_closed() {
                return;
            }
            if let Err(error) = identity.inner.keeper.mirror().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "checkpoints were not copied");
            }
        }
    });
}
