//! What no single object tells: gathered while the candidates are tried, and compared with the
//! destination once all were.
//!
//! ```text
//!   tried object ──▶ classes, storage, images, nodes, ports, ──▶ the destination's ──▶ concerns
//!                    hosts, quotas, bounds
//! ```
//!
//! Small facts of each object are kept, never the objects.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_shared::protocol::ObjectAction;
use isthmus_shared::resources::Finding;
use serde_json::{Value, json};

use super::classes::{Classes, Has, Needs};
use super::concern::Concern;
use super::hosts::{Hosts, serves_hosts};
use super::images::Images;
use super::limits::{self, Bounds};
use super::nodes::Wishes;
use super::places::{Place, Places};
use super::pod_level;
use super::pod_shape::{PodShape, pods, running_pods, template};
use super::ports::Ports;
use super::quota::{self, Brought, Quota, Workload, of_object};
use super::storage::{NewClaims, Storage};
use super::trial::Tried;
use crate::cluster::{
    Catalogue, Cluster, ClusterError, Kind, api_version, describe, kind, name, namespace, text,
};
use crate::task::{TaskContext, TaskError};
use crate::transform::scc_collisions;

/// Objects of one sort that are looked at where the whole list is needed.
const MAX_LISTED: usize = 5_000;
/// Services, Ingresses, Routes and storage capacities of the whole destination that are looked at.
const MAX_OTHERS: usize = 100_000;
/// Concerns of one sort that are kept; a report has room for fewer.
const MAX_KEPT: usize = 1_000;

/// What the objects of a run ask of the destination, so far.
#[derive(Debug, Default)]
pub struct Checks {
    starts: bool,
    classes: Needs,
    storage: NewClaims,
    images: Images,
    nodes: Wishes,
    ports: Ports,
    hosts: Hosts,
    brought: BTreeMap<String, Brought>,
    quotas: Vec<Quota>,
    bounds: BTreeMap<String, Vec<Bounds>>,
    /// New claims: how messages name them, their namespaces, and what they ask for.
    claims: Vec<(String, String, Value)>,
    /// What the server or the labels have against Pods.
    of_pods: Vec<Concern>,
    /// Objects whose Pods the server refused, and not for their security: their bounds need not be
    /// judged here.
    refused_pods: BTreeSet<String>,
    /// Objects that a quota refuses singly, by namespace.
    over_quota: Vec<(String, Concern)>,
    /// Groups and kinds whose definitions the run changes.
    redefined: BTreeSet<(String, String)>,
    /// Custom resources whose form the server refuses, by group and kind.
    malformed: Vec<((String, String), Concern)>,
}

impl Checks {
    /// None yet; `starts` says whether the applications are started.
    pub fn new(starts: bool) -> Self {
        Self { starts, ..Self::default() }
    }

    /// Notes an object that was tried, and what the server has against its Pods. What is looked at
    /// as a whole later is taken out of what is in its way.
    pub fn see(
        &mut self,
        tried: &mut Tried,
        of_pods: Option<Concern>,
        catalogue: &Catalogue,
        places: &Places,
    ) {
        let Some(wanted) = tried.wanted.take() else { return };
        let action = tried.line.action;
        if action == ObjectAction::Skipped {
            return;
        }
        let place = namespace(&wanted).to_owned();
        let server_spoke = of_pods.as_ref().map(|concern| concern.finding.reason.clone());
        if let Some(concern) = of_pods {
            if concern.finding.reason != "PodSecurity" {
                self.refused_pods.insert(concern.finding.object.clone());
            }
            self.keep(concern);
        }
        if action != ObjectAction::Unchanged {
            if kind(&wanted) == "CustomResourceDefinition" && action == ObjectAction::Updated {
                self.redefined.insert((
                    text(&wanted, "/spec/group").to_owned(),
                    text(&wanted, "/spec/names/kind").to_owned(),
                ));
            }
            self.defer(tried, &place);
            self.see_object(&wanted, tried.live.is_none(), catalogue);
        }
        let template = template(&wanted);
        self.images.see(&wanted, template);
        let Some(template) = template else { return };
        self.nodes.see(&wanted, template);
        self.brought.entry(place.clone()).or_default().workloads.push(Workload {
            object: describe(&wanted),
            more: pods(&wanted) - tried.live.as_ref().map_or(0, running_pods),
            shape: PodShape::of(template),
        });
        if action != ObjectAction::Unchanged
            && let Some(place) = places.get(&place)
        {
            self.judge_pods(&wanted, template, place, server_spoke.as_deref());
        }
    }

