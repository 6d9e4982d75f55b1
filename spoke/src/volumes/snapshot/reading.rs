//! What a sender's mover reads, as it was decided once and stands on its Job: a spoke that starts anew
//! goes by that.

use std::fmt;

use serde_json::Value;

use crate::cluster::{annotation, array, text};

/// Annotation on a Job: `Live` or `Snapshot`.
const METHOD: &str = "isthmus.dev/method";
/// Annotation on a Job: `"true"` if nobody writes to what it reads.
const STILL: &str = "isthmus.dev/still";
/// Annotation on a Job: why it does not read a snapshot although there should be one.
const SETBACK: &str = "isthmus.dev/no-snapshot";

/// What a mover mounts, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The claim.
    pub claim: String,
    /// What reads it may take it as unchanging.
    pub still: bool,
    /// Why it is the volume itself although a snapshot was tried.
    pub setback: Option<String>,
    is_snapshot: bool,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_snapshot { "Snapshot" } else { "Live" })
    }
}

impl Reading {
    /// The volume itself.
    pub fn live(claim: &str, still: bool) -> Self {
        Self { claim: claim.to_owned(), still, setback: None, is_snapshot: false }
    }

    /// A claim that was made from a snapshot.
    pub fn snapshot(claim: &str) -> Self {
        Self { claim: claim.to_owned(), still: true, setback: None, is_snapshot: true }
    }

    /// The same, because a snapshot could not be had.
    pub fn after(self, setback: String) -> Self {
        Self { setback: Some(setback), ..self }
    }

    /// Whether it is a claim of our own, from a snapshot.
    pub fn is_snapshot(&self) -> bool {
        self.is_snapshot
    }

    /// Writes it on the Job.
    pub fn mark(&self, job: &mut Value) {
        let marks = &mut job["metadata"]["annotations"];
        marks[METHOD] = self.to_string().into();
        marks[STILL] = self.still.to_string().into();
        if let Some(setback) = &self.setback {
            marks[SETBACK] = setback.as_str().into();
        }
    }

    /// Reads it from the Job.
    pub fn of_job(job: &Value, claim: &str) -> Self {
        let mounted = array(job, "/spec/template/spec/volumes")
            .iter()
            .map(|volume| text(volume, "/persistentVolumeClaim/claimName"))
            .find(|name| !name.is_empty());
        Self {
            claim: mounted.unwrap_or(claim).to_owned(),
            still: annotation(job, STILL) == Some("true"),
            setback: annotation(job, SETBACK).map(str::to_owned),
            is_snapshot: annotation(job, METHOD) == Some("Snapshot"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_is_found_again_on_the_job() {
        let job = |reading: &Reading| {
            let mut job = json!({"metadata": {"annotations": {}}, "spec": {"template": {"spec": {"volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "volume", "persistentVolumeClaim": {"claimName": reading.claim}}]}}}});
            reading.mark(&mut job);
            job
        };
        for reading in [
            Reading::live("data", false),
            Reading::live("data", true),
            Reading::snapshot("isthmus-snap-1"),
            Reading::live("data", false).after("the array is full".to_owned()),
        ] {
            assert_eq!(Reading::of_job(&job(&reading), "data"), reading);
        }
        assert_eq!(Reading::of_job(&json!({}), "data"), Reading::live("data", false));
    }
}
