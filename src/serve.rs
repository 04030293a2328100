//! `berth serve`: assembles the services on one listener and connects their seams.
//!
//! Order matters: configuration is resolved before a port is bound, storage is opened before requests are
//! served, and on the way down requests end before the database closes.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use policies_identity::files::PolicyWatch;
use policies_identity::{BerthIdentity, Iam, Identity, IdentityConfig, IdentityError, Sts};
use registry::backup::is_half_restored;
use registry::{
    Access, BerthQuotas, BerthRecovery, BerthStatus, BerthStore, BerthUpstreams, Ecr, Facts, Lifecycle, Oci,
    PullThrough, PullThroughConfig, Tokens,
};
use registry_blob::Domain;
use registry_core::{CoreError, Registry};
use registry_runtime::listener::{self, Limits};
use registry_runtime::{
    Clock, Hold, KeyError, KeyProvider, LocalKeys, Sealer, Shutdown, Throttle, durable, telemetry, worker,
};
use registry_sql::Database;
use scheduler::{Scheduler, SchedulerConfig};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::arguments::ServeArguments;
use crate::certificate;
use crate::change_log::{self, ChangeLogs};
use crate::checkpoints::Replicas;
use crate::config::{Settings, private_dir};
use crate::content;
use crate::dispatch::{self, Front, Ready, Services};
use crate::health;
use crate::images::{RegistryImages, RunningImages};
use crate::issuers;
use crate::listen::{self, Bound};
use crate::names::Names;
use crate::observe::{self, AccessLog, Exposition, Observer, Requests, Samples};
use crate::peers;
use crate::repositories::Repositories;
use crate::storage::{SharedKeys, Storage, insist};

/// Key domain and epoch of what is sealed in metadata.
pub(crate) const SYSTEM_DOMAIN: &str = "system";
pub(crate) const SYSTEM_EPOCH: u32 = 1;

/// A server that answers.
pub(crate) struct Serving {
    /// `http://ADDRESS:PORT` on loopback, for this machine.
    pub(crate) endpoint: String,
    pub(crate) scheduler: Scheduler,
    identity: Identity,
    database: Database,
    listener: JoinHandle<()>,
    access: AccessLog,
    /// Held for as long as the data directory is in use.
    _lock: Hold,
}

/// Serves until told to stop.
pub(crate) async fn run(arguments: ServeArguments) -> Result<()> {
    let settings = Settings::load(&arguments)?;
    start(settings, Shutdown::new()).await?.until_stopped().await
}

