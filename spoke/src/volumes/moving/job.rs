//! A volume's Job: made with what it needs, and looked at.

use std::time::Duration;

use isthmus_shared::protocol::Direction;
use serde_json::Value;

use super::attempts::MAX_ATTEMPTS;
use super::{Mover, Watched};
use crate::cluster::{PatchKind, annotation, array, escape, name, text};
use crate::task::TaskError;
use crate::volumes::manifests::{self, MoverJob, Peer, RESULT};
use crate::volumes::placement::{Placement, node_of, pods_of_claims};
use crate::volumes::trouble::{Trouble, job_trouble, pod_trouble};

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
        let claim = self.claim().await?;
        let placement = Placement::asked(&self.run.spec.mover);
        let placement = if self.direction == Direction::Send {
            let pods = pods_of_claims(cluster, namespace, &self.volume.claim)
                .await
                .map_err(self.failed("looking for the Pods that use the claim"))?;
            match node_of(&claim, &pods) {
                Some(node) => placement.on_node(&node),
                None => placement,
            }
        } else {
            placement
        };
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
        let job = manifests::mover_job(&MoverJob {
            namespace,
            claim: &self.volume.claim,
            content: self.content,
            direction: self.direction,
            task: &self.context.id,
            migration: &self.run.migration,
            attempt,
            image: &movers.image,
            spoke_url: &movers.endpoint,
            spoke_ca: &movers.ca,
            options: &self.run.spec.mover,
            placement: &placement,
        });
        match cluster.create(&self.jobs(), &job).await {
            Ok(_) => {
                let place = placement.node.map(|node| format!(" on node {node}")).unwrap_or_default();
                self.context.log(format!(
                    "{} made for {} (attempt {attempt} of {MAX_ATTEMPTS}){place}",
                    self.describe_job(),
                    self.describe_claim()
                ));
                Ok(())
            }
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(self.failed("making it")(error)),
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
        if let Some(failed) = condition("Failed") {
            let of_pod = pods.iter().find_map(pod_trouble);
            return Ok(Some(of_pod.unwrap_or_else(|| Trouble {
                reason: text(failed, "/reason").to_owned(),
                detail: text(failed, "/message").to_owned(),
                patience: Duration::ZERO,
                exit_code: None,
            })));
        }
        if condition("Complete").is_some() {
            // The result is written before the mover ends; read once more what may be newer.
            let again = self.find_job().await?;
            return Ok(again.is_some_and(|job| annotation(&job, RESULT).is_none()).then(|| Trouble {
                reason: "NoResult".to_owned(),
                detail: "the mover ended without a result".to_owned(),
                patience: Duration::ZERO,
                exit_code: None,
            }));
        }
        let trouble =
            job_trouble(self.context.cluster(), job, &pods).await.map_err(self.failed("reading its Pods"))?;
        let Some(trouble) = trouble else {
            watched.0.clear();
            return Ok(None);
        };
        self.context.doing(format!("the mover waits: {trouble}"));
        Ok(watched.is_over(&trouble).then_some(trouble))
    }

    pub(super) async fn pods(&self, job: &Value) -> Result<Vec<Value>, TaskError> {
        let path = format!("/api/v1/namespaces/{}/pods", self.volume.namespace);
        let selector = format!("batch.kubernetes.io/job-name={}", name(job));
        let query = format!("labelSelector={}", escape(&selector));
        self.context.cluster().list(&path, &query, MAX_PODS).await.map_err(self.failed("reading its Pods"))
    }
}
