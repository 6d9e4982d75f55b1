//! One object on its way into the destination.
//!
//! ```text
//!   rewrite ── what is there? ── decide ─┬─ Create   POST
//!              (LiveIndex)               ├─ Update   nothing if it is so; else a dry run, and the apply
//!                                        ├─ Replace  a dry run, and the PUT; or delete and POST
//!                                        ├─ Return   nothing if it is so; else a dry run, and the PUT
//!                                        ├─ Merge    nothing if it is so; else a merge patch
//!                                        └─ Keep, Leave, Skip, Refuse
//! ```
//!
//! An object that is new costs one request. One that is so already costs none where the comparison
//! alone shows it, and a dry run where only the server can tell; it is never written, and keeps
//! the mark of the run that wrote it last.

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{ExistingResourcePolicy as Policy, MIGRATED_BY, PLAN, plan_mark};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::body::{of_uid, unmarked, without_managed};
use super::comparison::{content, covers, first_difference, will_do};
use super::decision::{Decision, Facts, Subject, decide};
use super::handover::{HandedOver, left_as_it_is};
use super::live::{Found, LiveIndex};
use super::problem::{Problem, refused};
use super::replacement::replacement;
use super::{merge, ownership};
use crate::cluster::{
    Catalogue, Cluster, ClusterError, Kind, PatchKind, api_version, kind, name, namespace, text, uid,
};
use crate::transform::{Arrival, Note, Rewriter, Rewritten};
use crate::workloads::state;

pub(super) const APPLY: PatchKind = PatchKind::Apply { force: true, dry_run: false };
const TRY: PatchKind = PatchKind::Apply { force: true, dry_run: true };
/// How often an object is looked at anew because it changed while it was being written.
const MAX_LOOKS: usize = 4;

/// What was done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was made.
    Created,
    /// It was changed.
    Updated,
    /// It was so already.
    Unchanged,
    /// It was there, and the policy is to leave it.
    Skipped,
    /// It was there and differs, and is the destination's own.
    Left,
}

/// An object that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// What was done with it.
    pub applied: Applied,
    /// What it is called on the destination.
    pub name: String,
    /// What a person should know of its rewriting.
    pub notes: Vec<Note>,
}

/// What an object on the destination was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// As applied.
    Same,
    /// Not ours to compare: it was left as it was.
    Left,
    /// It is not there.
    Missing,
    /// Something of its name that carries no mark.
    NotOurs,
    /// There, and not as applied; the first field that is not.
    Differs(String),
}

/// Applies objects for one run.
pub struct Applier<'a> {
    pub(super) cluster: &'a Cluster,
    catalogue: &'a Catalogue,
    rewriter: &'a Rewriter,
    pub(super) run: &'a Run,
    live: LiveIndex,
    handed_over: OnceCell<HandedOver>,
}

/// Why a write did not happen.
pub(super) enum Setback {
    /// The object is not as it was known: it is looked at anew.
    Stale(ClusterError),
    /// A field cannot be changed on the object that is there.
    Immutable(ClusterError),
    /// Anything else.
    Problem(Problem),
}

impl From<Problem> for Setback {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// A refusal of a write to something that is there.
impl From<ClusterError> for Setback {
    fn from(error: ClusterError) -> Self {
        if error.is_conflict() || error.is_already_exists() {
            Self::Stale(error)
        } else {
            Self::Problem(refused(&error))
        }
    }
}

/// One object at one look.
pub(super) struct Meeting<'a> {
    pub kind: &'a Kind,
    pub path: &'a str,
    /// As on the source.
    pub object: &'a Value,
    /// As it would be created.
    pub wanted: &'a Value,
    pub owners: &'a [Value],
}

impl<'a> Applier<'a> {
    /// Applies for a run. What the destination has is looked at when the first object of its kind
    /// comes.
    pub fn new(cluster: &'a Cluster, catalogue: &'a Catalogue, rewriter: &'a Rewriter, run: &'a Run) -> Self {
        let (live, handed_over) = (LiveIndex::default(), OnceCell::new());
        Self { cluster, catalogue, rewriter, run, live, handed_over }
    }

