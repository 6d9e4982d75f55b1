//! One candidate, tried: rewritten, met as the apply would meet it, and shown to the API server
//! by a dry run. Nothing is changed.
//!
//! ```text
//!   rewrite ── what is there? ── decide ─┬─ Create   a creation, dry; elsewhere if its namespace is to come
//!              (LiveIndex)               ├─ Update   nothing if it is so; else an apply, dry
//!                                        ├─ Replace, Return   an update, dry
//!                                        ├─ Merge    computed here
//!                                        └─ Keep, Leave, Skip, Refuse
//! ```

use std::time::Duration;

use isthmus_shared::protocol::{ObjectAction, ObjectResult, Run};
use isthmus_shared::resources::{ExistingResourcePolicy as Policy, FIELD_MANAGER, plan_mark};
use serde_json::{Value, json};

use super::concern::Concern;
use super::places::Places;
use super::refusal::{Coming, Verdict, Where, judge};
use crate::apply::body::{of_uid, without_managed};
use crate::apply::handover::{HandedOver, left_as_it_is};
use crate::apply::returning::returned;
use crate::apply::{
    Decision, Facts, Found, LiveIndex, Problem, Subject, covers, decide, merged, ownership, refused,
    replacement, undeletable, will_do,
};
use crate::cluster::{
    Catalogue, Cluster, ClusterError, Kind, ObjectId, PatchKind, api_version, array, kind, name, namespace,
    text,
};
use crate::diff::{State, diff, is_same};
use crate::task::TaskError;
use crate::transform::{Arrival, Note, Rewriter, Rewritten, merge};
use crate::volumes::pods_of_claims;
use crate::workloads::state;

/// How often an API server that is busy is asked again.
const ATTEMPTS: u32 = 5;
/// The first pause before it is asked again; it doubles.
const PAUSE: Duration = Duration::from_millis(300);
/// Where a Pod names its priority class.
const CLASS: &str = "/spec/priorityClassName";
/// The name of what is there, in a diff's head.
const BEFORE: &str = "on the destination";
/// The name of what would be there.
const AFTER: &str = "after the migration";

/// Tries the candidates of one run.
pub struct Trier<'a> {
    /// The destination.
    pub cluster: &'a Cluster,
    /// What it serves.
    pub catalogue: &'a Catalogue,
    /// How objects are rewritten.
    pub rewriter: &'a Rewriter,
    /// The run.
    pub run: &'a Run,
    /// The spoke's own namespace.
    pub home: &'a str,
    /// The namespaces of the run.
    pub places: &'a Places,
    /// What comes along.
    pub coming: &'a Coming,
    /// What the destination has.
    pub live: LiveIndex,
    /// What was handed over to where the run comes from.
    pub handed_over: HandedOver,
}

/// A candidate that was tried.
#[derive(Debug)]
pub struct Tried {
    /// What would become of it.
    pub line: ObjectResult,
    /// What is in its way.
    pub concern: Option<Concern>,
    /// As it would be applied; none if it cannot be rewritten.
    pub wanted: Option<Value>,
    /// What is there now.
    pub live: Option<Value>,
}

/// What a trial came to.
enum Answer {
    Would {
        action: ObjectAction,
        reason: Option<&'static str>,
        message: Option<String>,
        after: Option<Value>,
    },
    /// The run does not take it, whatever it looks like.
    Not(Problem),
    /// The destination would not take it as it is to be.
    Refused(Problem),
}

/// A trial that says nothing about the object.
enum Setback {
    Task(Box<TaskError>),
    Problem(Problem),
}