    fn see_object(&mut self, wanted: &Value, is_new: bool, catalogue: &Catalogue) {
        self.classes.see(wanted, is_new);
        self.storage.see(wanted, is_new);
        if serves_hosts(wanted) {
            self.hosts.see(wanted);
        }
        if api_version(wanted) == "v1" {
            self.see_core(wanted, is_new);
        }
        let place = namespace(wanted);
        if is_new
            && !place.is_empty()
            && let Some(kind) = catalogue.find(api_version(wanted), kind(wanted))
        {
            let brought = self.brought.entry(place.to_owned()).or_default();
            for (key, amount) in of_object(kind, wanted) {
                *brought.objects.entry(key).or_default() += amount;
            }
        }
    }

    /// What is judged as a whole: node ports by their owners, quotas by their sums, the form of
    /// custom resources with what becomes of their definitions.
    fn defer(&mut self, tried: &mut Tried, place: &str) {
        let reason = tried.concern.as_ref().map(|concern| concern.finding.reason.clone());
        match reason.as_deref() {
            Some("PortTaken") => {
                if let Some(concern) = tried.concern.take() {
                    self.ports.refused(&concern.finding.object, &concern.finding.message);
                }
            }
            Some("ExceededQuota") => {
                if let Some(concern) = tried.concern.take()
                    && self.over_quota.len() < MAX_KEPT
                {
                    self.over_quota.push((place.to_owned(), concern));
                }
            }
            Some("Invalid" | "UnknownField") if tried.line.api_version.contains('.') => {
                let group = tried.line.api_version.split('/').next().unwrap_or_default().to_owned();
                if self.malformed.len() < MAX_KEPT
                    && let Some(concern) = tried.concern.take()
                {
                    self.malformed.push(((group, tried.line.kind.clone()), concern));
                }
            }
            _ => {}
        }
    }

    fn see_core(&mut self, wanted: &Value, is_new: bool) {
        let place = namespace(wanted).to_owned();
        match kind(wanted) {
            "Service" => self.ports.see(wanted),
            "ResourceQuota" => self.quotas.push(Quota::coming(wanted)),
            "LimitRange" => self.bounds.entry(place).or_default().extend(limits::bounds(wanted)),
            "PersistentVolumeClaim" if is_new => {
                let asked = wanted.pointer("/spec/resources").cloned().unwrap_or_default();
                self.claims.push((describe(wanted), place, json!({"spec": {"resources": asked}})));
            }
            _ => {}
        }
    }

    /// `server_spoke`: what the server has against the Pods, if it was asked and has something.
    fn judge_pods(&mut self, wanted: &Value, template: &Value, place: &Place, server_spoke: Option<&str>) {
        let object = describe(wanted);
        if let Some(live) = &place.live {
            for note in scc_collisions(&place.source, live, [wanted]) {
                self.keep(Concern::warning(&object, note.reason, note.message));
            }
            // The server names the first obstacle alone; behind it may stand this one.
            if server_spoke.is_none_or(|reason| reason == "PodSecurity") {
                return;
            }
        }
        let Some(level) = pod_level::enforced(&place.labels) else { return };
        let found = pod_level::violations(level, template);
        if found.is_empty() {
            return;
        }
        let message = format!(
            "its Pods would be refused, as its namespace has {}={level} on the destination: {}; lower the level there, or \
             correct the security context by a transform, then run again",
            crate::volumes::ENFORCE,
            found.join(", ")
        );
        self.keep(if kind(wanted) == "Pod" {
            Concern::failure(object, "PodSecurity", message)
        } else {
            Concern::of_pods(self.starts, object, "PodSecurity", message)
        });
    }

    fn keep(&mut self, concern: Concern) {
        if self.of_pods.len() < MAX_KEPT {
            self.of_pods.push(concern);
        }
    }

