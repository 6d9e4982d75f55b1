//! What is served now: the built-in resources that are not switched off, and those of the
//! CustomResourceDefinitions in the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::builtins::{BUILTINS, Sub};
use super::json::{list, text};
use super::schema::{Schema, builtin, custom};

/// Names the table of the store that a resource's objects are in, whatever version they are read at.
pub type StorageId = Arc<str>;

/// A served resource at one version.
#[derive(Debug)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// Kind of one object.
    pub kind: String,
    /// Kind of a list.
    pub list_kind: String,
    /// Path segment.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Short names.
    pub short: Vec<String>,
    /// Categories.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Parts with paths of their own.
    pub subs: Vec<Sub>,
    /// Whether generations are counted.
    pub generation: bool,
    /// Whether objects are stored.
    pub stored: bool,
    /// The table in the store.
    pub storage: StorageId,
    /// The apiVersion under which objects are stored.
    pub storage_version: String,
    /// What the fields are.
    pub schema: SchemaSource,
    /// What a CustomResourceDefinition adds.
    pub custom: Option<Custom>,
}

/// Where a resource's schema is.
#[derive(Debug)]
pub enum SchemaSource {
    /// A published type.
    Published(String),
    /// A CustomResourceDefinition's.
    Custom(Schema),
}

/// What a CustomResourceDefinition adds to a resource.
#[derive(Debug, Default)]
pub struct Custom {
    /// Columns of the table that `kubectl get` shows.
    pub columns: Vec<Value>,
    /// Paths of the scale part: spec replicas, status replicas, label selector.
    pub scale: Option<(String, String, String)>,
    /// Fields that selectors may use.
    pub selectable: Vec<String>,
    /// A warning for requests at a deprecated version.
    pub deprecation: Option<String>,
}

impl Resource {
    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        join_version(&self.group, &self.version)
    }

    /// The schema of the kind.
    pub fn schema(&self) -> &Schema {
        match &self.schema {
            SchemaSource::Published(name) => builtin::definition(name),
            SchemaSource::Custom(schema) => schema,
        }
    }

    /// Whether the part is served.
    pub fn has(&self, sub: Sub) -> bool {
        self.subs.contains(&sub)
    }

    /// Whether the kind is defined by a CustomResourceDefinition.
    pub fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// Whether this is that built-in kind.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind && !self.is_custom()
    }

    /// The name of the server's own type, as it stands in a few messages.
    pub fn internal_name(&self, list: bool) -> String {
        let suffix = if list { "List" } else { "" };
        if self.is_custom() {
            return format!("unstructured.Unstructured{suffix}");
        }
        let package = self.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
        format!("{package}.{}{suffix}", self.kind)
    }

    /// The verbs that discovery lists.
    pub fn verbs(&self) -> Vec<&'static str> {
        if !self.stored {
            return vec!["create"];
        }
        let mut verbs =
            vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        if self.group.is_empty() && self.kind == "Namespace" {
            verbs.retain(|verb| *verb != "deletecollection");
        }
        verbs
    }
}

/// `group/version`, or the version alone in the core group.
pub fn join_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The table of a group's resource.
pub fn storage_id(group: &str, plural: &str) -> StorageId {
    // Events are one table behind two groups.
    if plural == "events" && group == "events.k8s.io" {
        return storage_id("", "events");
    }
    format!("{group}/{plural}").into()
}

/// Everything that is served.
#[derive(Debug, Default)]
pub struct Registry {
    resources: Vec<Arc<Resource>>,
    by_path: HashMap<(String, String, String), Arc<Resource>>,
}

impl Registry {
    /// The built-in resources, less the group versions that are switched off.
    pub fn builtin(disabled: &[String]) -> Self {
        let mut registry = Self::default();
        for builtin in BUILTINS {
            let api_version = join_version(builtin.group, builtin.version);
            if disabled.contains(&api_version) {
                continue;
            }
            let schema = builtin::published_name(builtin.schema).unwrap_or_default();
            let storage_version = match (builtin.group, builtin.kind) {
                ("events.k8s.io", "Event") => "v1".to_owned(),
                ("autoscaling", _) => "autoscaling/v2".to_owned(),
                _ => api_version,
            };
            registry.add(Resource {
                group: builtin.group.to_owned(),
                version: builtin.version.to_owned(),
                kind: builtin.kind.to_owned(),
                list_kind: format!("{}List", builtin.kind),
                plural: builtin.plural.to_owned(),
                singular: builtin.kind.to_lowercase(),
                short: builtin.short.iter().map(|s| (*s).to_owned()).collect(),
                categories: builtin.categories.iter().map(|s| (*s).to_owned()).collect(),
                namespaced: builtin.namespaced,
                subs: builtin.subs.to_vec(),
                generation: builtin.generation,
                stored: builtin.stored,
                storage: storage_id(builtin.group, builtin.plural),
                storage_version,
                schema: SchemaSource::Published(schema),
                custom: None,
            });
        }
        registry
    }

    fn add(&mut self, resource: Resource) {
        let resource = Arc::new(resource);
        let key = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
        self.by_path.insert(key, Arc::clone(&resource));
        self.resources.push(resource);
    }

