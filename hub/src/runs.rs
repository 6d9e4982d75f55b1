//! Runs as they go on: reports in, time passing, statuses and events out.
//!
//! All changes of a migration's status go through [`Runs`], one at a time for each migration.
//! Figures are written at most every [`FIGURES_EVERY`] for a migration, and at most
//! [`FIGURES_PER_SECOND`] in all, so that ten thousand runs that tell how far they are do not take the
//! API server from those that go on; a task's end is written before the spoke
//! that reported it is answered, so what a spoke knows to be delivered is in the record.

mod pace;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isthmus_shared::protocol::{TaskId, TaskReport, TaskState};
use isthmus_shared::resources::{Migration, MigrationPhase, MigrationStatus};
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use crate::events::Events;
use crate::itinerary::{self, PairView, Verdict};
use crate::leader::LeaseLost;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::records::{Records, WriteError, Writer};
use crate::room::Need;
use crate::surroundings;
use pace::Pace;

/// How often figures alone are written, for each migration.
pub(crate) const FIGURES_EVERY: Duration = Duration::from_secs(2);
/// How often figures alone are written, for all migrations together.
pub(crate) const FIGURES_PER_SECOND: u32 = 50;

/// What is kept of a run in memory. It may be lost at any time: the next report says it all.
#[derive(Default)]
struct Memory {
    /// The highest sequence of each task's reports.
    sequences: HashMap<TaskId, u64>,
    /// The newest reports of figures that are not written yet.
    unwritten: HashMap<TaskId, TaskReport>,
    written_at: Option<Instant>,
}

type Slot = Arc<tokio::sync::Mutex<Memory>>;

/// All runs of this term.
pub(crate) struct Runs {
    records: Arc<Records>,
    presence: Arc<Presence>,
    writer: Writer,
    events: Events,
    metrics: Metrics,
    figures: Pace,
    slots: Mutex<HashMap<String, Slot>>,
    /// Held while it is decided whether a migration may begin: of two that move the same
    /// namespace, the second must see that the first has begun.
    admission: tokio::sync::Mutex<()>,
}

impl Runs {
    pub(crate) fn new(
        records: Arc<Records>,
        presence: Arc<Presence>,
        writer: Writer,
        events: Events,
        metrics: Metrics,
    ) -> Self {
        let (slots, admission) = (Mutex::default(), tokio::sync::Mutex::default());
        let figures = Pace::new(FIGURES_PER_SECOND);
        Self { records, presence, writer, events, metrics, figures, slots, admission }
    }

    /// Moves a migration on as far as it goes now.
    pub(crate) async fn advance(&self, migration: &Migration) -> Result<(), WriteError> {
        let pending = migration.status.as_ref().is_none_or(|s| s.status == MigrationPhase::Pending);
        let _held = if pending { Some(self.admission.lock().await) } else { None };
        if pending {
            self.line_up(migration);
        }
        self.step(migration, Vec::new()).await
    }

    /// Waits until nobody decides whether a migration may begin, and has nobody decide it until what
    /// is given back is dropped.
    pub(crate) async fn admission(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.admission.lock().await
    }

    /// Takes in reports of one spoke about one migration's tasks.
    pub(crate) async fn report(
        &self,
        migration: &Migration,
        reports: Vec<TaskReport>,
    ) -> Result<(), WriteError> {
        self.step(migration, reports).await
    }

