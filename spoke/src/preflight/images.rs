//! Images that the destination's nodes may not be able to pull, as far as that shows without pulling:
//! by their names, by their policy, and by the Secrets that they are pulled with. Pure.
//!
//! Whether a registry is reached from there, and lets those nodes in, shows only there: nothing is said
//! of a name that could be reached from anywhere. So all of it is a warning.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::concern::Concern;
use crate::cluster::{api_version, array, describe, kind, name, namespace, text};

/// Images, and Secrets, that are looked at.
const MAX_NOTED: usize = 1_000;
/// Secrets of a run that are remembered.
const MAX_BROUGHT: usize = 100_000;
/// The lists of containers of a Pod.
const CONTAINERS: [&str; 2] = ["/spec/initContainers", "/spec/containers"];
/// Registries that are none: what is named by them is put on the nodes by a tool.
const LOADED: [&str; 4] = ["ko.local", "kind.local", "dev.local", "localhost.localdomain"];

/// The images of a run, and the Secrets that they are pulled with.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// By image: why it may not be there, and who names it.
    doubtful: BTreeMap<String, (&'static str, Users)>,
    /// By namespace and name: who pulls with it.
    secrets: BTreeMap<(String, String), Users>,
    /// Secrets that come along.
    brought: BTreeSet<(String, String)>,
}

#[derive(Clone, Debug)]
struct Users {
    first: String,
    count: u64,
}

fn note(users: &mut Users) {
    users.count += 1;
}

fn first(object: &Value) -> Users {
    Users { first: describe(object), count: 0 }
}

impl Images {
    /// Notes an object as it would be applied; `template` is that of its Pods.
    pub fn see(&mut self, object: &Value, template: Option<&Value>) {
        match (api_version(object), kind(object)) {
            ("v1", "Secret") if self.brought.len() < MAX_BROUGHT => {
                self.brought.insert((namespace(object).to_owned(), name(object).to_owned()));
            }
            ("v1", "ServiceAccount") => self.pulls(object, array(object, "/imagePullSecrets")),
            _ => {}
        }
        let Some(template) = template else { return };
        self.pulls(object, array(template, "/spec/imagePullSecrets"));
        for container in CONTAINERS.iter().flat_map(|list| array(template, list)) {
            let image = text(container, "/image");
            let Some(why) = doubt(image, text(container, "/imagePullPolicy")) else { continue };
            if self.doubtful.len() < MAX_NOTED || self.doubtful.contains_key(image) {
                note(&mut self.doubtful.entry(image.to_owned()).or_insert_with(|| (why, first(object))).1);
            }
        }
    }

    fn pulls(&mut self, object: &Value, secrets: &[Value]) {
        for secret in secrets.iter().map(name_of).filter(|secret| !secret.is_empty()) {
            let key = (namespace(object).to_owned(), secret.to_owned());
            if self.secrets.len() < MAX_NOTED || self.secrets.contains_key(&key) {
                note(self.secrets.entry(key).or_insert_with(|| first(object)));
            }
        }
    }

    /// The Secrets that do not come along: they must be there.
    pub fn awaited(&self) -> impl Iterator<Item = (&str, &str)> {
        let awaited = self.secrets.keys().filter(|key| !self.brought.contains(key));
        awaited.map(|(place, secret)| (place.as_str(), secret.as_str()))
    }

    /// What a person should know; `missing` are the awaited Secrets that are not there.
    pub fn concerns(&self, missing: &BTreeSet<(String, String)>, cluster: &str) -> Vec<Concern> {
        let images = self.doubtful.iter().map(|(image, (why, users))| {
            let message = format!(
                "its image {image} {why}, so the nodes of cluster {cluster} may not be able to pull it{}: push it to a \
                 registry that both clusters reach, and name that by imageMapping or a transform",
                more(users)
            );
            Concern::warning(&users.first, "ImageNotPullable", message)
        });
        let secrets = self.secrets.iter().filter(|(key, _)| missing.contains(key)).map(|((place, secret), users)| {
            let message = format!(
                "it pulls its images with Secret {secret}, which neither goes along nor is in namespace {place} of cluster \
                 {cluster}{}: create it there, or take it along",
                more(users)
            );
            Concern::warning(&users.first, "PullSecretNotFound", message)
        });
        images.chain(secrets).collect()
    }
}

fn name_of(reference: &Value) -> &str {
    text(reference, "/name")
}

fn more(users: &Users) -> String {
    if users.count > 1 { format!(" ({} of them name it)", users.count) } else { String::new() }
}

