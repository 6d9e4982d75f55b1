//! Whether the movers of a run can work on this side, before anything is begun: their priority
//! class, nodes, room in quotas and bounds, whom the namespaces let in, their image's Secrets, and
//! a way to each volume.
//!
//! ```text
//!   Site (a namespace, its claims) ──▶ look: reads what they meet ──▶ concerns
//!                                       └─ room: quotas and LimitRanges, pure
//! ```

mod room;

use std::collections::{BTreeMap, BTreeSet};

use isthmus_shared::protocol::{Direction, Run};
use isthmus_shared::resources::MoverOptions;
use serde_json::{Value, json};

use self::room::Load;
use super::concern::Concern;
use crate::cluster::{label, name, text};
use crate::task::{TaskContext, TaskError};
use crate::volumes::{
    Admitted, Answer, ClaimUser, ENFORCE, Identity, Obstacle, Placement, Situation, Trial, candidates,
    choose_by_label, no_privileged_attributes, trial_pod, volume_of,
};

/// Quotas and LimitRanges of a namespace that are looked at.
const MAX_LISTED: usize = 1_000;

/// A namespace in which movers are to work.
#[derive(Clone, Debug)]
pub struct Site {
    /// The namespace, with the labels that it has or will have.
    pub namespace: Value,
    /// Whether it is there already.
    pub is_there: bool,
    /// The claims whose data moves.
    pub claims: Vec<SiteClaim>,
}

/// A claim whose data moves.
#[derive(Clone, Debug)]
pub struct SiteClaim {
    /// The claim as it is there; as it will be made, without its volume, where it is not.
    pub claim: Value,
    /// Who uses it.
    pub user: ClaimUser,
    /// The node on which it is mounted now.
    pub mounted_on: Option<String>,
}

/// Looks at one side.
pub async fn look_at_movers(
    context: &TaskContext,
    run: &Run,
    direction: Direction,
    sites: &[Site],
) -> Result<Vec<Concern>, TaskError> {
    let options = context.spoke.movers.options(&run.spec.mover);
    let look = Look { context, run, direction, options: &options };
    let mut concerns = Vec::new();
    if sites.iter().all(|site| site.claims.is_empty()) {
        return Ok(concerns);
    }
    context.doing("looking whether movers can work");
    look.at_cluster(&mut concerns).await?;
    for site in sites {
        if site.claims.is_empty() {
            continue;
        }
        if site.is_there {
            look.at_secrets(site, &mut concerns).await?;
            look.at_room(site, &mut concerns).await?;
        }
        look.at_identities(site, &mut concerns).await?;
        for claim in &site.claims {
            look.at_claim(site, claim, &mut concerns).await?;
        }
    }
    Ok(concerns)
}

struct Look<'a> {
    context: &'a TaskContext,
    run: &'a Run,
    direction: Direction,
    options: &'a MoverOptions,
}

