//! The options of a run turned round: those by which what it has brought goes back to where it came
//! from. Pure.
//!
//! | option | turned round |
//! | --- | --- |
//! | `reverse` | the other way |
//! | `namespaces`, `namespaceSelector` | what they came to, each back to its own name; not known, as they are written |
//! | `storageClassMapping`, `accessModeMapping`, `imageMapping`, `ingressClassMapping` | inverted, but for entries that are not one to one |
//! | `volumes` | by the names there; class, size and access modes are those that the claims have |
//! | `hooks`, `operators` | on the same side of the run, in the namespaces as that side has them |
//! | `existingResourcePolicy` | `Skip` and `Fail` are left out: everything is there already |
//! | `transforms` | left out: nobody knows what there was before |
//!
//! What cannot be turned round is left out and told, never guessed.

use std::collections::{BTreeMap, BTreeSet};

use super::MigrationSpec;
use crate::resources::{
    ExistingResourcePolicy, Hook, NamespaceEntry, NamespaceMove, NamespaceRule, OptionProblem, Side,
    VolumeChoice,
};

/// Options turned round.
#[derive(Clone, Debug, PartialEq)]
pub struct Turned {
    /// The options.
    pub options: MigrationSpec,
    /// What of them could not be turned round.
    pub left_out: Vec<OptionProblem>,
}

type Map = BTreeMap<String, String>;
/// Whether two entries of a map may stand for the same on the other side.
type Overlap = fn(&str, &str) -> bool;

impl MigrationSpec {
    /// The options turned round. `moved` is what the namespaces came to when they were brought; empty
    /// if nobody knows.
    #[must_use]
    pub fn turned_round(&self, moved: &[NamespaceMove]) -> Turned {
        let mut turned = Turned { options: self.clone(), left_out: Vec::new() };
        let names = Names::of(self, moved);
        let options = &mut turned.options;
        options.reverse = !self.reverse;
        if moved.is_empty() {
            options.namespaces = self.namespaces.iter().map(turn_entry).collect();
        } else {
            options.namespaces = moved.iter().map(entry).collect();
            options.namespace_selector = None;
        }
        for hook in &mut options.hooks {
            names.turn_hook(hook);
        }
        for operator in &mut options.operators {
            operator.namespace = names.there(&operator.namespace);
        }
        options.volumes = self.volumes.iter().map(|choice| names.turn_choice(choice)).collect();
        turned.invert_maps(self);
        turned.leave_out(self);
        turned
    }
}

impl Turned {
    fn invert_maps(&mut self, of: &MigrationSpec) {
        let same: Overlap = |a, b| a == b;
        let options = &mut self.options;
        let maps: [(&str, &Map, &mut Map, Overlap); 4] = [
            ("storageClassMapping", &of.storage_class_mapping, &mut options.storage_class_mapping, same),
            ("accessModeMapping", &of.access_mode_mapping, &mut options.access_mode_mapping, same),
            ("imageMapping", &of.image_mapping, &mut options.image_mapping, is_beneath),
            ("ingressClassMapping", &of.ingress_class_mapping, &mut options.ingress_class_mapping, same),
        ];
        for (field, map, turned, overlap) in maps {
            let (inverted, ambiguous) = invert(map, overlap);
            *turned = inverted;
            if !ambiguous.is_empty() {
                let several: Vec<String> = ambiguous.into_iter().collect();
                let message = format!(
                    "more than one entry of {field} leads to {}, so that these are not mapped back",
                    several.join(", ")
                );
                self.left_out.push(OptionProblem {
                    field: format!("spec.{field}"),
                    reason: NOT_TURNED,
                    message,
                });
            }
        }
    }

    fn leave_out(&mut self, of: &MigrationSpec) {
        if let Some(ExistingResourcePolicy::Skip | ExistingResourcePolicy::Fail) = of.existing_resource_policy
        {
            self.options.existing_resource_policy = None;
        }
        if !of.transforms.is_empty() {
            self.options.transforms.clear();
            let message = "what transforms have changed on the way there comes back as it is there: look at the objects \
                           that they are for with `isthmus diff`, and correct them by hand where that is wrong here";
            self.left_out.push(OptionProblem {
                field: "spec.transforms".to_owned(),
                reason: NOT_TURNED,
                message: message.to_owned(),
            });
        }
    }
}

/// The reason of what could not be turned round.
const NOT_TURNED: &str = "NotTurnedRound";

/// Whether one of two images, repositories or registries lies within the other, or is it.
fn is_beneath(a: &str, b: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(a, b) || within(b, a)
}