    /// Brings an object, as it was on the source, to the destination; `owners` are its owner
    /// references there.
    pub async fn apply(&self, object: &Value, owners: &[Value]) -> Result<Arrived, Problem> {
        let Rewritten { object: wanted, mut notes, .. } =
            self.rewritten(object, &self.run.migration, true, owners)?;
        let kind = self.kind_of(&wanted)?;
        let place = Some(namespace(&wanted)).filter(|place| !place.is_empty());
        let path = kind.object(place, name(&wanted));
        let meeting = Meeting { kind, path: &path, object, wanted: &wanted, owners };
        let mut looks = 0;
        let applied = loop {
            looks += 1;
            match self.meet(&meeting, place).await {
                Ok(applied) => break applied,
                Err(setback) => {
                    self.live.distrust(&path);
                    match setback {
                        Setback::Problem(problem) => return Err(problem),
                        Setback::Immutable(error) => return Err(refused(&error)),
                        Setback::Stale(error) if looks == MAX_LOOKS => return Err(refused(&error)),
                        Setback::Stale(_) => {}
                    }
                }
            }
        };
        if applied == Applied::Left {
            notes.push(left_as_it_is());
        }
        Ok(Arrived { applied, name: name(&wanted).to_owned(), notes })
    }

    /// What was handed over to where the run comes from, as its namespaces tell.
    async fn handed_over(&self, place: Option<&str>) -> Result<bool, Problem> {
        let read = || HandedOver::read(self.cluster, self.run);
        Ok(self.handed_over.get_or_try_init(read).await.map_err(|e| refused(&e))?.has(place))
    }

    async fn meet(&self, meeting: &Meeting<'_>, place: Option<&str>) -> Result<Applied, Setback> {
        let policy = self.run.spec.existing_resource_policy;
        let kind = meeting.kind;
        let subject = Subject { group: &kind.group, kind: &kind.kind, namespaced: kind.namespaced };
        let handed_over = self.handed_over(place).await?;
        let content = handed_over || matches!(policy, Some(Policy::Update | Policy::Replace));
        let found = self
            .live
            .find(self.cluster, kind, place, name(meeting.wanted), content)
            .await
            .map_err(|error| Setback::Problem(refused(&error)))?;
        let (facts, live) = match &found {
            Found::Nothing => (None, &Value::Null),
            Found::Facts { deleting } => {
                (Some(Facts { deleting: *deleting, ..Facts::default() }), &Value::Null)
            }
            Found::Object(live) => {
                let covered = !subject.namespaced && will_do(live, meeting.wanted);
                (Some(Facts::of(live).covered(covered).handed_over(handed_over)), &**live)
            }
        };
        match decide(subject, facts, policy, &self.run.migration) {
            Decision::Create => self.create(meeting, place).await,
            Decision::Update => self.update(meeting, live).await,
            Decision::Replace => self.replace(meeting, live, place).await,
            Decision::Return => self.give_back(meeting, live).await,
            Decision::Merge => self.merge(meeting, live, policy).await,
            Decision::Keep => Ok(Applied::Unchanged),
            Decision::Leave => Ok(Applied::Left),
            Decision::Skip => Ok(Applied::Skipped),
            Decision::Refuse(problem) => Err(problem.into()),
        }
    }

