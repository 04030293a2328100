//! `berth serve`: assembles the services on one listener and connects their seams.
//!
//! Order matters: configuration is resolved before a port is bound, storage is opened before requests are
//! served, and on the way down requests end before the database closes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use policies_identity::files::PolicyWatch;
use policies_identity::{BerthIdentity, Iam, Identity, IdentityConfig, Sts};
use registry::{Access, Ecr, Oci, Tokens};
use registry_blob::{ContentStore, FsStore, ReplicaId, Replicated};
use registry_core::{Registry, RegistryConfig};
use registry_metadata::Metadata;
use registry_runtime::listener::{self, Limits};
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer, Shutdown, durable, telemetry, worker};
use registry_sql::Database;
use rustix::fs::{FlockOperation, flock};
use scheduler::{Scheduler, SchedulerConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::arguments::ServeArguments;
use crate::config::{Settings, private_dir};
use crate::dispatch::{self, Front, Ready, Services};
use crate::images::RegistryImages;
use crate::names::Names;

/// Key domain and epoch of what is sealed in metadata.
const SYSTEM_DOMAIN: &str = "system";
const SYSTEM_EPOCH: u32 = 1;

/// A server that answers.
pub(crate) struct Serving {
    /// `http://ADDRESS:PORT`.
    pub(crate) endpoint: String,
    pub(crate) scheduler: Scheduler,
    identity: Identity,
    database: Database,
    listener: JoinHandle<()>,
    /// Held for as long as the data directory is in use.
    _lock: File,
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
    shutdown.listen_for_signals()?;

    let (keys, sealer) = open_keys(&settings)?;
    let clock = Clock::system();
    // Before the database is made: whoever finds one later finds these too, or knows that they are lost.
    let first_start = !settings.data.join("berth.db").exists();
    let replicas = replicas(&settings, &sealer, first_start)?;
    if first_start {
        policy_files(&settings)?;
    }
    let database = settings.data.join("berth.db");
    let database = Database::open_sqlite(&database)
        .await
        .with_context(|| format!("cannot open {}", database.display()))?;
    let identity = identity(&settings, &database, &sealer, &clock).await?;
    let content = ContentStore::new(replicas, Arc::new(keys));
    let registry = registry(&settings, &database, content, &sealer, &clock).await?;

    let tcp = TcpListener::bind(settings.listen).await.with_context(|| cannot_listen(settings.listen))?;
    let address = tcp.local_addr()?;
    let names = Names::new(
        settings.config.advertise.as_deref(),
        &settings.config.registry_names,
        address.port(),
        settings.account_id.clone(),
    );
    let images = Arc::new(RegistryImages { registry: registry.clone(), names });
    let mut config = SchedulerConfig::new(settings.account_id.clone(), settings.region.clone());
    config.endpoint = settings.config.advertise.as_ref().map(|host| format!("http://{host}"));
    config.lease = Duration::from_secs(settings.config.instance_lease);
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

    let ready = Ready::new(database.clone());
    let access = Arc::new(Access::new(settings.account_id.clone(), settings.region.clone()));
    let advertise = settings.config.advertise.clone();
    let ecr = Ecr::new(registry.clone(), identity.clone(), Arc::clone(&access), advertise.clone());
    let oci = Oci::new(registry.clone(), identity.clone(), access, advertise);
    let tokens = Tokens::new(identity.clone());
    let watch = PolicyWatch::start(identity.clone(), settings.policy_dir(), &shutdown);
    let services = Services {
        identity: identity.clone(),
        json: vec![
            Arc::new(ecr),
            scheduler.ecs_api(),
            scheduler.berth_api(),
            Arc::new(BerthIdentity::new(identity.clone()).with_watch(watch)),
        ],
        query: vec![Arc::new(Sts::new(identity.clone())), Arc::new(Iam)],
    };
    let front = Front { clock, trusted_proxies: settings.config.trusted_proxies.clone() };
    let router = oci.router().merge(tokens.router()).merge(scheduler.router());
    let router = dispatch::router(front, services, router, ready.clone());
    let limits = Limits {
        grace: Duration::from_secs(settings.config.shutdown_grace),
        shared_addresses: settings.config.trusted_proxies.clone(),
        ..Limits::default()
    };
    let listener = tokio::spawn(listener::serve(tcp, router, limits, shutdown.clone()));
    spawn_workers(&registry, &shutdown);
    scheduler.start(&shutdown);
    scheduler.ensure_default_cluster().await.context("cannot make the cluster `default`")?;

    let endpoint = format!("http://{address}");
    let endpoint_file = settings.data.join("endpoint");
    durable::write_file_atomically(&endpoint_file, endpoint.as_bytes(), 0o644)
        .with_context(|| format!("cannot write {}", endpoint_file.display()))?;
    ready.set_started();
    tracing::info!(%endpoint, data = %settings.data.display(), version = env!("CARGO_PKG_VERSION"), "berth serves");
    Ok(Serving { endpoint, scheduler, identity, database, listener, _lock: lock })
}

impl Serving {
    /// Waits until the shutdown has begun and the requests in flight are finished, then closes what was opened.
    pub(crate) async fn until_stopped(self) -> Result<()> {
        self.listener.await.context("the listener ended by a panic")?;
        self.scheduler.close().await;
        self.identity.close().await;
        self.database.close().await;
        tracing::info!("berth has stopped; containers run on");
        Ok(())
    }
}

/// What the registry does by itself: abandoned uploads, deleted repositories and objects that nothing names.
fn spawn_workers(registry: &Registry, shutdown: &Shutdown) {
    let expiring = registry.clone();
    worker::spawn("expire_uploads", Duration::from_secs(60), shutdown, move || {
        let registry = expiring.clone();
        async move { registry.expire_uploads().await.map(drop) }
    });
    let purging = registry.clone();
    worker::spawn("purge_deleted_repositories", Duration::from_secs(10), shutdown, move || {
        let registry = purging.clone();
        async move { registry.purge_deleted_repositories().await.map(drop) }
    });
    let collecting = registry.clone();
    worker::spawn("collect_garbage", Duration::from_secs(60), shutdown, move || {
        let registry = collecting.clone();
        async move { registry.collect_garbage().await.map(drop) }
    });
}

/// The keys, and what seals the metadata with one of them.
pub(crate) fn open_keys(settings: &Settings) -> Result<(LocalKeys, Arc<Sealer>)> {
    let dir = settings.key_dir();
    let keys = LocalKeys::open(&dir).with_context(|| format!("key_dir {}", dir.display()))?;
    let system = keys.create(SYSTEM_DOMAIN, SYSTEM_EPOCH).context("the key of the metadata")?;
    Ok((keys, Arc::new(Sealer::new(&system, SYSTEM_EPOCH))))
}

/// Takes the data directory for this process alone.
fn lock(data: &Path) -> Result<File> {
    let path = data.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "another berth runs on {}: stop it first, or name another directory with --data",
            data.display()
        );
    }
    Ok(file)
}