/// Opens everything and begins to serve.
pub(crate) async fn start(settings: Settings, shutdown: Shutdown) -> Result<Serving> {
    telemetry::init(telemetry::Format::default());
    listener::raise_open_file_limit();
    private_dir(&settings.data)?;
    let lock = lock(&settings.data)?;
    if is_half_restored(&settings.data) {
        bail!(
            "a restore into {} ended before it was whole: run berth restore again, or remove the directory to begin \
             anew",
            settings.data.display()
        );
    }
    let access_log = AccessLog::open(&settings.config.access_log)?;
    shutdown.listen_for_signals()?;

    let storage = Storage::find(&settings).await?;
    let (keys, sealer) = open_keys(&settings, storage.is_first_start)?;
    // What one of several servers made alone, the others could not read.
    let keys: Arc<dyn KeyProvider> = match settings.config.database.is_some() && !storage.is_first_start {
        true => Arc::new(SharedKeys(keys)),
        false => Arc::new(keys),
    };
    let clock = Clock::system();
    // Before the database is made: whoever finds one later finds these too, or knows that they are lost.
    let first_start = storage.is_first_start;
    if first_start {
        change_log::refuse_lost_database(&settings, &sealer).await?;
    }
    let places = insist(&settings, async || content::places(&settings, &sealer, first_start).await).await?;
    if first_start {
        policy_files(&settings)?;
    }
    let logs = ChangeLogs::new(&settings, keys.as_ref(), &sealer)?;
    let (mut kept, mut log) = (None, None);
    if let Some(logs) = &logs {
        kept = logs.at_start(storage.existing_file()).await?;
        log = kept.as_ref().map(|kept| logs.config(kept)).transpose()?;
    }
    let database = storage.open_logged(log).await?;
    let certificate = certificate::open(&settings, &database, &sealer, &clock).await?;
    let transport = certificate::transport(certificate.as_ref(), settings.config.plain_http)?;
    let identity = identity(&settings, &database, &sealer, &clock).await?;
    issuers::reach(&settings.config, &identity)?;
    let (registry, upkeep) = insist(&settings, async || {
        content::open(&settings, &database, Arc::clone(&places), Arc::clone(&keys), &sealer, &clock).await
    })
    .await?;

    identity.keep_checkpoints_at(Arc::new(Replicas(upkeep.clone())));

    // The lock says that no other server has this database, so nobody holds an upload.
    if settings.config.database.is_none()
        && let Err(error) = registry.end_upload_holds().await
    {
        tracing::warn!(%error, "uploads that a dead server held can go on in a few seconds");
    }
    let bound = Bound::take(&settings.listen).await?;
    let metrics_listeners = listen::bind_all(&settings.metrics_listen).await?;
    let (endpoint, public_url) = (bound.local_url(), bound.public_url(&settings.config, &settings.tls));
    let names = Names::new(
        settings.config.advertise.as_deref(),
        &settings.config.registry_names,
        bound.ports(),
        certificate::names(&settings)?,
        settings.account_id.clone(),
    );
    let access = Arc::new(Access::new(settings.account_id.clone(), settings.region.clone()));
    let pull_through = PullThrough::new(
        registry.clone(),
        identity.clone(),
        Arc::clone(&access),
        PullThroughConfig {
            private_hosts: settings.config.pull_through_private_hosts.clone(),
            revalidate: Duration::from_secs(settings.config.pull_through_revalidate),
        },
    );
    pull_through.refresh().await.context("cannot read the pull-through cache rules")?;
    let images = Arc::new(RegistryImages {
        registry: registry.clone(),
        names,
        identity: identity.clone(),
        pull_through: pull_through.clone(),
        clock: clock.clone(),
    });
    let mut config = SchedulerConfig::new(settings.account_id.clone(), settings.region.clone());
    config.advertise = settings.config.advertise.clone();
    config.endpoint.clone_from(&public_url);
    let ca = certificate.as_ref().and_then(|one| one.ca());
    config.ca_fingerprint = ca.as_ref().map(|ca| ca.fingerprint().hex());
    config.ca_certificate = ca.map(|ca| ca.pem());
    config.lease = Duration::from_secs(settings.config.instance_lease);
    let place = peers::Place::take(&settings, &database, &sealer, &clock).await?;
    if settings.config.database.is_some() {
        config.peer_address = Some(place.as_ref().map(|place| place.address.clone()).unwrap_or_default());
    }
    let scheduler = Scheduler::open(
        database.clone(),
        Arc::clone(&sealer),
        identity.clone(),
        images,
        config,
        clock.clone(),
    )
    .await;
    let scheduler = scheduler.context("cannot open the scheduler's state")?;

    let mut ready = Ready::new(database.clone());
    if let Some(certificate) = certificate.clone() {
        ready.report(move || certificate.problem());
    }
    let auditing = identity.clone();
    ready.report(move || auditing.audit_problem());
    health::report(&mut ready, &settings, &registry, &database, &shutdown);
    let advertise = settings.config.advertise.clone();
    let ecr = Ecr::new(registry.clone(), identity.clone(), Arc::clone(&access), advertise.clone());
    let ecr = ecr.with_pull_through(pull_through.clone());
    access.refresh(&registry).await.context("cannot read the registry policy")?;
    let own = settings.config.registry_names.iter().cloned().chain(advertise.clone()).collect();
    let mirrors = settings.config.mirrors.clone();
    let oci = Oci::with_upstreams(
        registry.clone(),
        identity.clone(),
        Arc::clone(&access),
        advertise,
        own,
        mirrors,
        pull_through.clone(),
    );
    let tokens = Tokens::new(identity.clone());
    let repositories = Arc::new(Repositories(registry.clone()));
    let mut berth_identity = BerthIdentity::new(identity.clone()).with_repositories(repositories);
    if let Some(directory) = settings.watched_policy_dir() {
        berth_identity =
            berth_identity.with_watch(PolicyWatch::start(identity.clone(), directory, &shutdown));
    }
    let services = Services {
        identity: identity.clone(),
        json: vec![
            Arc::new(ecr),
            scheduler.ecs_api(),
            scheduler.berth_api(),
            Arc::new(berth_identity),
            Arc::new(BerthQuotas::new(registry.clone())),
            Arc::new(BerthRecovery::new(registry.clone())),
            Arc::new(BerthStore::new(registry.clone(), upkeep.clone())),
            Arc::new(BerthUpstreams::new(registry.clone(), pull_through.clone())),
            Arc::new(BerthStatus::new(
                registry.clone(),
                upkeep.clone(),
                Arc::new(ServerFacts {
                    ready: ready.clone(),
                    database: database.clone(),
                    scheduler: scheduler.clone(),
                }),
            )),
        ],
        query: vec![Arc::new(Sts::new(identity.clone())), Arc::new(Iam::new(identity.clone()))],
    };
    if let Some(per_second) = NonZeroU32::new(settings.config.requests_per_principal) {
        identity.limit_principals(per_second);
    }
    if settings.config.plain_http {
        identity.answer_secrets_in_clear();
    }
    let of_peers = Services {
        identity: identity.clone(),
        json: vec![scheduler.ecs_api(), scheduler.berth_api()],
        query: Vec::new(),
    };
    let of_peers = dispatch::service_router(of_peers).merge(scheduler.router());
    let of_peers = peers::router(identity.clone(), clock.clone(), of_peers);
    let observer = Arc::new(Observer { requests: Arc::new(Requests::new()), access: access_log.clone() });
    let exposition = Arc::new(Exposition {
        observer: Arc::clone(&observer),
        samples: Samples::new(
            registry.clone(),
            upkeep.clone(),
            database.clone(),
            scheduler.clone(),
            ready.clone(),
        ),
        pull_through: pull_through.clone(),
    });
    let front = Front {
        identity: identity.clone(),
        clock,
        trusted_proxies: settings.config.trusted_proxies.clone(),
        throttle: NonZeroU32::new(settings.config.requests_per_address).map(Throttle::new),
        observer,
    };
    let router = oci.router().merge(tokens.router()).merge(scheduler.router());
    let router = router.merge(certificate::router(certificate.clone()));
    let router = router.merge(observe::guarded(Arc::clone(&exposition), identity.clone()));
    let (peer_door, caller) = place.map(peers::Place::serve).transpose()?.unzip();
    let passing = settings.config.database.is_some().then(|| {
        Arc::new(peers::Peers {
            leader: scheduler.leader(),
            caller,
            identity: identity.clone(),
            shutdown: shutdown.clone(),
        })
    });
    let router = dispatch::router(front, services, router, ready.clone(), passing);
    let limits = Limits {
        grace: Duration::from_secs(settings.config.shutdown_grace),
        shared_addresses: settings.config.trusted_proxies.clone(),
        ..Limits::default()
    };
    if let Some((listener, transport)) = peer_door {
        // Few addresses, each of which speaks for many clients.
        let limits = Limits { connections_per_address: usize::MAX, ..limits.clone() };
        tokio::spawn(listener::serve_all(vec![listener], transport, of_peers, limits, shutdown.clone()));
    }
    if !metrics_listeners.is_empty() {
        let (router, limits) = (observe::open(exposition), limits.clone());
        let transport = transport.clone();
        tokio::spawn(listener::serve_all(metrics_listeners, transport, router, limits, shutdown.clone()));
    }
    let listener = listener::serve_all(bound.listeners, transport, router, limits, shutdown.clone());
    let listener = tokio::spawn(listener);
    if let Some(certificate) = &certificate {
        certificate::watch(certificate, &shutdown);
    }
    follow_pull_through(&pull_through, &shutdown);
    registry.connect_pins(Arc::new(RunningImages(scheduler.clone())));
    spawn_workers(&registry, Arc::clone(&access), &shutdown);
    spawn_lifecycle(Lifecycle::new(registry.clone(), identity.clone(), access), &shutdown);
    content::spawn_upkeep(&registry, &upkeep, &shutdown);
    if let Some(logs) = logs {
        logs.spawn(&database, kept, &shutdown);
    }
    scheduler.start(&shutdown);
    scheduler.ensure_default_cluster().await.context("cannot make the cluster `default`")?;

    durable::sweep(&settings.data);
    let endpoint_file = settings.data.join("endpoint");
    durable::write_file_atomically(&endpoint_file, endpoint.as_bytes(), 0o644)
        .with_context(|| format!("cannot write {}", endpoint_file.display()))?;
    ready.set_started();
    tracing::info!(%endpoint, data = %settings.data.display(), version = env!("CARGO_PKG_VERSION"), "berth serves");
    if let Some(certificate) = &certificate {
        certificate::announce(certificate, public_url.as_deref());
    }
    Ok(Serving { endpoint, scheduler, identity, database, listener, access: access_log, _lock: lock })
}

