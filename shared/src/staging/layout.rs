//! Every key in the bucket, made in one place.
//!
//! ```text
//! <pair>/migrations/<migration>/resources/cluster/...             archives of objects
//! <pair>/migrations/<migration>/resources/namespaces/<ns>/...
//! <pair>/migrations/<migration>/resources/inventory|left-behind|results/...
//! <pair>/migrations/<migration>/logs/<cluster>-<n>                log chunks
//! <pair>/volumes/<volume>/packs/<2 hex>/<32 hex>                  sealed packs of blocks
//! <pair>/volumes/<volume>/origin                                  the claim that it is of
//! <pair>/volumes/<claim>/lineage                                  the volume that a claim received
//! <pair>/volumes/<volume>/passes/<n>/segments/<seq>               manifest segments
//! <pair>/volumes/<volume>/passes/<n>/sender                       the sender's heartbeat
//! <pair>/volumes/<volume>/passes/<n>/received                     the receiver's mark
//! probes/<uuid>
//! ```
//!
//! Numbers have a fixed width, so a listing is in their order. An archive's parts carry the
//! random id of the run that wrote them and its trailer names that id: an export that is done
//! again replaces the old one in a single put.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest uid, in bytes: that of a DNS label.
const MAX_UID: usize = 63;

/// Why a name cannot be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {value:?} must be 1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit; use the object's metadata.uid or name"
)]
pub struct InvalidName {
    what: &'static str,
    value: String,
}

fn validate(what: &'static str, value: &str) -> Result<(), InvalidName> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let bytes = value.as_bytes();
    let sound = (1..=MAX_UID).contains(&bytes.len())
        && bytes.iter().all(|b| inner(*b))
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-');
    if sound { Ok(()) } else { Err(InvalidName { what, value: value.chars().take(80).collect() }) }
}

macro_rules! uid {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes a name that is fit for a key.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidName> {
                let value = value.into();
                validate($what, &value)?;
                Ok(Self(value))
            }

            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(uid: $name) -> String {
                uid.0
            }
        }
    };
}

uid!(
    /// The uid of a ClusterPair: the first part of every key.
    PairUid,
    "pair uid"
);
uid!(
    /// The uid of a Migration.
    MigrationUid,
    "migration uid"
);
uid!(
    /// The uid of a volume: that of the claim which was sent first, so that later passes find the
    /// earlier, whichever way they go between two claims.
    VolumeUid,
    "volume uid"
);

/// Which archive of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ArchiveName {
    /// What the source was found to hold: namespaces, claims, volumes, kinds.
    Inventory,
    /// Objects of cluster scope.
    Cluster,
    /// The objects of one namespace.
    Namespace(String),
    /// What the destination serves and has: what the source chooses versions by.
    Survey,
    /// The chosen objects as preflight saw them, for the destination to try.
    Candidates,
    /// What would become of each object.
    Preview,
    /// What was left out of the export, object by object, with the reason.
    LeftBehind,
    /// What became of each object.
    Results,
}