/// A set of policy files without anybody in it, to be added to.
fn policy_files(settings: &Settings) -> Result<()> {
    let dir = settings.policy_dir();
    let marker = dir.join("berth-policies.json");
    if settings.config.policy_dir.is_some() || marker.exists() {
        return Ok(());
    }
    private_dir(&dir)?;
    let text = format!("{{\"format\": 1, \"account\": \"{}\"}}\n", settings.account_id);
    durable::write_file_atomically(&marker, text.as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", marker.display()))
}

/// The content's replicas. A replica that has lost the marker of its first start is offline (a disk that is not
/// mounted), never empty.
fn replicas(settings: &Settings, sealer: &Sealer, first_start: bool) -> Result<Replicated> {
    let cluster = hex::encode(&sealer.derive("installation id").expose()[..16]);
    let mut stores = Vec::new();
    for (index, root) in settings.replicas().iter().enumerate() {
        let id = ReplicaId::new(&format!("replica{index}"));
        if first_start {
            FsStore::initialize(root, &cluster, &id)
                .with_context(|| format!("replica {}", root.display()))?;
        }
        stores.push((id.clone(), Arc::new(FsStore::open(root, &cluster, &id)) as _));
    }
    Replicated::new(stores, settings.config.write_quorum).context("replicas and write_quorum")
}

pub(crate) fn identity_config(settings: &Settings) -> Result<IdentityConfig> {
    Ok(IdentityConfig {
        account_id: settings.account_id.clone(),
        region: settings.region.clone(),
        bootstrap: settings.bootstrap()?,
        credentials_file: Some(settings.data.join("credentials")),
        audit_log: settings.data.join("audit.log"),
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
    let (identity, _bootstrap) = opened.context("cannot open the identities")?;
    Ok(identity)
}

async fn registry(
    settings: &Settings,
    database: &Database,
    content: ContentStore,
    sealer: &Arc<Sealer>,
    clock: &Clock,
) -> Result<Registry> {
    let metadata = Metadata::open(database.clone()).await.context("cannot open the metadata")?;
    let config =
        RegistryConfig { require_contents: !settings.config.sparse_manifests, ..RegistryConfig::default() };
    let opened = Registry::open(metadata, content, Arc::clone(sealer), clock.clone(), config).await;
    opened.context("cannot open the registry")
}

fn cannot_listen(address: SocketAddr) -> String {
    format!("cannot listen on {address}: choose another with --listen, or stop what uses it")
}
