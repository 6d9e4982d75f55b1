//! What becomes of one object, decided from what the destination has of that name and from the
//! run's `existingResourcePolicy`. Values in, a decision out; applying and preflight share it.
//!
//! | there is            | unset   | Skip | Update | Replace | Fail   |
//! | ------------------- | ------- | ---- | ------ | ------- | ------ |
//! | nothing             | Create  | Create | Create | Create | Create |
//! | one of this run     | Update  | Update | Update | Update | Update |
//! | one of another run  | Update  | Skip | Update | Replace | Refuse |
//! | one of somebody else | Refuse | Skip | Update | Replace | Refuse |
//!
//! `Fail` is for whoever wants an empty place: written down, it refuses also what an earlier run
//! brought. Unset, it concerns only what no migration brought, and of that nothing that was handed
//! over to the side which the run comes from ([`super::handover`]): in such a namespace somebody
//! else's is brought up to date without being marked (`Return`).
//!
//! Some kinds are shared by their nature and are met otherwise, whatever the policy, except that
//! `Skip` always leaves an object as it is:
//!
//! - a `ServiceAccount` (every namespace has its `default`) and a `ClusterRoleBinding` (of which
//!   every plan needs its own subjects) are merged: something is added, nothing is taken away;
//! - a `CustomResourceDefinition` that is not ours is the destination's own and stays as it is;
//! - another object of cluster scope that is not ours but has already all that is wanted stays
//!   as it is, and is neither refused nor marked; of a run whose namespaces were all handed over also
//!   one that differs, which is told (`Leave`): others of the cluster may depend on it.

use isthmus_shared::resources::{ExistingResourcePolicy as Policy, MIGRATED_BY};
use serde_json::Value;

use super::problem::{Problem, taken_by};
use crate::cluster::{label, text};

/// What is done with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is made.
    Create,
    /// The fields that the source has are set by server-side apply; others stay.
    Update,
    /// It becomes as on the source.
    Replace,
    /// It becomes as on the source, and stays unmarked: an earlier cutover handed it over.
    Return,
    /// What it lacks is added.
    Merge,
    /// It is as it should be without being ours, or belongs to the destination.
    Keep,
    /// It stays as it is, though it differs: a person should know.
    Leave,
    /// It stays as it is, as the policy says.
    Skip,
    /// It is in the way.
    Refuse(Problem),
}

/// What a decision needs to know of the object that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The value of the mark `isthmus.dev/migrated-by`, if there is one.
    pub mark: Option<&'a str>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it has all that is wanted already. Needs to be known for objects of cluster scope
    /// only.
    pub covered: bool,
    /// Whether it was handed over to where the run comes from.
    pub handed_over: bool,
}

impl<'a> Facts<'a> {
    /// The facts that an object itself tells.
    pub fn of(live: &'a Value) -> Self {
        Self {
            mark: label(live, MIGRATED_BY).filter(|mark| !mark.is_empty()),
            deleting: !text(live, "/metadata/deletionTimestamp").is_empty(),
            covered: false,
            handed_over: false,
        }
    }

    /// With what the namespaces' marks say.
    pub fn handed_over(self, handed_over: bool) -> Self {
        Self { handed_over, ..self }
    }

    /// With what a comparison gave.
    pub fn covered(self, covered: bool) -> Self {
        Self { covered, ..self }
    }
}

/// Which object is to be decided on.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its API group.
    pub group: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Whether it lies in a namespace.
    pub namespaced: bool,
}

impl Subject<'_> {
    fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    /// Whether it is added to rather than changed.
    pub fn is_merged(&self) -> bool {
        self.is("", "ServiceAccount") || self.is("rbac.authorization.k8s.io", "ClusterRoleBinding")
    }

    /// Whether the destination's own stays as it is.
    pub fn is_kept(&self) -> bool {
        self.is("apiextensions.k8s.io", "CustomResourceDefinition")
    }
}

/// Whether an object carries our mark.
pub fn is_ours(object: &Value) -> bool {
    Facts::of(object).mark.is_some()
}

/// What becomes of an object of the run `migration`.
pub fn decide(
    subject: Subject<'_>,
    live: Option<Facts<'_>>,
    policy: Option<Policy>,
    migration: &str,
) -> Decision {
    let Some(live) = live else { return Decision::Create };
    if live.deleting {
        return Decision::Refuse(being_deleted());
    }
    // A run that was restarted finds what it has made itself, and PrepareDestination's claims.
    if live.mark == Some(migration) && !subject.is_merged() {
        return Decision::Update;
    }
    if policy == Some(Policy::Skip) {
        return Decision::Skip;
    }
    if subject.is_merged() {
        return Decision::Merge;
    }
    if live.mark.is_none() && (subject.is_kept() || (!subject.namespaced && live.covered)) {
        return Decision::Keep;
    }
    if live.handed_over && live.mark.is_none() && policy.is_none() {
        return if subject.namespaced { Decision::Return } else { Decision::Leave };
    }
    match (policy, live.mark) {
        (Some(Policy::Update), _) | (None, Some(_)) => Decision::Update,
        (Some(Policy::Replace), _) => Decision::Replace,
        (Some(Policy::Fail), Some(_)) => Decision::Refuse(Problem::lasting(
            "AlreadyExists",
            format!(
                "an earlier migration brought a {} of this name, and existingResourcePolicy is Fail: remove it from \
                 the destination, or leave the policy unset, then run again",
                subject.kind
            ),
        )),
        (Some(Policy::Skip | Policy::Fail) | None, _) => Decision::Refuse(taken_by(subject.kind)),
    }
}

