//! Whose task lists a change of a record may touch: pure.
//!
//! It follows what [`crate::docket::task_list`] reads: a cluster's list is made of the migrations
//! from and to it, of the collections of its pairs, of the checks of plans in which it has a part,
//! and of its own activations, with the stores and Secrets that go with them. What may touch more
//! than can be told here is told to all.

use isthmus_shared::resources::{Cluster, ClusterPair, Migration, MigrationPlan, MigrationStatus};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use super::bells::Whom;
use super::kind::Change;

/// The end of the names of Secrets that hold join tokens, which no task carries.
pub(crate) const JOIN_TOKEN: &str = "-join-token";

/// Whom a change of a migration concerns: its two clusters, once it has begun.
pub(super) fn of_migration(change: &Change<'_, Migration>) -> Whom {
    match change {
        Change::Is { now, .. } => between(now.status.as_ref()).collect(),
        Change::Gone(migration) => between(migration.status.as_ref()).collect(),
        Change::Anew(_) => Whom::All,
    }
}

/// Whom a change of a plan concerns: the clusters of its check.
pub(super) fn of_plan(change: &Change<'_, MigrationPlan>) -> Whom {
    fn checked(plan: &MigrationPlan) -> impl Iterator<Item = &String> {
        let check = plan.status.as_ref().and_then(|status| status.check.as_ref());
        between(check.map(|check| &*check.run))
    }
    match change {
        Change::Is { before, now } => {
            before.iter().flat_map(|plan| checked(plan)).chain(checked(now)).collect()
        }
        Change::Gone(plan) => checked(plan).collect(),
        Change::Anew(_) => Whom::All,
    }
}

fn between(status: Option<&MigrationStatus>) -> impl Iterator<Item = &String> {
    status.into_iter().flat_map(|status| [&status.source, &status.destination]).flatten()
}

/// Whom a change of a pair concerns: its two clusters.
pub(super) fn of_pair(change: &Change<'_, ClusterPair>) -> Whom {
    let ends = |pair: &ClusterPair| [pair.spec.source.clone(), pair.spec.destination.clone()];
    match change {
        Change::Is { before, now } => before.iter().flat_map(|pair| ends(pair)).chain(ends(now)).collect(),
        Change::Gone(pair) => ends(pair).into_iter().collect(),
        Change::Anew(_) => Whom::All,
    }
}

/// Whom a change of a cluster concerns: itself, and the others where it is about applications that
/// are started or stopped, which the other side of a namespace waits for.
pub(super) fn of_cluster(change: &Change<'_, Cluster>) -> Whom {
    let turning = |cluster: &Cluster| {
        let answered = cluster.status.as_ref().map(|status| status.activations.clone());
        (cluster.spec.activations.clone(), answered.unwrap_or_default())
    };
    match change {
        Change::Is { before: Some(before), now } if turning(before) == turning(now) => {
            [now.name_any()].into_iter().collect()
        }
        Change::Is { before: None, now } if now.spec.activations.is_empty() => {
            [now.name_any()].into_iter().collect()
        }
        Change::Is { .. } | Change::Gone(_) | Change::Anew(_) => Whom::All,
    }
}

