//! Makes the snapshot and the claim from it, and waits until a mover can use them.

use std::time::{Duration, Instant};

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::Finding;
use jiff::Timestamp;
use serde_json::Value;

use super::choice::Route;
use super::objects;
use super::standing::{self, Standing};
use crate::cluster::{Cluster, ClusterError, PatchKind, describe, name, namespace, text};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};
use crate::volumes::trouble::newest_warning;

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For how long a driver may say that it could not: it tries again by itself, with growing pauses.
const ERROR_PATIENCE: Duration = Duration::from_secs(30);
/// The Event with which a provisioner says why there is no volume.
const PROVISIONING_FAILED: &str = "ProvisioningFailed";

/// Why there is no claim for the mover.
pub enum Setback {
    /// There can be no snapshot, or no claim from it.
    Refused(Finding),
    /// The task cannot go on, whatever is read.
    Task(TaskError),
}

/// One snapshot and one claim to be made.
pub struct Taking<'a> {
    pub context: &'a TaskContext,
    pub run: &'a Run,
    /// The claim whose volume is read.
    pub claim: &'a Value,
    pub route: &'a Route,
    /// How long both together may take.
    pub patience: Duration,
}

impl Taking<'_> {
    /// Makes both; gives the claim's name.
    pub async fn take(&self) -> Result<String, Setback> {
        let snapshot = self.snapshot().await?;
        let waited = age(&snapshot);
        self.context.log(format!(
            "{} is ready after {} s",
            self.describe("VolumeSnapshot"),
            waited.as_secs()
        ));
        self.temporary(&standing::restore_size(&snapshot), self.patience.saturating_sub(waited)).await?;
        Ok(self.name())
    }

    fn name(&self) -> String {
        objects::name_of(&self.context.id)
    }

    fn describe(&self, kind: &str) -> String {
        format!("{kind} {}/{}", namespace(self.claim), self.name())
    }

    fn cluster(&self) -> &Cluster {
        self.context.cluster()
    }

    async fn snapshot(&self) -> Result<Value, Setback> {
        let wanted = objects::snapshot(&self.context.id, &self.run.migration, self.claim, self.route);
        let mut wait = Wait::new(self, "VolumeSnapshot", self.patience);
        loop {
            let found = self.made(&objects::snapshots(namespace(self.claim)), &wanted).await?;
            if let Some(found) = found {
                let standing = standing::of_snapshot(&found);
                if standing == Standing::Ready {
                    return Ok(found);
                }
                wait.look(&standing, age(&found))?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn temporary(&self, restore_size: &str, patience: Duration) -> Result<(), Setback> {
        let (task, migration) = (&self.context.id, &self.run.migration);
        let wanted = objects::claim(task, migration, self.claim, self.route, restore_size);
        // However long the snapshot took: a volume from it is made in no time by most drivers.
        let mut wait = Wait::new(self, "PersistentVolumeClaim", patience.max(ERROR_PATIENCE * 2));
        loop {
            let found = self.made(&objects::claims(namespace(self.claim)), &wanted).await?;
            if let Some(found) = found {
                let warning = newest_warning(self.cluster(), &found).await;
                let warning =
                    warning.map_err(|e| self.task("PersistentVolumeClaim", "reading its events", &e))?;
                let warning =
                    warning.filter(|(reason, _)| reason == PROVISIONING_FAILED).map(|(_, said)| said);
                let waits = self.route.waits_for_consumer;
                let standing = standing::of_claim(&found, waits, warning.as_deref());
                if standing == Standing::Ready {
                    return Ok(());
                }
                wait.look(&standing, Duration::ZERO)?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The object as it is; none if it has only just been made.
    async fn made(&self, collection: &str, wanted: &Value) -> Result<Option<Value>, Setback> {
        let object = describe(wanted);
        let path = format!("{collection}/{}", name(wanted));
        let found = self.cluster().find(&path).await;
        if let Some(found) =
            found.map_err(|e| Setback::Task(TaskError::cluster(&object, "reading it", &e)))?
        {
            if objects::is_of(&found, &self.context.id) {
                return Ok(Some(found));
            }
            let message = "an object of this name is not of this run: delete it, then run again";
            return Err(Setback::Refused(finding(object, "NameTaken", message)));
        }
        match self.cluster().create(collection, wanted).await {
            Ok(_) => {
                self.context.log(format!("{object} made for {}", describe(self.claim)));
                Ok(None)
            }
            Err(error) if error.is_already_exists() => Ok(None),
            Err(error) => Err(refused(object, &error)),
        }
    }

    fn task(&self, kind: &str, doing: &str, error: &ClusterError) -> Setback {
        Setback::Task(TaskError::cluster(self.describe(kind), doing, error))
    }
}

/// A wait for one of them, with its deadlines.
struct Wait<'a> {
    taking: &'a Taking<'a>,
    kind: &'static str,
    began: Instant,
    patience: Duration,
    /// Since when the driver says that it could not.
    errs_since: Option<Instant>,
}

impl<'a> Wait<'a> {
    fn new(taking: &'a Taking<'a>, kind: &'static str, patience: Duration) -> Self {
        Self { taking, kind, began: Instant::now(), patience, errs_since: None }
    }

    /// Goes on waiting, unless it has been long enough. `age` is how long the object has been there: a
    /// spoke that started anew has not waited for all of it.
    fn look(&mut self, standing: &Standing, age: Duration) -> Result<(), Setback> {
        let object = self.taking.describe(self.kind);
        let waited = self.began.elapsed().max(age);
        self.errs_since = match standing {
            Standing::Errs(_) => self.errs_since.or_else(|| Some(Instant::now())),
            _ => None,
        };
        let what = match standing {
            Standing::Errs(said) => format!("the storage driver says: {said}"),
            Standing::Going => "the last one is being removed".to_owned(),
            Standing::Ready | Standing::Waits => "the storage driver is making it".to_owned(),
        };
        self.taking.context.doing(format!("waiting for {object} since {} s: {what}", waited.as_secs()));
        if self.errs_since.is_some_and(|since| since.elapsed() > ERROR_PATIENCE) {
            let message = format!("{what}; look at the driver and its VolumeSnapshotClass, then run again");
            return Err(Setback::Refused(finding(object, "SnapshotFailed", message)));
        }
        if waited > self.patience {
            let message = format!(
                "it was not ready within {} s ({what}); look at the snapshot controller and the storage driver, \
                 then run again",
                self.patience.as_secs()
            );
            return Err(Setback::Refused(finding(object, "SnapshotNotReady", message)));
        }
        Ok(())
    }
}

/// How long an object has been there.
fn age(object: &Value) -> Duration {
    let created = text(object, "/metadata/creationTimestamp").parse::<Timestamp>();
    let age = created.map(|created| Timestamp::now().duration_since(created));
    // A clock behind the API server's makes it no younger than new.
    age.ok().and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
}

/// Reads the refusal of an object that was to be made.
fn refused(object: String, error: &ClusterError) -> Setback {
    if error.is_transient() {
        return Setback::Task(TaskError::cluster(object, "making it", error));
    }
    Setback::Refused(refusal(object, error))
}

fn refusal(object: String, error: &ClusterError) -> Finding {
    let said = error.message();
    let (reason, remedy) = if said.contains("exceeded quota") {
        (
            "QuotaExceeded",
            "raise the namespace's quota for the time of the run: a snapshot and a claim as large as the \
             volume are needed for each volume that is under way",
        )
    } else if error.code() == Some(403) && said.contains(" cannot ") && said.contains(" resource \"") {
        // RBAC's own words; a trial is a patch, and the real thing a creation.
        ("Forbidden", "grant the spoke's service account what its ClusterRole in deploy/ lists")
    } else {
        (error.reason(), "correct what it names")
    };
    finding(object, reason, format!("the API server refuses it: {said}; {remedy}, then run again"))
}

/// Whether both would be taken by the API server; changes nothing.
pub async fn try_out(
    context: &TaskContext,
    run: &Run,
    claim: &Value,
    route: &Route,
) -> Result<Option<Finding>, ClusterError> {
    let place = namespace(claim);
    let wanted = [
        (objects::snapshots(place), objects::snapshot(&context.id, &run.migration, claim, route)),
        (objects::claims(place), objects::claim(&context.id, &run.migration, claim, route, "")),
    ];
    for (collection, object) in wanted {
        let path = format!("{collection}/{}", name(&object));
        match context.cluster().patch(&path, &object, PatchKind::Try).await {
            Ok(_) => {}
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => return Ok(Some(refusal(describe(&object), &error))),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(message: &str) -> ClusterError {
        let body = json!({"reason": "Forbidden", "message": message}).to_string();
        ClusterError::refused("POST /x".to_owned(), 403, None, body.as_bytes())
    }

    #[test]
    fn a_quota_is_told_from_a_missing_permission() {
        let finding = |message: &str| refusal("PersistentVolumeClaim a/b".to_owned(), &error(message));
        let quota = finding("persistentvolumeclaims \"b\" is forbidden: exceeded quota: small");
        assert_eq!(quota.reason, "QuotaExceeded");
        assert!(quota.message.contains("raise the namespace's quota"), "{}", quota.message);
        for verb in ["create", "patch"] {
            let role = finding(&format!("User \"spoke\" cannot {verb} resource \"volumesnapshots\""));
            assert!(role.message.contains("ClusterRole"), "{}", role.message);
        }
        assert_eq!(finding("admission webhook \"x\" denied the request").reason, "Forbidden");
    }

    #[test]
    fn an_object_of_the_future_is_new() {
        let made = |at: Timestamp| json!({"metadata": {"creationTimestamp": at.to_string()}});
        let now = Timestamp::now();
        assert!(age(&made(now - jiff::SignedDuration::from_secs(60))) >= Duration::from_secs(59));
        assert_eq!(age(&made(now + jiff::SignedDuration::from_secs(60))), Duration::ZERO);
        assert_eq!(age(&json!({})), Duration::ZERO);
    }
}
