//! What `isthmus diff` shows: what would become of each object, and what is in the way.

use std::collections::BTreeMap;

use isthmus_shared::protocol::{ObjectAction, ObjectResult};
use isthmus_shared::resources::{
    ClusterPair, Finding, Migration, MigrationPhase, NamespaceMove, ResourceCounts,
};
use kube::ResourceExt;
use serde::Serialize;

use super::migration::findings;
use super::objects::{Totals, diff_lines, kind_of, left_behind_rows, reason_of, title_of};
use super::sheet::Sheet;

/// As many objects that would be created are named one by one; of more, the kinds with their
/// counts.
const MAX_NAMED: usize = 200;
/// What the hub or a spoke says when the clusters could not be looked at, rather than that
/// something in them is in the way.
const NOT_LOOKED_AT: &[&str] = &[
    "Cancelled",
    "PairGone",
    "ClusterGone",
    "TaskFailed",
    "BadReport",
    "NoNews",
    "ApiServerUnreachable",
    "StagingUnusable",
    "ArchiveMissing",
    "ArchiveDamaged",
];

/// Whether the migration could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Prospect {
    /// Nothing is in the way.
    CouldRun,
    /// Something is.
    InTheWay,
    /// It could not be told.
    Unknown,
}

/// What there is to show of a dry run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffView {
    /// Whether it could run.
    pub prospect: Prospect,
    /// The pair.
    pub pair: String,
    /// The cluster that it would take from.
    pub source: String,
    /// The cluster that it would bring to.
    pub destination: String,
    /// The namespaces.
    pub namespaces: Vec<NamespaceMove>,
    /// The message of the dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is in the way.
    pub failures: Vec<Finding>,
    /// How much of it there is.
    pub failures_total: u64,
    /// What a person should know.
    pub warnings: Vec<Finding>,
    /// How much of it there is.
    pub warnings_total: u64,
    /// The counts.
    pub counts: ResourceCounts,
    /// What would become of each object.
    pub objects: Vec<ObjectResult>,
    /// Why the objects are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects_missing: Option<String>,
}

impl DiffView {
    /// Of a dry run that has ended.
    pub fn new(
        pair: &ClusterPair,
        migration: &Migration,
        mut objects: Vec<ObjectResult>,
        objects_missing: Option<String>,
    ) -> Self {
        // They come in the order in which the destination's API server answered.
        objects.sort_by(|a, b| {
            let order = |o: &ObjectResult| (o.namespace.clone(), o.kind.clone(), o.name.clone());
            order(a).cmp(&order(b))
        });
        let status = migration.status.clone().unwrap_or_default();
        let prospect = match status.status {
            MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings => Prospect::CouldRun,
            _ if status.failures.iter().all(|f| NOT_LOOKED_AT.contains(&f.reason.as_str())) => {
                Prospect::Unknown
            }
            _ => Prospect::InTheWay,
        };
        let named = |status: &Option<String>, spec: &str| status.clone().unwrap_or_else(|| spec.to_owned());
        Self {
            prospect,
            pair: pair.name_any(),
            source: named(&status.source, &pair.spec.source),
            destination: named(&status.destination, &pair.spec.destination),
            namespaces: status.namespaces,
            message: status.message,
            failures: status.failures,
            failures_total: status.failures_total,
            warnings: status.warnings,
            warnings_total: status.warnings_total,
            counts: Totals::of(&objects).0,
            objects,
            objects_missing,
        }
    }

    fn of(&self, action: ObjectAction) -> impl Iterator<Item = &ObjectResult> {
        self.objects.iter().filter(move |object| object.action == action)
    }
}