/// A map inverted as far as it is one to one, and what more than one entry leads to. What leads to
/// nothing (an empty value) has no way back.
fn invert(map: &BTreeMap<String, String>, overlap: Overlap) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let (mut inverted, mut ambiguous) = (BTreeMap::new(), BTreeSet::new());
    for (from, to) in map.iter().filter(|(_, to)| !to.is_empty()) {
        let is_other = |(other, leads_to): &(&String, &String)| *other != from && overlap(leads_to, to);
        if map.iter().any(|one| is_other(&one)) {
            ambiguous.insert(to.clone());
        } else {
            inverted.insert(to.clone(), from.clone());
        }
    }
    (inverted, ambiguous)
}

/// What namespaces are called on either side of the run that is turned round.
struct Names(Vec<NamespaceMove>);

impl Names {
    fn of(spec: &MigrationSpec, moved: &[NamespaceMove]) -> Self {
        if !moved.is_empty() {
            return Self(moved.to_vec());
        }
        let rules = spec.namespaces.iter().filter_map(|entry| entry.rule().ok());
        let mapped = rules.filter_map(|rule| match rule {
            NamespaceRule::Mapped(moved) => Some(moved),
            NamespaceRule::Name(_) | NamespaceRule::Glob(_) => None,
        });
        Self(mapped.collect())
    }

    /// What a namespace of the side that it came from is called on the other.
    fn there(&self, namespace: &str) -> String {
        self.0.iter().find(|moved| moved.from == namespace).map_or(namespace, |moved| &moved.to).to_owned()
    }

    /// And the other way round.
    fn here(&self, namespace: &str) -> String {
        self.0.iter().find(|moved| moved.to == namespace).map_or(namespace, |moved| &moved.from).to_owned()
    }

    /// A hook for the source is one for the side where the applications run, whichever that is.
    fn turn_hook(&self, hook: &mut Hook) {
        let side = hook.side();
        let turn = |namespace: &mut Option<String>| {
            if let Some(name) = namespace {
                *name = match side {
                    Side::Source => self.there(name),
                    Side::Destination => self.here(name),
                };
            }
        };
        hook.exec.iter_mut().for_each(|exec| turn(&mut exec.namespace));
        hook.job.iter_mut().for_each(|job| turn(&mut job.namespace));
    }

    fn turn_choice(&self, choice: &VolumeChoice) -> VolumeChoice {
        VolumeChoice {
            namespace: self.there(&choice.namespace),
            claim: choice.name.clone().unwrap_or_else(|| choice.claim.clone()),
            action: choice.action,
            storage_class: None,
            size: None,
            access_modes: Vec::new(),
            name: choice.name.is_some().then(|| choice.claim.clone()),
            verify: choice.verify,
        }
    }
}

fn entry(moved: &NamespaceMove) -> NamespaceEntry {
    if moved.is_renamed() {
        format!("{}:{}", moved.to, moved.from).into()
    } else {
        moved.from.as_str().into()
    }
}

