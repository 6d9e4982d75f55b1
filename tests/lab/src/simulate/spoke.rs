//! A spoke as the hub sees one: it enrols with a join token, signs each request with its own key, sends
//! heartbeats with facts and probes, holds a long poll, and reports. There is no cluster behind it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use isthmus_shared::protocol::identity::{SigningKey, read_join_token};
use isthmus_shared::protocol::{
    ClusterFacts, ENROLL_PATH, EnrollReply, EnrollRequest, HEARTBEAT_PATH, HEARTBEAT_SECONDS, Heartbeat,
    HeartbeatReply, MAX_POLL_SECONDS, MAX_REPORTS, PollRequest, ProbeReport, REPORTS_PATH, Reports,
    StoreToProbe, TASKS_PATH, TaskId,
};
use isthmus_shared::resources::StorageClassFact;
use isthmus_spoke::{Anchor, Channel, LinkError, SignedChannel};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinSet;

use super::ledger::{Due, Ledger};
use super::outcome;

/// Spokes that enrol at a time.
const ENROLLING: usize = 16;
/// How often a running task is told to be at work, as spokes do at the least.
const FIGURES_EVERY: Duration = Duration::from_secs(30);
/// The pause after a request that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The bits of a sequence number below the start's milliseconds.
const COUNTER_BITS: u32 = 20;

/// What is read of a list of tasks: what they say to do is done by nobody here.
#[derive(Deserialize)]
struct Listed {
    revision: String,
    tasks: Vec<ListedTask>,
}

#[derive(Deserialize)]
struct ListedTask {
    id: TaskId,
    work: ListedWork,
}

#[derive(Deserialize)]
struct ListedWork {
    run: Option<ListedRun>,
}

#[derive(Deserialize)]
struct ListedRun {
    spec: ListedSpec,
}

#[derive(Deserialize)]
struct ListedSpec {
    #[serde(default)]
    namespaces: Vec<String>,
}

/// One spoke.
pub struct Spoke {
    index: usize,
    hub: SignedChannel,
    ledger: Arc<Ledger>,
    sequence: AtomicU64,
    begun: Instant,
    /// The tasks of its newest list.
    tasks: Mutex<HashSet<TaskId>>,
}

/// Joins all clusters, with the tokens by their names, in their order.
pub async fn enrol_all(url: &str, tokens: Vec<(String, String)>) -> anyhow::Result<Vec<SignedChannel>> {
    stream::iter(tokens)
        .map(|(cluster, token)| async move {
            enrol(url, &token).await.with_context(|| format!("joining cluster {cluster}"))
        })
        .buffered(ENROLLING)
        .try_collect()
        .await
}

