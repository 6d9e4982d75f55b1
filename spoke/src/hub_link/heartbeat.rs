//! The sign of life, every ten seconds, with the facts of the cluster and the probes of stores, or that the
//! cluster does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isthmus_shared::protocol::{ClusterFacts, HEARTBEAT_PATH, HEARTBEAT_SECONDS, Heartbeat, HeartbeatReply};
use tokio::sync::Notify;

use super::probes::Prober;
use super::{LinkError, SignedChannel, facts};
use crate::cluster::Cluster;

/// How often the cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A cluster that has not answered for so long does not answer: the sign of life is not kept waiting.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// The pause after news, so that some of it goes together.
const GATHER: Duration = Duration::from_millis(200);

/// Sends heartbeats for ever.
pub async fn send_heartbeats(cluster: Cluster, hub: SignedChannel) {
    let news = Arc::new(Notify::new());
    let mut prober = Prober::new(Arc::clone(&news));
    let mut known: Option<(ClusterFacts, String)> = None;
    let mut looked: Option<Instant> = None;
    let mut hub_wants_facts = true;
    let (mut fences, mut unanswered) = (Vec::new(), false);
    loop {
        // What has not answered the last time is not asked for more.
        if !unanswered && looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            match tokio::time::timeout(ANSWER_LIMIT, facts::look(&cluster)).await {
                Ok(Ok(facts)) => {
                    let digest = facts::digest(&facts);
                    hub_wants_facts |= known.as_ref().is_none_or(|(_, before)| *before != digest);
                    known = Some((facts, digest));
                    looked = Some(Instant::now());
                }
                Ok(Err(error)) => tracing::warn!(%error, "the cluster could not be looked at"),
                Err(_) => tracing::warn!("the cluster was not looked at within {} s", ANSWER_LIMIT.as_secs()),
            }
        }
        match tokio::time::timeout(ANSWER_LIMIT, facts::fences(&cluster)).await {
            Ok(Ok(found)) => (fences, unanswered) = (found, false),
            Ok(Err(error)) => {
                unanswered = error.is_unanswered();
                tracing::warn!(%error, "the marks of namespaces could not be read");
            }
            Err(_) => {
                unanswered = true;
                tracing::warn!("the API server has not answered for {} s", ANSWER_LIMIT.as_secs());
            }
        }
        let heartbeat = Heartbeat {
            facts: known.as_ref().filter(|_| hub_wants_facts).map(|(facts, _)| facts.clone()),
            facts_digest: known.as_ref().map(|(_, digest)| digest.clone()).unwrap_or_default(),
            probes: prober.reports(),
            fences: fences.clone(),
            unanswered,
        };
        let sent: Result<HeartbeatReply, LinkError> =
            hub.post(HEARTBEAT_PATH, &heartbeat, Duration::ZERO).await;
        match sent {
            Ok(reply) => {
                let repeat = reply.want_facts && heartbeat.facts.is_none() && known.is_some();
                hub_wants_facts = reply.want_facts;
                prober.follow(reply.stores);
                if repeat {
                    continue;
                }
            }
            Err(error) => {
                // What was said may be lost, or the next hub another.
                hub_wants_facts = true;
                tracing::warn!(%error, "the heartbeat was not taken");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS)) => {}
            () = news.notified() => tokio::time::sleep(GATHER).await,
        }
    }
}
