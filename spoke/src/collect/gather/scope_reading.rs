//! All objects of one place: a namespace, or (with `All`) cluster scope.

use serde_json::Value;

use super::{Gathering, Place, Sink};
use crate::apply::order;
use crate::cluster::{Cluster, ClusterError, Kind, ObjectId, kind, name, uid};
use crate::collect::cluster_scope;
use crate::collect::kinds::{Reading, Refused, is_built_in};
use crate::collect::ownership::{Held, Ownership, Settled, Standing};
use crate::collect::reading::Reader;
use crate::collect::selection::{Choice, Context, choose};
use crate::findings::finding;
use crate::task::TaskError;

/// How the objects of a place are chosen and ordered.
#[derive(Clone, Copy)]
struct Rules {
    choose: fn(&Value, &Context) -> Choice,
    rank: fn(&str, &str) -> usize,
    last: usize,
}

const OF_NAMESPACES: Rules = Rules { choose, rank: order::rank, last: order::LAST };
const OF_CLUSTER_SCOPE: Rules =
    Rules { choose: cluster_scope::choose, rank: cluster_scope::rank, last: cluster_scope::LAST };

impl<S: Sink> Gathering<'_, S> {
    pub(super) async fn namespace(&mut self, namespace: &str) -> Result<(), TaskError> {
        let owners = Ownership::with(self.cluster_fates.clone());
        self.place(Place::Namespace(namespace), &self.scope.namespaced, owners, OF_NAMESPACES).await?;
        Ok(())
    }

    pub(super) async fn everything_of_cluster_scope(&mut self) -> Result<(), TaskError> {
        let ownership =
            self.place(Place::Cluster, &self.scope.clustered, Ownership::default(), OF_CLUSTER_SCOPE).await?;
        self.cluster_fates = ownership.into_fates();
        Ok(())
    }

    async fn place(
        &mut self,
        place: Place<'_>,
        readings: &[Reading],
        mut ownership: Ownership,
        rules: Rules,
    ) -> Result<Ownership, TaskError> {
        self.sink.open(place).await?;
        let namespace = match place {
            Place::Cluster => None,
            Place::Namespace(name) => Some(name),
        };
        let mut context = self.scope.context.clone();
        let mut reader = Reader::new(self.cluster, namespace, waves(readings, rules));
        while let Some((number, page)) = reader.next().await {
            let reading = &readings[number];
            let objects = match page {
                Ok(objects) => objects,
                Err(error) => {
                    self.unread(namespace, reading, &error)?;
                    continue;
                }
            };
            for object in objects {
                if reading.kind.group.is_empty() && kind(&object) == "Service" && selects(&object) {
                    context.selecting_services.insert(name(&object).to_owned());
                }
                let choice = verdict(reading, &object, &context, rules);
                if let Standing::Decided(object, choice) = ownership.meet(object, choice, number) {
                    self.settle(reading, object, choice).await?;
                }
            }
        }
        let mut settled = ownership.settle();
        settled.sort_by_key(|settled| (settled.depth, rank(&readings[settled.held.of_kind], rules)));
        for settled in settled {
            self.late(namespace, &readings[settled.held.of_kind], settled).await?;
        }
        Ok(ownership)
    }

    /// An object that waited for its owners.
    async fn late(
        &mut self,
        namespace: Option<&str>,
        reading: &Reading,
        settled: Settled,
    ) -> Result<(), TaskError> {
        let Settled { held, choice, .. } = settled;
        if let Choice::LeaveBehind { reason, message } = &choice {
            return self.leave(&held.id, reason, message).await;
        }
        let id = held.id.clone();
        if let Some(object) = content(self.cluster, namespace, &reading.kind, held).await? {
            return self.take(reading, object).await;
        }
        let message = "it was removed or made anew while it was read; run again if it matters";
        self.leave(&id, "Removed", message).await
    }

    /// A kind that could not be read.
    fn unread(
        &mut self,
        namespace: Option<&str>,
        reading: &Reading,
        error: &ClusterError,
    ) -> Result<(), TaskError> {
        let object = match namespace {
            Some(namespace) => format!("{} in {namespace}", reading.kind.resource()),
            None => reading.kind.resource(),
        };
        match trouble(reading, error.code()) {
            Trouble::None => {}
            Trouble::Noted => {
                self.sink.note(format!("{object}: not listed among what is left behind: {error}"));
            }
            Trouble::Warned => self.sink.warn(finding(
                object,
                "KindNotReadable",
                format!(
                    "its objects were not read ({error}): its server is down; repair it and run again if they matter"
                ),
            )),
            Trouble::Fatal => return Err(TaskError::cluster(object, "reading its objects", error)),
        }
        Ok(())
    }
}

/// How much it matters that a kind could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    Noted,
    Warned,
    Fatal,
}

/// A kind that is gone has no objects; one of which nothing would be taken is only noted; one
/// whose server is down is a warning, as the source's health is not ours to judge; one that may
/// not be read would be lost in silence, and is fatal.
pub(super) fn trouble(reading: &Reading, code: Option<u16>) -> Trouble {
    match code {
        Some(404 | 405) => Trouble::None,
        Some(_) if reading.refusal.is_some() => Trouble::Noted,
        Some(503) if !is_built_in(&reading.kind.group) => Trouble::Warned,
        _ => Trouble::Fatal,
    }
}

fn verdict(reading: &Reading, object: &Value, context: &Context, rules: Rules) -> Choice {
    match reading.refusal.filter(|_| !context.keeps(object)) {
        None => (rules.choose)(object, context),
        Some(Refused::ByType(refusal)) => {
            let (reason, message) = refusal.told();
            Choice::leave(reason, message)
        }
        Some(Refused::NotCreatable) => match (rules.choose)(object, context) {
            Choice::Keep => {
                Choice::leave("NotCreatable", "its API takes no creations: it is a view or a measurement")
            }
            stays @ Choice::LeaveBehind { .. } => stays,
        },
    }
}

fn rank(reading: &Reading, rules: Rules) -> usize {
    (rules.rank)(&reading.kind.group, &reading.kind.kind).min(rules.last)
}

fn waves(readings: &[Reading], rules: Rules) -> Vec<Vec<(usize, Kind)>> {
    let mut waves: Vec<Vec<(usize, Kind)>> = vec![Vec::new(); rules.last + 1];
    for (number, reading) in readings.iter().enumerate() {
        waves[rank(reading, rules)].push((number, reading.kind.clone()));
    }
    waves
}

fn selects(service: &Value) -> bool {
    service.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|selector| !selector.is_empty())
}

/// What was held, or the same object, read again.
pub(super) async fn content(
    cluster: &Cluster,
    namespace: Option<&str>,
    kind: &Kind,
    held: Held,
) -> Result<Option<Value>, TaskError> {
    let ObjectId { name, .. } = &held.id;
    if let Some(content) = &held.content {
        return serde_json::from_slice(content).map(Some).map_err(|error| {
            TaskError::failed(
                held.id.describe(),
                "UnsoundObject",
                format!("it is no sound JSON: {error}; read it with kubectl get -o json"),
            )
        });
    }
    let again = cluster
        .find(&kind.object(namespace, name))
        .await
        .map_err(|e| TaskError::cluster(held.id.describe(), "reading it again", &e))?;
    Ok(again.filter(|object| held.is_same(uid(object))))
}
