//! `staging list` and `staging prune`.

use isthmus_shared::resources::{PrunePhase, PruneStatus, StagedVolume};
use jiff::Timestamp;

use super::sheet::Sheet;
use super::{figures, word};

/// What is shown of a pair's staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagingView {
    /// What there is.
    List,
    /// What was, or would be, removed.
    Prune,
}

/// What staging has of a pair's volumes, and what was removed of it.
pub fn describe_staging(status: &PruneStatus, view: StagingView, now: Timestamp) -> String {
    let mut sheet = Sheet::default();
    let totals = &status.totals;
    sheet.line("Status", &word(status.phase));
    sheet.line("Message", status.message.as_deref().unwrap_or_default());
    if status.phase == PrunePhase::Succeeded {
        let end = status.finished_at.as_ref().map_or(now, |time| time.0);
        let took = status.started_at.as_ref().map(|started| figures::between(started, end));
        sheet.line("Took", &took.map(figures::length).unwrap_or_default());
        sheet.line(
            "Volumes",
            &format!("{}, {} in use, {} whose claim is gone", totals.volumes, totals.in_use, totals.gone),
        );
        let stays = format!("{} in {} objects", figures::bytes(totals.bytes_kept), totals.objects_kept);
        if view == StagingView::List {
            sheet.line("Staged", &stays);
        } else {
            let what = if status.dry_run { "Would be removed" } else { "Removed" };
            let removed =
                format!("{} in {} objects", figures::bytes(totals.bytes_removed), totals.objects_removed);
            sheet.line(what, &removed);
            sheet.line("Stays", &stays);
        }
        if totals.problems > 0 {
            sheet.line("Problems", &format!("with {} volumes: see their notes", totals.problems));
        }
    }
    let shown = u64::try_from(status.volumes.len()).unwrap_or(u64::MAX);
    let title = if totals.volumes > shown {
        format!("Volumes (the largest {shown} of {})", totals.volumes)
    } else {
        "Volumes".to_owned()
    };
    let rows: Vec<_> = status.volumes.iter().map(|volume| row(volume, view)).collect();
    let mut heads = vec!["CLUSTER", "NAMESPACE", "CLAIM", "UID", "PASSES", "NEWEST", "STAGED"];
    if view == StagingView::Prune {
        heads.push(if status.dry_run { "WOULD BE REMOVED" } else { "REMOVED" });
    }
    heads.push("NOTE");
    sheet.rows(&title, &heads, &rows);
    sheet.finish()
}

fn row(volume: &StagedVolume, view: StagingView) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let newest = if volume.newest_pass == 0 { String::new() } else { volume.newest_pass.to_string() };
    let mut row = vec![
        text(&volume.cluster),
        text(&volume.namespace),
        text(&volume.claim),
        volume.uid.clone(),
        volume.passes.to_string(),
        newest,
        // A list asks what would stay if nearly everything did: what would go is there too.
        figures::bytes(match view {
            StagingView::List => volume.bytes_kept.saturating_add(volume.bytes_removed),
            StagingView::Prune => volume.bytes_kept,
        }),
    ];
    if view == StagingView::Prune {
        row.push(figures::bytes(volume.bytes_removed));
    }
    row.push(text(&volume.note));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(dry_run: bool) -> PruneStatus {
        serde_json::from_value(serde_json::json!({
            "request": "1", "dryRun": dry_run, "phase": "Succeeded",
            "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:05Z",
            "totals": {"volumes": 2, "inUse": 1, "gone": 1, "objectsRemoved": 7, "bytesRemoved": 2048,
                       "objectsKept": 3, "bytesKept": 1024},
            "volumes": [
                {"uid": "u1", "cluster": "east", "namespace": "cms", "claim": "data", "passes": 1, "newestPass": 4,
                 "bytesKept": 1024, "bytesRemoved": 0, "note": "a migration is using it: it was left alone"},
                {"uid": "u2", "gone": true, "bytesRemoved": 2048, "note": "its claim is gone"},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn what_was_removed_and_what_stays_is_shown_for_each_volume() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        insta::assert_snapshot!(describe_staging(&status(false), StagingView::Prune, now));
        let dry = describe_staging(&status(true), StagingView::Prune, now);
        assert!(dry.contains("Would be removed:") && dry.contains("WOULD BE REMOVED"), "{dry}");
        let list = describe_staging(&status(true), StagingView::List, now);
        assert!(!list.to_lowercase().contains("removed"), "{list}");
    }
}
