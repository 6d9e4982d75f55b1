//! `isthmus activate` and `isthmus deactivate`.

use std::collections::BTreeMap;

use isthmus_shared::resources::{Activation, ActivationPhase, ActivationStatus, Cluster, TargetState};
use serde::Serialize;

use crate::args::{Activate, Connection, Format};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::records::Records;
use crate::render::{self, word};
use crate::watching::{Waited, Watched};
use crate::{names, output};

/// The most activations in a cluster's spec, as its schema has it.
const MAX_ACTIVATIONS: usize = 256;

pub async fn run(connection: &Connection, args: Activate, state: TargetState) -> Result<Ending, Error> {
    names::distinct(&args.namespaces)?;
    let session = Session::open(connection).await?;
    let clusters = Records::<Cluster>::of(&session, &session.namespace);
    // One request for each namespace, made once, so that a repeated write asks for the same thing.
    let wanted: Vec<Activation> = args
        .namespaces
        .iter()
        .map(|namespace| Activation {
            namespace: namespace.clone(),
            state,
            request: uuid::Uuid::new_v4().to_string(),
            force: args.force && state == TargetState::Active,
            handed_over_to: None,
        })
        .collect();
    let cluster = clusters
        .change::<Error>(&args.cluster, |cluster| {
            cluster.spec.activations = with(cluster, &wanted)?;
            Ok(())
        })
        .await?;
    warn_if_not_ready(&cluster, &args.cluster);
    if !args.wait {
        output::print(&format!(
            "Asked for. `isthmus cluster describe {}` shows what became of it.",
            args.cluster
        ))?;
        return Ok(Ending::Succeeded);
    }
    let waited = Watched::new(clusters, &args.cluster).until(args.timeout, |cluster| match cluster {
        Some(cluster) => answers(cluster, &wanted).map(Some),
        None => Some(None),
    });
    match waited.await? {
        Waited::Reached(Some(answers)) => report(args.output.format(), &answers),
        Waited::Reached(None) => {
            Err(Error::NotReached(format!("Cluster {} was removed meanwhile", args.cluster)))
        }
        Waited::TimedOut => Err(Error::NotReached(format!(
            "not all of {} became {} within {}: `isthmus cluster describe {}` shows how far it is; the request stands",
            args.namespaces.join(", "),
            word(state),
            render::figures::length(args.timeout),
            args.cluster
        ))),
    }
}

fn warn_if_not_ready(cluster: &Cluster, name: &str) {
    let conditions = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => {}
        Some(ready) => output::note(&format!(
            "Cluster {name} is not Ready ({}); its spoke does this once it is heard.",
            render::clean(&ready.message)
        )),
        None => output::note(&format!("Cluster {name} has not joined; its spoke does this once it has.")),
    }
}

/// The activations of a cluster with new ones in place of those for the same namespaces. Where
/// there would be too many, those that are done long since make room, the oldest first.
fn with(cluster: &Cluster, wanted: &[Activation]) -> Result<Vec<Activation>, Error> {
    let replaced = |activation: &&Activation| !wanted.iter().any(|new| new.namespace == activation.namespace);
    let mut all: Vec<Activation> = cluster.spec.activations.iter().filter(replaced).cloned().collect();
    let mut surplus = (all.len() + wanted.len()).saturating_sub(MAX_ACTIVATIONS);
    let answered = |activation: &Activation| {
        let statuses =
            cluster.status.as_ref().map(|status| status.activations.as_slice()).unwrap_or_default();
        statuses.iter().any(|s| s.request == activation.request && s.phase != ActivationPhase::InProgress)
    };
    all.retain(|activation| {
        let goes = surplus > 0 && answered(activation);
        surplus -= usize::from(goes);
        !goes
    });
    if surplus > 0 {
        return Err(Error::Refused(format!(
            "the cluster has {MAX_ACTIVATIONS} activations that are not done: wait for them"
        )));
    }
    all.extend_from_slice(wanted);
    Ok(all)
}