fn being_deleted() -> Problem {
    Problem::waiting(
        "BeingDeleted",
        "an earlier one of this name is still being deleted on the destination: look at its finalizers, and run \
         again once it is gone",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CONFIG: Subject<'_> = Subject { group: "", kind: "ConfigMap", namespaced: true };
    const ACCOUNT: Subject<'_> = Subject { group: "", kind: "ServiceAccount", namespaced: true };
    const BINDING: Subject<'_> =
        Subject { group: "rbac.authorization.k8s.io", kind: "ClusterRoleBinding", namespaced: false };
    const ROLE: Subject<'_> =
        Subject { group: "rbac.authorization.k8s.io", kind: "ClusterRole", namespaced: false };
    const DEFINITION: Subject<'_> =
        Subject { group: "apiextensions.k8s.io", kind: "CustomResourceDefinition", namespaced: false };

    const POLICIES: [Option<Policy>; 5] =
        [None, Some(Policy::Skip), Some(Policy::Update), Some(Policy::Replace), Some(Policy::Fail)];

    fn row(subject: Subject<'_>, live: Option<Facts<'_>>) -> Vec<String> {
        let word = |decision: &Decision| {
            let text = format!("{decision:?}");
            text.split('(').next().unwrap().to_owned()
        };
        POLICIES.iter().map(|policy| word(&decide(subject, live, *policy, "this"))).collect()
    }

    fn marked(mark: &str) -> Facts<'_> {
        Facts { mark: Some(mark), ..Facts::default() }
    }

    const FOREIGN: Option<Facts<'_>> =
        Some(Facts { mark: None, deleting: false, covered: false, handed_over: false });

    #[test]
    fn what_is_not_there_is_created_under_every_policy() {
        assert_eq!(row(CONFIG, None), ["Create"; 5]);
    }

    #[test]
    fn what_another_run_brought_is_met_by_the_policy() {
        assert_eq!(row(CONFIG, Some(marked("other"))), ["Update", "Skip", "Update", "Replace", "Refuse"]);
    }

    #[test]
    fn what_no_migration_brought_is_refused_unless_the_policy_says_otherwise() {
        assert_eq!(row(CONFIG, FOREIGN), ["Refuse", "Skip", "Update", "Replace", "Refuse"]);
    }

    #[test]
    fn what_this_run_made_before_it_was_restarted_is_brought_up_to_date_under_every_policy() {
        assert_eq!(row(CONFIG, Some(marked("this"))), ["Update"; 5]);
    }

    #[test]
    fn accounts_and_cluster_role_bindings_are_merged_and_never_refused() {
        for subject in [ACCOUNT, BINDING] {
            for live in [FOREIGN, Some(marked("other"))] {
                assert_eq!(row(subject, live), ["Merge", "Skip", "Merge", "Merge", "Merge"]);
            }
            assert_eq!(row(subject, None), ["Create"; 5]);
        }
    }

    #[test]
    fn the_destinations_own_definition_stays_and_one_of_ours_is_updated() {
        assert_eq!(row(DEFINITION, FOREIGN), ["Keep", "Skip", "Keep", "Keep", "Keep"]);
        assert_eq!(row(DEFINITION, Some(marked("other")))[0], "Update");
    }

    #[test]
    fn a_foreign_object_of_cluster_scope_that_has_all_that_is_wanted_is_not_in_the_way() {
        let covered = FOREIGN.map(|facts| facts.covered(true));
        assert_eq!(row(ROLE, covered), ["Keep", "Skip", "Keep", "Keep", "Keep"]);
        assert_eq!(row(ROLE, FOREIGN)[0], "Refuse");
        assert_eq!(row(CONFIG, covered)[0], "Refuse", "in a namespace it is somebody else's");
    }

    #[test]
    fn what_was_handed_over_is_brought_up_to_date_unless_a_policy_is_written_down() {
        let handed = FOREIGN.map(|facts| facts.handed_over(true));
        assert_eq!(row(CONFIG, handed), ["Return", "Skip", "Update", "Replace", "Refuse"]);
        assert_eq!(row(ACCOUNT, handed)[0], "Merge");
        let ours = Some(marked("other").handed_over(true));
        assert_eq!(
            row(CONFIG, ours),
            row(CONFIG, Some(marked("other"))),
            "what a run brought is met as ever"
        );
    }

    #[test]
    fn of_cluster_scope_nothing_is_handed_over_and_what_differs_stays() {
        let handed = FOREIGN.map(|facts| facts.handed_over(true));
        assert_eq!(row(ROLE, handed), ["Leave", "Skip", "Update", "Replace", "Refuse"]);
        assert_eq!(row(ROLE, handed.map(|facts| facts.covered(true)))[0], "Keep");
        assert_eq!(
            (row(DEFINITION, handed)[0].as_str(), row(BINDING, handed)[0].as_str()),
            ("Keep", "Merge")
        );
    }

    #[test]
    fn what_is_being_deleted_is_waited_for() {
        let live = Some(Facts { deleting: true, ..marked("other") });
        let Decision::Refuse(problem) = decide(CONFIG, live, None, "this") else { panic!() };
        assert!(problem.may_resolve && problem.reason == "BeingDeleted");
    }

    #[test]
    fn an_object_is_ours_by_its_mark_alone() {
        assert!(is_ours(&json!({"metadata": {"labels": {MIGRATED_BY: "m"}}})));
        assert!(!is_ours(&json!({"metadata": {"labels": {MIGRATED_BY: ""}}})));
        assert!(!is_ours(&json!({"metadata": {"labels": {"app": "x"}}})));
    }
}
