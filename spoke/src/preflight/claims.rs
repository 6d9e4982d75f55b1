//! Whether the destination's claims can be written into: those of volumes that move.

use std::collections::BTreeMap;

use isthmus_shared::protocol::{Direction, Run};
use isthmus_shared::resources::VolumeChoice;
use serde_json::{Value, json};

use super::concern::Concern;
use super::movers::{Site, SiteClaim, look_at_movers};
use super::places::{Place, Places};
use super::source::capacity;
use crate::cluster::{array, name, namespace, text};
use crate::collect::Header;
use crate::task::{TaskContext, TaskError};
use crate::transform::Rewriter;
use crate::volumes::{ClaimUser, pods_of_claims};

/// Looks at the claims that are there already and whose data would be changed, and whether movers
/// can work on all of them.
pub async fn look_at_claims(
    context: &TaskContext,
    run: &Run,
    (header, rewriter): (&Header, &Rewriter),
    places: &Places,
    concerns: &mut Vec<Concern>,
) -> Result<(), TaskError> {
    let mut sites: BTreeMap<&str, Site> = BTreeMap::new();
    let moves = |claim: &&Value| {
        header.volumes.iter().any(|v| v.namespace == namespace(claim) && v.claim == name(claim))
    };
    let claims: Vec<&Value> = header.claims.iter().filter(moves).collect();
    for claim in claims {
        let to = run.destination_of(namespace(claim));
        let Some(place) = places.get(to) else { continue };
        let site = sites.entry(to).or_insert_with(|| site_of(to, place));
        let is_of = |user: &&ClaimUser| user.namespace == namespace(claim) && user.claim == name(claim);
        let user = header.users.iter().find(is_of).cloned().unwrap_or_default().arriving(rewriter, run);
        let chosen = run.spec.choice_of(namespace(claim), name(claim));
        let called = run.claim_on_destination(namespace(claim), name(claim));
        let mut arriving = SiteClaim { claim: without_volume(claim, called, chosen), user, mounted_on: None };
        if !place.is_there() {
            site.claims.push(arriving);
            continue;
        }
        let object = format!("PersistentVolumeClaim {to}/{called}");
        context.doing(format!("looking at {object}"));
        let path = format!("/api/v1/namespaces/{to}/persistentvolumeclaims/{called}");
        let live =
            context.cluster().find(&path).await.map_err(|e| TaskError::cluster(&object, "reading it", &e))?;
        let Some(live) = live else {
            site.claims.push(arriving);
            continue;
        };
        let users = pods_of_claims(context.cluster(), to, called)
            .await
            .map_err(|e| TaskError::cluster(&object, "looking for the Pods that use it", &e))?;
        concerns.extend(in_the_way(&object, claim, &live, &users, to, &context.spoke.name));
        arriving.claim = live;
        site.claims.push(arriving);
    }
    let sites: Vec<Site> = sites.into_values().collect();
    concerns.extend(look_at_movers(context, run, Direction::Receive, &sites).await?);
    Ok(())
}

/// A namespace as the movers will find it.
fn site_of(to: &str, place: &Place) -> Site {
    let live = place.live.clone().unwrap_or_default();
    let annotations = live.pointer("/metadata/annotations").cloned().unwrap_or_default();
    let namespace = json!({"metadata": {"name": to, "labels": place.labels, "annotations": annotations}});
    Site { namespace, is_there: place.is_there(), claims: Vec::new() }
}

/// A claim as it is before it is bound on the destination, by its name there.
fn without_volume(claim: &Value, name: &str, chosen: Option<&VolumeChoice>) -> Value {
    let modes = chosen.filter(|choice| !choice.access_modes.is_empty());
    let modes = modes.map_or_else(|| json!(array(claim, "/spec/accessModes")), |c| json!(c.access_modes));
    json!({"metadata": {"name": name}, "spec": {"accessModes": modes}})
}

fn in_the_way(
    object: &str,
    claim: &Value,
    live: &Value,
    users: &[Value],
    namespace: &str,
    cluster: &str,
) -> Vec<Concern> {
    let mut concerns = Vec::new();
    if let Some(user) = users.first() {
        concerns.push(Concern::failure(object, "ClaimInUse", in_use(user, namespace, cluster)));
    }
    if capacity(live) > 0 && capacity(live) < capacity(claim) {
        let message = "the destination's claim is smaller than the source's: enlarge it, or delete it to have it made \
                       anew, then run again";
        concerns.push(Concern::failure(object, "ClaimTooSmall", message));
    }
    match (is_block(claim), is_block(live)) {
        (false, true) => {
            let message = "the destination's claim is a raw block volume, into which no files can be written: delete \
                           it to have it made anew, then run again";
            concerns.push(Concern::failure(object, "ClaimIsBlock", message));
        }
        (true, false) => {
            let message = "it is a raw block volume on the source and a filesystem on the destination: delete the \
                           destination's claim to have it made anew, then run again";
            concerns.push(Concern::failure(object, "ClaimIsNotBlock", message));
        }
        _ => {}
    }
    concerns
}

fn is_block(claim: &Value) -> bool {
    text(claim, "/spec/volumeMode") == "Block"
}

fn in_use(user: &Value, namespace: &str, cluster: &str) -> String {
    let pod = name(user);
    if text(user, "/metadata/deletionTimestamp").is_empty() {
        format!(
            "it is in use on the destination by Pod {pod}, and its data would be changed under it: stop the application \
             there (isthmus deactivate {namespace} --cluster {cluster}), then run again"
        )
    } else {
        format!("Pod {pod} on the destination still uses it, and is about to end: run again once it is gone")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reasons(live: &Value, users: &[Value]) -> Vec<String> {
        let claim = json!({"metadata": {"name": "data"}, "status": {"capacity": {"storage": "2Gi"}}});
        let found = in_the_way("PersistentVolumeClaim a/data", &claim, live, users, "a", "west");
        found.into_iter().map(|concern| concern.finding.reason).collect()
    }

    #[test]
    fn a_claim_that_is_used_or_too_small_is_in_the_way() {
        let live =
            |size: &str| json!({"metadata": {"name": "data"}, "status": {"capacity": {"storage": size}}});
        assert!(reasons(&live("2Gi"), &[]).is_empty());
        assert_eq!(
            reasons(&live("1Gi"), &[json!({"metadata": {"name": "p"}})]),
            ["ClaimInUse", "ClaimTooSmall"]
        );
        let block = json!({"spec": {"volumeMode": "Block"}});
        assert_eq!(reasons(&block, &[]), ["ClaimIsBlock"]);
        let of = |claim: &Value, live: &Value| in_the_way("claim", claim, live, &[], "a", "west").len();
        assert_eq!(of(&block, &json!({})), 1, "raw blocks are no files");
        assert_eq!(of(&block, &block), 0);
    }
}