    /// Looks whether an object is on the destination as it was applied. Asks the server by a dry
    /// run where the values alone do not tell, so that it never raises a false alarm.
    pub async fn examine(&self, object: &Value) -> Result<Examined, Problem> {
        let wanted = self.rewritten(object, self.migration(), true, &[])?.object;
        let kind = self.kind_of(&wanted)?;
        let place = Some(namespace(&wanted)).filter(|place| !place.is_empty());
        let policy = self.run.spec.existing_resource_policy;
        let handed_over = policy.is_none() && self.handed_over(place).await?;
        let found = self.live.find(self.cluster, kind, place, name(&wanted), handed_over).await;
        let found = found.map_err(|e| refused(&e))?;
        let skips = policy == Some(Policy::Skip);
        let live = match found {
            Found::Nothing => return Ok(Examined::Missing),
            Found::Facts { .. } => return Ok(if skips { Examined::Left } else { Examined::NotOurs }),
            Found::Object(live) => live,
        };
        let subject = Subject { group: &kind.group, kind: &kind.kind, namespaced: kind.namespaced };
        let mark = Facts::of(&live).mark;
        if skips && mark != Some(self.migration()) {
            return Ok(Examined::Left);
        }
        if subject.is_merged() {
            let lacking = merge::merged(&live, &wanted, policy)?.is_some();
            let path = || first_difference(&live, &unmarked(&wanted)).unwrap_or_default();
            return Ok(if lacking { Examined::Differs(path()) } else { Examined::Same });
        }
        let Some(mark) = mark else {
            if handed_over && subject.namespaced {
                return self.examine_returned(&kind.object(place, name(&wanted)), object, &live).await;
            }
            let left = subject.is_kept() || (!subject.namespaced && (handed_over || will_do(&live, &wanted)));
            return Ok(if left { Examined::Left } else { Examined::NotOurs });
        };
        let same = self.rewritten(object, mark, self.stopped(&live), &[])?.object;
        let Some(path) = first_difference(&live, &same) else { return Ok(Examined::Same) };
        let object_path = kind.object(place, name(&wanted));
        match self.cluster.patch(&object_path, &of_uid(same, &live), TRY).await {
            Ok(tried) if content(tried.clone()) == content((*live).clone()) => Ok(Examined::Same),
            Ok(_) => Ok(Examined::Differs(path)),
            Err(error) if is_duplicate(&error) => {
                let body = replacement(&live, self.rewritten(object, mark, self.stopped(&live), &[])?.object);
                let tried = self.cluster.replace(&object_path, &body, true).await;
                let is_same = tried.is_ok_and(|tried| content(tried) == content((*live).clone()));
                Ok(if is_same { Examined::Same } else { Examined::Differs(path) })
            }
            Err(error) => Err(refused(&error)),
        }
    }