/// All that there is to a dry run; with `details` every object of it.
pub fn describe_diff(view: &DiffView, details: bool) -> String {
    let mut sheet = Sheet::default();
    sheet.line("Pair", &format!("{} ({} -> {})", view.pair, view.source, view.destination));
    let namespaces: Vec<String> = view.namespaces.iter().map(ToString::to_string).collect();
    sheet.line("Namespaces", &namespaces.join(", "));
    if let Some(why) = &view.objects_missing {
        sheet.instead("Objects", &format!("the list is missing: {why}"));
    }
    created(&mut sheet, view, details);
    changed(&mut sheet, view, details);
    let rows = |action| view.of(action).map(|object| row(object, true)).collect::<Vec<_>>();
    let heads = ["NAMESPACE", "KIND", "NAME", "REASON"];
    sheet.rows("Would be deleted, being gone from the source", &heads, &rows(ObjectAction::Deleted));
    sheet.rows("Would be skipped", &heads, &rows(ObjectAction::Skipped));
    if details {
        sheet.rows("Would stay as they are", &heads, &rows(ObjectAction::Unchanged));
        sheet.rows("Would be left behind", &heads, &rows(ObjectAction::LeftBehind));
    } else {
        sheet.rows("Would be left behind", &["KIND", "REASON", "COUNT"], &left_behind_rows(&view.objects));
    }
    sheet.rows("Would be refused", &heads, &rows(ObjectAction::Failed));
    findings(&mut sheet, "In the way", &view.failures, view.failures_total);
    findings(&mut sheet, "Warnings", &view.warnings, view.warnings_total);
    sheet.title("Result");
    sheet.text(&format!("  {}", verdict(view)));
    sheet.finish()
}

fn created(sheet: &mut Sheet, view: &DiffView, details: bool) {
    let count = view.of(ObjectAction::Created).count();
    if details || count <= MAX_NAMED {
        let rows: Vec<_> = view.of(ObjectAction::Created).map(|object| row(object, true)).collect();
        sheet.rows("Would be created", &["NAMESPACE", "KIND", "NAME", "NOTE"], &rows);
    } else {
        let mut kinds: BTreeMap<(String, String), u64> = BTreeMap::new();
        for object in view.of(ObjectAction::Created) {
            *kinds.entry((object.namespace.clone().unwrap_or_default(), kind_of(object))).or_default() += 1;
        }
        let rows: Vec<_> =
            kinds.into_iter().map(|((place, kind), count)| vec![place, kind, count.to_string()]).collect();
        sheet.rows("Would be created (--details names each)", &["NAMESPACE", "KIND", "COUNT"], &rows);
    }
    if details {
        for object in view.of(ObjectAction::Created) {
            rewriting(sheet, object);
        }
    }
}

fn changed(sheet: &mut Sheet, view: &DiffView, details: bool) {
    let mut changed = view.of(ObjectAction::Updated).peekable();
    if changed.peek().is_none() {
        return;
    }
    sheet.title("Would be changed");
    for object in changed {
        let reason = reason_of(object);
        let note = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        sheet.text(&format!("  {}{}", title_of(object), super::clean(&note)));
        match &object.diff {
            Some(diff) => diff_lines(sheet, diff),
            None => sheet.text("    (only what is not shown)"),
        }
        if details {
            rewriting(sheet, object);
        }
    }
}

/// What the options of the run make of an object.
fn rewriting(sheet: &mut Sheet, object: &ObjectResult) {
    if let Some(rewritten) = &object.rewritten {
        sheet.text(&format!("  {}, as the options rewrite it:", title_of(object)));
        diff_lines(sheet, rewritten);
    }
}

fn row(object: &ObjectResult, reason: bool) -> Vec<String> {
    let mut row = vec![object.namespace.clone().unwrap_or_default(), kind_of(object), object.name.clone()];
    if reason {
        row.push(reason_of(object));
    }
    row
}

fn verdict(view: &DiffView) -> String {
    let counts = &view.counts;
    let totals = format!(
        "{} to create, {} to change, {} as they should be, {} to skip, {} to delete, {} refused, {} left behind",
        counts.created,
        counts.updated,
        counts.unchanged,
        counts.skipped,
        counts.deleted,
        counts.failed,
        counts.left_behind
    );
    let sentence = match view.prospect {
        Prospect::CouldRun if view.warnings_total == 1 => {
            "The migration could run; one warning is to be read first.".to_owned()
        }
        Prospect::CouldRun if view.warnings_total > 1 => {
            format!("The migration could run; {} warnings are to be read first.", view.warnings_total)
        }
        Prospect::CouldRun => "The migration could run.".to_owned(),
        Prospect::InTheWay => match view.failures_total {
            0 | 1 => "The migration would not run: one thing is in the way.".to_owned(),
            more => format!("The migration would not run: {more} things are in the way."),
        },
        Prospect::Unknown => {
            let why = view.message.as_deref().map(super::clean).unwrap_or_default();
            format!("It could not be told whether the migration would run: {why}")
        }
    };
    format!("{totals}.\n  {sentence} Nothing was changed.")
}