/// Whom a change of a Secret concerns: it may be a pair's key or a store's, unless it is a join token.
pub(super) fn of_secret(change: &Change<'_, Secret>) -> Whom {
    match change {
        Change::Is { now: secret, .. } | Change::Gone(secret) if secret.name_any().ends_with(JOIN_TOKEN) => {
            Whom::nobody()
        }
        _ => Whom::All,
    }
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::{
        Activation, ClusterSpec, ClusterStatus, MigrationSpec, PlanCheck, TargetState,
    };
    use serde_json::json;

    use super::*;

    fn begun(source: &str, destination: &str) -> MigrationStatus {
        MigrationStatus {
            source: Some(source.into()),
            destination: Some(destination.into()),
            ..MigrationStatus::default()
        }
    }

    #[test]
    fn a_migration_concerns_its_two_clusters_once_it_has_begun() {
        let mut migration = Migration::new("m", MigrationSpec::through("p"));
        assert_eq!(of_migration(&Change::Is { before: None, now: &migration }), Whom::nobody());
        migration.status = Some(begun("east", "west"));
        let both = Whom::from_iter(["east", "west"]);
        assert_eq!(of_migration(&Change::Is { before: None, now: &migration }), both);
        assert_eq!(of_migration(&Change::Gone(&migration)), both);
        assert_eq!(of_migration(&Change::Anew(&[])), Whom::All);
    }

    #[test]
    fn a_plan_concerns_the_clusters_of_the_check_that_it_has_or_had() {
        let plan = |check: bool| -> MigrationPlan {
            let mut plan: MigrationPlan = serde_json::from_value(json!({
                "apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationPlan", "metadata": {"name": "p"},
                "spec": {"clusterPair": "p", "namespaces": ["cms"]},
            }))
            .unwrap();
            let run = Box::new(begun("east", "west"));
            let began_at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
            let check =
                check.then_some(PlanCheck { number: 1, began_at, generation: None, request: None, run });
            plan.status.get_or_insert_default().check = check;
            plan
        };
        let (with, without) = (plan(true), plan(false));
        let both = Whom::from_iter(["east", "west"]);
        assert_eq!(of_plan(&Change::Is { before: Some(&with), now: &without }), both);
        assert_eq!(of_plan(&Change::Is { before: Some(&without), now: &with }), both);
        assert_eq!(of_plan(&Change::Is { before: Some(&without), now: &without }), Whom::nobody());
    }

    #[test]
    fn a_pair_that_is_turned_to_another_cluster_concerns_the_former_too() {
        let pair = |destination: &str| -> ClusterPair {
            serde_json::from_value(json!({
                "apiVersion": "isthmus.dev/v1alpha1", "kind": "ClusterPair", "metadata": {"name": "p"},
                "spec": {"source": "east", "destination": destination, "objectStore": "s"},
            }))
            .unwrap()
        };
        let change = Change::Is { before: Some(&pair("west")), now: &pair("north") };
        assert_eq!(of_pair(&change), Whom::from_iter(["east", "west", "north"]));
    }

    #[test]
    fn a_cluster_concerns_itself_unless_its_applications_are_turned() {
        let mut before = Cluster::new("east", ClusterSpec::default());
        let mut now = before.clone();
        now.status = Some(ClusterStatus { version: Some("v1.36".into()), ..ClusterStatus::default() });
        let own = Whom::from_iter(["east"]);
        assert_eq!(of_cluster(&Change::Is { before: Some(&before), now: &now }), own);
        assert_eq!(of_cluster(&Change::Is { before: None, now: &now }), own);
        let (namespace, request) = ("cms".to_owned(), "r".to_owned());
        now.spec.activations = vec![Activation {
            namespace,
            state: TargetState::Active,
            request,
            force: false,
            handed_over_to: None,
        }];
        assert_eq!(of_cluster(&Change::Is { before: Some(&before), now: &now }), Whom::All);
        before.clone_from(&now);
        assert_eq!(of_cluster(&Change::Is { before: Some(&before), now: &now }), own);
        assert_eq!(of_cluster(&Change::Gone(&now)), Whom::All);
    }

    #[test]
    fn a_join_token_concerns_nobody_and_any_other_secret_all() {
        let secret = |name: &str| Secret {
            metadata: kube::api::ObjectMeta { name: Some(name.into()), ..Default::default() },
            ..Secret::default()
        };
        let (token, key) = (secret("east-join-token"), secret("pair-1-key"));
        assert_eq!(of_secret(&Change::Is { before: None, now: &token }), Whom::nobody());
        assert_eq!(of_secret(&Change::Gone(&token)), Whom::nobody());
        assert_eq!(of_secret(&Change::Is { before: None, now: &key }), Whom::All);
    }
}
