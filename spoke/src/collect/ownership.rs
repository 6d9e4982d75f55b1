//! What owners say of an object: whether it is made anew on the destination, or must be taken.
//!
//! An object may be read before its owner, so one with owners is held until all of its namespace
//! was read ([`Ownership::settle`]). Of every object a few bytes are kept (what became of it, by a
//! hash of its uid); the content of what is held only up to [`MAX_HELD_BYTES`], beyond which it is
//! read again.
//!
//! The rules:
//!
//! - What a controller of Kubernetes makes for its owner stays at once ([`MADE_BY_KUBERNETES`]): a
//!   ReplicaSet of a Deployment, a Pod of whatever controls it, a Job of a CronJob.
//! - What a custom resource owns stays if that goes along, or comes to be on the destination: its
//!   operator makes it. So does what an object of Kubernetes owns as its *controller*.
//! - What an object of Kubernetes owns without controlling it is only collected with it: nobody
//!   would make it anew. It goes along, after its owner, and its reference is rebuilt.
//! - A claim has data that nobody can make anew: it goes along, unless its owner is a Pod.
//! - Owners that do not go along count for nothing.

use std::collections::HashMap;

use serde_json::Value;

use super::kinds::is_built_in;
use super::selection::Choice;
use crate::cluster::{ObjectId, array, text, uid};

/// Content of held objects that is kept in memory, bytes of JSON.
const MAX_HELD_BYTES: usize = 24 * 1024 * 1024;
/// The longest chain of owners that is followed.
const MAX_CHAIN: usize = 64;

/// Group and kind of an owner, and the kinds that it makes; none is every kind.
type Made = (&'static str, &'static str, &'static [&'static str]);

/// What Kubernetes' own controllers (and OpenShift's DeploymentConfigs) make as controllers.
const MADE_BY_KUBERNETES: &[Made] = &[
    ("apps", "Deployment", &["ReplicaSet"]),
    ("extensions", "Deployment", &["ReplicaSet"]),
    ("apps.openshift.io", "DeploymentConfig", &["ReplicationController"]),
    ("batch", "CronJob", &["Job"]),
    ("apps", "ReplicaSet", &["Pod"]),
    ("", "ReplicationController", &["Pod"]),
    ("apps", "StatefulSet", &["Pod", "ControllerRevision"]),
    ("apps", "DaemonSet", &["Pod", "ControllerRevision"]),
    ("batch", "Job", &["Pod"]),
    ("", "Service", &["EndpointSlice", "Endpoints"]),
    ("", "Endpoints", &["EndpointSlice"]),
    ("", "Pod", &[]),
    ("", "Node", &[]),
];

/// A uid, hashed: uids are texts of any form.
type Uid = [u8; 16];

/// What became of an object that may own others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes along.
    Taken,
    /// The destination makes its own.
    Remade,
    /// It stays, and the destination has nothing in its place.
    Stays,
    /// The destination makes its own if this one goes along or is made anew.
    Follows(Uid),
}

#[derive(Clone, Debug)]
struct Owner {
    uid: Uid,
    /// `Deployment web`.
    name: String,
    /// Whether it makes what it owns: a custom resource, or a controller.
    makes: bool,
}

/// An object that waits for its owners.
#[derive(Debug)]
pub struct Held {
    /// Which.
    pub id: ObjectId,
    /// Its kind's number, as the caller counts.
    pub of_kind: usize,
    /// Its JSON; none if it has to be read again.
    pub content: Option<Vec<u8>>,
    uid: Uid,
    owners: Vec<Owner>,
    claim: bool,
}

impl Held {
    /// Whether an object of this uid is the one that was held.
    pub fn is_same(&self, uid: &str) -> bool {
        self.uid == hash(uid)
    }
}

/// What is to become of an object, its owners considered.
#[derive(Debug)]
pub enum Standing {
    /// It was decided at once.
    Decided(Value, Choice),
    /// It waits until all was read.
    Waits,
}

/// What became of a held object.
#[derive(Debug)]
pub struct Settled {
    /// The object.
    pub held: Held,
    /// What became of it.
    pub choice: Choice,
    /// How many of its owners, one behind the other, go along before it.
    pub depth: usize,
}

/// The objects of one scope, as owners and as owned.
#[derive(Debug)]
pub struct Ownership {
    fates: HashMap<Uid, Fate>,
    held: Vec<Held>,
    /// Bytes of content that may still be held.
    room: usize,
}

impl Default for Ownership {
    fn default() -> Self {
        Self::with(HashMap::new())
    }
}

impl Ownership {
    /// With objects of another scope as owners.
    pub fn with(fates: HashMap<Uid, Fate>) -> Self {
        Self { fates, held: Vec::new(), room: MAX_HELD_BYTES }
    }

    /// Without room for content: all that waits is read again.
    #[cfg(test)]
    pub fn without_room() -> Self {
        Self { room: 0, ..Self::default() }
    }

    /// What became of the objects, for those of another scope.
    pub fn into_fates(self) -> HashMap<Uid, Fate> {
        self.fates
    }

