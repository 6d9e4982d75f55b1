//! `existingResourcePolicy: Replace`: a full update, and where a field cannot be changed, the
//! object deleted and made anew.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::comparison::content;
use super::decision::Facts;
use super::object::{Applied, Applier, Meeting, Setback};
use super::problem::{Problem, is_immutable, refused};
use super::replacement::{replacement, undeletable};
use crate::cluster::{ClusterError, DeleteOptions, kind, name, namespace, uid};
use crate::volumes::pods_of_claims;

/// How long a deletion may take.
const GONE_TIMEOUT: Duration = Duration::from_mins(1);
/// How often it is looked whether the object is gone.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Applier<'_> {
    pub(super) async fn replace(
        &self,
        meeting: &Meeting<'_>,
        live: &Value,
        place: Option<&str>,
    ) -> Result<Applied, Setback> {
        let stopped = self.stopped(live);
        if let Some(mark) = Facts::of(live).mark {
            let same = self.rewritten(meeting.object, mark, stopped, meeting.owners)?.object;
            match self.cluster.replace(meeting.path, &replacement(live, same), true).await {
                Ok(tried) if content(tried.clone()) == content(live.clone()) => {
                    return Ok(self.so_already(live));
                }
                Ok(_) => {}
                Err(error) if is_immutable(&error) => {
                    return self.make_anew(meeting, live, place, &error).await;
                }
                Err(error) => return Err(stale_or(error)),
            }
        }
        match self.put(meeting, live, stopped).await {
            Err(Setback::Immutable(error)) => self.make_anew(meeting, live, place, &error).await,
            done => done,
        }
    }

    /// Makes the object as on the source by one update.
    pub(super) async fn put(
        &self,
        meeting: &Meeting<'_>,
        live: &Value,
        stopped: bool,
    ) -> Result<Applied, Setback> {
        let mark = self.migration();
        let wanted = self.rewritten(meeting.object, mark, stopped, meeting.owners)?.object;
        match self.cluster.replace(meeting.path, &replacement(live, wanted), false).await {
            Ok(_) => Ok(Applied::Updated),
            Err(error) if is_immutable(&error) => Err(Setback::Immutable(error)),
            Err(error) => Err(stale_or(error)),
        }
    }

    async fn make_anew(
        &self,
        meeting: &Meeting<'_>,
        live: &Value,
        place: Option<&str>,
        error: &ClusterError,
    ) -> Result<Applied, Setback> {
        let in_use = kind(meeting.wanted) == "PersistentVolumeClaim" && self.is_claim_in_use(live).await?;
        if let Some(why) = undeletable(meeting.wanted, in_use) {
            let message =
                format!("a field of it cannot be changed ({}); {why}, then run again", error.message());
            return Err(Problem::lasting("ImmutableField", message).into());
        }
        let options = DeleteOptions { uid: Some(uid(live).to_owned()), foreground: false };
        self.cluster.delete(meeting.path, &options).await?;
        let started = Instant::now();
        while let Some(left) = self.cluster.find(meeting.path).await.map_err(|e| refused(&e))? {
            if uid(&left) != uid(live) {
                break;
            }
            if started.elapsed() > GONE_TIMEOUT {
                let message = format!(
                    "it was deleted to be made anew, as a field of it cannot be changed, and is not gone after {} s: look \
                     at its finalizers on the destination, then run again",
                    GONE_TIMEOUT.as_secs()
                );
                return Err(Problem::waiting("BeingDeleted", message).into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        match self.create(meeting, place).await {
            Ok(_) => Ok(Applied::Updated),
            Err(Setback::Problem(problem)) => Err(Problem {
                message: format!(
                    "it was deleted to be made anew, as a field of it cannot be changed, and could not be made: {}",
                    problem.message
                ),
                ..problem
            }
            .into()),
            Err(other) => Err(other),
        }
    }

    async fn is_claim_in_use(&self, claim: &Value) -> Result<bool, Problem> {
        let users =
            pods_of_claims(self.cluster, namespace(claim), name(claim)).await.map_err(|e| refused(&e))?;
        Ok(!users.is_empty())
    }
}

/// A refusal of an update; one of something that is gone is looked at anew.
fn stale_or(error: ClusterError) -> Setback {
    if error.is_not_found() { Setback::Stale(error) } else { error.into() }
}