/// Why an image may not be there for another cluster's nodes; none if nothing says so.
fn doubt(image: &str, policy: &str) -> Option<&'static str> {
    if policy == "Never" {
        return Some("is never pulled (imagePullPolicy: Never): a node has it already or does without");
    }
    if image.starts_with("sha256:") {
        return Some("is the id of an image that a node has, and no name to pull it by");
    }
    let registry = image.split_once('/')?.0;
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    if LOADED.contains(&host) {
        return Some("is of a registry that does not exist: a tool has put it on the source's nodes");
    }
    if host == "localhost" || host.starts_with("127.") || host == "[::1]" {
        return Some("is of a registry on the node itself");
    }
    // `registry.tools.svc`, `registry.tools.svc.cluster.local`.
    if format!("{host}.").contains(".svc.") || host.ends_with(".cluster.local") {
        return Some("is of a registry that is a Service of the cluster, of which each cluster has its own");
    }
    // `registry:5000/app`: without a port it would be a path of the default registry.
    if registry.contains(':') && !host.contains(['.', ':', ']']) {
        return Some(
            "is of a registry whose name has no domain, and means something in the source's network alone",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(images: &[&str], more: &Value) -> Value {
        let containers: Vec<Value> =
            images.iter().map(|image| json!({"name": "c", "image": image})).collect();
        let mut template = json!({"spec": {"containers": containers}});
        crate::transform::merge(&mut template, more);
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "cms"},
               "spec": {"template": template}})
    }

    fn seen(objects: &[Value]) -> Images {
        let mut images = Images::default();
        for object in objects {
            images.see(object, object.pointer("/spec/template"));
        }
        images
    }

    #[test]
    fn an_image_whose_registry_only_the_source_knows_is_told() {
        for image in [
            "image-registry.openshift-image-registry.svc:5000/cms/web:1",
            "registry.tools.svc.cluster.local/web",
            "localhost:5000/web",
            "localhost/web",
            "127.0.0.1:32000/web@sha256:00",
            "registry:5000/web",
            "kind.local/web:dev",
            "sha256:0123456789",
        ] {
            let told = seen(&[workload(&[image], &json!({}))]).concerns(&BTreeSet::new(), "west");
            assert_eq!(told.len(), 1, "{image}");
            assert_eq!(told[0].finding.reason, "ImageNotPullable");
            assert!(
                told[0].finding.message.contains(image) && told[0].finding.message.contains("imageMapping")
            );
        }
    }

    #[test]
    fn what_could_be_reached_from_anywhere_is_not_doubted() {
        let images = [
            "nginx",
            "library/nginx:1.27",
            "quay.io/a/b@sha256:00",
            "10.0.0.5:5000/web",
            "registry.corp:5000/web",
        ];
        assert!(seen(&[workload(&images, &json!({}))]).concerns(&BTreeSet::new(), "west").is_empty());
    }

    #[test]
    fn an_image_that_is_never_pulled_is_told_once_for_all_who_name_it() {
        let never = |name: &str| {
            let mut object = workload(&[], &json!({}));
            object["metadata"]["name"] = json!(name);
            object["spec"]["template"]["spec"]["initContainers"] =
                json!([{"name": "i", "image": "web:1", "imagePullPolicy": "Never"}]);
            object
        };
        let told = seen(&[never("a"), never("b")]).concerns(&BTreeSet::new(), "west");
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].finding.object, "Deployment cms/a");
        assert!(told[0].finding.message.contains("(2 of them name it)"), "{}", told[0].finding.message);
    }

    #[test]
    fn a_pull_secret_must_come_along_or_be_there() {
        let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "cms"}});
        let pulls =
            json!({"spec": {"imagePullSecrets": [{"name": "mine"}, {"name": "theirs"}, {"name": "gone"}]}});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "cms"},
                             "imagePullSecrets": [{"name": "lost"}]});
        let images = seen(&[workload(&["nginx"], &pulls), secret("mine"), account]);
        let awaited: Vec<_> = images.awaited().collect();
        assert_eq!(awaited, [("cms", "gone"), ("cms", "lost"), ("cms", "theirs")]);
        let missing = ["gone", "lost"].map(|name| ("cms".to_owned(), name.to_owned())).into();
        let told: Vec<_> = images
            .concerns(&missing, "west")
            .into_iter()
            .map(|c| (c.finding.object, c.finding.reason))
            .collect();
        let of = |object: &str| (object.to_owned(), "PullSecretNotFound".to_owned());
        assert_eq!(told, [of("Deployment cms/web"), of("ServiceAccount cms/bot")]);
    }
}