impl Look<'_> {
    fn side(&self) -> &'static str {
        match self.direction {
            Direction::Send => "source",
            Direction::Receive => "destination",
        }
    }

    /// How messages name this side: `the source (cluster east)`.
    fn here(&self) -> String {
        format!("the {} (cluster {})", self.side(), self.context.spoke.name)
    }

    async fn at_cluster(&self, concerns: &mut Vec<Concern>) -> Result<(), TaskError> {
        let cluster = self.context.cluster();
        if let Some(class) = &self.options.priority_class_name {
            let object = format!("PriorityClass {class}");
            let path = format!("/apis/scheduling.k8s.io/v1/priorityclasses/{class}");
            let found = cluster.find(&path).await;
            if found.map_err(|e| TaskError::cluster(&object, "reading it", &e))?.is_none() {
                let message = format!(
                    "spec.mover.priorityClassName names it, and {} has none of that name: create it there, or name one \
                     that both clusters have",
                    self.here()
                );
                concerns.push(Concern::failure(object, "PriorityClassNotFound", message));
            }
        }
        let nodes = cluster_nodes(self.context).await?;
        let asked = Placement::asked(self.options);
        if !self.options.node_selector.is_empty()
            && !nodes.iter().any(|node| node.ready && asked.allows(node))
        {
            let message = format!(
                "no node of {} that is ready has the labels of spec.mover.nodeSelector and no taint beyond \
                 spec.mover.tolerations: movers wait until there is one",
                self.here()
            );
            concerns.push(Concern::warning("spec.mover", "NoNodeForMover", message));
        }
        Ok(())
    }

    /// The Secrets for the movers' image: they do not go along.
    async fn at_secrets(&self, site: &Site, concerns: &mut Vec<Concern>) -> Result<(), TaskError> {
        let place = name(&site.namespace);
        for secret in &self.context.spoke.movers.pull_secrets {
            let object = format!("Secret {place}/{secret}");
            let path = format!("/api/v1/namespaces/{place}/secrets/{secret}");
            let found = self.context.cluster().find(&path).await;
            if found.map_err(|e| TaskError::cluster(&object, "reading it", &e))?.is_none() {
                let message = format!(
                    "the spoke of {} was started with --mover-image-pull-secret {secret}, and the namespace has no such \
                     Secret: create it there, else nodes that do not have the movers' image cannot pull it",
                    self.here()
                );
                concerns.push(Concern::warning(object, "PullSecretNotFound", message));
            }
        }
        Ok(())
    }

    async fn at_room(&self, site: &Site, concerns: &mut Vec<Concern>) -> Result<(), TaskError> {
        let place = name(&site.namespace);
        let movers = &self.context.spoke.movers;
        let mut pod = trial_pod(place, movers, self.options, self.direction, &Identity::root(self.options));
        if let Some(class) = &self.options.priority_class_name {
            pod["spec"]["priorityClassName"] = json!(class);
        }
        let count = i64::try_from(site.claims.len()).unwrap_or(i64::MAX);
        let load =
            Load { pod, at_once: count.min(i64::from(self.run.spec.parallel_volumes.max(1))), in_all: count };
        let (quotas, ranges) =
            (self.listed(place, "resourcequotas").await?, self.listed(place, "limitranges").await?);
        concerns.extend(room::concerns(place, &load, &quotas, &ranges, &self.here()));
        Ok(())
    }

    async fn listed(&self, place: &str, plural: &str) -> Result<Vec<Value>, TaskError> {
        let path = format!("/api/v1/namespaces/{place}/{plural}");
        let listed = self.context.cluster().list(&path, "", MAX_LISTED).await;
        listed.map_err(|e| TaskError::cluster(&path, "listing it", &e))
    }

    /// As whom the movers of a namespace run: what is asked of the API server is asked once for
    /// each set of ids, and what cannot be kept is said once for each.
    async fn at_identities(&self, site: &Site, concerns: &mut Vec<Concern>) -> Result<(), TaskError> {
        let object = format!("Namespace {}", name(&site.namespace));
        let trial = Trial {
            cluster: self.context.cluster(),
            movers: &self.context.spoke.movers,
            options: self.options,
            direction: self.direction,
        };
        let mut known: BTreeMap<String, Result<Admitted, Answer>> = BTreeMap::new();
        let mut said = BTreeSet::new();
        for claim in &site.claims {
            let all = candidates(self.direction, &site.namespace, &claim.user, self.options);
            let key = format!("{all:?}");
            if !known.contains_key(&key) {
                let chosen = if site.is_there {
                    let chosen = trial.choose(&site.namespace, all).await;
                    chosen.map_err(|e| TaskError::cluster(&object, "trying the mover's Pod", &e))?
                } else {
                    let enforced = label(&site.namespace, ENFORCE).unwrap_or_default();
                    let refused = || Answer::Refused(format!("its label {ENFORCE}={enforced}"));
                    choose_by_label(&site.namespace, all).ok_or_else(refused)
                };
                known.insert(key.clone(), chosen);
            }
            let Some(chosen) = known.get(&key) else { continue };
            if let Some(concern) = self.of_identity(&object, chosen)
                && said.insert(concern.finding.message.clone())
            {
                concerns.push(concern);
            }
        }
        Ok(())
    }

    fn of_identity(&self, object: &str, chosen: &Result<Admitted, Answer>) -> Option<Concern> {
        let side = self.side();
        match chosen {
            Ok(Admitted { identity, no_root }) => {
                let limits = identity.limits(self.direction)?;
                let why = no_root.as_deref().unwrap_or("its admission rules");
                let message = format!(
                    "on the {side} {why} lets no root in, so {limits}; to keep everything, label it {ENFORCE}=baseline for \
                     as long as the migration runs"
                );
                Some(Concern::warning(object, "UnprivilegedMover", message))
            }
            // Room is looked at by itself, with what would help.
            Err(Answer::OverQuota(_) | Answer::Taken) => None,
            Err(Answer::MayNotTry(message)) => {
                let message = format!(
                    "the spoke may not try a mover's Pod there ({message}): grant it what its ClusterRole in deploy/ lists"
                );
                Some(Concern::failure(object, "Forbidden", message))
            }
            Err(Answer::Refused(message)) if self.options.privileged_attributes => {
                let message = no_privileged_attributes(&self.here(), message);
                Some(Concern::failure(object, "PrivilegedAttributesForbidden", message))
            }
            Err(Answer::Refused(message)) => {
                let message = format!(
                    "the {side} does not let the mover's Pod in ({message}): allow it, or migrate with \
                     --include-volumes=false"
                );
                Some(Concern::failure(object, "MoverForbidden", message))
            }
        }
    }

    /// A way to the volume.
    async fn at_claim(
        &self,
        site: &Site,
        claim: &SiteClaim,
        concerns: &mut Vec<Concern>,
    ) -> Result<(), TaskError> {
        let object = format!("PersistentVolumeClaim {}/{}", name(&site.namespace), name(&claim.claim));
        let volume = volume_of(self.context.cluster(), &claim.claim).await?;
        let nodes = cluster_nodes(self.context).await?;
        let situation = Situation {
            claim: &claim.claim,
            volume: volume.as_ref(),
            mounted_on: claim.mounted_on.as_deref(),
            user: &claim.user,
            options: self.options,
            nodes: &nodes,
        };
        concerns.extend(situation.obstacle().map(|obstacle| self.of_obstacle(&object, obstacle)));
        Ok(())
    }

    fn of_obstacle(&self, object: &str, obstacle: Obstacle) -> Concern {
        let here = self.here();
        match obstacle {
            Obstacle::Lost(why) => {
                let message = format!(
                    "on {here} {why}, so no mover can reach its data: bring the node back, or restore the volume \
                     elsewhere, then run again"
                );
                Concern::failure(object, "VolumeUnreachable", message)
            }
            Obstacle::Unmet(why) => {
                let message = format!(
                    "on {here} {why}: the mover waits until there is one; label or add a node, or change spec.mover or \
                     the workload by a transform"
                );
                Concern::warning(object, "NoNodeForMover", message)
            }
        }
    }
}

async fn cluster_nodes(
    context: &TaskContext,
) -> Result<std::sync::Arc<Vec<crate::volumes::Node>>, TaskError> {
    let nodes = context.spoke.nodes.read(context.cluster()).await;
    nodes.map_err(|e| TaskError::cluster("the nodes", "listing them", &e))
}

/// A node on which one of these Pods runs.
pub fn node_of<'a>(pods: impl IntoIterator<Item = &'a Value>) -> Option<String> {
    pods.into_iter().map(|pod| text(pod, "/spec/nodeName")).find(|node| !node.is_empty()).map(str::to_owned)
}