fn turn_entry(written: &NamespaceEntry) -> NamespaceEntry {
    match written.rule() {
        Ok(NamespaceRule::Mapped(moved)) => entry(&moved),
        // What cannot be read is told at admission, as it is written.
        _ => written.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(fields: &Value) -> MigrationSpec {
        let mut spec = serde_json::to_value(MigrationSpec::through("prod")).unwrap();
        for (key, value) in fields.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn turned(fields: &Value) -> MigrationSpec {
        let turned = spec(fields).turned_round(&[]);
        assert_eq!(turned.left_out, []);
        turned.options
    }

    fn moved(from: &str, to: &str) -> NamespaceMove {
        NamespaceMove { from: from.to_owned(), to: to.to_owned() }
    }

    #[test]
    fn namespaces_go_back_to_their_names_and_the_pair_is_used_the_other_way() {
        let back = turned(&json!({"namespaces": ["cms", "shop:shop-green", {"a": "b"}, "team-*"]}));
        assert!(back.reverse);
        let names: Vec<String> = back.namespaces.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["cms", "shop-green:shop", "b:a", "team-*"]);
        assert!(!turned(&json!({"reverse": true})).reverse);
    }

    #[test]
    fn what_globs_and_selectors_came_to_is_what_goes_back() {
        let fields = json!({"namespaces": ["team-*"], "namespaceSelector": {"matchLabels": {"a": "b"}}});
        let back = spec(&fields).turned_round(&[moved("team-a", "team-a"), moved("x", "y")]).options;
        let names: Vec<String> = back.namespaces.iter().map(ToString::to_string).collect();
        assert_eq!((names, back.namespace_selector), (vec!["team-a".to_owned(), "y:x".to_owned()], None));
    }

    #[test]
    fn maps_are_inverted_where_they_are_one_to_one_and_the_rest_is_told() {
        let fields = json!({
            "storageClassMapping": {"gold": "fast", "silver": "slow", "bronze": "slow"},
            "accessModeMapping": {"ReadWriteMany": "ReadWriteOnce"},
            "imageMapping": {"docker.io": "mirror/hub", "quay.io/team": "mirror/hub/team", "ghcr.io": "mirror/ghcr"},
            "ingressClassMapping": {"nginx": "traefik"},
        });
        let Turned { options, left_out } = spec(&fields).turned_round(&[]);
        assert_eq!(json!(options.storage_class_mapping), json!({"fast": "gold"}));
        assert_eq!(json!(options.access_mode_mapping), json!({"ReadWriteOnce": "ReadWriteMany"}));
        assert_eq!(json!(options.image_mapping), json!({"mirror/ghcr": "ghcr.io"}));
        assert_eq!(json!(options.ingress_class_mapping), json!({"traefik": "nginx"}));
        let told: Vec<&str> = left_out.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(told, ["spec.storageClassMapping", "spec.imageMapping"]);
        assert!(left_out[1].message.contains("mirror/hub, mirror/hub/team"), "{left_out:?}");
    }

    #[test]
    fn single_volumes_are_named_as_they_are_there_and_keep_what_they_have_here() {
        let back = turned(&json!({"namespaces": ["shop:shop-green"], "volumes": [
            {"namespace": "shop", "claim": "data", "name": "data-2", "size": "2Gi", "storageClass": "fast",
             "accessModes": ["ReadWriteMany"], "verify": "Full"},
            {"namespace": "shop", "claim": "scratch", "action": "Skip"},
        ]}));
        let volumes = json!([
            {"namespace": "shop-green", "claim": "data-2", "action": "Copy", "name": "data", "verify": "Full"},
            {"namespace": "shop-green", "claim": "scratch", "action": "Skip"},
        ]);
        assert_eq!(json!(back.volumes), volumes);
    }

    #[test]
    fn hooks_and_operators_stay_on_their_side_of_the_run() {
        let job = |namespace: &str| json!({"namespace": namespace, "image": "i"});
        let back = turned(&json!({
            "namespaces": ["shop:shop-green"],
            "hooks": [
                {"name": "flush", "phase": "PreHooks", "job": job("shop")},
                {"name": "warm", "phase": "PostHooks", "job": job("shop-green")},
                {"name": "tell", "phase": "PostHooks", "side": "Source", "job": job("tools")},
            ],
            "operators": [{"namespace": "shop", "name": "operator"}, {"namespace": "operators", "name": "other"}],
        }));
        let jobs: Vec<_> =
            back.hooks.iter().filter_map(|hook| hook.job.as_ref()?.namespace.as_deref()).collect();
        assert_eq!(jobs, ["shop-green", "shop", "tools"]);
        assert_eq!(back.hooks[2].side, Some(Side::Source));
        let operators: Vec<_> = back.operators.iter().map(|operator| operator.namespace.as_str()).collect();
        assert_eq!(operators, ["shop-green", "operators"]);
    }

    #[test]
    fn what_would_keep_everything_from_coming_back_is_left_out() {
        let policy =
            |policy: &str| turned(&json!({"existingResourcePolicy": policy})).existing_resource_policy;
        assert_eq!((policy("Skip"), policy("Fail")), (None, None));
        assert_eq!(policy("Replace"), Some(ExistingResourcePolicy::Replace));
        let transform =
            json!({"transforms": [{"match": {"kind": "Ingress"}, "mergePatch": {"spec": {"x": 1}}}]});
        let Turned { options, left_out } = spec(&transform).turned_round(&[]);
        assert!(options.transforms.is_empty());
        assert_eq!((left_out[0].field.as_str(), left_out[0].reason), ("spec.transforms", "NotTurnedRound"));
    }

    #[test]
    fn turned_twice_a_run_without_anything_to_lose_is_itself() {
        let fields = json!({
            "namespaces": ["cms", "shop:shop-green"], "imageMapping": {"a": "b"}, "storageClassMapping": {"c": "d"},
            "volumes": [{"namespace": "shop", "claim": "data", "name": "data-2"}],
            "operators": [{"namespace": "shop", "name": "operator"}],
        });
        let once = turned(&fields);
        assert_eq!(once.turned_round(&[]).options, spec(&fields));
    }
}
