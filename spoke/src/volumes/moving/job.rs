//! A volume's Job: made with what it needs, and looked at.

use std::time::Duration;

use isthmus_shared::protocol::Direction;
use isthmus_shared::resources::MoverOptions;
use isthmus_shared::staging::ArchiveName;
use serde_json::Value;

use super::{Mover, Watched};
use crate::cluster::{DeleteOptions, PatchKind, annotation, array, describe, escape, name, text, uid};
use crate::collect::InventoryReader;
use crate::task::TaskError;
use crate::transform::Rewriter;
use crate::volumes::admission::{Admitted, Answer, Trial, choose_by_label, no_privileged_attributes};
use crate::volumes::identity::{Identity, candidates};
use crate::volumes::manifests::{self, MoverJob, Peer, RESULT};
use crate::volumes::placement::{Placement, Situation};
use crate::volumes::trouble::{Trouble, job_trouble, mover_ended, pod_trouble};
use crate::volumes::users::{ClaimUser, pods_of_claims, volume_of};

/// Pods of a Job that are looked at.
const MAX_PODS: usize = 20;

impl Mover<'_> {
    pub(super) async fn find_job(&self) -> Result<Option<Value>, TaskError> {
        let path = format!("{}/{}", self.jobs(), self.job_name());
        self.context.cluster().find(&path).await.map_err(self.failed("reading it"))
    }

    /// Makes the Job, and before it what it needs.
    pub(super) async fn make(&self, attempt: u32) -> Result<(), TaskError> {
        let namespace = &self.volume.namespace;
        let cluster = self.context.cluster();
        let movers = &self.context.spoke.movers;
        let claim = self.mounted().await?;
        let user = self.user().await?;
        let placement = self.placement(&claim, &user).await?;
        let identity = self.identity(&user).await?;
        let peers =
            [Peer::of(&movers.endpoint, &[movers.port]), Peer::of(&self.run.staging.access.endpoint, &[])];
        let apply = PatchKind::Apply { force: true, dry_run: false };
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{}", manifests::MOVER);
        cluster
            .patch(&account, &manifests::service_account(namespace), apply)
            .await
            .map_err(self.failed("making the mover's service account"))?;
        let policy =
            format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{}", manifests::MOVER);
        cluster
            .patch(&policy, &manifests::network_policy(namespace, &peers), apply)
            .await
            .map_err(self.failed("making the mover's network policy"))?;
        let mut job = manifests::mover_job(&MoverJob {
            namespace,
            claim: &self.reading.claim,
            content: self.content,
            direction: self.direction,
            task: &self.context.id,
            migration: &self.run.migration,
            attempt,
            movers,
            options: &self.options(),
            placement: &placement,
            identity: &identity,
        });
        if self.direction == Direction::Send {
            self.reading.mark(&mut job);
        }
        match cluster.create(&self.jobs(), &job).await {
            Ok(_) => {
                let place = placement.node.map(|node| format!(" on node {node}")).unwrap_or_default();
                self.context.log(format!(
                    "{} made for {} (attempt {attempt} of {}){place}, as {}",
                    self.describe_job(),
                    self.describe_claim(),
                    self.attempts(),
                    identity.number()
                ));
                Ok(())
            }
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(self.failed("making it")(error)),
        }
    }

    /// What the run and this cluster say of movers.
    fn options(&self) -> MoverOptions {
        self.context.spoke.movers.options(&self.run.spec.mover)
    }

    /// Who uses the claim, as the run found it at its start.
    pub(super) async fn user(&self) -> Result<ClaimUser, TaskError> {
        let archive = self.context.staging(self.run)?.read(ArchiveName::Inventory).await?;
        let header = InventoryReader::new(archive).await?.header;
        // The inventory has the source's names; one claim of a volume's uid is moved.
        let source = header.volumes.iter().find(|volume| volume.uid == self.volume.uid);
        let is = |user: &ClaimUser| {
            source.is_some_and(|source| user.namespace == source.namespace && user.claim == source.claim)
        };
        let user = header.users.into_iter().find(is).unwrap_or_default();
        if self.direction == Direction::Send {
            return Ok(user);
        }
        let rewriter = Rewriter::new(self.run)
            .map_err(|e| TaskError::failed("the migration", "BadTransform", e.to_string()))?;
        Ok(user.arriving(&rewriter, self.run))
    }

    /// Where the mover runs.
    pub(super) async fn placement(&self, claim: &Value, user: &ClaimUser) -> Result<Placement, TaskError> {
        let cluster = self.context.cluster();
        let pods = pods_of_claims(cluster, &self.volume.namespace, &self.reading.claim)
            .await
            .map_err(self.failed("looking for the Pods that use the claim"))?;
        let nodes = self.context.spoke.nodes.read(cluster).await;
        let nodes = nodes.map_err(|e| TaskError::cluster("the nodes", "listing them", &e))?;
        let volume = volume_of(cluster, claim).await?;
        let mounted_on = pods.iter().map(|pod| text(pod, "/spec/nodeName")).find(|node| !node.is_empty());
        let situation = Situation {
            claim,
            volume: volume.as_ref(),
            mounted_on,
            user,
            options: &self.options(),
            nodes: &nodes,
        };
        Ok(situation.placement())
    }

    /// As whom it runs: whom the namespace lets in.
    async fn identity(&self, user: &ClaimUser) -> Result<Identity, TaskError> {
        let name = &self.volume.namespace;
        let object = format!("Namespace {name}");
        let cluster = self.context.cluster();
        let namespace = cluster.get(&format!("/api/v1/namespaces/{name}")).await;
        let namespace = namespace.map_err(|e| TaskError::cluster(&object, "reading it", &e))?;
        let options = self.options();
        let trial = Trial {
            cluster,
            movers: &self.context.spoke.movers,
            options: &options,
            direction: self.direction,
        };
        let all = candidates(self.direction, &namespace, user, &options);
        let chosen = trial
            .choose(&namespace, all.clone())
            .await
            .map_err(|e| TaskError::cluster(&object, "trying the mover's Pod", &e))?;
        match chosen {
            Ok(Admitted { identity, .. }) => Ok(identity),
            // Nothing was tried: the label counts, and the Job's events say so if the trouble stays.
            Err(Answer::OverQuota(_) | Answer::MayNotTry(_) | Answer::Taken) => {
                let by_label = choose_by_label(&namespace, all);
                Ok(by_label.map_or_else(|| Identity::root(&options), |admitted| admitted.identity))
            }
            Err(Answer::Refused(message)) if options.privileged_attributes => {
                let message = no_privileged_attributes("the cluster", &message);
                Err(TaskError::failed(object, "PrivilegedAttributesForbidden", message))
            }
            Err(Answer::Refused(message)) => {
                let message =
                    format!("it does not let the mover's Pod in ({message}): allow it, then run again");
                Err(TaskError::failed(object, "MoverForbidden", message))
            }
        }
    }

    /// Looks at Job and Pods. What is in the way is said, and returned once its patience is over.
    pub(super) async fn look(
        &self,
        job: &Value,
        watched: &mut Watched,
    ) -> Result<Option<Trouble>, TaskError> {
        let pods = self.pods(job).await?;
        let condition = |kind: &str| {
            array(job, "/status/conditions")
                .iter()
                .find(|c| text(c, "/type") == kind && text(c, "/status") == "True")
        };
        let ended = pods.iter().find_map(mover_ended);
        if let Some(failed) = condition("Failed") {
            let of_pod = ended.or_else(|| pods.iter().find_map(pod_trouble));
            return Ok(Some(of_pod.unwrap_or_else(|| Trouble {
                reason: text(failed, "/reason").to_owned(),
                detail: text(failed, "/message").to_owned(),
                patience: Duration::ZERO,
                exit_code: None,
            })));
        }
        if condition("Complete").is_some() || ended.is_some() {
            // The result is written before the mover ends; read once more what may be newer.
            let again = self.find_job().await?;
            return Ok(again.filter(|job| annotation(job, RESULT).is_none()).map(|_| {
                ended.unwrap_or_else(|| Trouble {
                    reason: "NoResult".to_owned(),
                    detail: "the mover ended without a result".to_owned(),
                    patience: Duration::ZERO,
                    exit_code: None,
                })
            }));
        }
        let trouble =
            job_trouble(self.context.cluster(), job, &pods).await.map_err(self.failed("reading its Pods"))?;
        let Some(trouble) = trouble else {
            *watched = Watched::default();
            return Ok(None);
        };
        let who = pods.first().map_or_else(|| "the mover".to_owned(), |pod| format!("mover {}", name(pod)));
        watched.waits = Some(format!("{who} waits: {trouble}"));
        if watched.is_over(&trouble) {
            return Ok(Some(trouble));
        }
        if watched.is_to_be_placed(&trouble) {
            self.place_anew(job).await?;
        }
        Ok(None)
    }

    pub(super) async fn pods(&self, job: &Value) -> Result<Vec<Value>, TaskError> {
        let path = format!("/api/v1/namespaces/{}/pods", self.volume.namespace);
        let selector = format!("batch.kubernetes.io/job-name={}", name(job));
        let query = format!("labelSelector={}", escape(&selector));
        self.context.cluster().list(&path, &query, MAX_PODS).await.map_err(self.failed("reading its Pods"))
    }

    /// Lets go of the volume once the result is there: a sidecar that was injected beside the mover
    /// may run on, and its Pod would hold the volume. The Job stays, as the result is on it.
    pub(super) async fn let_go(&self, job: &Value) -> Result<(), TaskError> {
        for pod in self.pods(job).await? {
            let over = matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed");
            if over || array(&pod, "/spec/containers").len() < 2 {
                continue;
            }
            let path = format!("/api/v1/namespaces/{}/pods/{}", self.volume.namespace, name(&pod));
            let options = DeleteOptions { uid: Some(uid(&pod).to_owned()), foreground: false };
            let deleted = self.context.cluster().delete(&path, &options).await;
            deleted.map_err(|e| TaskError::cluster(describe(&pod), "ending its sidecars", &e))?;
            self.context
                .log(format!("{} removed: what was injected beside the mover runs on", describe(&pod)));
        }
        Ok(())
    }
}
