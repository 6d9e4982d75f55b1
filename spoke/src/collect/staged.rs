//! The sink that writes archives: `Cluster`, one for each namespace, and `LeftBehind`.

use isthmus_shared::protocol::ObjectResult;
use isthmus_shared::resources::Finding;
use isthmus_shared::staging::{ArchiveError, ArchiveName, ArchiveWriter};
use serde_json::Value;

use super::gather::{Place, Sink};
use crate::staging_area::StagingArea;
use crate::task::{TaskContext, TaskError};

/// Writes what is gathered into a run's archives. Each replaces an earlier one of its name once
/// it is complete.
pub struct Staged<'a> {
    context: &'a TaskContext,
    area: StagingArea,
    doing: &'static str,
    open: Option<ArchiveWriter>,
    left_behind: ArchiveWriter,
}

impl<'a> Staged<'a> {
    /// Begins; `doing` stands before a namespace's name in the task's progress.
    pub fn begin(
        context: &'a TaskContext,
        area: &StagingArea,
        doing: &'static str,
    ) -> Result<Self, TaskError> {
        let left_behind = area.write(ArchiveName::LeftBehind)?;
        Ok(Self { context, area: area.clone(), doing, open: None, left_behind })
    }

    /// Completes the last archives.
    pub async fn finish(mut self) -> Result<(), TaskError> {
        self.close().await?;
        self.left_behind.finish().await?;
        Ok(())
    }

    async fn close(&mut self) -> Result<(), TaskError> {
        if let Some(archive) = self.open.take() {
            archive.finish().await?;
        }
        Ok(())
    }
}

impl Sink for Staged<'_> {
    async fn open(&mut self, place: Place<'_>) -> Result<(), TaskError> {
        self.close().await?;
        let name = match place {
            Place::Cluster => {
                self.context.doing(format!("{} objects of cluster scope", self.doing));
                ArchiveName::Cluster
            }
            Place::Namespace(namespace) => {
                self.context.doing(format!("{} {namespace}", self.doing));
                ArchiveName::namespace(namespace).map_err(ArchiveError::from)?
            }
        };
        self.open = Some(self.area.write(name)?);
        Ok(())
    }

    async fn take(&mut self, object: &Value) -> Result<(), TaskError> {
        if let Some(archive) = &mut self.open {
            archive.push(object).await?;
        }
        self.context.progress(|progress| progress.objects_done += 1);
        Ok(())
    }

    async fn leave(&mut self, result: &ObjectResult) -> Result<(), TaskError> {
        // These types have text keys only and serialise always.
        self.left_behind.push(&serde_json::to_value(result).unwrap_or_default()).await?;
        Ok(())
    }

    fn warn(&mut self, finding: Finding) {
        self.context.warn(finding);
    }

    fn note(&mut self, line: String) {
        self.context.log(line);
    }
}