/// What became of each request, once all are done.
fn answers(cluster: &Cluster, wanted: &[Activation]) -> Option<Vec<ActivationStatus>> {
    let statuses = &cluster.status.as_ref()?.activations;
    let by_request: BTreeMap<_, _> = statuses.iter().map(|status| (&status.request, status)).collect();
    wanted
        .iter()
        .map(|activation| by_request.get(&activation.request).copied())
        .map(|status| status.filter(|status| status.phase != ActivationPhase::InProgress).cloned())
        .collect()
}

#[derive(Serialize)]
struct Answers<'a> {
    activations: &'a [ActivationStatus],
}

fn report(format: Format, answers: &[ActivationStatus]) -> Result<Ending, Error> {
    super::print_record(format, &Answers { activations: answers }, || {
        let rows: Vec<_> = answers
            .iter()
            .map(|a| {
                let message = a.message.clone().unwrap_or_default();
                vec![a.namespace.clone(), word(a.state), word(a.phase), a.workloads.to_string(), message]
            })
            .collect();
        render::table(&["NAMESPACE", "WANTED", "STATUS", "WORKLOADS", "MESSAGE"], &rows)
    })?;
    let failed = answers.iter().any(|answer| answer.phase == ActivationPhase::Failed);
    Ok(if failed { Ending::Failed } else { Ending::Succeeded })
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::{ClusterSpec, ClusterStatus};

    use super::*;

    fn activation(namespace: &str, request: &str) -> Activation {
        Activation {
            namespace: namespace.to_owned(),
            state: TargetState::Active,
            request: request.to_owned(),
            force: false,
            handed_over_to: None,
        }
    }

    fn status(request: &str, phase: ActivationPhase) -> ActivationStatus {
        ActivationStatus {
            namespace: request.to_owned(),
            request: request.to_owned(),
            state: TargetState::Active,
            phase,
            workloads: 1,
            message: None,
        }
    }

    fn cluster(activations: Vec<Activation>, statuses: Vec<ActivationStatus>) -> Cluster {
        let mut cluster = Cluster::new("east", ClusterSpec { activations, ..ClusterSpec::default() });
        cluster.status = Some(ClusterStatus { activations: statuses, ..ClusterStatus::default() });
        cluster
    }

    #[test]
    fn a_new_request_replaces_the_one_before_for_its_namespace_only() {
        let before = cluster(vec![activation("cms", "1"), activation("shop", "2")], vec![]);
        let after = with(&before, &[activation("cms", "3")]).unwrap();
        assert_eq!(after, [activation("shop", "2"), activation("cms", "3")]);
    }

    #[test]
    fn when_the_list_is_full_what_is_done_makes_room_and_what_is_not_stays() {
        let all: Vec<_> =
            (0..MAX_ACTIVATIONS).map(|n| activation(&format!("ns-{n}"), &n.to_string())).collect();
        let full = cluster(all.clone(), vec![status("7", ActivationPhase::Succeeded)]);
        let after = with(&full, &[activation("new", "x")]).unwrap();
        assert_eq!(after.len(), MAX_ACTIVATIONS);
        assert!(!after.iter().any(|activation| activation.request == "7"));
        assert!(with(&cluster(all, vec![]), &[activation("new", "x")]).is_err());
    }

    #[test]
    fn an_answer_counts_only_for_its_own_request_and_once_it_is_done() {
        let wanted = [activation("cms", "new")];
        let found = |statuses| answers(&cluster(vec![], statuses), &wanted);
        assert_eq!(found(vec![status("old", ActivationPhase::Succeeded)]), None);
        assert_eq!(found(vec![status("new", ActivationPhase::InProgress)]), None);
        assert_eq!(found(vec![status("new", ActivationPhase::Failed)]).unwrap().len(), 1);
    }
}
