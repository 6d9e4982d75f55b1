//! What happened between two statuses, in words: the events on the record.

use isthmus_shared::resources::{
    Migration, MigrationAction, MigrationPhase, MigrationStatus, NamespaceEntry, StepState, VolumePhase,
};

use super::findings::{MAX_MESSAGE, cut};
use super::volumes::volume_name;

/// Something worth an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether a person should look.
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: String,
    /// What of the run it is about; two notes of one run never share reason and subject.
    pub subject: String,
    /// For a person.
    pub message: String,
}

/// The namespaces as the spec names them.
fn entries(namespaces: &[NamespaceEntry]) -> String {
    let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
    if names.is_empty() { "the namespaces that it selects".to_owned() } else { names.join(", ") }
}

/// What a change of status has to tell.
pub fn notes(migration: &Migration, after: &MigrationStatus) -> Vec<Note> {
    let nothing = MigrationStatus::default();
    let before = migration.status.as_ref().unwrap_or(&nothing);
    let mut notes = Vec::new();
    if before.status == MigrationPhase::Pending && after.status == MigrationPhase::InProgress {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let options = after.options.as_deref().unwrap_or(&migration.spec);
        let does = match options.action {
            _ if options.dry_run => "looks, changing nothing, what it would be to move",
            MigrationAction::Stage => "brings the volumes of",
            MigrationAction::Final => "moves",
            MigrationAction::Rollback => "undoes the move of",
            MigrationAction::Failover if after.recovers.is_some() => "starts from staging",
            MigrationAction::Failover => "fails over",
            MigrationAction::Failback => "fails back",
        };
        let message = format!(
            "{does} {} from cluster {} to cluster {}",
            entries(&options.namespaces),
            text(&after.source),
            text(&after.destination)
        );
        notes.push(note(false, "Started", "Migration", &message));
    }
    steps(before, after, &mut notes);
    volumes(before, after, &mut notes);
    for (number, found) in after.failures.iter().enumerate().skip(before.failures.len()) {
        notes.push(note(
            true,
            &found.reason,
            &format!("Failure{number}"),
            &format!("{}: {}", found.object, found.message),
        ));
    }
    for (number, found) in after.warnings.iter().enumerate().skip(before.warnings.len()) {
        notes.push(note(
            true,
            &found.reason,
            &format!("Warning{number}"),
            &format!("{}: {}", found.object, found.message),
        ));
    }
    if before.status.is_terminal() && before.active != after.active {
        let source = after.source.clone().unwrap_or_default();
        let message = format!("cluster {source} has been heard since, and its applications stand still");
        notes.push(note(false, "SourceStopped", "Source", &message));
    }
    if !before.status.is_terminal() && after.status.is_terminal() {
        let failed = matches!(after.status, MigrationPhase::Failed | MigrationPhase::RolledBack);
        let message = after.message.clone().unwrap_or_else(|| "all of it arrived".to_owned());
        // A migration that was refused has said why already.
        if !notes.iter().any(|told| told.warning && told.message == message) {
            notes.push(note(failed, &format!("{:?}", after.status), "Migration", &message));
        }
    }
    notes
}

fn steps(before: &MigrationStatus, after: &MigrationStatus, notes: &mut Vec<Note>) {
    for step in &after.pipeline {
        let name = format!("{:?}", step.step);
        let was = before
            .pipeline
            .iter()
            .find(|old| old.step == step.step)
            .map_or(StepState::Pending, |old| old.state);
        if was == step.state {
            continue;
        }
        let message = step.message.clone();
        match step.state {
            StepState::InProgress => notes.push(note(false, "StepStarted", &name, &format!("{name} began"))),
            StepState::Succeeded => {
                let told = message
                    .map_or_else(|| format!("{name} is done"), |text| format!("{name} is done: {text}"));
                notes.push(note(false, "StepSucceeded", &name, &told));
            }
            StepState::Failed => {
                notes.push(note(
                    true,
                    "StepFailed",
                    &name,
                    &format!("{name} failed: {}", message.unwrap_or_default()),
                ));
            }
            StepState::Pending | StepState::Skipped => {}
        }
    }
}

fn volumes(before: &MigrationStatus, after: &MigrationStatus, notes: &mut Vec<Note>) {
    for volume in &after.volumes {
        let was = before
            .volumes
            .iter()
            .find(|old| old.uid == volume.uid)
            .map_or(VolumePhase::Pending, |old| old.phase);
        if was == volume.phase {
            continue;
        }
        let name = volume_name(volume);
        let (warning, reason, told) = match volume.phase {
            VolumePhase::InProgress => {
                (false, "VolumeStarted", format!("{name}: pass {} began", volume.pass))
            }
            VolumePhase::Succeeded => (
                false,
                "VolumeSucceeded",
                format!("{name}: all there, every block verified ({} files)", volume.files_done),
            ),
            VolumePhase::Failed => {
                (true, "VolumeFailed", format!("{name}: {}", volume.message.clone().unwrap_or_default()))
            }
            VolumePhase::Pending => continue,
        };
        notes.push(note(warning, reason, &format!("Volume.{}", volume.uid), &told));
    }
}

fn note(warning: bool, reason: &str, subject: &str, message: &str) -> Note {
    Note {
        warning,
        reason: reason.to_owned(),
        subject: cut(subject, 128),
        message: cut(message, MAX_MESSAGE),
    }
}