impl ArchiveName {
    /// The archive of a namespace's objects.
    pub fn namespace(name: &str) -> Result<Self, InvalidName> {
        validate("namespace", name)?;
        Ok(Self::Namespace(name.to_owned()))
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidName> {
        match self {
            Self::Namespace(name) => validate("namespace", name),
            Self::Inventory
            | Self::Cluster
            | Self::Survey
            | Self::Candidates
            | Self::Preview
            | Self::LeftBehind
            | Self::Results => Ok(()),
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Inventory => "resources/inventory".to_owned(),
            Self::Cluster => "resources/cluster".to_owned(),
            Self::Namespace(name) => format!("resources/namespaces/{name}"),
            Self::Survey => "resources/survey".to_owned(),
            Self::Candidates => "resources/candidates".to_owned(),
            Self::Preview => "resources/preview".to_owned(),
            Self::LeftBehind => "resources/left-behind".to_owned(),
            Self::Results => "resources/results".to_owned(),
        }
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// Everything of one pair.
pub fn pair_prefix(pair: &PairUid) -> String {
    format!("{pair}/")
}

/// Everything of one migration.
pub fn migration_prefix(pair: &PairUid, migration: &MigrationUid) -> String {
    format!("{pair}/migrations/{migration}/")
}

/// The part `number` of an archive, as written by the run `run`.
pub fn archive_part(
    pair: &PairUid,
    migration: &MigrationUid,
    archive: &ArchiveName,
    run: Uuid,
    number: u32,
) -> String {
    format!("{pair}/migrations/{migration}/{archive}/{}/part-{number:08}", run.simple())
}

/// The parts of an archive that the run `run` wrote.
pub fn archive_run_prefix(
    pair: &PairUid,
    migration: &MigrationUid,
    archive: &ArchiveName,
    run: Uuid,
) -> String {
    format!("{pair}/migrations/{migration}/{archive}/{}/", run.simple())
}

/// The trailer that makes an archive complete.
pub fn archive_trailer(pair: &PairUid, migration: &MigrationUid, archive: &ArchiveName) -> String {
    format!("{pair}/migrations/{migration}/{archive}/trailer")
}

/// All log chunks of one cluster in a migration; the chunk's number follows.
pub fn log_prefix(pair: &PairUid, migration: &MigrationUid, cluster: &str) -> Result<String, InvalidName> {
    // A Cluster's name is a DNS subdomain: labels with dots between them.
    for label in cluster.split('.') {
        validate("cluster name", label)?;
    }
    Ok(format!("{pair}/migrations/{migration}/logs/{cluster}-"))
}

/// One log chunk.
pub fn log_chunk(
    pair: &PairUid,
    migration: &MigrationUid,
    cluster: &str,
    number: u32,
) -> Result<String, InvalidName> {
    Ok(format!("{}{number:08}", log_prefix(pair, migration, cluster)?))
}

/// Everything of one volume.
pub fn volume_prefix(pair: &PairUid, volume: &VolumeUid) -> String {
    format!("{pair}/volumes/{volume}/")
}

/// All packs of one volume.
pub fn volume_packs_prefix(pair: &PairUid, volume: &VolumeUid) -> String {
    format!("{pair}/volumes/{volume}/packs/")
}

/// One pack, by its id. Its last two hex digits, which are random, spread the keys.
pub fn volume_pack(pair: &PairUid, volume: &VolumeUid, pack: &[u8; 16]) -> String {
    let name = hex::encode(pack);
    format!("{pair}/volumes/{volume}/packs/{}/{name}", &name[name.len() - 2..])
}

/// The id of a pack of this pass: the pass's number, then what is random of `random`.
pub fn pack_id(pass: u32, random: [u8; 16]) -> [u8; 16] {
    let mut id = random;
    id[..4].copy_from_slice(&pass.to_be_bytes());
    id
}

/// The pass that wrote a pack.
pub fn pass_of_pack(pack: &[u8; 16]) -> u32 {
    let [a, b, c, d, ..] = *pack;
    u32::from_be_bytes([a, b, c, d])
}

/// The volumes of a pair; a volume's uid and a slash follow.
pub fn volumes_prefix(pair: &PairUid) -> String {
    format!("{pair}/volumes/")
}

/// All passes over one volume; a pass's number and a slash follow.
pub fn volume_passes_prefix(pair: &PairUid, volume: &VolumeUid) -> String {
    format!("{pair}/volumes/{volume}/passes/")
}

/// Which claim a volume is of.
pub fn volume_origin(pair: &PairUid, volume: &VolumeUid) -> String {
    format!("{pair}/volumes/{volume}/origin")
}

/// Which volume the claim of this uid received last: passes back go on in it.
pub fn claim_lineage(pair: &PairUid, claim: &VolumeUid) -> String {
    format!("{pair}/volumes/{claim}/lineage")
}

/// What a key of a volume's staging stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeObject {
    /// A pack.
    Pack([u8; 16]),
    /// A manifest segment.
    Segment {
        /// Of this pass.
        pass: u32,
    },
    /// A sender's heartbeat.
    Sender {
        /// Of this pass.
        pass: u32,
    },
    /// A receiver's mark.
    Received {
        /// Of this pass.
        pass: u32,
    },
    /// Which claim the volume is of.
    Origin,
    /// Which volume the claim of this uid received.
    Lineage,
}

/// Reads a key of a volume's staging back; none if nothing here makes such a key.
pub fn volume_object(pair: &PairUid, volume: &VolumeUid, key: &str) -> Option<VolumeObject> {
    let below = key.strip_prefix(&volume_prefix(pair, volume))?;
    let mut parts = below.split('/');
    let object = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        ("origin", None, None, None) => VolumeObject::Origin,
        ("lineage", None, None, None) => VolumeObject::Lineage,
        ("packs", Some(_), Some(name), None) => {
            let mut id = [0; 16];
            hex::decode_to_slice(name, &mut id).ok()?;
            VolumeObject::Pack(id)
        }
        ("passes", Some(pass), Some("segments"), Some(_)) => {
            VolumeObject::Segment { pass: pass.parse().ok()? }
        }
        ("passes", Some(pass), Some("sender"), None) => VolumeObject::Sender { pass: pass.parse().ok()? },
        ("passes", Some(pass), Some("received"), None) => VolumeObject::Received { pass: pass.parse().ok()? },
        _ => return None,
    };
    // Only what would be written the same way again is one of ours.
    let same = match object {
        VolumeObject::Pack(id) => volume_pack(pair, volume, &id) == key,
        VolumeObject::Segment { pass } => {
            let sequence = key.strip_prefix(&pass_segments_prefix(pair, volume, pass))?.parse().ok()?;
            pass_segment(pair, volume, pass, sequence) == key
        }
        VolumeObject::Sender { pass } => pass_sender(pair, volume, pass) == key,
        VolumeObject::Received { pass } => pass_received(pair, volume, pass) == key,
        VolumeObject::Origin | VolumeObject::Lineage => true,
    };
    same.then_some(object)
}

/// Everything of one pass over a volume.
pub fn pass_prefix(pair: &PairUid, volume: &VolumeUid, pass: u32) -> String {
    format!("{pair}/volumes/{volume}/passes/{pass:08}/")
}

/// All manifest segments of a pass.
pub fn pass_segments_prefix(pair: &PairUid, volume: &VolumeUid, pass: u32) -> String {
    format!("{}segments/", pass_prefix(pair, volume, pass))
}

/// One manifest segment of a pass.
pub fn pass_segment(pair: &PairUid, volume: &VolumeUid, pass: u32, sequence: u64) -> String {
    format!("{}segments/{sequence:010}", pass_prefix(pair, volume, pass))
}

/// The heartbeat of a pass's sender.
pub fn pass_sender(pair: &PairUid, volume: &VolumeUid, pass: u32) -> String {
    format!("{}sender", pass_prefix(pair, volume, pass))
}

/// How far the receiver of a pass has come.
pub fn pass_received(pair: &PairUid, volume: &VolumeUid, pass: u32) -> String {
    format!("{}received", pass_prefix(pair, volume, pass))
}

/// The object of one probe.
pub fn probe(prefix_key: &str, id: Uuid) -> String {
    match prefix_key.trim_matches('/') {
        "" => format!("probes/{id}"),
        prefix => format!("{prefix}/probes/{id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_that_could_climb_out_of_its_prefix_is_refused() {
        for bad in ["", "..", "a/b", "A", "-a", "a-", "a b", &"x".repeat(64)] {
            assert!(PairUid::new(bad).is_err(), "{bad:?}");
            assert!(ArchiveName::namespace(bad).is_err(), "{bad:?}");
        }
        assert!(PairUid::new("0b1f7d0e-8a73-4b8e-9a43-0c0e8f2a7f11").is_ok());
    }

    #[test]
    fn segments_list_in_the_order_of_their_numbers() {
        let pair = PairUid::new("p").unwrap();
        let volume = VolumeUid::new("v").unwrap();
        let keys: Vec<_> = [9, 10, 99, 100_000].map(|n| pass_segment(&pair, &volume, 3, n)).to_vec();
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(keys[0], "p/volumes/v/passes/00000003/segments/0000000009");
    }

    #[test]
    fn keys_of_a_volume_are_read_back_and_others_are_not_taken_for_them() {
        let (pair, volume) = (PairUid::new("p").unwrap(), VolumeUid::new("v").unwrap());
        let id = pack_id(7, [0xab; 16]);
        assert_eq!(pass_of_pack(&id), 7);
        let key = volume_pack(&pair, &volume, &id);
        assert_eq!(key, "p/volumes/v/packs/ab/00000007abababababababababababab");
        for (key, object) in [
            (key, VolumeObject::Pack(id)),
            (pass_segment(&pair, &volume, 3, 12), VolumeObject::Segment { pass: 3 }),
            (pass_sender(&pair, &volume, u32::MAX), VolumeObject::Sender { pass: u32::MAX }),
            (pass_received(&pair, &volume, 1), VolumeObject::Received { pass: 1 }),
            (volume_origin(&pair, &volume), VolumeObject::Origin),
            (claim_lineage(&pair, &volume), VolumeObject::Lineage),
        ] {
            assert_eq!(volume_object(&pair, &volume, &key), Some(object), "{key}");
        }
        for foreign in [
            "p/volumes/v/packs/00/00000007abababababababababababab",
            "p/volumes/v/packs/ab/00000007ABababababababababababab",
            "p/volumes/v/packs/ab/00",
            "p/volumes/v/passes/3/received",
            "p/volumes/v/passes/00000003/segments/12",
            "p/volumes/v/passes/00000003/segments/0000000012/x",
            "p/volumes/v/passes/00000003/notes",
            "p/volumes/w/origin",
            "p/volumes/v/origin/x",
        ] {
            assert_eq!(volume_object(&pair, &volume, foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_uid_of_json_is_validated() {
        assert!(serde_json::from_str::<VolumeUid>("\"../x\"").is_err());
    }
}
