//! Names that people type, checked before anything is created, and names that we make up.

use std::collections::BTreeSet;

/// The longest name of a namespace, a cluster and whatever else must be a DNS label.
const MAX_LABEL: usize = 63;
/// The longest name of any other object.
const MAX_SUBDOMAIN: usize = 253;
/// How much of a namespace's name goes into a generated one.
const MAX_STEM: usize = 40;
/// Letters of a generated suffix: no vowels, so no words; nothing that looks like another.
const SUFFIX_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// The length of a generated suffix.
const SUFFIX_LENGTH: usize = 5;
/// The most namespaces of one migration, as its schema has it.
const MAX_NAMESPACES: usize = 100;

/// A name that Kubernetes would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// No name at all.
    #[error("a name must not be empty")]
    Empty,
    /// Too long.
    #[error("{name:?} has {length} characters and may have {limit}: choose a shorter name")]
    TooLong {
        /// What was given, cut.
        name: String,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A character that may not be there.
    #[error(
        "{name:?} is not a legal name: use lower-case letters, digits and '-'{dots}, with a letter or digit at both ends"
    )]
    Illegal {
        /// What was given.
        name: String,
        /// Whether dots may be used as well.
        dots: &'static str,
    },
    /// Given twice.
    #[error("{0} is given twice: name it once")]
    Twice(String),
    /// Too many.
    #[error("{0} namespaces are given and {MAX_NAMESPACES} may be in one migration: use several migrations")]
    TooMany(usize),
}

/// A DNS label (RFC 1123): namespaces, clusters.
pub fn label(text: &str) -> Result<String, BadName> {
    check(text, MAX_LABEL)?;
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(BadName::Illegal { name: text.to_owned(), dots: "" })
    }
}

/// A DNS subdomain (RFC 1123): labels joined by dots.
pub fn subdomain(text: &str) -> Result<String, BadName> {
    check(text, MAX_SUBDOMAIN)?;
    if text.split('.').all(is_label) {
        Ok(text.to_owned())
    } else {
        Err(BadName::Illegal { name: text.to_owned(), dots: " and '.'" })
    }
}

/// Refuses a list of namespaces that names one twice or has too many.
pub fn distinct(namespaces: &[String]) -> Result<(), BadName> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = namespaces.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(BadName::Twice(twice.clone()));
    }
    if namespaces.len() > MAX_NAMESPACES { Err(BadName::TooMany(namespaces.len())) } else { Ok(()) }
}

/// The name of a migration that begins another again: the first one's, and which retry it is.
pub fn retry(of: &str, number: u32) -> String {
    let suffix = format!("-retry-{number}");
    let first = match of.rsplit_once("-retry-") {
        Some((first, before)) if before.parse::<u32>().is_ok() && !first.is_empty() => first,
        _ => of,
    };
    let whole = format!("{first}{suffix}");
    if subdomain(&whole).is_ok() {
        return whole;
    }
    let stem = first.get(..MAX_LABEL - suffix.len()).unwrap_or(first);
    format!("{}{suffix}", stem.trim_end_matches(['-', '.']))
}

/// A name for a migration: the namespace and a few letters of `random`.
pub fn generated(namespace: &str, random: u128) -> String {
    let stem: String = namespace.chars().take(MAX_STEM).collect();
    let mut rest = random;
    let suffix: String = (0..SUFFIX_LENGTH)
        .map(|_| {
            let index = usize::try_from(rest % SUFFIX_LETTERS.len() as u128).unwrap_or_default();
            rest /= SUFFIX_LETTERS.len() as u128;
            char::from(SUFFIX_LETTERS[index])
        })
        .collect();
    format!("{}-{suffix}", stem.trim_end_matches('-'))
}

fn check(text: &str, limit: usize) -> Result<(), BadName> {
    let length = text.chars().count();
    if length == 0 {
        Err(BadName::Empty)
    } else if length > limit {
        Err(BadName::TooLong { name: text.chars().take(limit).collect(), length, limit })
    } else {
        Ok(())
    }
}

fn is_label(text: &str) -> bool {
    let letter = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(letter)
        && bytes.last().is_some_and(letter)
        && bytes.len() <= MAX_LABEL
        && bytes.iter().all(|b| letter(b) || *b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_must_be_a_label() {
        assert_eq!(label("cms").unwrap(), "cms");
        for bad in ["", "CMS", "cms_1", "-cms", "cms-", "a.b", "cms/wordpress", "ümlaut", &"a".repeat(64)] {
            assert!(label(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn an_object_may_have_dots() {
        assert_eq!(subdomain("prod.eu").unwrap(), "prod.eu");
        for bad in ["", "a..b", ".a", "A.b", &"a".repeat(254)] {
            assert!(subdomain(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_namespace_given_twice_is_refused_by_its_name() {
        let twice = ["cms", "shop", "cms"].map(str::to_owned);
        assert_eq!(distinct(&twice), Err(BadName::Twice("cms".to_owned())));
        assert_eq!(distinct(&twice[..2]), Ok(()));
    }

    #[test]
    fn a_retry_is_named_after_the_first_run() {
        assert_eq!(retry("cms-x7k2b", 1), "cms-x7k2b-retry-1");
        assert_eq!(retry("cms-x7k2b-retry-1", 2), "cms-x7k2b-retry-2");
        assert_eq!(retry("my-retry-plan", 1), "my-retry-plan-retry-1");
        assert!(subdomain(&retry(&"a".repeat(63), 10)).is_ok());
        assert!(subdomain(&retry(&[&"a".repeat(60)[..]; 4].join("."), 10)).is_ok());
    }

    #[test]
    fn a_generated_name_is_legal_and_says_its_namespace() {
        assert_eq!(generated("cms", 0), "cms-bbbbb");
        assert_ne!(generated("cms", 1), generated("cms", 2));
        let long = generated(&format!("{}-{}", "a".repeat(39), "b".repeat(20)), u128::MAX);
        assert!(label(&long).is_ok(), "{long}");
        assert!(long.len() <= MAX_STEM + 1 + SUFFIX_LENGTH);
    }
}