async fn enrol(url: &str, token: &str) -> anyhow::Result<SignedChannel> {
    let claims = read_join_token(token)?;
    let channel = Channel::new(url, &Anchor::Hash(claims.ca))?;
    let key = SigningKey::generate()?;
    let request = EnrollRequest {
        public_key: key.public_base64(),
        cluster_uid: uuid::Uuid::new_v4().to_string(),
        spoke_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let reply: EnrollReply = channel.post(ENROLL_PATH, token, &request, Duration::ZERO).await?;
    Ok(SignedChannel::new(channel, Arc::new(key), reply.cluster))
}

impl Spoke {
    pub fn new(index: usize, hub: SignedChannel, ledger: Arc<Ledger>) -> Self {
        let millis = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
        let sequence = AtomicU64::new(millis << COUNTER_BITS);
        Self { index, hub, ledger, sequence, begun: Instant::now(), tasks: Mutex::default() }
    }

    /// Begins to speak; it ends when the set of tasks is dropped.
    pub fn start(self: &Arc<Self>, background: &mut JoinSet<()>) {
        for role in [Role::Heartbeats, Role::Polls, Role::Figures] {
            let spoke = Arc::clone(self);
            background.spawn(async move {
                match role {
                    Role::Heartbeats => spoke.send_heartbeats().await,
                    Role::Polls => spoke.poll().await,
                    Role::Figures => spoke.send_figures().await,
                }
            });
        }
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    async fn failed(&self, what: &str, error: LinkError) {
        self.ledger.failed(format!("{what}: {error}"));
        tokio::time::sleep(PAUSE).await;
    }

    async fn send_heartbeats(&self) {
        let (mut stores, mut wanted) = (Vec::new(), true);
        loop {
            let heartbeat = Heartbeat {
                facts: wanted.then(facts),
                facts_digest: "simulated".to_owned(),
                probes: probes(&stores),
                ..Heartbeat::default()
            };
            let news = stores.is_empty();
            match self.hub.post::<_, HeartbeatReply>(HEARTBEAT_PATH, &heartbeat, Duration::ZERO).await {
                Ok(reply) => {
                    let repeat = reply.want_facts && heartbeat.facts.is_none();
                    wanted = reply.want_facts;
                    stores = reply.stores;
                    if repeat || (news && !stores.is_empty()) {
                        continue;
                    }
                }
                Err(error) => {
                    wanted = true;
                    self.failed("a heartbeat", error).await;
                }
            }
            tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS)).await;
        }
    }

    async fn poll(&self) {
        let mut known = None;
        loop {
            let request = PollRequest { known: known.take(), wait_seconds: MAX_POLL_SECONDS };
            let wait = Duration::from_secs(MAX_POLL_SECONDS);
            match self.hub.post::<_, Listed>(TASKS_PATH, &request, wait).await {
                Ok(list) => {
                    let at = Instant::now();
                    known = Some(list.revision);
                    let namespace = |task: &mut ListedTask| {
                        task.work.run.as_mut().and_then(|run| run.spec.namespaces.pop()).unwrap_or_default()
                    };
                    let tasks: Vec<(TaskId, String)> = list
                        .tasks
                        .into_iter()
                        .map(|mut task| {
                            let namespace = namespace(&mut task);
                            (task.id, namespace)
                        })
                        .collect();
                    *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) =
                        tasks.iter().map(|(task, _)| task.clone()).collect();
                    self.ledger.listed(self.index, tasks, at);
                }
                Err(error) => self.failed("a poll", error).await,
            }
        }
    }

    async fn send_figures(&self) {
        // Not all at the same moment.
        let part = u32::try_from(self.index % 300).unwrap_or_default();
        tokio::time::sleep(FIGURES_EVERY / 300 * part).await;
        loop {
            let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let seconds = self.begun.elapsed().as_secs();
            let reports: Vec<_> = self
                .ledger
                .of_spoke(&tasks)
                .iter()
                .map(|task| outcome::running(task, seconds, self.next_sequence()))
                .collect();
            for batch in reports.chunks(MAX_REPORTS) {
                let message = Reports { reports: batch.to_vec() };
                if let Err(error) = self.hub.post::<_, Value>(REPORTS_PATH, &message, Duration::ZERO).await {
                    self.failed("a report of figures", error).await;
                }
            }
            tokio::time::sleep(FIGURES_EVERY).await;
        }
    }

    /// Reports a task's end.
    pub async fn end(&self, due: Due) {
        let report = outcome::succeeded(&due.task, &due.namespace, self.next_sequence());
        let message = Reports { reports: vec![report] };
        self.ledger.reporting(&due, Instant::now());
        match self.hub.post::<_, Value>(REPORTS_PATH, &message, Duration::ZERO).await {
            Ok(_) => self.ledger.reported(),
            Err(error) => self.failed(&format!("the report on {}", due.task), error).await,
        }
    }
}

#[derive(Clone, Copy)]
enum Role {
    Heartbeats,
    Polls,
    Figures,
}

fn facts() -> ClusterFacts {
    ClusterFacts {
        version: "v1.36.0".to_owned(),
        spoke_version: env!("CARGO_PKG_VERSION").to_owned(),
        nodes: 3,
        zones: ["a", "b", "c"].map(str::to_owned).to_vec(),
        storage_classes: vec![StorageClassFact {
            name: "standard".to_owned(),
            provisioner: "simulated.example".to_owned(),
            default: true,
            wait_for_first_consumer: true,
        }],
        snapshot_classes: vec!["standard".to_owned()],
    }
}

fn probes(stores: &[StoreToProbe]) -> Vec<ProbeReport> {
    let probe = |store: &StoreToProbe| ProbeReport {
        store: store.store.clone(),
        revision: store.revision.clone(),
        age_millis: 0,
        error: None,
    };
    stores.iter().map(probe).collect()
}