/// What `GetStatus` tells of this process.
struct ServerFacts {
    ready: Ready,
    database: Database,
    scheduler: Scheduler,
}

impl Facts for ServerFacts {
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn is_ready(&self) -> bool {
        self.ready.is_ready()
    }

    fn problems(&self) -> Vec<String> {
        self.ready.problems()
    }

    fn change_log(&self) -> Value {
        self.database.change_log().map_or(Value::Null, |log| {
            let in_sync = log.replicas.iter().filter(|replica| replica.in_sync).count();
            let behind = log.replicas.iter().map(|replica| replica.lag);
            let behind = behind.max_by_key(|lag| (lag.changes, lag.age)).unwrap_or_default();
            json!({
                "replicas": log.replicas.len(),
                "inSync": in_sync,
                "quorum": log.quorum,
                "lagChanges": log.lag.changes,
                "lagSeconds": log.lag.age.as_secs_f64(),
                "behindChanges": behind.changes,
                "behindSeconds": behind.age.as_secs_f64(),
            })
        })
    }

    fn scheduler(&self) -> Value {
        self.scheduler.fleet().map_or(Value::Null, |fleet| {
            json!({
                "clusters": fleet.clusters,
                "services": fleet.services,
                "instances": fleet.instances,
                "connectedInstances": fleet.connected_instances,
                "runningTasks": fleet.running_tasks,
                "pendingTasks": fleet.pending_tasks,
            })
        })
    }
}

