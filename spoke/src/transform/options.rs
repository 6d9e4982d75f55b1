//! What a run's spec asks of the rewriting, made ready once.

use std::collections::{BTreeMap, HashMap, HashSet};

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::NamespaceMove;

use super::TransformError;
use super::images::ImageMap;
use super::volume_choice::VolumeChoices;

/// The options of a run that rules read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What namespaces are called on the destination.
    pub namespaces: Namespaces,
    /// What becomes of single claims.
    pub volumes: VolumeChoices,
    /// Storage classes, source to destination.
    pub storage_classes: BTreeMap<String, String>,
    /// Access modes of claims, source to destination.
    pub access_modes: BTreeMap<String, String>,
    /// Ingress classes, source to destination.
    pub ingress_classes: BTreeMap<String, String>,
    /// Registries, repositories and images, source to destination.
    pub images: ImageMap,
    /// Whether node ports stay whoever chose them.
    pub preserve_node_ports: bool,
    /// Whether host names of renamed namespaces are rewritten in people's texts.
    pub rewrite_host_names: bool,
}

/// The namespaces of a run under both names.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    renamed: HashMap<String, String>,
    sources: HashSet<String>,
    destinations: HashSet<String>,
}

impl Options {
    /// Reads them from a run.
    pub fn new(run: &Run) -> Result<Self, TransformError> {
        let spec = &run.spec;
        Ok(Self {
            namespaces: Namespaces::new(&run.namespaces),
            volumes: VolumeChoices::of(run),
            storage_classes: spec.storage_class_mapping.clone(),
            access_modes: spec.access_mode_mapping.clone(),
            ingress_classes: spec.ingress_class_mapping.clone(),
            images: ImageMap::new(&spec.image_mapping)?,
            preserve_node_ports: spec.preserve_node_ports,
            rewrite_host_names: spec.rewrite_host_names,
        })
    }

    /// Whether the run has maps of its own, namespaces aside.
    pub fn has_maps(&self) -> bool {
        !(self.storage_classes.is_empty()
            && self.access_modes.is_empty()
            && self.ingress_classes.is_empty()
            && self.images.is_empty())
    }
}

impl Namespaces {
    /// The namespaces of a run.
    pub fn new(moves: &[NamespaceMove]) -> Self {
        Self {
            renamed: moves
                .iter()
                .filter(|moved| moved.is_renamed())
                .map(|moved| (moved.from.clone(), moved.to.clone()))
                .collect(),
            sources: moves.iter().map(|moved| moved.from.clone()).collect(),
            destinations: moves.iter().map(|moved| moved.to.clone()).collect(),
        }
    }

    /// What a namespace of the source is called on the destination, where that is another name.
    pub fn renamed(&self, namespace: &str) -> Option<&str> {
        self.renamed.get(namespace).map(String::as_str)
    }

    /// Whether any namespace gets another name.
    pub fn any_renamed(&self) -> bool {
        !self.renamed.is_empty()
    }

    /// Whether the run has not been told its namespaces.
    pub fn is_unknown(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether the run takes the namespace.
    pub fn takes(&self, source: &str) -> bool {
        self.sources.contains(source)
    }

    /// Whether a namespace of the destination is one that the run fills; any is, where the run
    /// has not been told its namespaces.
    pub fn fills(&self, destination: &str) -> bool {
        self.destinations.is_empty() || self.destinations.contains(destination)
    }
}
