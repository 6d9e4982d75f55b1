//! The preview: a line for each object with what would become of it.

use isthmus_shared::protocol::{ObjectAction, ObjectResult};
use isthmus_shared::resources::ResourceCounts;
use isthmus_shared::staging::{ArchiveError, ArchiveName, ArchiveWriter};

use crate::cluster::ObjectId;
use crate::staging_area::StagingArea;

/// The longest text that one line has, bytes.
const MAX_TEXT: usize = 2048;

/// What would become of a run's objects, so far.
pub struct Preview {
    writer: ArchiveWriter,
    /// The counts.
    pub counts: ResourceCounts,
}

impl Preview {
    /// Replaces the run's preview once it is finished.
    pub fn new(area: &StagingArea) -> Result<Self, ArchiveError> {
        Ok(Self { writer: area.write(ArchiveName::Preview)?, counts: ResourceCounts::default() })
    }

    /// Notes what would become of an object.
    pub async fn note(&mut self, mut result: ObjectResult) -> Result<(), ArchiveError> {
        count(&mut self.counts, result.action);
        if let Some(message) = &mut result.message {
            crate::findings::shorten(message, MAX_TEXT);
        }
        self.writer.push(&serde_json::to_value(result).unwrap_or_default()).await
    }

    /// Notes what would become of a namespace, which is prepared and not counted as an object.
    pub async fn mention(&mut self, result: &ObjectResult) -> Result<(), ArchiveError> {
        self.writer.push(&serde_json::to_value(result).unwrap_or_default()).await
    }

    /// Repeats what the source says of the objects that it leaves behind.
    pub async fn copy_left_behind(&mut self, area: &StagingArea) -> Result<(), ArchiveError> {
        let mut left = match area.read(ArchiveName::LeftBehind).await {
            Ok(left) => left,
            // A source that takes no objects leaves none behind.
            Err(ArchiveError::Missing { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some(line) = left.next().await? {
            self.counts.left_behind += 1;
            self.writer.push(&line).await?;
        }
        Ok(())
    }

    /// Completes it.
    pub async fn finish(self) -> Result<ResourceCounts, ArchiveError> {
        self.writer.finish().await?;
        Ok(self.counts)
    }
}

fn count(counts: &mut ResourceCounts, action: ObjectAction) {
    let count = match action {
        ObjectAction::Created => &mut counts.created,
        ObjectAction::Updated => &mut counts.updated,
        ObjectAction::Unchanged => &mut counts.unchanged,
        ObjectAction::Skipped => &mut counts.skipped,
        ObjectAction::Deleted => &mut counts.deleted,
        ObjectAction::Failed => &mut counts.failed,
        ObjectAction::LeftBehind => &mut counts.left_behind,
    };
    *count += 1;
    match action {
        ObjectAction::LeftBehind | ObjectAction::Deleted => {}
        ObjectAction::Failed => counts.total += 1,
        _ => {
            counts.total += 1;
            counts.done += 1;
        }
    }
}

/// A line about an object.
pub fn line(id: &ObjectId, action: ObjectAction) -> ObjectResult {
    ObjectResult {
        api_version: id.api_version.clone(),
        kind: id.kind.clone(),
        namespace: id.namespace.clone(),
        name: id.name.clone(),
        action,
        reason: None,
        message: None,
        diff: None,
        rewritten: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_as_it_should_is_told_from_what_would_not() {
        let mut counts = ResourceCounts::default();
        for action in [
            ObjectAction::Created,
            ObjectAction::Updated,
            ObjectAction::Unchanged,
            ObjectAction::Skipped,
            ObjectAction::Deleted,
            ObjectAction::Failed,
            ObjectAction::LeftBehind,
        ] {
            count(&mut counts, action);
        }
        assert_eq!((counts.total, counts.done, counts.failed, counts.left_behind), (5, 4, 1, 1));
    }
}
