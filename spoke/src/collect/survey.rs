//! What the destination serves, in staging: one [`Kind`] a line, each group's preferred version
//! first. The source chooses versions by it.

use isthmus_shared::staging::{ArchiveError, ArchiveName};

use crate::cluster::{Catalogue, Kind};
use crate::staging_area::StagingArea;

/// Writes what a cluster serves.
pub async fn write_survey(area: &StagingArea, catalogue: &Catalogue) -> Result<(), ArchiveError> {
    let mut archive = area.write(ArchiveName::Survey)?;
    for kind in catalogue.kinds() {
        // These types have text keys only and serialise always.
        archive.push(&serde_json::to_value(kind).unwrap_or_default()).await?;
    }
    archive.finish().await?;
    Ok(())
}

/// Reads what the other side wrote.
pub async fn read_survey(area: &StagingArea) -> Result<Catalogue, ArchiveError> {
    let mut archive = area.read(ArchiveName::Survey).await?;
    let mut kinds: Vec<Kind> = Vec::new();
    while let Some(line) = archive.next().await? {
        let kind = serde_json::from_value(line).map_err(|error| ArchiveError::Damaged {
            archive: ArchiveName::Survey.to_string(),
            detail: error.to_string(),
        })?;
        kinds.push(kind);
    }
    Ok(Catalogue::of(kinds))
}
