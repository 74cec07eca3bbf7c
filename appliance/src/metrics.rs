//! Prometheus metrics. Labels are check ids and states, never names of nodes.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The check id of a denial.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ByCheck {
    pub(crate) check: String,
}

/// All metrics.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) permits: Counter,
    pub(crate) denials: Family<ByCheck, Counter>,
    pub(crate) warnings: Family<ByCheck, Counter>,
    pub(crate) malformed: Counter,
    pub(crate) over_budget: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) connections: Gauge,
    pub(crate) log_size: Gauge<u64, AtomicU64>,
    pub(crate) tripped: Gauge,
    pub(crate) request_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // 0.5 ms to 4 s, doubling.
        let buckets = (0_i32..14).map(|n| 0.0005 * 2_f64.powi(n));
        let mut metrics = Self {
            registry: Registry::with_prefix("portcullis"),
            permits: Counter::default(),
            denials: Family::default(),
            warnings: Family::default(),
            malformed: Counter::default(),
            over_budget: Counter::default(),
            handshakes_failed: Counter::default(),
            connections: Gauge::default(),
            log_size: Gauge::default(),
            tripped: Gauge::default(),
            request_seconds: Histogram::new(buckets),
        };
        let r = &mut metrics.registry;
        r.register("permits", "Permits issued", metrics.permits.clone());
        r.register("denials", "Denials, by first failed check", metrics.denials.clone());
        r.register("warnings", "Permits that a later date would deny, by check", metrics.warnings.clone());
        r.register("malformed_requests", "Requests that could not be parsed", metrics.malformed.clone());
        r.register("over_budget", "Requests and connections refused over budget", metrics.over_budget.clone());
        r.register(
            "handshakes_failed",
            "TLS handshakes that failed or took too long",
            metrics.handshakes_failed.clone(),
        );
        r.register("connections", "Open connections of nodes", metrics.connections.clone());
        r.register("log_size", "Entries in the log", metrics.log_size.clone());
        r.register("tripped", "1 once the authority stopped signing", metrics.tripped.clone());
        r.register("request_seconds", "Time from a permit request to its answer", metrics.request_seconds.clone());
        metrics
    }

    /// The metrics in Prometheus text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}
