//! Before a volume is brought back to a complete pass that has no sender any more: what staging says of
//! it, and of the passes that came after.
//!
//! A later pass that was received, wholly or in part, has left the volume as no mark tells. So its
//! mark is taken away, and the volume is compared with the manifest block by block; where none came
//! after, what looks as it did is believed, as the next pass would. From then on the pass that it is
//! brought back to is the newest complete one, and the next pass builds on it.

use isthmus_shared::protocol::{Run, VolumeTask};
use isthmus_shared::staging::{ArchiveError, VolumeUid, layout};

use super::passes::passes_after;
use crate::findings::finding;
use crate::mover::{MoverError, is_received};
use crate::staging_area::StagingArea;
use crate::task::{TaskContext, TaskError};

/// Makes staging ready, and tells on which pass the receiver may build.
pub async fn prepare(
    context: &TaskContext,
    run: &Run,
    volume: &VolumeTask,
) -> Result<Option<u32>, TaskError> {
    let area = context.staging(run)?;
    let object = format!("PersistentVolumeClaim {}/{}", volume.namespace, volume.claim);
    let uid = VolumeUid::new(volume.uid.as_str()).map_err(ArchiveError::from)?;
    let later = undo_later(&area, &object, &uid, volume.pass).await?;
    if later == 0 {
        return Ok(Some(volume.pass));
    }
    context.log(format!(
        "{object}: going back to pass {}; of the {later} passes after it nothing counts, and all content is compared",
        volume.pass
    ));
    Ok(None)
}

/// Has the passes after a complete one count for nothing; tells how many there are.
async fn undo_later(
    area: &StagingArea,
    object: &str,
    volume: &VolumeUid,
    pass: u32,
) -> Result<usize, TaskError> {
    let unusable = |error: MoverError| {
        let transient = matches!(&error, MoverError::Store(error) if error.is_retryable());
        let found = finding(object, error.reason(), error.to_string());
        if transient { TaskError::Transient(found) } else { TaskError::Failed(found.into()) }
    };
    let sealed = |source| ArchiveError::Seal { archive: format!("volume {volume}"), source };
    let key = area.key.volume_key(volume).map_err(sealed)?;
    let complete = is_received(area.store.clone(), &key, &area.pair, volume, pass).await;
    if !complete.map_err(unusable)? {
        return Err(unusable(MoverError::NotComplete { pass }));
    }
    let later = passes_after(area, volume, pass).await?;
    let mark = |pass: &u32| layout::pass_received(&area.pair, volume, *pass);
    let marks: Vec<String> = later.iter().map(mark).collect();
    if !marks.is_empty() {
        area.store.delete(&marks).await.map_err(|error| unusable(error.into()))?;
    }
    Ok(later.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isthmus_shared::resources::{Exclusions, MetadataPolicy, VerifyMethod};
    use isthmus_shared::staging::{MemoryStore, MigrationUid, ObjectStore, PairKey, PairUid};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::mover::{Limits, Pass, Progress, ReceiveOptions, SendOptions, receive, send};
    use crate::volumes::newest_passes;

    #[tokio::test(flavor = "multi_thread")]
    async fn passes_after_the_one_that_is_gone_back_to_count_for_nothing() {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let migration = MigrationUid::new("m").unwrap();
        let area = StagingArea {
            store: store.clone(),
            key: PairKey::generate().unwrap(),
            pair: PairUid::new("p").unwrap(),
            origin: migration.clone(),
            migration,
        };
        let volume = VolumeUid::new("v").unwrap();
        let (source, destination) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pass = |number: u32, root: &std::path::Path| Pass {
            root: root.to_owned(),
            store: store.clone(),
            key: area.key.volume_key(&volume).unwrap(),
            volume: volume.clone(),
            pair: area.pair.clone(),
            number,
            previous: (number > 1).then(|| number - 1),
            claim: None,
            exclude: Exclusions::default(),
            limits: Limits::default(),
        };
        for number in [1, 2, 3] {
            let sending =
                SendOptions { pass: pass(number, source.path()), sender: "s".to_owned(), still: false };
            send(sending, Progress::new(), CancellationToken::new()).await.unwrap();
            let receiving = ReceiveOptions {
                pass: pass(number, destination.path()),
                metadata_policy: MetadataPolicy::Strict,
                verify: VerifyMethod::Inline,
            };
            receive(receiving, Progress::new(), CancellationToken::new()).await.unwrap();
        }
        let newest = newest_passes(&area, "v").await.unwrap();
        assert_eq!((newest.newest, newest.newest_complete), (3, Some(3)));
        assert_eq!(undo_later(&area, "claim", &volume, 3).await.unwrap(), 0);
        for _ in 0..2 {
            // The numbers stay: no later pass takes one of them again.
            assert_eq!(undo_later(&area, "claim", &volume, 1).await.unwrap(), 2);
            let newest = newest_passes(&area, "v").await.unwrap();
            assert_eq!((newest.newest, newest.newest_complete), (3, Some(1)));
        }
        let error = undo_later(&area, "claim", &volume, 2).await.unwrap_err();
        assert!(matches!(&error, TaskError::Failed(found) if found.list[0].reason == "PassNotComplete"));
    }
}
