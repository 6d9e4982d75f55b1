//! Which volume of staging a claim's data is: a pair of claims has one, whichever way passes go
//! between them, so that the way back sends what changed and no more.
//!
//! A volume is named by the claim that was sent first, and a claim that receives it notes so in
//! staging, beside the volumes. A claim that is to be sent goes on in the volume that it received
//! if all of this holds, and else begins one of its own:
//!
//! - the run brings it to the very claim that the volume began with. So every run that uses a volume
//!   touches that claim's namespace, and no two such runs are under way at a time: pass numbers never
//!   collide;
//! - the newest complete pass of the volume went between this claim and another: a copy of the claim,
//!   or another destination of the same source, is not taken for it.
//!
//! What a receiver may rely on of earlier passes follows from the same note: those since it was
//! written, of which the mover drops what the claim has not itself received.

use isthmus_shared::protocol::{Run, VolumeTask};
use isthmus_shared::staging::{ObjectStore, PairKey, PairUid, SealError, StoreError, VolumeUid, layout};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::passes::{Passes, newest_passes};
use crate::cluster::{describe, name, namespace, uid};
use crate::findings::finding;
use crate::mover::ReceiveReport;
use crate::prune::{Origin, OriginError, read_origin};
use crate::staging_area::StagingArea;
use crate::task::TaskError;

/// What a claim notes when it receives a volume.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Lineage {
    /// The volume.
    volume: String,
    /// The first pass of it that the claim has received since it received another volume, if ever.
    since: u32,
}

/// A claim by its names, as another side knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counterpart<'a> {
    /// The name of the cluster's record.
    pub cluster: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// The claim.
    pub claim: &'a str,
}

/// Why staging does not tell.
enum Trouble {
    /// It cannot be asked.
    Store(StoreError),
    /// What is there is of no use.
    Unreadable(String),
}