    /// This registry with the definitions' resources added to it.
    pub fn with_definitions<'a>(&self, definitions: impl Iterator<Item = &'a Value>) -> Self {
        let mut registry = Self { resources: self.resources.clone(), by_path: self.by_path.clone() };
        for definition in definitions {
            for resource in defined(definition) {
                registry.add(resource);
            }
        }
        registry
    }

    /// The resource at a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Whether the group is served at the version.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        self.resources.iter().any(|r| r.group == group && r.version == version)
    }

    /// The resource of a table, at any version.
    pub fn of_storage(&self, storage: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| &*r.storage == storage && r.api_version() == r.storage_version)
    }

    /// Everything served, built-in first.
    pub fn all(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Groups with their versions, the preferred one first; the core group is not among them.
    pub fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for resource in self.resources.iter().filter(|r| !r.group.is_empty()) {
            let versions = groups.entry(resource.group.clone()).or_default();
            if !versions.contains(&resource.version) {
                versions.push(resource.version.clone());
            }
        }
        for versions in groups.values_mut() {
            versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        }
        groups
    }
}

/// Kubernetes' order of versions: stable before beta before alpha, higher before lower.
pub fn priority(version: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let split = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u32 = rest[..split].parse().ok()?;
        match &rest[split..] {
            "" => Some((3, major, 0)),
            beta if beta.starts_with("beta") => Some((2, major, beta[4..].parse().ok()?)),
            alpha if alpha.starts_with("alpha") => Some((1, major, alpha[5..].parse().ok()?)),
            _ => None,
        }
    };
    parse().unwrap_or((0, 0, 0))
}

fn strings(value: &Value, path: &[&str]) -> Vec<String> {
    list(value, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The warning at a deprecated version, which names the best one to use.
fn deprecated(group: &str, kind: &str, version: &str, versions: &[Value]) -> String {
    let told = format!("{} {kind} is deprecated", join_version(group, version));
    let better = versions
        .iter()
        .filter(|v| v["served"] == Value::Bool(true) && v["deprecated"] != Value::Bool(true))
        .map(|v| text(v, &["name"]))
        .max_by_key(|name| priority(name))
        .filter(|best| priority(best) > priority(version));
    match better {
        Some(best) => format!("{told}; use {} {kind}", join_version(group, best)),
        None => told,
    }
}

/// The resources that a definition adds, one for each served version.
fn defined(definition: &Value) -> Vec<Resource> {
    let spec = &definition["spec"];
    let group = text(spec, &["group"]);
    let names = &spec["names"];
    let kind = text(names, &["kind"]);
    let plural = text(names, &["plural"]);
    let versions = list(spec, &["versions"]);
    let stored_at = versions
        .iter()
        .find(|v| v["storage"] == Value::Bool(true))
        .map(|v| join_version(group, text(v, &["name"])))
        .unwrap_or_default();
    versions
        .iter()
        .filter(|version| version["served"] == Value::Bool(true))
        .map(|version| {
            let subresources = &version["subresources"];
            let mut subs = Vec::new();
            if subresources.get("status").is_some() {
                subs.push(Sub::Status);
            }
            let scale = subresources.get("scale").map(|scale| {
                subs.push(Sub::Scale);
                let path = |key: &str| text(scale, &[key]).to_owned();
                (path("specReplicasPath"), path("statusReplicasPath"), path("labelSelectorPath"))
            });
            let name = text(version, &["name"]);
            // What is wrong with a schema was said when the definition was written.
            let mut schema = custom::read(&version["schema"]["openAPIV3Schema"], "schema", &mut Vec::new());
            if spec["preserveUnknownFields"] == Value::Bool(true) {
                // What v1beta1 left behind prunes nothing, whatever the schema says.
                schema = Schema { preserve_unknown: true, ..Schema::default() };
            }
            let deprecation = (version["deprecated"] == Value::Bool(true)).then(|| {
                version["deprecationWarning"]
                    .as_str()
                    .map_or_else(|| deprecated(group, kind, name, versions), str::to_owned)
            });
            let list_kind = text(names, &["listKind"]);
            Resource {
                group: group.to_owned(),
                version: name.to_owned(),
                kind: kind.to_owned(),
                list_kind: if list_kind.is_empty() { format!("{kind}List") } else { list_kind.to_owned() },
                plural: plural.to_owned(),
                singular: match text(names, &["singular"]) {
                    "" => kind.to_lowercase(),
                    singular => singular.to_owned(),
                },
                short: strings(names, &["shortNames"]),
                categories: strings(names, &["categories"]),
                namespaced: text(spec, &["scope"]) == "Namespaced",
                subs,
                generation: true,
                stored: true,
                storage: storage_id(group, plural),
                storage_version: stored_at.clone(),
                schema: SchemaSource::Custom(schema),
                custom: Some(Custom {
                    columns: list(version, &["additionalPrinterColumns"]).to_vec(),
                    scale,
                    selectable: list(version, &["selectableFields"])
                        .iter()
                        .map(|f| text(f, &["jsonPath"]).trim_start_matches('.').to_owned())
                        .collect(),
                    deprecation,
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_before_beta_and_alpha() {
        let mut versions = vec!["v1alpha1", "v2", "v1beta2", "v1", "v10", "foo"];
        versions.sort_by_key(|v| std::cmp::Reverse(priority(v)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1alpha1", "foo"]);
    }

    #[test]
    fn a_group_version_that_is_switched_off_is_not_served() {
        let registry = Registry::builtin(&["autoscaling/v2".to_owned()]);
        assert!(!registry.serves("autoscaling", "v2"));
        assert!(registry.find("autoscaling", "v1", "horizontalpodautoscalers").is_some());
    }
}
