//! In which version a kind is read: a pure choice from the versions that both sides serve.
//!
//! 1. The one that the destination prefers, if the source serves it;
//! 2. else the one that the source prefers, if the destination serves it;
//! 3. else the highest that both serve, by Kubernetes' version priority;
//! 4. else none.
//!
//! Both sides convert between the versions that they serve, so any common one holds all of an
//! object. The destination's preferred one comes first, because it is the one that will be served
//! the longest.

use std::cmp::Ordering;

/// The version in which both sides speak of a kind. Each side's own are given, the preferred
/// first.
pub fn common<'a>(source: &[&'a str], destination: &[&str]) -> Option<&'a str> {
    let of_source = |version: &&str| source.iter().find(|own| *own == version).copied();
    let preferred_there = destination.first().and_then(of_source);
    let preferred_here = || source.first().filter(|own| destination.contains(own)).copied();
    let highest =
        || source.iter().filter(|own| destination.contains(own)).copied().min_by(|a, b| priority(a, b));
    preferred_there.or_else(preferred_here).or_else(highest)
}

/// Kubernetes' version priority, the highest first: stable before beta before alpha, newer before
/// older, what is no Kubernetes version last and by its letters.
/// (`k8s.io/apimachinery/pkg/version`, `CompareKubeAwareVersionStrings`.)
pub fn priority(a: &str, b: &str) -> Ordering {
    match (Parsed::of(a), Parsed::of(b)) {
        (Some(one), Some(other)) => other.cmp(&one).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Stability, major and minor: greater is better.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Parsed(Stability, u64, u64);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stability {
    Alpha,
    Beta,
    Stable,
}

impl Parsed {
    fn of(version: &str) -> Option<Self> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at(digits);
        let (stability, minor) = if rest.is_empty() {
            (Stability::Stable, "0")
        } else if let Some(minor) = rest.strip_prefix("beta") {
            (Stability::Beta, minor)
        } else {
            (Stability::Alpha, rest.strip_prefix("alpha")?)
        };
        // `parse` takes signs, which no version has.
        let number = |text: &str| Some(text).filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse().ok();
        Some(Self(stability, number(major)?, number(minor)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_version_is_the_destinations_preferred_else_the_sources_else_the_highest_common() {
        for (source, destination, expected) in [
            (&["v1"][..], &["v1"][..], Some("v1")),
            // The destination prefers another one than the source, and the source serves it.
            (&["v2", "v1"], &["v1", "v2"], Some("v1")),
            (&["v1", "v2beta2"], &["v2", "v2beta2", "v1"], Some("v1")),
            // The source's preferred is among the destination's.
            (&["v1beta1", "v1alpha1"], &["v1", "v1beta1", "v1alpha1"], Some("v1beta1")),
            // Neither's preferred: the highest common.
            (&["v3", "v1beta1", "v1", "v2alpha1"], &["v4", "v2alpha1", "v1beta1", "v1"], Some("v1")),
            (&["v3", "v1alpha1", "v1beta2"], &["v4", "v1alpha1", "v1beta2"], Some("v1beta2")),
            // Nothing in common.
            (&["v1beta1"], &["v1"], None),
            (&["v1"], &[], None),
            (&[], &["v1"], None),
        ] {
            assert_eq!(common(source, destination), expected, "{source:?} {destination:?}");
        }
    }

    #[test]
    fn versions_are_in_kubernetes_order() {
        // The example of Kubernetes' documentation of CRD versions.
        let ordered =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        let mut shuffled = ordered;
        shuffled.reverse();
        shuffled.sort_by(|a, b| priority(a, b));
        assert_eq!(shuffled, ordered);
        for odd in ["v", "v1beta", "v1gamma1", "1", "V1", "v1beta1x", "", "v-1", "v+1"] {
            assert_eq!(priority("v1alpha1", odd), Ordering::Less, "{odd}");
        }
    }

    fn served() -> impl Strategy<Value = Vec<String>> {
        let version = prop_oneof![
            (1..4u8).prop_map(|major| format!("v{major}")),
            (1..4u8, 1..3u8).prop_map(|(major, minor)| format!("v{major}beta{minor}")),
            (1..4u8, 1..3u8).prop_map(|(major, minor)| format!("v{major}alpha{minor}")),
            "[a-z]{1,3}[0-9]?",
        ];
        proptest::collection::vec(version, 0..8)
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_served_by_both_and_something_is_chosen_where_anything_is_common(
            source in served(), destination in served()
        ) {
            let here: Vec<&str> = source.iter().map(String::as_str).collect();
            let there: Vec<&str> = destination.iter().map(String::as_str).collect();
            let chosen = common(&here, &there);
            prop_assert_eq!(chosen, common(&here, &there));
            match chosen {
                Some(version) => prop_assert!(here.contains(&version) && there.contains(&version)),
                None => prop_assert!(!here.iter().any(|version| there.contains(version))),
            }
        }

        #[test]
        fn where_neither_sides_preferred_is_common_the_order_of_serving_does_not_matter(
            mut source in served(), destination in served()
        ) {
            let there: Vec<&str> = destination.iter().map(String::as_str).collect();
            source.insert(0, "only-here".to_owned());
            let chosen = |source: &[String]| {
                let here: Vec<&str> = source.iter().map(String::as_str).collect();
                common(&here, &there).map(str::to_owned)
            };
            let first = chosen(&source);
            source[1..].reverse();
            prop_assert_eq!(first, chosen(&source));
        }

        #[test]
        fn the_order_of_versions_is_total(a in "v?[0-9]{0,2}(alpha|beta)?[0-9]?", b in "v?[0-9]{0,2}(alpha|beta)?[0-9]?") {
            prop_assert_eq!(priority(&a, &b), priority(&b, &a).reverse());
            prop_assert_eq!(priority(&a, &b) == Ordering::Equal, a == b);
        }
    }
}
