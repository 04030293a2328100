//! Numbers about requests. A request touches a handful of atomic counters; no lock is held but to find them.

use std::fmt::Write;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use registry_runtime::OperationName;

/// Seconds: from a read of memory to a push that waits for disks.
const LATENCIES: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Named(OperationName);

impl EncodeLabelValue for Named {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        write!(encoder, "{}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOperation {
    operation: Named,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    operation: Named,
    code: u32,
}

type NewHistogram = fn() -> Histogram;

pub(crate) struct Requests {
    answered: Family<Answered, Counter>,
    durations: Family<OfOperation, Histogram, NewHistogram>,
    received: Family<OfOperation, Counter>,
    sent: Family<OfOperation, Counter>,
    under_way: Gauge,
}

impl Requests {
    pub(crate) fn new() -> Self {
        let histogram: NewHistogram = || Histogram::new(LATENCIES);
        Self {
            answered: Family::default(),
            durations: Family::new_with_constructor(histogram),
            received: Family::default(),
            sent: Family::default(),
            under_way: Gauge::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests that were answered", self.answered.clone());
        registry.register(
            "http_request_duration_seconds",
            "From a request's head to the head of its answer",
            self.durations.clone(),
        );
        registry.register("http_received_bytes", "Bytes of requests' bodies", self.received.clone());
        registry.register("http_sent_bytes", "Bytes of answers' bodies", self.sent.clone());
        registry.register(
            "http_requests_under_way",
            "Requests that are not answered whole",
            self.under_way.clone(),
        );
    }

    pub(super) fn begun(&self) {
        self.under_way.inc();
    }

    pub(super) fn ended(
        &self,
        operation: OperationName,
        code: u16,
        answered_after: Duration,
        received: u64,
        sent: u64,
    ) {
        self.under_way.dec();
        let of_operation = OfOperation { operation: Named(operation) };
        let answered = Answered { operation: Named(operation), code: code.into() };
        self.answered.get_or_create(&answered).inc();
        self.durations.get_or_create(&of_operation).observe(answered_after.as_secs_f64());
        if received > 0 {
            self.received.get_or_create(&of_operation).inc_by(received);
        }
        if sent > 0 {
            self.sent.get_or_create(&of_operation).inc_by(sent);
        }
    }
}
