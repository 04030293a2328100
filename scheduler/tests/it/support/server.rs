//! The scheduler with its identity, its database and a registry that knows a few images.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::post;
use parking_lot::Mutex;
use policies_identity::{AwsApi, BootstrapKey, Identity, IdentityConfig, RequestContext, serve_aws};
use registry_aws::{AwsError, Client, ClientError, Credentials};
use registry_runtime::listener::{Limits, serve};
use registry_runtime::{Clock, Sealer, Secret, SecretString, Shutdown};
use registry_sql::Database;
use scheduler::{ImageError, Images, ResolvedImage, Scheduler, SchedulerConfig, WantedImage};
use serde_json::{Value, json};

pub(crate) const ACCOUNT: &str = "000000000000";
pub(crate) const REGION: &str = "us-east-1";
const KEY_ID: &str = "AKIAADMINISTRATOR1";
const SECRET: &str = "an-administrators-secret-for-tests-only";
const TARGET: &str = "AmazonEC2ContainerServiceV20141113";
pub(crate) const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The name of an image that the registry of these tests has.
pub(crate) fn own_image() -> &'static str {
    "127.0.0.1:5000/app:1"
}

/// Own names begin with `127.0.0.1:5000/`; those in the map exist.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) images: Mutex<HashMap<String, String>>,
}

#[async_trait]
impl Images for Registry {
    async fn resolve(&self, image: WantedImage<'_>) -> Result<Option<ResolvedImage>, ImageError> {
        let image = image.name;
        let Some(name) = image.strip_prefix("127.0.0.1:5000/") else { return Ok(None) };
        let repository = name.split(':').next().unwrap_or(name).to_owned();
        match self.images.lock().get(image) {
            Some(digest) => Ok(Some(ResolvedImage { repository, digest: digest.clone() })),
            None => Err(ImageError::NotFound(format!("{image}: not found"))),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) lease: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lease: Duration::from_secs(30) }
    }
}

