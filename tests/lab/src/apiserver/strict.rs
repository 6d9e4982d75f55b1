//! Strict decoding: which keys of a document are there twice, and in which order its fields stand.
//!
//! A document that is read into objects has lost both; this reads it once more, keeping only paths.
//! Paths have the form of the server's messages: `spec.containers[0].image`.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// The most duplicate keys that are told of one document.
const MAX_TOLD: usize = 20;

/// What a second reading of a document shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Fields that are there more than once, in the document's order.
    pub duplicates: Vec<String>,
    /// Every field, in the document's order.
    pub order: Vec<String>,
}

impl Reading {
    /// Reads a JSON document; a document that is not JSON has nothing to show here.
    pub fn of_json(source: &[u8]) -> Self {
        let mut reading = Self::default();
        let mut deserializer = serde_json::Deserializer::from_slice(source);
        // Broken documents were refused by the first reading.
        if (Place { path: String::new(), reading: &mut reading }).deserialize(&mut deserializer).is_err() {
            return Self::default();
        }
        reading
    }

    /// Puts paths into the document's order.
    pub fn sort(&self, paths: &mut [String]) {
        paths.sort_by_key(|path| self.order.iter().position(|p| p == path).unwrap_or(usize::MAX));
    }
}

/// What strict decoding says of a YAML (or JSON) text whose keys are there twice, line by line.
pub fn repeated_keys(source: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(source) else { return Vec::new() };
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough };
    // Broken documents were refused by the first reading.
    let Repeats(found) = serde_saphyr::from_str_with_options(text, options).unwrap_or_default();
    let told = found.into_iter().take(MAX_TOLD);
    told.map(|(line, key)| format!("line {line}: key {key:?} already set in map")).collect()
}

/// The keys of a text that are there twice, with their lines.
#[derive(Debug, Default)]
struct Repeats(Vec<(u64, String)>);

impl<'de> Deserialize<'de> for Repeats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Keys)
    }
}

struct Keys;

/// Scalars have no keys.
macro_rules! scalars {
    ($result:expr, $($method:ident: $type:ty),+) => {
        $(fn $method<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok($result)
        })+

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($result)
        }
    };
}

impl<'de> Visitor<'de> for Keys {
    type Value = Repeats;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Repeats, A::Error> {
        let (mut seen, mut found) = (HashSet::new(), Vec::new());
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if !seen.insert(key.value.clone()) {
                found.push((key.referenced.line(), key.value));
            }
            found.extend(map.next_value::<Repeats>()?.0);
        }
        Ok(Repeats(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Repeats, A::Error> {
        let mut found = Vec::new();
        while let Some(Repeats(below)) = sequence.next_element()? {
            found.extend(below);
        }
        Ok(Repeats(found))
    }

    scalars!(Repeats::default(), visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
}

/// A place in a document that is being read.
struct Place<'a> {
    path: String,
    reading: &'a mut Reading,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            if seen.insert(key) {
                self.reading.order.push(path.clone());
            } else if self.reading.duplicates.len() < MAX_TOLD {
                self.reading.duplicates.push(path.clone());
            }
            map.next_value_seed(Place { path, reading: self.reading })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let mut index = 0;
        while sequence
            .next_element_seed(Place { path: format!("{}[{index}]", self.path), reading: self.reading })?
            .is_some()
        {
            index += 1;
        }
        Ok(())
    }

    scalars!((), visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_there_twice_are_told_with_their_paths() {
        let reading = Reading::of_json(br#"{"b":{"x":1,"x":2},"a":[{"k":1},{"k":1,"k":2}],"b":1}"#);
        assert_eq!(reading.duplicates, ["b.x", "a[1].k", "b"]);
    }

    #[test]
    fn paths_are_put_into_the_documents_order() {
        let reading = Reading::of_json(br#"{"z":{"y":1,"b":2},"a":3}"#);
        let mut paths = vec!["a".to_owned(), "z.b".to_owned(), "z.y".to_owned()];
        reading.sort(&mut paths);
        assert_eq!(paths, ["z.y", "z.b", "a"]);
    }

    #[test]
    fn keys_of_a_yaml_text_are_told_with_their_lines() {
        let text = "kind: ConfigMap\ndata:\n  a: \"1\"\n  a: \"2\"\n  b: {}\n  b:\n    c: 1\n";
        assert_eq!(
            repeated_keys(text.as_bytes()),
            ["line 4: key \"a\" already set in map", "line 6: key \"b\" already set in map"]
        );
        assert_eq!(repeated_keys(br#"{"data":{"a":"1","a":"2"}}"#), ["line 1: key \"a\" already set in map"]);
        assert!(repeated_keys(b"a: 1\nb: 2\n").is_empty());
    }
}
