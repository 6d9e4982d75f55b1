//! The preview: a line for each object with what would become of it.

use isthmus_shared::protocol::ObjectResult;
use isthmus_shared::resources::ResourceCounts;
use isthmus_shared::staging::{ArchiveError, ArchiveName, ArchiveWriter};

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
        self.counts.count(result.action);
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