impl Serving {
    /// Waits until the shutdown has begun and the requests in flight are finished, then closes what was opened.
    pub(crate) async fn until_stopped(self) -> Result<()> {
        self.listener.await.context("the listener ended by a panic")?;
        self.scheduler.close().await;
        self.identity.close().await;
        self.database.close().await;
        // Blocks for as long as the lines' reader takes.
        let _ = tokio::task::spawn_blocking(move || self.access.flush()).await;
        tracing::info!("berth has stopped; containers run on");
        Ok(())
    }
}

/// What the registry does by itself: abandoned uploads, deleted repositories and objects that nothing names.
fn spawn_workers(registry: &Registry, access: Arc<Access>, shutdown: &Shutdown) {
    let reading = registry.clone();
    worker::spawn("refresh_registry_policy", Duration::from_millis(500), shutdown, move || {
        let (registry, access) = (reading.clone(), Arc::clone(&access));
        async move { access.refresh(&registry).await }
    });
    let (expiring, stopping) = (registry.clone(), shutdown.clone());
    worker::spawn("expire_uploads", Duration::from_secs(60), shutdown, move || {
        let (registry, stopping) = (expiring.clone(), stopping.clone());
        async move {
            while !stopping.has_begun() && registry.expire_uploads().await? > 0 {}
            Ok::<_, CoreError>(())
        }
    });
    let (purging, stopping) = (registry.clone(), shutdown.clone());
    worker::spawn("purge_deleted_repositories", Duration::from_secs(10), shutdown, move || {
        let (registry, stopping) = (purging.clone(), stopping.clone());
        async move {
            while !stopping.has_begun() && registry.purge_deleted_repositories().await? {}
            Ok::<_, CoreError>(())
        }
    });
    let collecting = registry.clone();
    worker::spawn("collect_garbage", Duration::from_secs(60), shutdown, move || {
        let registry = collecting.clone();
        async move { registry.collect_garbage().await.map(drop) }
    });
}

