//! `/metrics`: the numbers in the text form that Prometheus reads.
//!
//! On the public listener they are for whoever may `berth:ReadMetrics`; on `metrics_listen` for everybody who
//! reaches it. They name operations, replicas and states, never repositories, principals or clients.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use policies_identity::{AuthenticationError, Caller, Check, Denied, DeniedKind, Identity, RequestContext};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use registry::{PullThrough, PullThroughCounts};
use registry_core::Activity;
use registry_runtime::Served;

use super::passage::Observer;
use super::samples::{Sample, Samples};

const OPERATION: &str = "ReadMetrics";
const ACTION: &str = "berth:ReadMetrics";
const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

type Labels = Vec<(&'static str, String)>;

/// What the numbers are read from.
pub(crate) struct Exposition {
    pub(crate) observer: Arc<Observer>,
    pub(crate) samples: Samples,
    pub(crate) pull_through: PullThrough,
}

/// `/metrics` behind the gate.
pub(crate) fn guarded(exposition: Arc<Exposition>, identity: Identity) -> Router {
    Router::new().route("/metrics", get(read)).with_state((exposition, identity))
}

/// `/metrics` for everybody.
pub(crate) fn open(exposition: Arc<Exposition>) -> Router {
    Router::new().route("/metrics", get(read_openly)).with_state(exposition)
}

async fn read_openly(State(exposition): State<Arc<Exposition>>) -> Response {
    exposition.respond().await
}

async fn read(
    State((exposition, identity)): State<(Arc<Exposition>, Identity)>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
) -> Response {
    let mut served = Served::of("berth", OPERATION);
    let mut response = match admit(&identity, &context, &headers, &mut served) {
        Ok(()) => exposition.respond().await,
        Err(refusal) => *refusal,
    };
    response.extensions_mut().insert(served);
    response
}

/// Lets in who may read the numbers: with an access key or an ECR token, as Basic credentials.
fn admit(
    identity: &Identity,
    context: &RequestContext,
    headers: &HeaderMap,
    served: &mut Served,
) -> Result<(), Box<Response>> {
    let caller: Caller = identity.authenticate_docker(headers, context).map_err(|error| match error {
        AuthenticationError::Denied(denied) => refusal(&denied, false),
        AuthenticationError::Unavailable => Box::new(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        AuthenticationError::Missing
        | AuthenticationError::Malformed(_)
        | AuthenticationError::Mismatch
        | AuthenticationError::InvalidToken
        | AuthenticationError::Expired
        | AuthenticationError::InsecureTransport => challenge(),
    })?;
    served.principal = Some(caller.shared_arn());
    // A token that a Docker client got is for repositories.
    if caller.scope().is_some() {
        return Err(challenge());
    }
    identity.admit(context, &caller).map_err(|wait| {
        let retry_after = [(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))];
        Box::new((StatusCode::TOO_MANY_REQUESTS, retry_after).into_response())
    })?;
    let check = Check::any(ACTION);
    identity
        .authorize(context, &caller, OPERATION, &check)
        .map(drop)
        .map_err(|denied| refusal(&denied, caller.is_anonymous()))
}

fn challenge() -> Box<Response> {
    let basic = HeaderValue::from_static("Basic realm=\"berth\"");
    Box::new((StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, basic)]).into_response())
}

fn refusal(denied: &Denied, anonymous: bool) -> Box<Response> {
    match denied.kind() {
        DeniedKind::Policy if anonymous => challenge(),
        DeniedKind::Policy => Box::new((StatusCode::FORBIDDEN, format!("{denied}\n")).into_response()),
        DeniedKind::Revoked | DeniedKind::Expired => challenge(),
        DeniedKind::Unavailable => Box::new(StatusCode::SERVICE_UNAVAILABLE.into_response()),
    }
}

