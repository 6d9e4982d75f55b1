//! `pair describe`.

use isthmus_shared::resources::{ClusterPair, LinkState};

use super::sheet::Sheet;
use super::word;

/// All that is known of a pair.
pub fn describe_pair(pair: &ClusterPair) -> String {
    let spec = &pair.spec;
    let status = pair.status.clone().unwrap_or_default();
    let mut sheet = Sheet::default();
    super::identity_lines(&mut sheet, pair);
    sheet.line("Source", &spec.source);
    sheet.line("Destination", &spec.destination);
    sheet.line("Object store", &spec.object_store);
    sheet.line("Bidirectional", if spec.bidirectional { "yes" } else { "no" });
    let allowed = spec.allowed_namespaces.as_ref().map(|globs| match globs.as_slice() {
        [] => "none".to_owned(),
        globs => globs.join(", "),
    });
    sheet.line("Namespaces", allowed.as_deref().unwrap_or("all"));
    sheet.line("Scheduler status", &link(status.scheduler_status, status.scheduler_message.as_deref()));
    sheet.line("Storage status", &link(status.storage_status, status.storage_message.as_deref()));
    if let Some(prune) = &status.prune {
        let state = word(prune.phase);
        let told =
            prune.message.as_ref().map_or_else(|| state.clone(), |message| format!("{state}: {message}"));
        sheet.line("Staging prune", &told);
    }
    super::condition_lines(&mut sheet, &status.conditions);
    sheet.finish()
}

/// A half of a pair and what is the matter with it.
pub fn link(state: LinkState, message: Option<&str>) -> String {
    message.map_or_else(|| word(state), |message| format!("{}: {message}", word(state)))
}