impl From<Problem> for Setback {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Takes the priority class out of a bare Pod that is tried before its class has come: admission
/// asks for it at once. Whether each class will be there is looked at by name, for all Pods.
fn drop_coming_class(object: &mut Value, coming: &Coming) {
    if api_version(object) == "v1" && kind(object) == "Pod" && coming.names.contains(text(object, CLASS)) {
        merge(object, &json!({"spec": {"priorityClassName": null}}));
    }
}

fn would(action: ObjectAction) -> Answer {
    Answer::Would { action, reason: None, message: None, after: None }
}

fn with_reason(action: ObjectAction, reason: &'static str, message: impl Into<String>) -> Answer {
    Answer::Would { action, reason: Some(reason), message: Some(message.into()), after: None }
}

impl Trier<'_> {
    /// Tries a candidate, as it was on the source.
    pub async fn try_candidate(&self, object: Value) -> Result<Tried, TaskError> {
        let rewritten = match self.rewritten(&object, &self.run.migration, true, &[]) {
            Ok(rewritten) => rewritten,
            Err(problem) => return Ok(refusal(&ObjectId::of(&object), problem)),
        };
        let Rewritten { object: wanted, standard, transforms, notes } = rewritten;
        let id = ObjectId::of(&wanted);
        let changes = standard.and_then(|standard| {
            let state = |name, object| State { name, object };
            diff(state("by the standard rules", &standard), state("by the migration's options", &wanted))
        });
        let (answer, live) = match self.meet(&object, &wanted).await {
            Ok(met) => met,
            Err(Setback::Problem(problem)) => (Answer::Not(problem), None),
            Err(Setback::Task(error)) => return Err(*error),
        };
        let mut tried = match answer {
            Answer::Not(problem) => refusal(&id, problem),
            Answer::Refused(problem) => refusal(&id, after_transforms(problem, &transforms)),
            Answer::Would { action, reason, message, after } => {
                let state = |name, object| State { name, object };
                let mut result = id.result(action);
                result.reason = reason.map(str::to_owned);
                result.message = message;
                result.diff = live
                    .as_ref()
                    .zip(after.as_ref())
                    .and_then(|(live, after)| diff(state(BEFORE, live), state(AFTER, after)));
                Tried { line: result, concern: None, wanted: None, live: None }
            }
        };
        tried.line.rewritten = changes;
        for note in notes {
            tried.line.reason.get_or_insert_with(|| note.reason.to_owned());
            let message = tried.line.message.take();
            tried.line.message =
                Some(message.map_or(note.message.clone(), |m| format!("{m}; {}", note.message)));
        }
        tried.wanted = Some(wanted);
        tried.live = live;
        Ok(tried)
    }

    fn rewritten(
        &self,
        object: &Value,
        mark: &str,
        stopped: bool,
        owners: &[Value],
    ) -> Result<Rewritten, Problem> {
        let place = namespace(object);
        let plan = (!place.is_empty()).then(|| plan_mark(&self.run.staging.pair, &self.run.source, place));
        let arrival = Arrival { mark, plan: plan.as_deref(), stopped, owners };
        Ok(self.rewriter.rewrite(object.clone(), &arrival)?)
    }

    async fn meet(&self, object: &Value, wanted: &Value) -> Result<(Answer, Option<Value>), Setback> {
        let id = ObjectId::of(wanted);
        let Some(kind) = self.catalogue.find(api_version(wanted), kind(wanted)) else {
            return Ok((self.not_served(&id), None));
        };
        let place = Some(namespace(wanted)).filter(|place| !place.is_empty());
        if place.is_some_and(|place| !self.places.has(place)) {
            return Ok((self.create(kind, wanted, Where::Elsewhere).await?, None));
        }
        let path = kind.object(place, name(wanted));
        let policy = self.run.spec.existing_resource_policy;
        let handed_over = self.handed_over.has(place);
        let content = handed_over || matches!(policy, Some(Policy::Update | Policy::Replace));
        let found = self
            .live
            .find(self.cluster, kind, place, name(wanted), content)
            .await
            .map_err(|error| broken(&id, "looking for it", &error))?;
        let subject = Subject { group: &kind.group, kind: &kind.kind, namespaced: kind.namespaced };
        let live = match found {
            Found::Nothing => None,
            Found::Facts { deleting } => {
                let facts = Facts { deleting, ..Facts::default() };
                let decision = decide(subject, Some(facts), policy, &self.run.migration);
                let answer = match decision {
                    Decision::Skip => skipped(),
                    Decision::Keep => kept(),
                    Decision::Refuse(problem) => Answer::Not(problem),
                    // These need the object, which is asked for with the policies that lead to them.
                    _ => would(ObjectAction::Updated),
                };
                return Ok((answer, None));
            }
            Found::Object(live) => Some(*live),
        };
        let facts = live.as_ref().map(|live| {
            Facts::of(live).covered(!subject.namespaced && will_do(live, wanted)).handed_over(handed_over)
        });
        let decision = decide(subject, facts, policy, &self.run.migration);
        let there = live.as_ref().unwrap_or(&Value::Null);
        let answer = match decision {
            Decision::Create => self.create(kind, wanted, Where::InPlace).await?,
            Decision::Update => self.update(&id, &path, object, there).await?,
            Decision::Replace => self.replace(&id, &path, object, there).await?,
            Decision::Return => self.give_back(&id, &path, there, wanted).await?,
            Decision::Merge => merging(there, wanted, policy)?,
            Decision::Keep => kept(),
            Decision::Leave => {
                let Note { reason, message } = left_as_it_is();
                with_reason(ObjectAction::Skipped, reason, message)
            }
            Decision::Skip => skipped(),
            Decision::Refuse(problem) => Answer::Not(problem),
        };
        Ok((answer, live))
    }

