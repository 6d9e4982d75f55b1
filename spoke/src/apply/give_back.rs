//! An object that was handed over, brought up to date: one update, tried before it is written, so
//! that what is so already is never written.

use serde_json::Value;

use super::comparison::{content, first_difference};
use super::object::{Applied, Applier, Examined, Meeting, Setback};
use super::problem::{Problem, is_immutable, refused};
use super::returning::returned;
use crate::cluster::ClusterError;

impl Applier<'_> {
    pub(super) async fn give_back(&self, meeting: &Meeting<'_>, live: &Value) -> Result<Applied, Setback> {
        let body = self.returned(meeting.object, live, meeting.owners)?;
        if content(body.clone()) == content(live.clone()) {
            return Ok(Applied::Unchanged);
        }
        let tried = self.cluster.replace(meeting.path, &body, true).await.map_err(setback)?;
        if content(tried) == content(live.clone()) {
            return Ok(Applied::Unchanged);
        }
        self.cluster.replace(meeting.path, &body, false).await.map_err(setback)?;
        Ok(Applied::Updated)
    }

    /// Whether it is as it was brought up to date.
    pub(super) async fn examine_returned(
        &self,
        path: &str,
        object: &Value,
        live: &Value,
    ) -> Result<Examined, Problem> {
        let body = self.returned(object, live, &[])?;
        let Some(difference) = first_difference(live, &body) else { return Ok(Examined::Same) };
        match self.cluster.replace(path, &body, true).await {
            Ok(tried) if content(tried.clone()) == content(live.clone()) => Ok(Examined::Same),
            Ok(_) => Ok(Examined::Differs(difference)),
            Err(error) => Err(refused(&error)),
        }
    }

    /// The body of the update. Workloads come stopped, whatever they do here: the other side runs.
    fn returned(&self, object: &Value, live: &Value, owners: &[Value]) -> Result<Value, Problem> {
        let wanted = self.rewritten(object, self.migration(), true, owners)?.object;
        Ok(returned(live, &wanted))
    }
}

fn setback(error: ClusterError) -> Setback {
    if is_immutable(&error) {
        Setback::Immutable(error)
    } else if error.is_not_found() {
        Setback::Stale(error)
    } else {
        error.into()
    }
}