struct Apis {
    identity: Identity,
    apis: Vec<Arc<dyn AwsApi>>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Arc<Registry>,
    pub(crate) identity: Identity,
    pub(crate) scheduler: Scheduler,
    directory: Arc<tempfile::TempDir>,
    settings: Settings,
    shutdown: Shutdown,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Self::start_with(Settings::default()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Server {
        let registry = Arc::new(Registry::default());
        registry.images.lock().insert(own_image().into(), DIGEST.into());
        Self::open(Arc::new(tempfile::tempdir().unwrap()), registry, settings, None).await
    }

    /// The same server again, on the same data and port, after it was stopped.
    pub(crate) async fn restart(self) -> Server {
        self.shutdown.begin();
        self.scheduler.close().await;
        self.identity.close().await;
        let Server { directory, registry, settings, address, scheduler, .. } = self;
        drop(scheduler);
        Self::open(directory, registry, settings, Some(address)).await
    }

    async fn open(
        directory: Arc<tempfile::TempDir>,
        registry: Arc<Registry>,
        settings: Settings,
        address: Option<SocketAddr>,
    ) -> Server {
        let database =
            Database::open_rerunning(&test_support::database_in(directory.path()), 7).await.unwrap();
        let sealer = Arc::new(Sealer::new(&Secret::new(vec![7; 32]), 1));
        let clock = Clock::system();
        let account_id: registry_types::AccountId = ACCOUNT.parse().unwrap();
        let region: registry_types::Region = REGION.parse().unwrap();
        let config = IdentityConfig {
            account_id: account_id.clone(),
            region: region.clone(),
            bootstrap: Some(BootstrapKey {
                access_key_id: KEY_ID.into(),
                secret_access_key: SecretString::new(SECRET.into()),
            }),
            credentials_file: None,
            audit_log: directory.path().join("audit.log"),
            clock_skew_ms: IdentityConfig::DEFAULT_CLOCK_SKEW_MS,
        };
        let (identity, _) =
            Identity::open(database.clone(), Arc::clone(&sealer), config, clock.clone()).await.unwrap();
        let config = SchedulerConfig { lease: settings.lease, ..SchedulerConfig::new(account_id, region) };
        let images: Arc<dyn Images> = registry.clone();
        let scheduler =
            Scheduler::open(database, sealer, identity.clone(), images, config, clock).await.unwrap();
        let listener = bind(address).await;
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let apis =
            Apis { identity: identity.clone(), apis: vec![scheduler.ecs_api(), scheduler.berth_api()] };
        let router = Router::new()
            .route("/", post(dispatch))
            .with_state(Arc::new(apis))
            .merge(scheduler.router())
            .layer(middleware::from_fn(enter));
        let limits = Limits { grace: Duration::from_millis(100), ..Limits::default() };
        tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        scheduler.start(&shutdown);
        scheduler.ensure_default_cluster().await.unwrap();
        Server { address, registry, identity, scheduler, directory, settings, shutdown }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    pub(crate) fn client(&self, credentials: Credentials) -> Client {
        Client::new(&self.url(), REGION, credentials).unwrap()
    }

    pub(crate) fn administrator(&self) -> Client {
        self.client(Credentials::new(KEY_ID, SECRET))
    }

    /// An ECS operation as the administrator.
    pub(crate) async fn ecs(&self, operation: &str, input: Value) -> Value {
        let answer = self.administrator().call("ecs", TARGET, operation, &input).await;
        answer.unwrap_or_else(|error| panic!("{operation}: {error:?}"))
    }

    /// The error that an ECS operation of the administrator ends with.
    pub(crate) async fn refused(&self, operation: &str, input: Value) -> AwsError {
        refused(&self.administrator(), operation, input).await
    }

    pub(crate) async fn berth(&self, operation: &str, input: Value) -> Value {
        self.administrator().call("berth", "Berth_20261101", operation, &input).await.unwrap()
    }

    pub(crate) async fn berth_refused(&self, operation: &str, input: Value) -> AwsError {
        error_of(operation, self.administrator().call("berth", "Berth_20261101", operation, &input).await)
    }

    /// A definition with one container and this content beside the defaults; the answer's ARN.
    pub(crate) async fn define(&self, family: &str, container: Value) -> String {
        let mut definition = json!({"name": "main", "image": own_image(), "cpu": 10, "memory": 16});
        definition.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        let answer = self
            .ecs("RegisterTaskDefinition", json!({"family": family, "containerDefinitions": [definition]}))
            .await;
        answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn task(&self, arn: &str) -> Value {
        self.ecs("DescribeTasks", json!({"tasks": [arn]})).await["tasks"][0].clone()
    }

    pub(crate) async fn service(&self, name: &str) -> Value {
        self.ecs("DescribeServices", json!({"services": [name]})).await["services"][0].clone()
    }
}

pub(crate) async fn refused(client: &Client, operation: &str, input: Value) -> AwsError {
    error_of(operation, client.call("ecs", TARGET, operation, &input).await)
}

fn error_of(operation: &str, answer: Result<Value, ClientError>) -> AwsError {
    match answer {
        Err(ClientError::Service(error)) => error,
        other => panic!("{operation} was not refused: {other:?}"),
    }
}

/// The port of a server that has just stopped may be held for a moment.
async fn bind(address: Option<SocketAddr>) -> tokio::net::TcpListener {
    let Some(address) = address else { return tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap() };
    super::eventually("the port", || async move { tokio::net::TcpListener::bind(address).await.ok() }).await
}

/// What the front door does to each request.
async fn enter(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let context = RequestContext::of(&parts, &[], Clock::system().now_ms()).unwrap();
    parts.extensions.insert(context);
    next.run(Request::from_parts(parts, body)).await
}

async fn dispatch(State(apis): State<Arc<Apis>>, request: Request) -> Response {
    let target =
        request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let prefix = target.split('.').next().unwrap_or_default().to_owned();
    let api = apis.apis.iter().find(|api| api.target_prefix() == prefix).expect("a known target");
    serve_aws(&apis.identity, &**api, request).await
}