    /// The object as it is to be, with a mark.
    pub(super) fn rewritten(
        &self,
        object: &Value,
        mark: &str,
        stopped: bool,
        owners: &[Value],
    ) -> Result<Rewritten, Problem> {
        let place = namespace(object);
        let plan = (!place.is_empty()).then(|| self.plan_of(place));
        let arrival = Arrival { mark, plan: plan.as_deref(), stopped, owners };
        let mut object = object.clone();
        // An earlier run brought it to the source; that says nothing here.
        if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(MIGRATED_BY);
            labels.remove(PLAN);
        }
        Ok(self.rewriter.rewrite(object, &arrival)?)
    }

    /// The mark of this run.
    pub(super) fn migration(&self) -> &str {
        &self.run.migration
    }

    /// The mark of what comes from a namespace of the source.
    pub fn plan_of(&self, source_namespace: &str) -> String {
        plan_mark(&self.run.staging.pair, &self.run.source, source_namespace)
    }

    fn kind_of(&self, object: &Value) -> Result<&Kind, Problem> {
        self.catalogue.find(api_version(object), kind(object)).ok_or_else(|| {
            Problem::waiting(
                "KindNotServed",
                format!(
                    "the destination does not serve {} {}: install what serves it there, or leave these objects \
                     behind with the annotation isthmus.dev/skip",
                    api_version(object),
                    kind(object)
                ),
            )
        })
    }

    pub(super) async fn create(
        &self,
        meeting: &Meeting<'_>,
        place: Option<&str>,
    ) -> Result<Applied, Setback> {
        self.cluster.make(&meeting.kind.collection(place), meeting.wanted).await?;
        Ok(Applied::Created)
    }

    /// What was found to be as it should. A restarted run finds what it has made itself.
    pub(super) fn so_already(&self, live: &Value) -> Applied {
        if self.made(live) { Applied::Created } else { Applied::Unchanged }
    }

    /// Whether this run made the object, rather than found and changed it: a claim, before its data
    /// came, or anything before a restart.
    fn made(&self, live: &Value) -> bool {
        Facts::of(live).mark == Some(self.migration()) && !ownership::was_applied(live)
    }

    /// Whether a workload is to be stopped. What runs already is not stopped by a run that is to
    /// leave it running.
    pub(super) fn stopped(&self, live: &Value) -> bool {
        !self.run.spec.start_applications || state::is_stopped(live)
    }

    async fn update(&self, meeting: &Meeting<'_>, live: &Value) -> Result<Applied, Setback> {
        let stopped = self.stopped(live);
        let wanted = self.rewritten(meeting.object, &self.run.migration, stopped, meeting.owners)?.object;
        if let Some(mark) = Facts::of(live).mark {
            let same = self.rewritten(meeting.object, mark, stopped, meeting.owners)?.object;
            match self.compare(meeting, live, &same).await? {
                Compared::Same => return Ok(self.so_already(live)),
                Compared::Differs => {}
                Compared::Surplus(tried) => self.hand_over(meeting, live, &tried).await?,
            }
        }
        match self.cluster.patch(meeting.path, &of_uid(wanted, live), APPLY).await {
            Ok(_) => Ok(if self.made(live) { Applied::Created } else { Applied::Updated }),
            Err(error) if is_duplicate(&error) => self.put(meeting, live, stopped).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an object of ours is as wanted; asks the server where the values alone do not tell.
    async fn compare(&self, meeting: &Meeting<'_>, live: &Value, same: &Value) -> Result<Compared, Setback> {
        let surplus = ownership::surplus(live, same);
        if covers(live, same) && !surplus {
            return Ok(Compared::Same);
        }
        let tried = match self.cluster.patch(meeting.path, &of_uid(same.clone(), live), TRY).await {
            Ok(tried) => tried,
            Err(error) if is_duplicate(&error) => return self.compare_by_update(meeting, live, same).await,
            Err(error) => return Err(error.into()),
        };
        let surplus = surplus && ownership::was_created(live);
        let differs = content(tried.clone()) != content(live.clone());
        let version = |object: &Value| text(object, "/metadata/resourceVersion").to_owned();
        if differs && version(&tried) != version(live) {
            return Err(Setback::Stale(changed_meanwhile(meeting.path)));
        }
        if !surplus {
            return Ok(if differs { Compared::Differs } else { Compared::Same });
        }
        if !differs {
            // Fields of ours that are not wanted are defaults, or gone from the source: defaults
            // come back when they are taken out.
            let bare = without_managed(ownership::without_surplus(live, same));
            if let Ok(bare) = self.cluster.replace(meeting.path, &bare, true).await
                && content(bare) == content(live.clone())
            {
                return Ok(Compared::Same);
            }
        }
        Ok(Compared::Surplus(tried))
    }

    /// The same for an object that cannot be applied: an update is tried.
    async fn compare_by_update(
        &self,
        meeting: &Meeting<'_>,
        live: &Value,
        same: &Value,
    ) -> Result<Compared, Setback> {
        let body = replacement(live, same.clone());
        match self.cluster.replace(meeting.path, &body, true).await {
            Ok(tried) if content(tried.clone()) == content(live.clone()) => Ok(Compared::Same),
            Err(error) if error.is_conflict() => Err(Setback::Stale(error)),
            // The update itself says what is wrong with it.
            _ => Ok(Compared::Differs),
        }
    }

    /// Makes the fields that were created count as applied, so that the apply that follows takes
    /// away what is no longer wanted.
    async fn hand_over(&self, meeting: &Meeting<'_>, live: &Value, tried: &Value) -> Result<(), Setback> {
        let patch = json!({"metadata": {
            "managedFields": ownership::as_applied(tried, api_version(meeting.wanted)),
            "resourceVersion": text(live, "/metadata/resourceVersion"),
            "uid": uid(live),
        }});
        self.cluster.patch(meeting.path, &patch, PatchKind::Merge).await?;
        Ok(())
    }

    async fn merge(
        &self,
        meeting: &Meeting<'_>,
        live: &Value,
        policy: Option<Policy>,
    ) -> Result<Applied, Setback> {
        let Some(patch) = merge::merged(live, meeting.wanted, policy)? else {
            return Ok(self.so_already(live));
        };
        self.cluster.patch(meeting.path, &patch, PatchKind::Merge).await?;
        Ok(Applied::Updated)
    }
}

enum Compared {
    Same,
    Differs,
    /// It may differ in fields that only [`Applier::hand_over`] makes removable; what the dry run
    /// gave.
    Surplus(Value),
}

/// Lists that hold a key twice are taken by a creation and an update, and not by an apply.
fn is_duplicate(error: &ClusterError) -> bool {
    error.message().contains("duplicate entries for key")
}

fn changed_meanwhile(path: &str) -> ClusterError {
    let body = json!({"reason": "Conflict", "message": "the object is changed again and again while it is compared"});
    ClusterError::refused(format!("PATCH {path}"), 409, None, body.to_string().as_bytes())
}
