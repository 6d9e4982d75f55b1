//! Objects one by one: names, reasons, diffs, and totals.

use std::collections::BTreeMap;

use isthmus_shared::protocol::{ObjectAction, ObjectResult};
use isthmus_shared::resources::ResourceCounts;

use super::sheet::Sheet;
use super::{clean, word};

/// What became, or would become, of objects, in numbers.
pub struct Totals(pub ResourceCounts);

impl Totals {
    /// Counts them.
    pub fn of(objects: &[ObjectResult]) -> Self {
        let mut counts = ResourceCounts::default();
        for object in objects {
            counts.count(object.action);
        }
        Self(counts)
    }
}

/// The kind with its group, as kubectl has it: `Deployment.apps`.
pub fn kind_of(object: &ObjectResult) -> String {
    let group = object.api_version.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
    format!("{}{group}", object.kind)
}

/// `Deployment.apps cms/wordpress`.
pub fn title_of(object: &ObjectResult) -> String {
    let place = object.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    clean(&format!("{} {place}{}", kind_of(object), object.name))
}

/// Why: one word, and the same for a person.
pub fn reason_of(object: &ObjectResult) -> String {
    match (&object.reason, &object.message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => String::new(),
    }
}

/// What became of it, in words.
pub fn action_of(object: &ObjectResult) -> String {
    match object.action {
        ObjectAction::LeftBehind => "Left behind".to_owned(),
        other => word(other),
    }
}

/// How many objects of which kind stay behind for which reason.
pub fn left_behind_rows(objects: &[ObjectResult]) -> Vec<Vec<String>> {
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for object in objects.iter().filter(|object| object.action == ObjectAction::LeftBehind) {
        let reason = object.reason.clone().unwrap_or_default();
        *counts.entry((kind_of(object), reason)).or_default() += 1;
    }
    counts.into_iter().map(|((kind, reason), count)| vec![kind, reason, count.to_string()]).collect()
}

/// The lines of a diff, further in, without what could steer a terminal.
pub fn diff_lines(sheet: &mut Sheet, diff: &str) {
    for line in diff.lines() {
        let safe: String =
            line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        sheet.text(&format!("    {safe}"));
    }
}
