//! Which kinds the cluster serves, in which versions.
//!
//! Aggregated discovery gives all of it in two calls; a server without it is asked group by
//! group. A group that cannot be read (an aggregated API whose server is down) is remembered as
//! a problem and costs nothing else.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cluster, ClusterError, array, text};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
     application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
/// More versions of groups than this no cluster serves.
const MAX_GROUP_VERSIONS: usize = 2_000;

/// One kind in one version, as the cluster serves it.
#[allow(clippy::struct_field_names, reason = "these are the API's own words")]
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// The API group, empty for the core one.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The resource's name in paths.
    pub plural: String,
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
    /// What may be done with it.
    pub verbs: Vec<String>,
}

impl Kind {
    /// `deployments.apps`, `services`: the resource as rules and messages name it.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The path of its collection; of all namespaces without one.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/{}/namespaces/{namespace}/{}", self.version, self.plural),
            None => format!("{root}/{}/{}", self.version, self.plural),
        }
    }

    /// The path of one object. Names are DNS names mostly; RBAC's may hold anything but `/` and `%`.
    pub fn object(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{}", self.collection(namespace), super::client::escape(name))
    }

    /// Whether it has the verb.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// Everything that a cluster serves.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    kinds: Vec<Kind>,
    problems: Vec<String>,
}

impl Catalogue {
    /// A catalogue of these kinds, each group's versions in the order of preference.
    pub fn of(kinds: Vec<Kind>) -> Self {
        Self { kinds, problems: Vec::new() }
    }

    /// All kinds in all versions.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// What could not be read, for a person.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// A kind in a version.
    pub fn find(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.kinds.iter().find(|k| k.group == group && k.version == version && k.kind == kind)
    }

    /// A kind in the version that the cluster prefers.
    pub fn preferred(&self, group: &str, kind: &str) -> Option<&Kind> {
        self.kinds.iter().find(|k| k.group == group && k.kind == kind)
    }

    /// Every version that a kind is served in, the preferred first.
    pub fn versions(&self, group: &str, kind: &str) -> Vec<String> {
        self.kinds.iter().filter(|k| k.group == group && k.kind == kind).map(|k| k.version.clone()).collect()
    }
}

/// Asks the cluster what it serves.
pub async fn discover(cluster: &Cluster) -> Result<Catalogue, ClusterError> {
    let mut catalogue = Catalogue::default();
    for root in ["/api", "/apis"] {
        let reply = cluster.get_as(root, AGGREGATED).await?;
        if super::kind(&reply) == "APIGroupDiscoveryList" {
            read_aggregated(&reply, &mut catalogue);
        } else {
            read_one_by_one(cluster, root, &reply, &mut catalogue).await?;
        }
    }
    Ok(catalogue)
}

fn read_aggregated(reply: &Value, catalogue: &mut Catalogue) {
    for group in array(reply, "/items") {
        let group_name = text(group, "/metadata/name");
        for version in array(group, "/versions") {
            let version_name = text(version, "/version");
            let resources = array(version, "/resources");
            if text(version, "/freshness") == "Stale" && resources.is_empty() {
                catalogue.problems.push(stale(group_name, version_name));
            }
            catalogue.kinds.extend(resources.iter().filter_map(|resource| {
                let kind = text(resource, "/responseKind/kind");
                let or = |pointer: &str, fallback: &str| match text(resource, pointer) {
                    "" => fallback.to_owned(),
                    text => text.to_owned(),
                };
                (!kind.is_empty()).then(|| Kind {
                    group: or("/responseKind/group", group_name),
                    version: or("/responseKind/version", version_name),
                    kind: kind.to_owned(),
                    plural: text(resource, "/resource").to_owned(),
                    namespaced: text(resource, "/scope") == "Namespaced",
                    verbs: strings(array(resource, "/verbs")),
                })
            }));
        }
    }
}

async fn read_one_by_one(
    cluster: &Cluster,
    root: &str,
    reply: &Value,
    catalogue: &mut Catalogue,
) -> Result<(), ClusterError> {
    let mut group_versions: Vec<String> = strings(array(reply, "/versions"));
    for group in array(reply, "/groups") {
        let preferred = text(group, "/preferredVersion/groupVersion");
        let mut versions: Vec<String> =
            array(group, "/versions").iter().map(|v| text(v, "/groupVersion").to_owned()).collect();
        versions.sort_by_key(|version| version != preferred);
        group_versions.extend(versions);
    }
    group_versions.truncate(MAX_GROUP_VERSIONS);
    for group_version in group_versions {
        let (group, version) = group_version.split_once('/').unwrap_or(("", &group_version));
        let list = match cluster.get(&format!("{root}/{group_version}")).await {
            Ok(list) => list,
            Err(error @ ClusterError::Refused { .. }) => {
                catalogue.problems.push(format!("{}: {error}", stale(group, version)));
                continue;
            }
            Err(error) => return Err(error),
        };
        let resources = array(&list, "/resources").iter().filter(|r| !text(r, "/name").contains('/'));
        catalogue.kinds.extend(resources.map(|resource| Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text(resource, "/kind").to_owned(),
            plural: text(resource, "/name").to_owned(),
            namespaced: resource.get("namespaced").and_then(Value::as_bool).unwrap_or_default(),
            verbs: strings(array(resource, "/verbs")),
        }));
    }
    Ok(())
}

fn stale(group: &str, version: &str) -> String {
    format!(
        "the API {group}/{version} is registered, but its server does not answer: its objects are not seen; look at \
         `kubectl get apiservice {version}.{group}`"
    )
}

fn strings(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalogue() -> Catalogue {
        let mut catalogue = Catalogue::default();
        let resource = |plural: &str, kind: &str, group: &str, version: &str| {
            json!({"resource": plural, "scope": "Namespaced", "verbs": ["get", "list", "create"],
                   "responseKind": {"group": group, "version": version, "kind": kind}})
        };
        let reply = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "autoscaling"}, "versions": [
                {"version": "v2", "resources": [resource("horizontalpodautoscalers", "HorizontalPodAutoscaler", "autoscaling", "v2")]},
                {"version": "v1", "resources": [resource("horizontalpodautoscalers", "HorizontalPodAutoscaler", "autoscaling", "v1")]}]},
            {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1beta1", "freshness": "Stale"}]}
        ]});
        read_aggregated(&reply, &mut catalogue);
        catalogue
    }

    #[test]
    fn the_first_version_of_a_group_is_the_preferred_one() {
        let kind = catalogue().preferred("autoscaling", "HorizontalPodAutoscaler").cloned().unwrap();
        assert_eq!(kind.version, "v2");
        assert_eq!(
            kind.object(Some("cms"), "web"),
            "/apis/autoscaling/v2/namespaces/cms/horizontalpodautoscalers/web"
        );
        assert_eq!(catalogue().versions("autoscaling", "HorizontalPodAutoscaler"), ["v2", "v1"]);
    }

    #[test]
    fn a_group_whose_server_is_down_is_a_problem_and_no_failure() {
        assert!(catalogue().problems()[0].contains("metrics.k8s.io"));
    }

    #[test]
    fn a_name_with_a_colon_is_escaped_in_its_path() {
        let kind = Kind {
            group: "rbac.authorization.k8s.io".to_owned(),
            version: "v1".to_owned(),
            kind: "Role".to_owned(),
            plural: "roles".to_owned(),
            namespaced: true,
            verbs: Vec::new(),
        };
        assert!(kind.object(Some("a"), "system:x").ends_with("/namespaces/a/roles/system%3Ax"));
    }
}
