//! Container images, by the run's map of registries, repositories and images.
//!
//! An image is compared as a container runtime reads it: `nginx` is `docker.io/library/nginx`.
//! The longest entry that is a prefix on the boundaries of the path's parts counts; its value
//! takes its place, and what follows - the rest of the path, tag and digest - stays.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Scope, TransformError, pod_specs};

/// The registry of an image that names none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where that registry keeps images without a path.
const LIBRARY: &str = "library";

/// The map, longest entries first.
#[derive(Clone, Debug, Default)]
pub struct ImageMap {
    entries: Vec<(String, String)>,
}

/// Maps the images of an object's pod specs.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    let images = &scope.options.images;
    if images.is_empty() {
        return;
    }
    let map = |image: &mut Value| {
        if let Some(mapped) = image.as_str().and_then(|image| images.map(image)) {
            *image = Value::from(mapped);
        }
    };
    pod_specs::each(object, |spec| {
        pod_specs::each_container(spec, |container| {
            container.get_mut("image").into_iter().for_each(map);
        });
        let volumes = spec.get_mut("volumes").and_then(Value::as_array_mut);
        for volume in volumes.into_iter().flatten() {
            volume.pointer_mut("/image/reference").into_iter().for_each(map);
        }
    });
}

impl ImageMap {
    /// Reads a map as a person wrote it.
    pub fn new(map: &BTreeMap<String, String>) -> Result<Self, TransformError> {
        let mut entries = Vec::with_capacity(map.len());
        for (key, value) in map {
            let bad = |detail: &str| TransformError::BadMapping {
                map: "imageMapping",
                key: key.clone(),
                detail: detail.to_owned(),
            };
            let (from, to) = (key.trim_end_matches('/'), value.trim_end_matches('/'));
            if from.is_empty() || to.is_empty() {
                return Err(bad("name a registry, a repository or an image on both sides"));
            }
            if !split(from).1.is_empty() || !split(to).1.is_empty() {
                return Err(bad(
                    "leave out tag and digest: those of each image are kept; to change a tag, use a transform",
                ));
            }
            for from in readings(from) {
                entries.push((from, to.to_owned()));
            }
        }
        entries.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        Ok(Self { entries })
    }

    /// Whether it maps nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What an image becomes, if the map is for it.
    pub fn map(&self, image: &str) -> Option<String> {
        let (path, version) = split(image);
        if path.is_empty() {
            return None;
        }
        let path = normal(path);
        self.entries.iter().find_map(|(from, to)| {
            let rest = path.strip_prefix(from.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}{version}"))
        })
    }
}

/// The path of an image, and its tag and digest.
fn split(image: &str) -> (&str, &str) {
    let named = image.find('@').unwrap_or(image.len());
    let last = image[..named].rfind('/').map_or(0, |at| at + 1);
    let has_registry_port = last == 0 && is_registry(&image[..named]);
    let tag = if has_registry_port { None } else { image[last..named].find(':').map(|at| last + at) };
    image.split_at(tag.unwrap_or(named))
}