    fn not_served(&self, id: &ObjectId) -> Answer {
        if self.coming.kinds.contains(&(id.group().to_owned(), id.kind.clone())) {
            return with_reason(
                ObjectAction::Created,
                "NotTried",
                "its definition comes along with it: it cannot be tried before that is there",
            );
        }
        Answer::Not(Problem::lasting(
            "KindNotServed",
            format!(
                "the destination does not serve {} {}: install what serves it there, or leave these objects behind with \
                 the annotation isthmus.dev/skip",
                id.api_version, id.kind
            ),
        ))
    }

    async fn create(&self, kind: &Kind, wanted: &Value, tried: Where) -> Result<Answer, Setback> {
        let own = namespace(wanted);
        let mut body = wanted.clone();
        drop_coming_class(&mut body, self.coming);
        let place = match tried {
            Where::Elsewhere => {
                if let Some(metadata) = body.get_mut("metadata") {
                    metadata["namespace"] = Value::from(self.home);
                }
                self.home
            }
            Where::InPlace => own,
        };
        let place = Some(place).filter(|place| !place.is_empty());
        let path = format!(
            "{}?dryRun=All&fieldManager={FIELD_MANAGER}&fieldValidation=Strict",
            kind.collection(place)
        );
        let done = self.patiently(&ObjectId::of(wanted), tried, || self.cluster.create(&path, &body)).await?;
        Ok(match done {
            Ok(_) => would(ObjectAction::Created),
            Err(answer) => answer,
        })
    }

    async fn update(
        &self,
        id: &ObjectId,
        path: &str,
        object: &Value,
        live: &Value,
    ) -> Result<Answer, Setback> {
        let same = self.as_there(object, live)?;
        let surplus = ownership::surplus(live, &same);
        if covers(live, &same) && !surplus {
            return Ok(would(ObjectAction::Unchanged));
        }
        let body = of_uid(same.clone(), live);
        let apply = || self.cluster.patch(path, &body, PatchKind::Try);
        let tried = match self.patiently(id, Where::InPlace, apply).await? {
            Ok(tried) => tried,
            Err(Answer::Refused(problem)) if problem.message.contains("duplicate entries for key") => {
                return self.replace(id, path, object, live).await;
            }
            Err(answer) => return Ok(answer),
        };
        if !surplus || !ownership::was_created(live) {
            return Ok(changed(live, tried));
        }
        // What the source has no more goes with the apply, once the fields count as applied.
        let bare = without_managed(ownership::without_surplus(&tried, &same));
        let put = || self.cluster.replace(path, &bare, true);
        Ok(match self.patiently(id, Where::InPlace, put).await? {
            Ok(bare) => changed(live, bare),
            Err(_) => changed(live, tried),
        })
    }

    async fn replace(
        &self,
        id: &ObjectId,
        path: &str,
        object: &Value,
        live: &Value,
    ) -> Result<Answer, Setback> {
        let body = replacement(live, self.as_there(object, live)?);
        let put = || self.cluster.replace(path, &body, true);
        match self.patiently(id, Where::InPlace, put).await? {
            Ok(after) => Ok(changed(live, after)),
            Err(Answer::Refused(problem)) if problem.reason == "ImmutableField" => {
                self.make_anew(id, live, body, &problem).await
            }
            Err(answer) => Ok(answer),
        }
    }

    async fn give_back(
        &self,
        id: &ObjectId,
        path: &str,
        live: &Value,
        wanted: &Value,
    ) -> Result<Answer, Setback> {
        let body = returned(live, wanted);
        let put = || self.cluster.replace(path, &body, true);
        Ok(match self.patiently(id, Where::InPlace, put).await? {
            Ok(after) => changed(live, after),
            Err(answer) => answer,
        })
    }

    async fn make_anew(
        &self,
        id: &ObjectId,
        live: &Value,
        after: Value,
        problem: &Problem,
    ) -> Result<Answer, Setback> {
        let in_use = kind(live) == "PersistentVolumeClaim"
            && !pods_of_claims(self.cluster, namespace(live), name(live))
                .await
                .map_err(|error| broken(id, "looking for the Pods that use it", &error))?
                .is_empty();
        Ok(match undeletable(live, in_use) {
            Some(why) => Answer::Refused(Problem::lasting(
                "ImmutableField",
                format!("a field of it cannot be changed ({}); {why}, then run again", problem.message),
            )),
            None => Answer::Would {
                action: ObjectAction::Updated,
                reason: Some("MadeAnew"),
                message: Some("a field of it cannot be changed, so it is deleted and made anew".to_owned()),
                after: Some(after),
            },
        })
    }

