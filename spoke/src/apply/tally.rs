//! Counts, findings and the result of every object.

use isthmus_shared::protocol::{ObjectAction, ObjectResult};
use isthmus_shared::resources::{Finding, ResourceCounts};
use isthmus_shared::staging::{ArchiveError, ArchiveWriter};

use super::{Applied, Arrived, Problem};
use crate::cluster::ObjectId;
use crate::findings::{Findings, finding};

/// Whether a result is that of a namespace, which is prepared and not counted as an object.
pub(super) fn is_namespace(result: &ObjectResult) -> bool {
    result.kind == "Namespace" && result.namespace.is_none() && result.api_version == "v1"
}

/// What became of a run's objects so far.
pub struct Tally {
    writer: ArchiveWriter,
    /// The counts.
    pub counts: ResourceCounts,
    /// What failed.
    pub failures: Findings,
}

impl Tally {
    /// Writes results into this archive.
    pub fn new(writer: ArchiveWriter) -> Self {
        Self { writer, counts: ResourceCounts::default(), failures: Findings::default() }
    }

    /// Notes what became of an object that was taken along.
    pub async fn note(
        &mut self,
        id: &ObjectId,
        result: Result<Arrived, Problem>,
    ) -> Result<(), ArchiveError> {
        let counts = &mut self.counts;
        let result = match result {
            Ok(arrived) => {
                counts.done += 1;
                let (count, action) = match arrived.applied {
                    Applied::Created => (&mut counts.created, ObjectAction::Created),
                    Applied::Updated => (&mut counts.updated, ObjectAction::Updated),
                    Applied::Unchanged => (&mut counts.unchanged, ObjectAction::Unchanged),
                    Applied::Skipped | Applied::Left => (&mut counts.skipped, ObjectAction::Skipped),
                };
                *count += 1;
                let reason = arrived.notes.first().map(|note| note.reason.to_owned());
                let messages: Vec<&str> = arrived.notes.iter().map(|note| note.message.as_str()).collect();
                let message = (!messages.is_empty()).then(|| messages.join("; "));
                ObjectResult { reason, message, ..id.result(action) }
            }
            Err(problem) => {
                counts.failed += 1;
                self.failures.push(finding(id.describe(), &problem.reason, problem.message.as_str()));
                let (reason, message) = (Some(problem.reason), Some(problem.message));
                ObjectResult { reason, message, ..id.result(ObjectAction::Failed) }
            }
        };
        self.write(&result).await
    }

    /// Notes that an object of the destination was deleted, because it is gone from the source.
    pub async fn deleted(&mut self, id: &ObjectId) -> Result<(), ArchiveError> {
        self.counts.deleted += 1;
        self.write(&id.result(ObjectAction::Deleted)).await
    }

    /// Notes that an object of the destination stays, though it is or may be gone from the source.
    pub async fn kept(&mut self, id: &ObjectId, why: &Finding) -> Result<(), ArchiveError> {
        self.counts.count(ObjectAction::Skipped);
        let (reason, message) = (Some(why.reason.clone()), Some(why.message.clone()));
        self.write(&ObjectResult { reason, message, ..id.result(ObjectAction::Skipped) }).await
    }

    /// Notes what became of a namespace.
    pub async fn mention(&mut self, result: &ObjectResult) -> Result<(), ArchiveError> {
        self.write(result).await
    }

    /// Notes that an object of the destination could not be deleted.
    pub fn not_deleted(&mut self, id: &ObjectId, problem: &Problem) {
        self.failures.push(finding(id.describe(), &problem.reason, problem.message.as_str()));
    }

    /// Repeats what the source said of an object that it left behind.
    pub async fn left_behind(&mut self, result: &ObjectResult) -> Result<(), ArchiveError> {
        self.counts.left_behind += 1;
        self.write(result).await
    }

    /// Completes the archive.
    pub async fn finish(self) -> Result<(ResourceCounts, Findings), ArchiveError> {
        self.writer.finish().await?;
        Ok((self.counts, self.failures))
    }

    async fn write(&mut self, result: &ObjectResult) -> Result<(), ArchiveError> {
        let value = serde_json::to_value(result).unwrap_or_default();
        self.writer.push(&value).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::transform::tests::run_of;

    #[test]
    fn objects_are_told_of_by_their_names_on_the_destination_and_namespaces_are_not_counted() {
        let run = run_of(json!({}), &[("shop", "shop-green")]);
        let id = |kind: &str, namespace: &str| {
            let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "shop"}});
            if !namespace.is_empty() {
                object["metadata"]["namespace"] = namespace.into();
            }
            ObjectId::of(&object).on_destination(&run)
        };
        assert_eq!(id("ConfigMap", "shop").describe(), "ConfigMap shop-green/shop");
        assert_eq!(id("ConfigMap", "other").describe(), "ConfigMap other/shop");
        assert!(is_namespace(&id("Namespace", "").result(ObjectAction::Created)));
        assert!(!is_namespace(&id("PersistentVolume", "").result(ObjectAction::Created)));
    }
}
