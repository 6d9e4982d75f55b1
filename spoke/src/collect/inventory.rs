//! The inventory: what InspectSource found, for the destination to look whether it can take it.
//!
//! In staging it is an archive whose first object is the [`Header`]; an [`Entry`] for every
//! object that would be taken follows, in the order of the archive `Candidates`.

use isthmus_shared::protocol::VolumeFacts;
use isthmus_shared::staging::{ArchiveError, ArchiveReader, ArchiveWriter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::ObjectId;
use crate::volumes::ClaimUser;

/// The start of the inventory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// The Namespace objects, untouched.
    pub namespaces: Vec<Value>,
    /// The volumes whose data moves.
    pub volumes: Vec<VolumeFacts>,
    /// All claims that are taken, untouched.
    pub claims: Vec<Value>,
    /// Who uses the volumes whose data moves.
    pub users: Vec<ClaimUser>,
    /// The volumes that move themselves, untouched.
    pub kept: Vec<Value>,
    /// The kinds of which objects are taken.
    pub kinds: Vec<KindCount>,
    /// The storage classes that claims and claim templates name, as the source has them.
    pub storage_classes: Vec<ClassFact>,
    /// The ingress classes that Ingresses name, likewise.
    pub ingress_classes: Vec<ClassFact>,
}

/// A class that objects name, as the source has it. It does not go along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassFact {
    /// Its name; empty for the objects that name none.
    pub name: String,
    /// Its provisioner or controller; empty if the source has no such class.
    pub provider: String,
    /// Whether it is the source's default.
    pub default: bool,
    /// How many objects name it.
    pub users: u64,
}

/// A kind of which objects are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KindCount {
    /// The API group.
    pub group: String,
    /// The version in which it is read.
    pub version: String,
    /// Every version that the source serves, the preferred first.
    pub versions: Vec<String>,
    /// The kind.
    pub kind: String,
    /// The resource's name in paths.
    pub plural: String,
    /// How many objects are taken.
    pub count: u64,
    /// Whether its custom resource definition goes along.
    pub crd: bool,
}

/// An object that would be taken.
pub type Entry = ObjectId;

/// Writes the header and then entries.
pub async fn write_header(writer: &mut ArchiveWriter, header: &Header) -> Result<(), ArchiveError> {
    writer.push(&to_json(header)).await
}

fn to_json<T: Serialize>(value: &T) -> Value {
    // These types have text keys only and serialise always.
    serde_json::to_value(value).unwrap_or_default()
}

/// Reads an inventory.
pub struct InventoryReader {
    archive: ArchiveReader,
    /// Its start.
    pub header: Header,
}

impl InventoryReader {
    /// Reads the header.
    pub async fn new(mut archive: ArchiveReader) -> Result<Self, ArchiveError> {
        let damaged = |detail: String| ArchiveError::Damaged { archive: "inventory".to_owned(), detail };
        let first = archive.next().await?.ok_or_else(|| damaged("it is empty".to_owned()))?;
        let header = serde_json::from_value(first).map_err(|e| damaged(e.to_string()))?;
        Ok(Self { archive, header })
    }

    /// The next object that would be taken.
    pub async fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let damaged = |e: serde_json::Error| ArchiveError::Damaged {
            archive: "inventory".to_owned(),
            detail: e.to_string(),
        };
        self.archive.next().await?.map(|value| serde_json::from_value(value).map_err(damaged)).transpose()
    }
}