    /// The object with the mark that is there already, so that a mark alone is no difference.
    fn as_there(&self, object: &Value, live: &Value) -> Result<Value, Problem> {
        // What runs already is not stopped by a run that is to leave it running.
        let stopped = !self.run.spec.start_applications || state::is_stopped(live);
        let mark = Facts::of(live).mark.unwrap_or(&self.run.migration);
        let owned = !array(object, "/metadata/ownerReferences").is_empty();
        let owners = if owned { array(live, "/metadata/ownerReferences") } else { &[] };
        Ok(self.rewritten(object, mark, stopped, owners)?.object)
    }

    /// Asks until there is an answer about the object.
    async fn patiently<F, T>(
        &self,
        id: &ObjectId,
        tried: Where,
        ask: F,
    ) -> Result<Result<Value, Answer>, Setback>
    where
        F: Fn() -> T,
        T: Future<Output = Result<Value, ClusterError>>,
    {
        let mut attempt = 0;
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(error) => error,
            };
            attempt += 1;
            match judge(&error, tried, self.coming) {
                Verdict::Again if attempt < ATTEMPTS => tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await,
                Verdict::Again if error.is_transient() => return Err(broken(id, "trying it", &error)),
                Verdict::Again => return Ok(Err(Answer::Refused(refused(&error)))),
                Verdict::Passed => return Ok(Err(would(ObjectAction::Created))),
                Verdict::Refused(problem) => return Ok(Err(Answer::Refused(problem))),
                Verdict::NotTried(why) => {
                    return Ok(Err(with_reason(ObjectAction::Created, "NotTried", why)));
                }
            }
        }
    }
}

fn broken(id: &ObjectId, doing: &str, error: &ClusterError) -> Setback {
    Setback::Task(Box::new(TaskError::cluster(id.describe(), doing, error)))
}

fn changed(live: &Value, after: Value) -> Answer {
    if is_same(live, &after) {
        would(ObjectAction::Unchanged)
    } else {
        Answer::Would { action: ObjectAction::Updated, reason: None, message: None, after: Some(after) }
    }
}

fn kept() -> Answer {
    with_reason(
        ObjectAction::Unchanged,
        "DestinationsOwn",
        "the destination has its own, which stays as it is",
    )
}

fn skipped() -> Answer {
    with_reason(
        ObjectAction::Skipped,
        "AlreadyExists",
        "the destination has one of this name, and existingResourcePolicy is Skip",
    )
}

/// What a shared object would be once it has what it lacks.
fn merging(live: &Value, wanted: &Value, policy: Option<Policy>) -> Result<Answer, Problem> {
    let Some(patch) = merged(live, wanted, policy)? else { return Ok(would(ObjectAction::Unchanged)) };
    let mut after = live.clone();
    merge(&mut after, &patch);
    Ok(changed(live, after))
}

/// A refusal of what transforms have changed names them: it is mostly their doing.
fn after_transforms(problem: Problem, transforms: &[String]) -> Problem {
    if transforms.is_empty() {
        return problem;
    }
    let message = format!("{} changed it, and {}", transforms.join(" and "), problem.message);
    Problem { message, ..problem }
}

fn refusal(id: &ObjectId, problem: Problem) -> Tried {
    let mut result = id.result(ObjectAction::Failed);
    result.reason = Some(problem.reason.clone());
    result.message = Some(problem.message.clone());
    let concern = Concern::failure(id.describe(), &problem.reason, problem.message);
    Tried { line: result, concern: Some(concern), wanted: None, live: None }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_bare_pod_is_tried_without_a_class_that_comes_along() {
        let pod = |class: Value| {
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"priorityClassName": class}});
            let coming = Coming { names: HashSet::from(["gold".to_owned()]), ..Coming::default() };
            drop_coming_class(&mut pod, &coming);
            pod["spec"].clone()
        };
        assert_eq!(pod(json!("gold")), json!({}));
        assert_eq!(pod(json!("silver")), json!({"priorityClassName": "silver"}), "missing it counts");
    }

    #[test]
    fn a_refusal_names_the_transforms_that_changed_the_object() {
        let problem = || Problem::lasting("Invalid", "the destination's API server does not take it: no");
        assert_eq!(after_transforms(problem(), &[]), problem());
        let names = ["the transform \"scale\"".to_owned(), "transform number 2".to_owned()];
        assert_eq!(
            after_transforms(problem(), &names).message,
            "the transform \"scale\" and transform number 2 changed it, and the destination's API server does not \
             take it: no"
        );
    }
}
