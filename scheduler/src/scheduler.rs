//! The scheduler's face: opened by the binary, served by its front door, run by its workers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use parking_lot::Mutex;
use policies_identity::{AwsApi, Identity};
use registry_aws::AwsError;
use registry_runtime::{Clock, Sealer, Shutdown};
use registry_sql::Database;
use scheduler_protocol::{JOIN_PATH, WEBSOCKET_PATH};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agents::{Follower, Invitation, TasksOfCluster, create_token, join, websocket};
use crate::config::SchedulerConfig;
use crate::core::Core;
use crate::http::berth::{self, BerthClusters};
use crate::http::ecs::{self, Ecs};
use crate::images::{Images, ResolvedImage};
use crate::lead::{Lead, Leader};
use crate::model::ImagePin;
use crate::names::Names;
use crate::store::{self, Enrolment, Store, StoreError};
use crate::term::{self, Term};

const LOCAL_TOKEN_LIFE: Duration = Duration::from_secs(300);

/// Why the scheduler could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Refused(AwsError),
}

/// What a term is made of.
pub(crate) struct Parts {
    pub(crate) database: Database,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) identity: Identity,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) config: SchedulerConfig,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) follower: Follower,
}

/// What [`Scheduler::start`] sets to work, once.
enum Waiting {
    /// The only server of its database has read everything already.
    Alone(Box<Term>),
    /// One of several, reached by the others at this address.
    Several(String),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    parts: Arc<Parts>,
    lead: Lead,
    waiting: Arc<Mutex<Option<Waiting>>>,
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

    /// Brings the tables up to date, and, for the only server of its database, the cluster into memory: from now on
    /// no other scheduler can write. Nothing is decided or answered before [`Scheduler::start`].
    pub async fn open(
        database: Database,
        sealer: Arc<Sealer>,
        identity: Identity,
        images: Arc<dyn Images>,
        config: SchedulerConfig,
        clock: Clock,
    ) -> Result<Scheduler, SchedulerError> {
        Store::migrate(&database).await?;
        let names = Names { region: config.region.clone(), account: config.account_id.clone() };
        let (lead, follower) = (Lead::new(), Follower::default());
        identity.follow_tasks(Arc::new(TasksOfCluster {
            lead: lead.clone(),
            follower: follower.clone(),
            names: names.clone(),
        }));
        let several = config.peer_address.clone();
        let parts = Parts { database, sealer, identity, images, config, names, clock, follower };
        let waiting = match several {
            Some(address) => Waiting::Several(address),
            None => {
                let store = Store::lead_alone(parts.database.clone(), Arc::clone(&parts.sealer)).await?;
                let term = Term::begin(&parts, store).await?;
                lead.begin(Arc::clone(&term.core));
                Waiting::Alone(Box::new(term))
            }
        };
        Ok(Scheduler {
            parts: Arc::new(parts),
            lead,
            waiting: Arc::new(Mutex::new(Some(waiting))),
            running: Arc::default(),
            closed: CancellationToken::new(),
        })
    }

    /// Starts the workers; to be called once the listener takes connections. A second call does nothing. When the
    /// shutdown begins, agents' connections end and nothing more is decided; see [`Scheduler::close`].
    pub fn start(&self, shutdown: &Shutdown) {
        let Some(waiting) = self.waiting.lock().take() else { return };
        let (shutdown, closed) = (shutdown.clone(), self.closed.clone());
        let running = match waiting {
            Waiting::Alone(term) => tokio::spawn(term::lead_alone(*term, shutdown, closed)),
            Waiting::Several(address) => {
                let (parts, lead) = (Arc::clone(&self.parts), self.lead.clone());
                tokio::spawn(term::take_turns(parts, address, lead, shutdown, closed))
            }
        };
        *self.running.lock() = Some(running);
    }

    /// Who leads, and every change of it.
    pub fn leader(&self) -> watch::Receiver<Leader> {
        self.lead.watch()
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
            .with_state(self.lead.clone())
    }

    /// The ECS API, to be served with `policies_identity::serve_aws`.
    pub fn ecs_api(&self) -> Arc<dyn AwsApi> {
        Arc::new(Ecs::new(self.lead.clone()))
    }

    /// Berth's own operations on clusters and hosts.
    pub fn berth_api(&self) -> Arc<dyn AwsApi> {
        Arc::new(BerthClusters::new(self.lead.clone()))
    }

    /// Makes the cluster `default` if it does not exist. Needs the workers.
    ///
    /// # Errors
    /// The database's.
    pub async fn ensure_default_cluster(&self) -> Result<(), SchedulerError> {
        match self.lead.present() {
            Some(core) => term::ensure_default_cluster(&core).await.map_err(SchedulerError::Refused),
            // Of several servers the one that leads makes it when its term begins.
            None => Ok(()),
        }
    }

    /// A join token for the agent that runs in the same process.
    ///
    /// # Errors
    /// A cluster name that is none; the database's.
    pub async fn local_join_token(&self, cluster: &str) -> Result<String, SchedulerError> {
        let core = self.lead.core().map_err(SchedulerError::Refused)?;
        let cluster = core.names.parse_cluster(Some(cluster)).map_err(SchedulerError::Refused)?;
        let invitation = Invitation {
            enrolment: Enrolment::of_cluster(cluster),
            life: LOCAL_TOKEN_LIFE,
            uses: 1,
            instance: None,
            created_by: "berth up".to_owned(),
        };
        let made = create_token(&core, invitation).await;
        made.map(|(token, _)| token).map_err(SchedulerError::Refused)
    }

    pub(crate) fn present_core(&self) -> Option<Arc<Core>> {
        self.lead.present()
    }

    /// The images that live tasks and active deployments run, as it is committed: not to be collected.
    ///
    /// # Errors
    /// The database's, where another server leads.
    pub async fn pinned_images(&self) -> Result<BTreeSet<ResolvedImage>, SchedulerError> {
        let Some(core) = self.lead.present() else {
            return Ok(store::pinned_images(&self.parts.database).await?);
        };
        let state = core.ledger.read();
        let of_tasks = state.tasks().flat_map(|task| task.image_pins());
        let of_services = state.services().flat_map(|service| service.image_pins());
        Ok(of_tasks.chain(of_services).filter_map(ImagePin::resolved).collect())
    }
}