    /// Meets an object of which the rules of selection said `choice`.
    pub fn meet(&mut self, object: Value, choice: Choice, of_kind: usize) -> Standing {
        let own = hash(uid(&object));
        if let Choice::LeaveBehind { reason, .. } = &choice {
            // What stays is as what was never met, and there may be a great many Events.
            if matches!(*reason, "Generated" | "Endpoints") {
                self.fates.insert(own, Fate::Remade);
            }
            return Standing::Decided(object, choice);
        }
        let references = array(&object, "/metadata/ownerReferences");
        if references.is_empty() {
            self.fates.insert(own, Fate::Taken);
            return Standing::Decided(object, Choice::Keep);
        }
        let id = ObjectId::of(&object);
        let claim = id.group().is_empty() && id.kind == "PersistentVolumeClaim";
        if let Some(maker) = references.iter().find(|owner| is_made_by(owner, &id.kind, claim)) {
            self.fates.insert(own, Fate::Follows(hash(text(maker, "/uid"))));
            let choice = owned(&describe(maker));
            return Standing::Decided(object, choice);
        }
        let owners = references
            .iter()
            .map(|owner| Owner {
                uid: hash(text(owner, "/uid")),
                name: describe(owner),
                makes: is_controller(owner) || !is_built_in(group(owner)),
            })
            .collect();
        let content = (self.room > 0).then(|| object.to_string().into_bytes());
        self.room = self.room.saturating_sub(content.as_ref().map_or(0, Vec::len));
        self.held.push(Held { id, of_kind, content, uid: own, owners, claim });
        Standing::Waits
    }

    /// Decides about all that waits: first what owes nothing to an owner that goes along, then
    /// what does, each after its owners; otherwise in the order in which they were met.
    pub fn settle(&mut self) -> Vec<Settled> {
        let held = std::mem::take(&mut self.held);
        let at: HashMap<Uid, usize> = held.iter().enumerate().map(|(at, held)| (held.uid, at)).collect();
        let mut verdicts: Vec<Option<(Choice, usize)>> = vec![None; held.len()];
        let mut entered = vec![false; held.len()];
        for start in 0..held.len() {
            let mut stack = vec![start];
            while let Some(&top) = stack.last() {
                if verdicts[top].is_some() {
                    stack.pop();
                    continue;
                }
                entered[top] = true;
                // An owner that is entered already is owned in a circle, and counts for nothing.
                let next =
                    held[top].owners.iter().filter_map(|owner| at.get(&owner.uid)).find(|n| !entered[**n]);
                if let Some(next) = next {
                    stack.push(*next);
                    continue;
                }
                let depth_of = |uid: &Uid| {
                    at.get(uid).and_then(|at| verdicts[*at].as_ref()).map_or(0, |(_, depth)| *depth)
                };
                let verdict = self.verdict(&held[top], depth_of);
                let fate = if verdict.0 == Choice::Keep { Fate::Taken } else { Fate::Remade };
                self.fates.insert(held[top].uid, fate);
                verdicts[top] = Some(verdict);
                stack.pop();
            }
        }
        let mut settled: Vec<Settled> = held
            .into_iter()
            .zip(verdicts)
            .map(|(held, verdict)| {
                let (choice, depth) = verdict.unwrap_or((Choice::Keep, 0));
                Settled { held, choice, depth }
            })
            .collect();
        settled.sort_by_key(|settled| settled.depth);
        settled
    }

    fn verdict(&self, held: &Held, depth_of: impl Fn(&Uid) -> usize) -> (Choice, usize) {
        let mut depth = 0;
        for owner in &held.owners {
            match self.fate(owner.uid) {
                Fate::Taken if owner.makes && !held.claim => return (owned(&owner.name), 0),
                Fate::Remade if !held.claim => return (owned(&owner.name), 0),
                Fate::Taken => depth = depth.max(depth_of(&owner.uid) + 1),
                Fate::Remade | Fate::Stays | Fate::Follows(_) => {}
            }
        }
        (Choice::Keep, depth)
    }

    /// What became of an owner; what was not met does not come along.
    fn fate(&self, mut uid: Uid) -> Fate {
        for hop in 0..MAX_CHAIN {
            match self.fates.get(&uid) {
                Some(Fate::Follows(next)) => uid = *next,
                // Whatever is made for something that goes along is made anew.
                Some(Fate::Taken) if hop > 0 => return Fate::Remade,
                Some(fate) => return *fate,
                None => return Fate::Stays,
            }
        }
        Fate::Stays
    }
}

fn hash(uid: &str) -> Uid {
    let mut short = Uid::default();
    short.copy_from_slice(&blake3::hash(uid.as_bytes()).as_bytes()[..16]);
    short
}

fn group(owner: &Value) -> &str {
    text(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group)
}

fn is_controller(owner: &Value) -> bool {
    owner.get("controller").is_some_and(|v| v == true)
}

fn is_made_by(owner: &Value, kind: &str, claim: bool) -> bool {
    let (group, owner_kind) = (group(owner), text(owner, "/kind"));
    // A claim's data is lost if nobody takes it; only that of an ephemeral volume is a Pod's own.
    let counts = if claim { group.is_empty() && owner_kind == "Pod" } else { is_controller(owner) };
    counts
        && MADE_BY_KUBERNETES
            .iter()
            .any(|(g, k, made)| *g == group && *k == owner_kind && (made.is_empty() || made.contains(&kind)))
}

fn describe(owner: &Value) -> String {
    format!("{} {}", text(owner, "/kind"), text(owner, "/name"))
}

fn owned(owner: &str) -> Choice {
    Choice::leave("Owned", format!("its owner {owner} makes it, wherever that goes along"))
}

#[cfg(test)]
mod tests;