    /// Compares with the destination. The namespaces' own concerns come first.
    pub async fn conclude(
        mut self,
        context: &TaskContext,
        catalogue: &Catalogue,
        places: &Places,
    ) -> Result<Vec<Concern>, TaskError> {
        let cluster = context.cluster();
        let mut concerns = Vec::new();
        context.doing("looking at the destination's quotas, classes and ports");
        let mut quotas = Vec::new();
        for (place, _) in places.iter().filter(|(_, place)| place.is_there()) {
            let of = |plural: &str| format!("/api/v1/namespaces/{place}/{plural}");
            for range in listed(cluster, &of("limitranges")).await? {
                let there = name(&range).to_owned();
                let all = self.bounds.entry(place.to_owned()).or_default();
                // One that comes along takes the place of the one of its name.
                if !all.iter().any(|bounds| bounds.range == there) {
                    all.extend(limits::bounds(&range));
                }
            }
            quotas.extend(listed(cluster, &of("resourcequotas")).await?.iter().map(Quota::there));
        }
        let there =
            |quota: &Quota| quotas.iter().any(|q| q.namespace == quota.namespace && q.name == quota.name);
        let coming: Vec<Quota> = self.quotas.iter().filter(|quota| !there(quota)).cloned().collect();
        quotas.extend(coming);
        self.apply_bounds(places, &mut concerns);
        concerns.extend(self.against_quotas(&quotas));
        if !self.classes.is_empty() {
            let has = classes(cluster, catalogue).await?;
            concerns.extend(self.classes.concerns(&has, &context.spoke.name, self.starts));
        }
        if !self.storage.is_empty() {
            let storage = storage(cluster).await?;
            concerns.extend(self.storage.concerns(&storage, &context.spoke.name, self.starts));
        }
        let missing = missing_secrets(cluster, &self.images).await?;
        concerns.extend(self.images.concerns(&missing, &context.spoke.name));
        if !self.nodes.is_empty() {
            let nodes = context.spoke.nodes.read(cluster).await;
            let nodes = nodes.map_err(|e| TaskError::cluster("the nodes", "listing them", &e))?;
            concerns.extend(self.nodes.concerns(&nodes, &context.spoke.name));
        }
        if !self.ports.is_empty() {
            let ports = &mut self.ports;
            each(cluster, "/api/v1/services", |live| ports.meet(live, &mut concerns)).await?;
            concerns.extend(std::mem::take(&mut self.ports).rest());
        }
        if !self.hosts.is_empty() {
            let kinds = [("networking.k8s.io", "Ingress"), ("route.openshift.io", "Route")];
            for kind in kinds.iter().filter_map(|(group, kind)| catalogue.preferred(group, kind)) {
                let path = kind.collection(None);
                each(cluster, &path, |live| self.hosts.meet(live, &mut concerns)).await?;
            }
        }
        concerns.append(&mut self.of_pods);
        concerns.extend(self.malformed());
        Ok(concerns)
    }

    /// Custom resources that the server refuses: for good, unless the run changes their definition
    /// before they come.
    fn malformed(&mut self) -> Vec<Concern> {
        let judge = |(of, concern): ((String, String), Concern)| {
            if !self.redefined.contains(&of) {
                return concern;
            }
            let Finding { object, reason, message, .. } = concern.finding;
            let message =
                format!("{message} (the migration changes its definition first, and it may be taken then)");
            Concern::warning(object, &reason, message)
        };
        std::mem::take(&mut self.malformed).into_iter().map(judge).collect()
    }

    /// What the quotas have against it as a whole; where their sums show nothing, what the server
    /// has refused of single objects.
    fn against_quotas(&mut self, quotas: &[Quota]) -> Vec<Concern> {
        let mut concerns = quota::concerns(quotas, &self.brought, self.starts);
        let told: BTreeSet<String> = concerns
            .iter()
            .filter(|concern| concern.finding.reason == "ExceededQuota")
            .filter_map(|concern| concern.finding.object.split([' ', '/']).nth(1).map(str::to_owned))
            .collect();
        let single = std::mem::take(&mut self.over_quota).into_iter();
        concerns.extend(single.filter(|(place, _)| !told.contains(place)).map(|(_, concern)| concern));
        concerns
    }