/// Whether a single word is a registry: it has a dot, is `localhost`, or has a port. Four digits
/// or five are a port rather than a tag, since the map takes no tags.
fn is_registry(word: &str) -> bool {
    let (name, port) = word.split_once(':').map_or((word, None), |(name, port)| (name, Some(port)));
    match port {
        None => name.contains('.') || name == "localhost",
        Some(port) => matches!(port.len(), 4 | 5) && port.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// The path with its registry, as a container runtime reads it.
fn normal(path: &str) -> String {
    match path.split_once('/') {
        None => format!("{DEFAULT_REGISTRY}/{LIBRARY}/{path}"),
        Some(("index.docker.io", rest)) => normal(&format!("{DEFAULT_REGISTRY}/{rest}")),
        Some((DEFAULT_REGISTRY, rest)) if !rest.contains('/') => {
            format!("{DEFAULT_REGISTRY}/{LIBRARY}/{rest}")
        }
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => path.to_owned(),
        Some(_) => format!("{DEFAULT_REGISTRY}/{path}"),
    }
}

/// What the key of a map may mean: a single word is a registry where it looks like one, else both
/// an image and an organisation of the default registry.
fn readings(key: &str) -> Vec<String> {
    if key.contains('/') {
        return vec![match key.split_once('/') {
            // `docker.io/bitnami` is an organisation or an image; as a prefix it is what it says.
            Some((DEFAULT_REGISTRY | "index.docker.io", rest)) => format!("{DEFAULT_REGISTRY}/{rest}"),
            _ => normal(key),
        }]
        .into_iter()
        .chain(library_reading(key))
        .collect();
    }
    if is_registry(key) {
        let registry = if key == "index.docker.io" { DEFAULT_REGISTRY } else { key };
        return vec![registry.to_owned()];
    }
    vec![format!("{DEFAULT_REGISTRY}/{LIBRARY}/{key}"), format!("{DEFAULT_REGISTRY}/{key}")]
}

/// `docker.io/nginx` is also how people write `docker.io/library/nginx`.
fn library_reading(key: &str) -> Option<String> {
    let rest = key.strip_prefix("index.docker.io/").or_else(|| key.strip_prefix("docker.io/"))?;
    (!rest.contains('/') && rest != LIBRARY).then(|| format!("{DEFAULT_REGISTRY}/{LIBRARY}/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> Result<ImageMap, TransformError> {
        ImageMap::new(&entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_longest_entry_on_a_boundary_counts_and_tag_and_digest_stay() {
        let images = map(&[
            ("quay.io", "mirror.example/quay"),
            ("quay.io/team", "mirror.example/own"),
            ("quay.io/team/app", "apps.example/app"),
            ("registry.old:5000", "registry.new:6000"),
        ])
        .unwrap();
        for (from, to) in [
            ("quay.io/other/x:1", Some("mirror.example/quay/other/x:1")),
            ("quay.io/team/app:1.2@sha256:abc", Some("apps.example/app:1.2@sha256:abc")),
            ("quay.io/team/app2", Some("mirror.example/own/app2")),
            ("quay.io/teams/x", Some("mirror.example/quay/teams/x")),
            ("quay.iox/team/app", None),
            ("registry.old:5000/a/b@sha256:d", Some("registry.new:6000/a/b@sha256:d")),
            ("registry.old/a", None),
            ("nginx", None),
            ("", None),
        ] {
            assert_eq!(images.map(from).as_deref(), to, "{from}");
        }
    }

    #[test]
    fn images_without_a_registry_are_the_default_registrys() {
        let images = map(&[("docker.io", "m.example/hub")]).unwrap();
        assert_eq!(images.map("nginx:1").as_deref(), Some("m.example/hub/library/nginx:1"));
        assert_eq!(images.map("bitnami/mysql").as_deref(), Some("m.example/hub/bitnami/mysql"));
        assert_eq!(images.map("docker.io/nginx").as_deref(), Some("m.example/hub/library/nginx"));
        let images = map(&[("nginx", "m.example/web"), ("bitnami", "m.example/b")]).unwrap();
        for same in
            ["nginx", "library/nginx", "docker.io/library/nginx", "index.docker.io/nginx", "docker.io/nginx"]
        {
            assert_eq!(images.map(same).as_deref(), Some("m.example/web"), "{same}");
        }
        assert_eq!(images.map("bitnami/mysql:8").as_deref(), Some("m.example/b/mysql:8"));
        let images =
            map(&[("docker.io/bitnami", "m.example/b"), ("docker.io/library", "m.example/l")]).unwrap();
        assert_eq!(images.map("bitnami/mysql:8").as_deref(), Some("m.example/b/mysql:8"));
        assert_eq!(images.map("redis").as_deref(), Some("m.example/l/redis"));
    }

    #[test]
    fn entries_with_a_tag_or_nothing_are_refused_with_what_to_do() {
        for (key, value) in [("nginx:1", "x.io/nginx"), ("a/b", "c.io/b@sha256:d"), ("", "x"), ("x", "/")] {
            let error = map(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains("imageMapping"), "{error}");
        }
        assert!(map(&[("nginx:1", "x")]).unwrap_err().to_string().contains("use a transform"));
        assert!(map(&[("localhost:5000", "registry.new:5000")]).is_ok());
    }
}