impl From<SealError> for Trouble {
    fn from(error: SealError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<OriginError> for Trouble {
    fn from(error: OriginError) -> Self {
        match error {
            OriginError::Store(error) => Self::Store(error),
            error => Self::Unreadable(error.to_string()),
        }
    }
}

/// Whether a claim that received a volume goes on in it when it is sent to `arriving`.
fn goes_on(
    claim: &str,
    volume: &VolumeUid,
    arriving: Counterpart<'_>,
    origin: &Origin,
    last: Option<&ReceiveReport>,
) -> bool {
    let began = Counterpart { cluster: &origin.cluster, namespace: &origin.namespace, claim: &origin.claim };
    let is_between =
        |last: &ReceiveReport| last.was_sent_by(claim, volume) || last.was_received_by(claim, volume);
    began == arriving && last.is_some_and(is_between)
}

/// The earlier pass that a receiver may rely on, by what its claim has noted.
fn relied_on(known: Option<&Lineage>, volume: &str, previous: Option<u32>) -> Option<u32> {
    match known {
        // It was received before anything was noted.
        None => previous,
        Some(known) if known.volume == volume => previous.filter(|pass| *pass >= known.since),
        Some(_) => None,
    }
}

/// The volume that a claim of the source is sent as, and its passes.
pub async fn of_sent(
    area: &StagingArea,
    claim: &Value,
    arriving: Counterpart<'_>,
) -> Result<(String, Passes), TaskError> {
    let own = uid(claim);
    let received = match received_volume(area, own).await {
        Ok(received) => received,
        Err(Trouble::Unreadable(why)) => {
            tracing::warn!(claim = describe(claim), why, "it begins a volume of its own in staging");
            None
        }
        Err(Trouble::Store(error)) => return Err(unusable(&describe(claim), &error)),
    };
    if let Some((volume, origin)) = received {
        let passes = newest_passes(area, volume.as_str()).await?;
        if goes_on(own, &volume, arriving, &origin, passes.last.as_ref()) {
            return Ok((volume.to_string(), passes));
        }
    }
    let passes = newest_passes(area, own).await?;
    Ok((own.to_owned(), passes))
}

/// The volume that a claim received last, and the claim that began it, if both are known.
async fn received_volume(area: &StagingArea, claim: &str) -> Result<Option<(VolumeUid, Origin)>, Trouble> {
    let Some(known) = read(area, claim).await?.filter(|known| known.volume != claim) else { return Ok(None) };
    let volume = named(&known.volume)?;
    let origin = read_origin(area.store.as_ref(), &area.key, &area.pair, &volume).await?;
    Ok(origin.map(|origin| (volume, origin)))
}

/// The volume that the claim of this uid received last; none if it never did, or that cannot be read.
pub async fn received_last(
    store: &dyn ObjectStore,
    key: &PairKey,
    pair: &PairUid,
    claim: &VolumeUid,
) -> Result<Option<VolumeUid>, StoreError> {
    match read_with(store, key, pair, claim).await {
        Ok(known) => Ok(known.and_then(|known| VolumeUid::new(known.volume).ok())),
        Err(Trouble::Unreadable(_)) => Ok(None),
        Err(Trouble::Store(error)) => Err(error),
    }
}

/// Notes that a claim is about to receive a pass of a volume. Answers with the earlier pass that may
/// be relied on.
pub async fn note_receiving(
    area: &StagingArea,
    claim: &Value,
    volume: &VolumeTask,
) -> Result<Option<u32>, TaskError> {
    let object = describe(claim);
    let known = match read(area, uid(claim)).await {
        Ok(known) => known,
        Err(Trouble::Store(error)) => return Err(unusable(&object, &error)),
        Err(Trouble::Unreadable(why)) => {
            tracing::warn!(claim = object, why, "which volume it received last is noted anew");
            Some(Lineage { volume: String::new(), since: 0 })
        }
    };
    let previous = relied_on(known.as_ref(), &volume.uid, volume.previous_pass);
    if known.is_none_or(|known| known.volume != volume.uid) {
        let noted = Lineage { volume: volume.uid.clone(), since: volume.pass };
        match write(area, uid(claim), &noted).await {
            Ok(()) => {}
            Err(Trouble::Store(error)) => return Err(unusable(&object, &error)),
            Err(Trouble::Unreadable(why)) => {
                return Err(TaskError::failed(object, "StagingUnusable", why));
            }
        }
    }
    Ok(previous)
}

fn unusable(object: &str, error: &StoreError) -> TaskError {
    let finding = finding(object, error.reason(), error.to_string());
    if error.is_retryable() { TaskError::Transient(finding) } else { TaskError::Failed(finding.into()) }
}

fn named(claim: &str) -> Result<VolumeUid, Trouble> {
    VolumeUid::new(claim).map_err(|error| Trouble::Unreadable(error.to_string()))
}

async fn read(area: &StagingArea, claim: &str) -> Result<Option<Lineage>, Trouble> {
    read_with(area.store.as_ref(), &area.key, &area.pair, &named(claim)?).await
}

async fn read_with(
    store: &dyn ObjectStore,
    key: &PairKey,
    pair: &PairUid,
    claim: &VolumeUid,
) -> Result<Option<Lineage>, Trouble> {
    let object = layout::claim_lineage(pair, claim);
    let sealed = match store.get(&object).await {
        Ok(sealed) => sealed,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let plain = key.volume_key(claim)?.manifest_key()?.open(&object, &sealed)?;
    serde_json::from_slice(&plain).map(Some).map_err(|error| Trouble::Unreadable(error.to_string()))
}

async fn write(area: &StagingArea, claim: &str, lineage: &Lineage) -> Result<(), Trouble> {
    let claim = named(claim)?;
    let object = layout::claim_lineage(&area.pair, &claim);
    let plain = serde_json::to_vec(lineage).map_err(|error| Trouble::Unreadable(error.to_string()))?;
    let sealed = area.key.volume_key(&claim)?.manifest_key()?.seal(&object, &plain)?;
    Ok(area.store.put(&object, sealed.into()).await?)
}

/// Where a run brings a claim of its source; `to` is what the claim's namespace is called there.
pub fn arriving<'a>(run: &'a Run, claim: &'a Value, to: &'a str) -> Counterpart<'a> {
    let claim = run.claim_on_destination(namespace(claim), name(claim));
    Counterpart { cluster: &run.destination, namespace: to, claim }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isthmus_shared::staging::{MemoryStore, MigrationUid};
    use serde_json::json;

    use super::*;

    fn origin() -> Origin {
        Origin {
            cluster: "east".to_owned(),
            cluster_uid: "e".to_owned(),
            namespace: "cms".to_owned(),
            claim: "data".to_owned(),
        }
    }

    fn report(sent_by: &str, received_by: &str) -> ReceiveReport {
        ReceiveReport {
            sent_by: Some(sent_by.to_owned()),
            received_by: Some(received_by.to_owned()),
            ..ReceiveReport::default()
        }
    }

    const HOME: Counterpart<'_> = Counterpart { cluster: "east", namespace: "cms", claim: "data" };

    #[test]
    fn a_claim_goes_back_in_the_volume_that_it_received_to_the_claim_that_began_it() {
        let volume = VolumeUid::new("home").unwrap();
        let is = |claim: &str, arriving, last: Option<&ReceiveReport>| {
            goes_on(claim, &volume, arriving, &origin(), last)
        };
        let (there, back) = (report("home", "away"), report("away", "home"));
        assert!(is("away", HOME, Some(&there)));
        assert!(is("away", HOME, Some(&back)), "and once more after it went back");
        assert!(is("away", HOME, Some(&ReceiveReport::default())), "before it was noted");
        assert!(!is("copy", HOME, Some(&there)), "another claim received it");
        assert!(!is("away", HOME, None), "no pass was received to its end");
        for elsewhere in [
            Counterpart { cluster: "north", ..HOME },
            Counterpart { namespace: "cms-green", ..HOME },
            Counterpart { claim: "other", ..HOME },
        ] {
            assert!(!is("away", elsewhere, Some(&there)), "{elsewhere:?}");
        }
    }

    #[test]
    fn a_receiver_relies_on_passes_of_the_same_volume_since_it_began_to_receive_it() {
        let known = Lineage { volume: "v".to_owned(), since: 4 };
        assert_eq!(relied_on(Some(&known), "v", Some(4)), Some(4));
        assert_eq!(relied_on(Some(&known), "v", Some(3)), None, "another volume came in between");
        assert_eq!(relied_on(Some(&known), "w", Some(9)), None);
        assert_eq!(relied_on(None, "v", Some(3)), Some(3), "staging of before it was noted");
        assert_eq!(relied_on(None, "v", None), None);
    }

    fn area() -> StagingArea {
        StagingArea {
            store: Arc::new(MemoryStore::new()),
            key: PairKey::generate().unwrap(),
            pair: PairUid::new("p").unwrap(),
            migration: MigrationUid::new("m").unwrap(),
            origin: MigrationUid::new("m").unwrap(),
        }
    }

    fn task(volume: &str, pass: u32) -> VolumeTask {
        VolumeTask {
            namespace: "cms".to_owned(),
            claim: "data".to_owned(),
            uid: volume.to_owned(),
            pass,
            previous_pass: pass.checked_sub(1).filter(|pass| *pass > 0),
            quiesced: false,
            recover: false,
            bandwidth_limit: None,
        }
    }

    #[tokio::test]
    async fn what_is_received_is_noted_once_and_a_restart_relies_on_no_more() {
        let area = area();
        let claim = json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "cms", "uid": "away"}});
        assert_eq!(note_receiving(&area, &claim, &task("home", 1)).await.unwrap(), None);
        assert_eq!(note_receiving(&area, &claim, &task("home", 2)).await.unwrap(), Some(1));
        for _ in 0..2 {
            assert_eq!(note_receiving(&area, &claim, &task("else", 7)).await.unwrap(), None);
        }
        assert_eq!(note_receiving(&area, &claim, &task("home", 3)).await.unwrap(), None);
        let known = read(&area, "away").await.ok().flatten().unwrap();
        assert_eq!(known, Lineage { volume: "home".to_owned(), since: 3 });
    }

    #[tokio::test]
    async fn a_note_that_cannot_be_read_is_written_anew_and_nothing_is_relied_on() {
        let area = area();
        let claim = json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "cms", "uid": "away"}});
        let object = layout::claim_lineage(&area.pair, &VolumeUid::new("away").unwrap());
        area.store.put(&object, bytes::Bytes::from_static(b"damaged")).await.unwrap();
        assert_eq!(of_sent(&area, &claim, HOME).await.unwrap().0, "away");
        assert_eq!(note_receiving(&area, &claim, &task("home", 5)).await.unwrap(), None);
        assert!(read(&area, "away").await.is_ok_and(|known| known.is_some()));
    }
}
