//! What the server knows of a kind's fields.
//!
//! A [`Schema`] comes from the API's published types for built-in kinds ([`builtin`]) or from a
//! CustomResourceDefinition ([`custom`]). Pruning and defaulting ([`shape`]), validation
//! ([`validate`], [`cel`]), strategic merge and server-side apply all read the same tree, so that they
//! agree on which lists are maps and which maps are atomic.

pub mod builtin;
pub mod cel;
pub mod custom;
pub mod shape;
pub mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use isthmus_shared::strategic_merge::ListMerge;
use serde_json::Value;

/// The JSON type that a place takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Type {
    /// An object, with named properties or free keys.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A whole number or text.
    IntOrString,
    /// Whatever is given.
    #[default]
    Any,
}

/// How a list's elements are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListType {
    /// The list is one value.
    #[default]
    Atomic,
    /// Elements are scalars, each there once.
    Set,
    /// Elements are objects, told apart by these fields.
    Map(Vec<String>),
}

/// A part of a kind's schema.
#[derive(Debug, Default)]
// They are the flags of the schema language, one by one.
#[allow(clippy::struct_excessive_bools)]
pub struct Schema {
    /// The type's published name, of built-in types.
    pub name: Option<String>,
    /// The JSON type.
    pub ty: Type,
    /// Known fields.
    pub properties: BTreeMap<String, Node>,
    /// What the values under free keys are.
    pub additional: Option<Node>,
    /// What the elements are.
    pub items: Option<Node>,
    /// Unknown fields stay.
    pub preserve_unknown: bool,
    /// The place holds a whole object with its own metadata.
    pub embedded: bool,
    /// Null is a value.
    pub nullable: bool,
    /// An object that server-side apply treats as one value.
    pub atomic: bool,
    /// How elements are told apart.
    pub list: ListType,
    /// How strategic merge patch merges the list.
    pub merge: Option<ListMerge>,
    /// Elements of the list (or, for an object, these of its fields) obey `$retainKeys`.
    pub retain_keys: BTreeSet<String>,
    /// The place is a quantity, kept in canonical form.
    pub quantity: bool,
    /// What is set when nothing is given.
    pub default: Option<Value>,
    /// What a value must satisfy.
    pub constraints: Option<Box<validate::Constraints>>,
}

/// A schema, or the name of a built-in type.
#[derive(Debug, Clone)]
pub enum Node {
    /// The schema itself.
    Here(Arc<Schema>),
    /// A published type.
    Named(Arc<str>),
}

impl Node {
    /// The schema that the node stands for.
    pub fn get(&self) -> &Schema {
        match self {
            Self::Here(schema) => schema,
            Self::Named(name) => builtin::definition(name),
        }
    }
}

impl Schema {
    /// The schema of a field.
    pub fn field(&self, key: &str) -> Option<&Schema> {
        self.properties.get(key).or(self.additional.as_ref()).map(Node::get)
    }

    /// The schema of the elements.
    pub fn item(&self) -> Option<&Schema> {
        self.items.as_ref().map(Node::get)
    }

    /// Whether fields outside the schema are kept.
    pub fn keeps_unknown(&self) -> bool {
        self.preserve_unknown || self.ty == Type::Any
    }
}