    /// Gives Pods the defaults of their namespaces, and holds them and the claims against the
    /// bounds. Where the server has spoken on a workload's Pods, its word counts.
    fn apply_bounds(&mut self, places: &Places, concerns: &mut Vec<Concern>) {
        const ADVICE: &str =
            "change the LimitRange on the destination, or requests and limits by a transform";
        for (place, brought) in &mut self.brought {
            let Some(bounds) = self.bounds.get(place) else { continue };
            for workload in &mut brought.workloads {
                workload.shape = limits::with_defaults(std::mem::take(&mut workload.shape), bounds);
                let found = limits::against_pod(&workload.shape, bounds);
                if !found.is_empty() && !self.refused_pods.contains(&workload.object) {
                    let message = format!("its Pods would be refused: {}; {ADVICE}", found.join("; "));
                    concerns.push(Concern::of_pods(self.starts, &workload.object, "LimitRange", message));
                }
            }
        }
        // Where the namespace is there, the server has refused such a claim itself.
        for (object, place, claim) in self.claims.iter().filter(|(_, place, _)| !places.has(place)) {
            let found = self.bounds.get(place).map(|bounds| limits::against_claim(claim, bounds));
            if let Some(found) = found.filter(|found| !found.is_empty()) {
                let message = format!("it may be refused: {}; {ADVICE}", found.join("; "));
                concerns.push(Concern::warning(object, "LimitRange", message));
            }
        }
    }
}

async fn listed(cluster: &Cluster, path: &str) -> Result<Vec<Value>, TaskError> {
    match cluster.list(path, "", MAX_LISTED).await {
        Err(error) if is_not_served(&error) => Ok(Vec::new()),
        listed => listed.map_err(|e| TaskError::cluster(path, "listing it", &e)),
    }
}

/// A cluster that does not serve a kind has none of it.
fn is_not_served(error: &ClusterError) -> bool {
    matches!(error.code(), Some(404 | 405))
}

/// Looks at the objects of a collection, page by page.
async fn each(cluster: &Cluster, path: &str, mut look: impl FnMut(&Value)) -> Result<(), TaskError> {
    let (mut next, mut count) = (None, 0);
    loop {
        let page = match cluster.page(path, "", next.as_deref()).await {
            Err(error) if is_not_served(&error) => return Ok(()),
            page => page.map_err(|e| TaskError::cluster(path, "listing it", &e))?,
        };
        count += page.items.len();
        page.items.iter().for_each(&mut look);
        next = page.next;
        if next.is_none() || count >= MAX_OTHERS {
            return Ok(());
        }
    }
}

async fn classes(cluster: &Cluster, catalogue: &Catalogue) -> Result<Has, TaskError> {
    let of = async |group: &str, class: &str| -> Result<Classes, TaskError> {
        match catalogue.preferred(group, class).map(|kind: &Kind| kind.collection(None)) {
            Some(path) => Ok(Classes::of(&listed(cluster, &path).await?)),
            None => Ok(Classes::default()),
        }
    };
    Ok(Has {
        storage: of("storage.k8s.io", "StorageClass").await?,
        ingress: of("networking.k8s.io", "IngressClass").await?,
        priority: of("scheduling.k8s.io", "PriorityClass").await?,
        runtime: of("node.k8s.io", "RuntimeClass").await?,
    })
}

async fn storage(cluster: &Cluster) -> Result<Storage, TaskError> {
    let classes = listed(cluster, "/apis/storage.k8s.io/v1/storageclasses").await?;
    let mut storage = Storage::of(&classes);
    each(cluster, "/apis/storage.k8s.io/v1/csistoragecapacities", |one| storage.see_room(one)).await?;
    Ok(storage)
}

/// The Secrets that images are pulled with, that do not come along, and that are not there.
async fn missing_secrets(
    cluster: &Cluster,
    images: &Images,
) -> Result<BTreeSet<(String, String)>, TaskError> {
    let mut missing = BTreeSet::new();
    for (place, secret) in images.awaited() {
        let path = format!("/api/v1/namespaces/{place}/secrets/{secret}");
        let found = cluster.find(&path).await;
        let object = format!("Secret {place}/{secret}");
        if found.map_err(|e| TaskError::cluster(object, "reading it", &e))?.is_none() {
            missing.insert((place.to_owned(), secret.to_owned()));
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests;