/// Follows the rules that other servers change.
fn follow_pull_through(pull_through: &PullThrough, shutdown: &Shutdown) {
    let pull_through = pull_through.clone();
    worker::spawn("refresh_pull_through_rules", Duration::from_millis(500), shutdown, move || {
        let pull_through = pull_through.clone();
        async move { pull_through.refresh().await }
    });
}

/// Applies lifecycle policies and computes their previews.
fn spawn_lifecycle(lifecycle: Lifecycle, shutdown: &Shutdown) {
    let stopping = shutdown.clone();
    worker::spawn("lifecycle", Duration::from_secs(1), shutdown, move || {
        let (lifecycle, stopping) = (lifecycle.clone(), stopping.clone());
        async move { lifecycle.run(&stopping).await }
    });
}

/// The keys, and what seals the metadata with one of them. Only a first start makes some.
pub(crate) fn open_keys(settings: &Settings, is_first_start: bool) -> Result<(LocalKeys, Arc<Sealer>)> {
    let dir = settings.key_dir();
    let keys = LocalKeys::open(&dir).with_context(|| format!("key_dir {}", dir.display()))?;
    if is_first_start {
        keys.create(SYSTEM_DOMAIN, SYSTEM_EPOCH).context("the key of the metadata")?;
        keys.create(Domain::DEFAULT, 1).context("the key of the content")?;
    }
    let system = keys.secret(SYSTEM_DOMAIN, SYSTEM_EPOCH).map_err(|error| {
        let hint = match error {
            KeyError::Missing { .. } => format!(
                "key_dir {} lacks the keys that the database was made with: put them back, or copy those of another \
                 server here",
                dir.display()
            ),
            _ => "the key of the metadata".to_owned(),
        };
        anyhow::Error::new(error).context(hint)
    })?;
    Ok((keys, Arc::new(Sealer::new(&system, SYSTEM_EPOCH))))
}

/// Takes the data directory for this process alone.
fn lock(data: &Path) -> Result<Hold> {
    let path = data.join("lock");
    let hold = Hold::exclusive(&path).with_context(|| format!("cannot lock {}", path.display()))?;
    hold.with_context(|| {
        format!(
            "another berth runs on {}, or restores it: stop it first, or name another directory with --data",
            data.display()
        )
    })
}

/// A set of policy files without anybody in it, to be added to.
fn policy_files(settings: &Settings) -> Result<()> {
    let dir = settings.policy_dir();
    let marker = dir.join("berth-policies.json");
    if settings.config.policy_dir.is_some() || settings.config.database.is_some() || marker.exists() {
        return Ok(());
    }
    private_dir(&dir)?;
    let text = format!("{{\"format\": 1, \"account\": \"{}\"}}\n", settings.account_id);
    durable::write_file_atomically(&marker, text.as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", marker.display()))
}

pub(crate) fn identity_config(settings: &Settings) -> Result<IdentityConfig> {
    Ok(IdentityConfig {
        account_id: settings.account_id.clone(),
        region: settings.region.clone(),
        bootstrap: settings.bootstrap()?,
        credentials_file: Some(settings.data.join("credentials")),
        audit_log: settings.audit_log(),
        clock_skew_ms: IdentityConfig::DEFAULT_CLOCK_SKEW_MS,
    })
}

async fn identity(
    settings: &Settings,
    database: &Database,
    sealer: &Arc<Sealer>,
    clock: &Clock,
) -> Result<Identity> {
    let config = identity_config(settings)?;
    let opened = Identity::open(database.clone(), Arc::clone(sealer), config, clock.clone()).await;
    let (identity, _bootstrap) = opened.map_err(|error| {
        let told = match &error {
            IdentityError::Sealed(_) => {
                "cannot open the identities: all servers of an installation need the same keys in key_dir"
            }
            _ => "cannot open the identities",
        };
        anyhow::Error::new(error).context(told)
    })?;
    Ok(identity)
}
