//! What the hub tells Prometheus.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use isthmus_shared::resources::{MigrationPhase, MigrationSchedule};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::conditions::is_ready;
use crate::itinerary::Verdict;
use crate::records::Records;

/// The states of schedules.
const SCHEDULE_STATES: [&str; 4] = ["Ready", "Suspended", "Held", "NotReady"];

/// One label.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ready {
    ready: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Response {
    route: String,
    status: u16,
}

/// All metrics; clones count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    leader: Gauge,
    /// Polls that are being held.
    pub polls: Gauge,
    /// Connections that are open.
    pub connections: Gauge<i64, AtomicI64>,
    clusters: Family<Ready, Gauge>,
    migrations: Family<Phase, Gauge>,
    schedules: Family<State, Gauge>,
    scheduled_runs: Counter,
    reports: Family<Outcome, Counter>,
    probes: Family<Outcome, Counter>,
    reconciles: Family<Controller, Counter>,
    errors: Family<Controller, Counter>,
    responses: Family<Response, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("isthmus_hub");
        registry.register("build", "The hub's version", Info::new(vec![("version", crate::VERSION)]));
        let leader = Gauge::default();
        registry.register("leader", "Whether this hub leads", leader.clone());
        let polls = Gauge::default();
        registry.register("polls_in_flight", "Polls of spokes that are being held", polls.clone());
        let connections = Gauge::default();
        registry.register("connections", "Connections that are open", connections.clone());
        let clusters = Family::default();
        registry.register("clusters", "Clusters on record, by whether they are Ready", clusters.clone());
        let migrations = Family::default();
        registry.register("migrations", "Migrations on record, by phase", migrations.clone());
        let schedules = Family::default();
        registry.register("schedules", "Schedules on record, by state", schedules.clone());
        let scheduled_runs = Counter::default();
        let help = "Runs that this hub began by schedules";
        registry.register("scheduled_runs", help, scheduled_runs.clone());
        let reports = Family::default();
        registry.register("reports", "Reports of spokes, by what they came to", reports.clone());
        let probes = Family::default();
        registry.register("probes", "The hub's own probes of object stores, by outcome", probes.clone());
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciliations, by controller", reconciles.clone());
        let errors = Family::default();
        registry.register("reconcile_errors", "Reconciliations that failed, by controller", errors.clone());
        let responses = Family::default();
        registry.register("http_responses", "Responses, by route and status", responses.clone());
        Self {
            registry: Arc::new(registry),
            leader,
            polls,
            connections,
            clusters,
            migrations,
            schedules,
            scheduled_runs,
            reports,
            probes,
            reconciles,
            errors,
            responses,
        }
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(crate) fn report(&self, verdict: Verdict) {
        let outcome = match verdict {
            Verdict::Ignored => "ignored",
            Verdict::Figures => "figures",
            Verdict::Ended => "ended",
        };
        self.reports.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a run that a schedule began.
    pub(crate) fn began_by_schedule(&self) {
        self.scheduled_runs.inc();
    }

    pub(crate) fn probe(&self, succeeded: bool) {
        let outcome = if succeeded { "succeeded" } else { "failed" };
        self.probes.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn reconciled(&self, controller: &'static str, failed: bool) {
        self.reconciles.get_or_create(&Controller { controller }).inc();
        if failed {
            self.errors.get_or_create(&Controller { controller }).inc();
        }
    }

    /// Counts a response. `route` is the pattern, of which there are few, never the path.
    pub(crate) fn responded(&self, route: &str, status: u16) {
        self.responses.get_or_create(&Response { route: route.to_owned(), status }).inc();
    }

    /// Everything as text, in the format of `OpenMetrics`.
    pub(crate) fn text(&self, records: &Records) -> Result<String, std::fmt::Error> {
        let (mut ready, mut not) = (0, 0);
        for cluster in records.clusters.all() {
            let is = cluster.status.as_ref().is_some_and(|status| is_ready(&status.conditions));
            if is { ready += 1 } else { not += 1 }
        }
        self.clusters.get_or_create(&Ready { ready: "true" }).set(ready);
        self.clusters.get_or_create(&Ready { ready: "false" }).set(not);
        let all = records.migrations.all();
        for (phase, name) in [
            (MigrationPhase::Pending, "Pending"),
            (MigrationPhase::InProgress, "InProgress"),
            (MigrationPhase::Succeeded, "Succeeded"),
            (MigrationPhase::SucceededWithWarnings, "SucceededWithWarnings"),
            (MigrationPhase::Failed, "Failed"),
        ] {
            let is = |status: Option<MigrationPhase>| status.unwrap_or_default() == phase;
            let count = all.iter().filter(|m| is(m.status.as_ref().map(|s| s.status))).count();
            self.migrations
                .get_or_create(&Phase { phase: name })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let schedules = records.schedules.all();
        for name in SCHEDULE_STATES {
            let count = schedules.iter().filter(|schedule| state(schedule) == name).count();
            self.schedules
                .get_or_create(&State { state: name })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Whether a schedule begins runs, or why not.
fn state(schedule: &MigrationSchedule) -> &'static str {
    let [ready, suspended, held, not_ready] = SCHEDULE_STATES;
    match &schedule.status {
        _ if schedule.spec.suspend => suspended,
        Some(status) if status.held.is_some() => held,
        Some(status) if is_ready(&status.conditions) => ready,
        _ => not_ready,
    }
}