    /// Forgets the migrations that are not of these uids.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        if let Ok(mut slots) = self.slots.lock() {
            slots.retain(|uid, _| keep(uid));
        }
    }

    async fn step(&self, migration: &Migration, reports: Vec<TaskReport>) -> Result<(), WriteError> {
        let (Some(uid), Some(namespace)) = (migration.uid(), migration.namespace()) else { return Ok(()) };
        let slot = self.slot(uid);
        let mut memory = slot.lock().await;
        let urgent = self.sort_in(&mut memory, migration, reports);
        let due = memory.written_at.is_none_or(|at| at.elapsed() >= FIGURES_EVERY);
        let mut notes = Vec::new();
        let (mut wrote, mut waits) = (false, false);
        let fence = self.writer.term.fence();
        let mut outdone = false;
        let now = Timestamp::now();
        let unwritten: Vec<TaskReport> = memory.unwritten.values().cloned().collect();
        let written = self
            .writer
            .status(&self.records.migrations, &namespace, &migration.name_any(), |known| {
                (wrote, waits) = (false, false);
                outdone = known.status.as_ref().is_some_and(|status| status.fence > fence);
                if outdone {
                    return None;
                }
                let after = self.decide(known, &unwritten, now);
                let before = known.status.clone().unwrap_or_default();
                if before == after {
                    return None;
                }
                let figures_only = !urgent && outline(&before) == outline(&after);
                if figures_only && !(due && self.figures.take()) {
                    waits = true;
                    return None;
                }
                wrote = true;
                notes = itinerary::notes(known, &after);
                let mut changed = known.clone();
                let mut after = after;
                itinerary::stamp(&mut after, fence, now);
                changed.status = Some(after);
                Some(changed)
            })
            .await?;
        if outdone {
            tracing::error!(
                migration = migration.name_any(),
                "another hub has led since: this one stops leading"
            );
            self.writer.term.end();
            return Err(LeaseLost.into());
        }
        if wrote {
            memory.written_at = Some(Instant::now());
        }
        if !waits {
            memory.unwritten.clear();
        }
        drop(memory);
        if let Some(written) = written.filter(|_| wrote) {
            self.events.tell(&written.object_ref(&()), notes);
        }
        Ok(())
    }

    fn slot(&self, uid: String) -> Slot {
        match self.slots.lock() {
            Ok(mut slots) => Arc::clone(slots.entry(uid).or_default()),
            // Poisoned by a panic: without what was kept, which may be lost at any time.
            Err(_) => Slot::default(),
        }
    }

    /// Keeps the newest report of each task that is under way; tells whether one of them ends its
    /// task. A report of any other task is late, doubled, or nobody's.
    fn sort_in(&self, memory: &mut Memory, migration: &Migration, reports: Vec<TaskReport>) -> bool {
        if reports.is_empty() {
            return false;
        }
        let newest =
            migration.namespace().and_then(|ns| self.records.migrations.get(&ns, &migration.name_any()));
        let open: HashSet<TaskId> = newest.map_or_else(HashSet::new, |migration| {
            let view = surroundings::view(&self.records, &self.presence, &migration);
            itinerary::tasks(&migration, &view).into_iter().map(|task| task.id).collect()
        });
        // Of a task that is over every report is ignored, whatever its number.
        memory.sequences.retain(|task, _| open.contains(task));
        let mut urgent = false;
        for report in reports {
            let ends = report.state != TaskState::Running;
            let newest = memory.sequences.get(&report.task).is_none_or(|known| report.sequence > *known);
            // The end of a task is taken whenever it comes, and counts once; it is only figures
            // that would go backwards.
            if !open.contains(&report.task) || (!newest && !ends) {
                self.metrics.report(Verdict::Ignored);
                continue;
            }
            self.metrics.report(if ends { Verdict::Ended } else { Verdict::Figures });
            memory.sequences.insert(report.task.clone(), report.sequence);
            urgent |= ends;
            memory.unwritten.insert(report.task.clone(), report);
        }
        urgent
    }

    /// The status of a migration after these reports and the time that has passed.
    fn decide(&self, known: &Migration, reports: &[TaskReport], now: Timestamp) -> MigrationStatus {
        let mut migration = known.clone();
        let view = self.view(&migration);
        for report in reports {
            let (status, verdict) = itinerary::record(&migration, &view, report, now);
            if verdict != Verdict::Ignored {
                migration.status = Some(status);
            }
        }
        itinerary::advance(&migration, &view, now)
    }

    /// The surroundings of a migration, with what it has no room on while it has not begun.
    fn view(&self, migration: &Migration) -> PairView {
        let mut view = surroundings::view(&self.records, &self.presence, migration);
        if let Some(need) = self.need(migration, &view) {
            view.full = self.records.room.lacks(migration, &need);
        }
        view
    }

    /// What a migration that has not begun needs room on, as far as its pair is there.
    fn need(&self, migration: &Migration, view: &PairView) -> Option<Need> {
        if migration.status.as_ref().is_some_and(|status| status.status != MigrationPhase::Pending) {
            return None;
        }
        let pairs = self.records.pairs.all();
        let own = view.pair.as_ref()?;
        let store = pairs.iter().find(|pair| pair.metadata.uid.as_ref() == Some(&own.uid))?;
        let store = store.spec.object_store.clone();
        let through = pairs.iter().filter(|pair| pair.spec.object_store == store);
        Some(Need {
            clusters: [own.source.clone(), own.destination.clone()],
            pairs: through.filter_map(|pair| pair.uid()).collect(),
            store,
        })
    }

    /// Has a migration that has not begun wait its turn if it is only room that it lacks.
    fn line_up(&self, migration: &Migration) {
        let namespace = migration.namespace().unwrap_or_default();
        let Some(newest) = self.records.migrations.get(&namespace, &migration.name_any()) else { return };
        let view = self.view(&newest);
        match self.need(&newest, &view) {
            Some(need) if itinerary::waits_for_room(&newest, &view, Timestamp::now()) => {
                self.records.room.wait(&newest, need);
            }
            _ => self.records.room.waits_not(&newest),
        }
    }
}

/// Everything of a status but its figures and words: what is written at once when it changes.
fn outline(status: &MigrationStatus) -> impl PartialEq + use<> {
    let steps: Vec<_> = status
        .pipeline
        .iter()
        .map(|step| (step.step, step.state, step.tasks.iter().map(|task| task.state).collect::<Vec<_>>()))
        .collect();
    let volumes: Vec<_> =
        status.volumes.iter().map(|v| (v.uid.clone(), v.phase, v.send, v.receive)).collect();
    let pending_message = (status.status == MigrationPhase::Pending).then(|| status.message.clone());
    (status.status, pending_message, steps, volumes, status.failures_total, status.warnings_total)
}
