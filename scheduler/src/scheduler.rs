//! The scheduler's face: opened by the binary, served by its front door, run by its workers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use parking_lot::Mutex;
use policies_identity::{AwsApi, Identity};
use registry_aws::AwsError;
use registry_runtime::{Clock, Sealer, Shutdown, worker};
use registry_sql::Database;
use scheduler_protocol::{JOIN_PATH, WEBSOCKET_PATH};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::addresses::Directory;
use crate::agents::{Invitation, Liveness, Sessions, create_token, join, websocket};
use crate::config::SchedulerConfig;
use crate::core::Core;
use crate::http::berth::{self, BerthClusters};
use crate::http::ecs::{self, Ecs};
use crate::ids::ClusterName;
use crate::images::{Images, ResolvedImage};
use crate::model::{Cluster, ClusterStatus, ImagePin, ServiceStatus};
use crate::names::{DEFAULT_CLUSTER, Names};
use crate::reconcile::{Reconciler, resolve_missing_images};
use crate::state::{Clerk, Ledger, Record};
use crate::store::{Enrolment, Store, StoreError};

const TICK: Duration = Duration::from_millis(500);
const IMAGES_AGAIN: Duration = Duration::from_secs(3);
const LOCAL_TOKEN_LIFE: Duration = Duration::from_secs(300);

/// Why the scheduler could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Refused(AwsError),
}

/// What [`Scheduler::start`] sets to work, once.
struct Workers {
    clerk: Clerk,
    reconciler: Arc<Reconciler>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    core: Arc<Core>,
    workers: Arc<Mutex<Option<Workers>>>,
    running: Arc<Mutex<Option<JoinHandle<()>>>>,
    closed: CancellationToken,
}

impl Scheduler {
    /// Whether this release can open what the database holds; nothing is changed.
    ///
    /// # Errors
    /// For the schema of a newer release, naming both versions.
    pub async fn check_schema(database: &Database) -> Result<(), registry_sql::Error> {
        Store::check_schema(database).await
    }

    /// Every operation of the ECS API, offered or not.
    pub const ECS_OPERATIONS: &'static [&'static str] = ecs::OPERATIONS;
    /// Berth's own operations on clusters and hosts.
    pub const BERTH_OPERATIONS: &'static [&'static str] = berth::OPERATIONS;

    /// Brings the tables up to date and the cluster into memory. From now on no other scheduler can write.
    /// Nothing is decided or answered before [`Scheduler::start`].
    pub async fn open(
        database: Database,
        sealer: Arc<Sealer>,
        identity: Identity,
        images: Arc<dyn Images>,
        config: SchedulerConfig,
        clock: Clock,
    ) -> Result<Scheduler, SchedulerError> {
        let (store, state) = Store::open(database, Arc::clone(&sealer)).await?;
        let (ledger, clerk) = Ledger::new(state, store.clone(), clock.clone());
        let directory = Directory::new(clock.clone(), &ledger.read());
        let (sessions, liveness) = (Sessions::default(), Liveness::new(clock.clone()));
        let reconciler =
            Reconciler::new(config.clone(), liveness.clone(), sessions.clone(), directory.clone());
        let names = Names { region: config.region.clone(), account: config.account_id.clone() };
        let stopping = CancellationToken::new();
        let core = Core {
            config,
            names,
            ledger,
            store,
            identity,
            images,
            sealer,
            clock,
            sessions,
            liveness,
            directory,
            stopping,
        };
        let workers = Arc::new(Mutex::new(Some(Workers { clerk, reconciler })));
        Ok(Scheduler {
            core: Arc::new(core),
            workers,
            running: Arc::default(),
            closed: CancellationToken::new(),
        })
    }

    /// Starts the workers; to be called once the listener takes connections. A second call does nothing. When the
    /// shutdown begins, agents' connections end and nothing more is decided; see [`Scheduler::close`].
    pub fn start(&self, shutdown: &Shutdown) {
        let Some(Workers { clerk, reconciler }) = self.workers.lock().take() else { return };
        self.core.liveness.begin();
        let running = tokio::spawn(clerk.run(reconciler, TICK, shutdown.clone(), self.closed.clone()));
        *self.running.lock() = Some(running);
        let (begun, stopping) = (shutdown.clone(), self.core.stopping.clone());
        tokio::spawn(async move {
            begun.begun().await;
            stopping.cancel();
        });
        let (core, begun) = (Arc::clone(&self.core), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = begun.begun() => {}
                () = release_drained(&core) => {}
            }
        });
        let core = Arc::clone(&self.core);
        worker::spawn("resolve missing images", IMAGES_AGAIN, shutdown, move || {
            let core = Arc::clone(&core);
            async move { resolve_missing_images(&core).await }
        });
    }

    /// Finishes what was asked and takes nothing more; to be called when the listener has ended.
    pub async fn close(&self) {
        self.closed.cancel();
        let running = self.running.lock().take();
        if let Some(running) = running
            && let Err(error) = running.await
        {
            tracing::error!(error = %error, "the scheduler's ledger did not end as it should");
        }
    }

    /// `GET /ws` for agents and `POST /join` for hosts that want to become some.
    pub fn router(&self) -> Router {
        Router::new()
            .route(WEBSOCKET_PATH, get(websocket))
            .route(JOIN_PATH, post(join))
            .with_state(Arc::clone(&self.core))
    }

    /// The ECS API, to be served with `policies_identity::serve_aws`.
    pub fn ecs_api(&self) -> Arc<dyn AwsApi> {
        Arc::new(Ecs::new(Arc::clone(&self.core)))
    }

    /// Berth's own operations on clusters and hosts.
    pub fn berth_api(&self) -> Arc<dyn AwsApi> {
        Arc::new(BerthClusters::new(Arc::clone(&self.core)))
    }

    /// Makes the cluster `default` if it does not exist. Needs the workers.
    ///
    /// # Errors
    /// The database's.
    pub async fn ensure_default_cluster(&self) -> Result<(), SchedulerError> {
        let change = self.core.ledger.change(|draft| {
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
        change.await.map_err(SchedulerError::Refused)
    }

    /// A join token for the agent that runs in the same process.
    ///
    /// # Errors
    /// A cluster name that is none; the database's.
    pub async fn local_join_token(&self, cluster: &str) -> Result<String, SchedulerError> {
        let cluster = self.core.names.parse_cluster(Some(cluster)).map_err(SchedulerError::Refused)?;
        let invitation = Invitation {
            enrolment: Enrolment::of_cluster(cluster),
            life: LOCAL_TOKEN_LIFE,
            uses: 1,
            instance: None,
            created_by: "berth up".to_owned(),
        };
        let made = create_token(&self.core, invitation).await;
        made.map(|(token, _)| token).map_err(SchedulerError::Refused)
    }

    /// The images that live tasks and active deployments run: not to be collected.
    pub fn pinned_images(&self) -> BTreeSet<ResolvedImage> {
        let state = self.core.ledger.read();
        let of_tasks = state.tasks().filter(|task| !task.is_stopped()).flat_map(|task| &task.containers);
        let of_services = state.services().filter(|service| service.status != ServiceStatus::Inactive);
        let of_deployments = of_services.flat_map(|service| &service.deployments).flat_map(|one| &one.images);
        of_tasks
            .map(|container| &container.pin)
            .chain(of_deployments)
            .filter_map(|pin| match pin {
                ImagePin::Pinned(image) => {
                    Some(ResolvedImage { repository: image.repository.clone(), digest: image.digest.clone() })
                }
                ImagePin::Foreign | ImagePin::Missing(_) => None,
            })
            .collect()
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
