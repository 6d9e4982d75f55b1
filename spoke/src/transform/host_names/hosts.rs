//! What a host name of a service is, in the midst of any text.
//!
//! A text is cut into words of the characters that names have, and a word into its labels; so
//! `a.shop.svc` is not found in `a.my-shop.svc` nor in `a.shop.svcs`. Certain are
//! `<name>.<namespace>.svc` and `….svc.cluster.local`. With another domain behind it, the same may
//! be anything (`com.shop.svc.Main` is a class of Java). `<name>.<namespace>` alone counts only
//! where a host stands (after `//` or `@`, before a port, or as the whole text), and is certain
//! only where the namespace cannot be a top-level domain: those have neither digits nor hyphens,
//! while `http://example.shop/` is somebody's web site.

use std::ops::Range;

use super::Namespaces;

/// A host name in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The host name.
    host: Range<usize>,
    /// The namespace in it.
    namespace: Range<usize>,
    /// What that is called on the destination.
    to: String,
    /// Whether it can be nothing else.
    pub certain: bool,
}

impl Found {
    /// The host name as it stands.
    pub fn name<'a>(&self, text: &'a str) -> &'a str {
        &text[self.host.clone()]
    }

    /// The host name on the destination.
    pub fn renamed(&self, text: &str) -> String {
        let (before, after) = (self.host.start..self.namespace.start, self.namespace.end..self.host.end);
        format!("{}{}{}", &text[before], self.to, &text[after])
    }
}

/// The host names in a text, in their order.
pub fn find(text: &str, names: &Namespaces) -> Vec<Found> {
    words(text).filter_map(|word| host(text, word, names)).collect()
}

/// The text with the certain ones renamed, each once.
pub fn replace(text: &str, found: &[Found]) -> String {
    let mut after = String::with_capacity(text.len());
    let mut done = 0;
    for host in found.iter().filter(|host| host.certain) {
        after.push_str(&text[done..host.namespace.start]);
        after.push_str(&host.to);
        done = host.namespace.end;
    }
    after.push_str(&text[done..]);
    after
}

/// Words that have a dot. All their characters are ASCII, so their ends are never within one.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at + bytes[at..].iter().position(|byte| part(*byte))?;
            let end = bytes[start..].iter().position(|byte| !part(*byte)).map_or(bytes.len(), |n| start + n);
            at = end;
            if bytes[start..end].contains(&b'.') {
                return Some(start..end);
            }
        }
        None
    })
}

fn host(text: &str, word: Range<usize>, names: &Namespaces) -> Option<Found> {
    // A dot at the end closes a name, or the sentence that it stands in.
    let trimmed = text[word.clone()].trim_end_matches('.');
    let end = word.start + trimmed.len();
    let mut labels = Vec::new();
    let mut at = word.start;
    for label in trimmed.split('.') {
        labels.push(at..at + label.len());
        at += label.len() + 1;
    }
    let is = |at: usize, expected: &[&str]| {
        labels.len() == at + expected.len()
            && labels[at..].iter().zip(expected).all(|(label, expected)| &text[label.clone()] == *expected)
    };
    for (at, label) in labels.iter().enumerate() {
        let Some(to) = names.renamed(&text[label.clone()]) else { continue };
        let service = labels.get(at + 1).is_some_and(|next| &text[next.clone()] == "svc");
        let whole = is(at + 1, &["svc", "cluster", "local"]);
        let certain = if at == 0 {
            // A domain to search in.
            if !whole {
                continue;
            }
            true
        } else if service {
            whole || is(at + 1, &["svc"])
        } else if is(at + 1, &["pod", "cluster", "local"]) {
            true
        } else if at == 1 && labels.len() == 2 && stands_as_host(text, &labels[0], word.start, word.end) {
            text[label.clone()].contains(|c: char| c == '-' || c.is_ascii_digit())
        } else {
            continue;
        };
        return Some(Found { host: word.start..end, namespace: label.clone(), to: to.to_owned(), certain });
    }
    None
}

fn stands_as_host(text: &str, name: &Range<usize>, start: usize, end: usize) -> bool {
    let (before, after) = (&text[..start], &text[end..]);
    let port = after.strip_prefix(':').is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()));
    let named = text[name.clone()].starts_with(|c: char| c.is_ascii_lowercase());
    named
        && (before.ends_with("//")
            || before.ends_with('@')
            || port
            || (before.is_empty() && after.is_empty()))
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::NamespaceMove;

    use super::*;

    fn names() -> Namespaces {
        let moved = |from: &str, to: &str| NamespaceMove { from: from.to_owned(), to: to.to_owned() };
        Namespaces::new(&[
            moved("shop", "shop-new"),
            moved("team-a", "b"),
            moved("b", "c"),
            NamespaceMove::same("web"),
        ])
    }

    fn renamed(text: &str) -> String {
        replace(text, &find(text, &names()))
    }

    #[test]
    fn names_of_services_are_found_on_the_boundaries_of_words_and_labels() {
        for (text, expected) in [
            ("db.shop.svc", "db.shop-new.svc"),
            ("http://db.shop.svc:80/x?y=z.shop.svc", "http://db.shop-new.svc:80/x?y=z.shop-new.svc"),
            ("db-0.db.shop.svc.cluster.local", "db-0.db.shop-new.svc.cluster.local"),
            (
                "ask db.shop.svc.cluster.local. Or db.shop.svc.",
                "ask db.shop-new.svc.cluster.local. Or db.shop-new.svc.",
            ),
            ("$(NAME).shop.svc,*.shop.svc", "$(NAME).shop-new.svc,*.shop-new.svc"),
            ("_sql._tcp.db.shop.svc", "_sql._tcp.db.shop-new.svc"),
            ("10-0-0-1.shop.pod.cluster.local", "10-0-0-1.shop-new.pod.cluster.local"),
            ("search shop.svc.cluster.local", "search shop-new.svc.cluster.local"),
            ("x.team-a.svc x.b.svc", "x.b.svc x.c.svc"),
            ("äöü db.shop.svc→ß", "äöü db.shop-new.svc→ß"),
        ] {
            assert_eq!(renamed(text), expected);
        }
        for text in [
            "my-shop.svcx",
            "b.shop.svcs",
            "a.my-shop.svc",
            "a.shop-2.svc",
            "a.web.svc",
            "shop.svc",
            "shop",
            "a.shopsvc",
            "com.shop.Main",
            "",
            ".",
            "...",
            "shop.",
            ".shop",
        ] {
            assert!(find(text, &names()).is_empty(), "{text}");
        }
    }

    #[test]
    fn two_labels_are_a_host_only_where_one_stands_and_no_domain_ends_so() {
        for (text, expected) in [
            ("http://api.team-a/x", "http://api.b/x"),
            ("postgres://u:p@db.team-a/x", "postgres://u:p@db.b/x"),
            ("db.team-a:5432", "db.b:5432"),
            ("db.team-a", "db.b"),
            ("file db.team-a there", "file db.team-a there"),
            ("http://example.shop/", "http://example.shop/"),
        ] {
            assert_eq!(renamed(text), expected);
        }
        let found = find("http://example.shop/", &names());
        assert!(found.len() == 1 && !found[0].certain);
        assert_eq!(found[0].renamed("http://example.shop/"), "example.shop-new");
    }

    #[test]
    fn another_domain_behind_it_is_found_and_left() {
        for text in ["com.shop.svc.Main", "db.shop.svc.corp.example"] {
            assert_eq!(find(text, &names()).len(), 1);
            assert_eq!(renamed(text), text);
        }
    }
}