impl Exposition {
    async fn respond(&self) -> Response {
        let sample = self.samples.take().await;
        let mut registry = Registry::with_prefix("berth");
        self.observer.requests.register(&mut registry);
        counters(&mut registry, self.samples.activity(), self.observer.access.left_out());
        upstreams(&mut registry, self.pull_through.counts());
        gauges(&mut registry, &sample);
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

fn counters(registry: &mut Registry, activity: &Activity, left_out: u64) {
    let mut add = |name: &'static str, help: &'static str, value: u64| {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    add("access_lines_left_out", "Access lines that found no room", left_out);
    add("gc_rounds", "Rounds of the garbage collector", activity.collections.get());
    add("gc_deleted_objects", "Objects that the garbage collector deleted", activity.collected_objects.get());
    add("gc_examined", "Candidates that the garbage collector looked at", activity.collector_examined.get());
    add("gc_walked_rows", "Rows that the collector's walks passed", activity.collector_walked.get());
    add("scrub_copies", "Copies of objects that scrub read", activity.scrubbed_copies.get());
    add("scrub_bytes", "Bytes of the copies that scrub read", activity.scrubbed_bytes.get());
    add(
        "scrub_findings",
        "Damaged, missing and unknown objects that scrub found",
        activity.scrub_findings.get(),
    );
    let mut add_each =
        |name: &'static str, help: &'static str, label: &'static str, values: &[(&str, u64)]| {
            let family = Family::<Labels, Counter>::default();
            for (name, value) in values {
                family.get_or_create(&vec![(label, (*name).to_owned())]).inc_by(*value);
            }
            registry.register(name, help, family);
        };
    let reads = [("hit", activity.manifest_cache_hits.get()), ("miss", activity.manifest_cache_misses.get())];
    add_each("manifest_cache_reads", "Manifests read, from memory or not", "result", &reads);
    let repairs = [
        ("rewritten", activity.repairs_rewritten.get()),
        ("unneeded", activity.repairs_unneeded.get()),
        ("failed", activity.repairs_failed.get()),
    ];
    add_each("repairs", "Repairs of copies that were tried", "result", &repairs);
}

fn upstreams(registry: &mut Registry, counts: PullThroughCounts) {
    let fetches = Family::<Labels, Counter>::default();
    for (result, count) in [("fetched", counts.fetched), ("failed", counts.failed)] {
        fetches.get_or_create(&vec![("result", result.to_owned())]).inc_by(count);
    }
    registry.register("pull_through_fetches", "Fetches from upstreams", fetches);
    let stale: Counter = Counter::default();
    stale.inc_by(counts.stale);
    registry.register("pull_through_stale_answers", "Answers that may be older than upstream", stale);
}

/// Gauges of one name, with the label that tells them apart.
struct Gauges<'a>(&'a mut Registry);

impl Gauges<'_> {
    fn one(&mut self, name: &'static str, help: &'static str, value: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn each<'v>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'v str, f64)>,
    ) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (of, value) in values {
            family.get_or_create(&vec![(label, of.to_owned())]).set(value);
        }
        self.0.register(name, help, family);
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn gauges(registry: &mut Registry, sample: &Sample) {
    let mut gauges = Gauges(registry);
    gauges.each("info", "The release that serves", "version", [(env!("CARGO_PKG_VERSION"), 1.0)]);
    gauges.one("ready", "Whether requests are served", flag(sample.ready));
    if let Some(bytes) = sample.resident_bytes {
        gauges.one("resident_bytes", "Memory of this process", bytes as f64);
    }
    if let Some((store, census)) = &sample.store {
        gauges.one("repositories", "Repositories, counted up to 10000", census.repositories as f64);
        gauges.one("images", "Manifests in those repositories", census.usage.images as f64);
        gauges.one(
            "repository_bytes",
            "Bytes in those repositories, shared ones in each",
            census.usage.bytes as f64,
        );
        gauges.one(
            "uploads_open",
            "Uploads that are not finished, counted up to 10000",
            census.uploads as f64,
        );
        gauges.one("write_quorum", "Replicas that acknowledge a push", store.write_quorum as f64);
        let replicas = || store.replicas.iter();
        let up = replicas().map(|one| (one.id.as_str(), flag(one.problem.is_none())));
        gauges.each("replica_up", "Whether a replica can be used", "replica", up);
        let owed = replicas().map(|one| (one.id.as_str(), one.repairs as f64));
        gauges.each(
            "replica_repairs_pending",
            "Repairs a replica is owed, counted up to 10000",
            "replica",
            owed,
        );
        let left = replicas().map(|one| (one.id.as_str(), one.removals as f64));
        gauges.each(
            "replica_removals_pending",
            "Collected objects a replica is still to delete, counted up to 10000",
            "replica",
            left,
        );
        gauges.one("gc_candidates", "What the garbage collector is to look at", store.candidates as f64);
        let filled = replicas().map(|one| (one.id.as_str(), one.backfilled.unwrap_or(1.0)));
        gauges.each(
            "replica_filled_ratio",
            "How much of everything was queued for a replica",
            "replica",
            filled,
        );
        let open = store.open_findings.iter().map(|(kind, count)| (kind.as_str(), *count as f64));
        gauges.each("store_findings_open", "Findings that are not repaired", "kind", open);
        if let Some(scrub) = &store.scrub {
            gauges.one("scrub_done_ratio", "How far the walk of scrub has come", scrub.fraction());
        }
    }
    if let Some(log) = &sample.change_log {
        let behind = log.replicas.iter().map(|one| (one.name.as_str(), one.lag.changes as f64));
        gauges.each("change_log_behind", "Changes that a replica has not confirmed", "replica", behind);
        gauges.one(
            "change_log_lag_changes",
            "Changes that the quorum does not hold; without one, that no replica holds",
            log.lag.changes as f64,
        );
        gauges.one(
            "change_log_lag_seconds",
            "Since the first of those changes was committed",
            log.lag.age.as_secs_f64(),
        );
        let in_sync = log.replicas.iter().map(|one| (one.name.as_str(), flag(one.in_sync)));
        gauges.each("change_log_in_sync", "Whether a replica holds every change", "replica", in_sync);
    }
    gauges.one("scheduler_leads", "Whether this server leads the scheduler", flag(sample.fleet.is_some()));
    if let Some(fleet) = sample.fleet {
        gauges.one("clusters", "Clusters", fleet.clusters as f64);
        gauges.one("services", "Services that are active or draining", fleet.services as f64);
        let connected = fleet.connected_instances;
        let instances = [("connected", connected), ("silent", fleet.instances - connected)];
        let instances = instances.map(|(state, count)| (state, count as f64));
        gauges.each("instances", "Container instances", "agent", instances);
        let tasks = [("running", fleet.running_tasks as f64), ("pending", fleet.pending_tasks as f64)];
        gauges.each("tasks", "Tasks that are not stopped", "status", tasks);
    }
}
