//! Whether applications may be started by hand: those that a cutover has handed over only where they
//! came from if the other side is known to stand still, and none whose side a run is about to change.

use isthmus_shared::protocol::HEARTBEAT_EXPIRY_SECONDS;
use isthmus_shared::resources::{Activation, Cluster, Migration, MigrationAction, TargetState};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use crate::docket;
use crate::itinerary::{Claim, Reach, claims, meeting};
use crate::presence::Presence;
use crate::records::Records;

/// For how long a heartbeat may have been under way.
const UNDERWAY: SignedDuration = SignedDuration::from_secs(5);

/// Whether the other side of a namespace is heard, says that it does not run its applications, and
/// is not about to. Of two that are to be started at once, the one that comes first by name is.
pub(crate) fn other_stands_still(
    records: &Records,
    presence: &Presence,
    cluster: &Cluster,
    namespace: &str,
) -> bool {
    let own = cluster.uid().unwrap_or_default();
    let Some(fence) = presence.fence(&own, namespace) else { return false };
    let Some((other_name, other_namespace)) = fence.counterpart.split_once('/') else { return false };
    let Some(other) = records.cluster(other_name) else { return false };
    let uid = other.uid().unwrap_or_default();
    let limit = SignedDuration::from_secs(HEARTBEAT_EXPIRY_SECONDS.cast_signed());
    let Some(heard_at) = presence.heard_at(&uid) else { return false };
    let heard = Timestamp::now().duration_since(heard_at) <= limit;
    let still = presence.fence(&uid, other_namespace).is_some_and(|fence| !fence.active);
    let goes_first = (other_name, other_namespace) < (cluster.name_any().as_str(), namespace);
    let turning = records.migrations.all().iter().any(|run| is_turning(run, &cluster.name_any(), heard_at));
    heard && still && !turning && !(goes_first && is_starting(&other, other_namespace))
}

/// The run that keeps a start by hand from being carried out, as `<namespace>/<name>`: it is about to
/// stop the namespace's applications on one cluster and to start them on another, and until it has
/// ended it alone says where they run. Nothing keeps a stop, or what is forced.
pub(crate) fn handed_over_by(records: &Records, cluster: &str, wanted: &Activation) -> Option<String> {
    if wanted.state != TargetState::Active || wanted.force {
        return None;
    }
    let wanted = [Claim { cluster: cluster.to_owned(), reach: Reach::Name(wanted.namespace.clone()) }];
    let runs = records.under_way(cluster);
    let run = runs.iter().find(|run| {
        let options = run.options();
        let hands_over = options.quiesce && options.action.brings_all() && !options.dry_run;
        let status = run.status.as_ref();
        let (source, destination) = (
            status.and_then(|status| status.source.as_deref()),
            status.and_then(|status| status.destination.as_deref()),
        );
        let (Some(source), Some(destination)) = (source, destination) else { return false };
        (hands_over || options.action == MigrationAction::Rollback)
            && meeting(&wanted, &claims(options, status, source, destination)).is_some()
    })?;
    Some(format!("{}/{}", run.namespace().unwrap_or_default(), run.name_any()))
}

/// Whether a run stops or starts one of its sides, or did so after what the other side has said.
fn is_turning(run: &Migration, cluster: &str, heard_at: Timestamp) -> bool {
    let Some(status) = run.status.as_ref().filter(|status| status.active.is_some()) else { return false };
    let concerns = [&status.source, &status.destination].into_iter().flatten().any(|name| name == cluster);
    let ended = status.finished_at.as_ref().map(|at| at.0);
    concerns && ended.is_none_or(|ended| heard_at < ended + UNDERWAY)
}

/// Whether a namespace's applications are to be started and that is not done.
fn is_starting(cluster: &Cluster, namespace: &str) -> bool {
    let wanted = cluster.spec.activations.iter().filter(|a| a.namespace == namespace);
    wanted.filter(|a| a.state == TargetState::Active).any(|a| !docket::is_answered(cluster, a))
}
