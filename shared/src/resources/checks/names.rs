//! What Kubernetes takes for a name.

/// The longest label.
const MAX_LABEL: usize = 63;
/// The longest subdomain.
const MAX_SUBDOMAIN: usize = 253;

/// Whether it is a DNS label of RFC 1123, as namespaces' names are.
pub fn is_label(name: &str) -> bool {
    name.len() <= MAX_LABEL && is_part(name)
}

/// Whether it is a DNS subdomain of RFC 1123, as most objects' names are. Kubernetes does not
/// limit its parts to the length of a label.
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_SUBDOMAIN && name.split('.').all(is_part)
}

/// Whether it names a label, a taint or a resource: `disk`, `example.com/disk`.
pub(super) fn is_qualified_name(name: &str) -> bool {
    let (domain, name) = name.split_once('/').map_or((None, name), |(domain, name)| (Some(domain), name));
    domain.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

/// Whether it is the value of a label or a taint; that may be empty.
pub(super) fn is_label_value(value: &str) -> bool {
    let edge = |b: u8| b.is_ascii_alphanumeric();
    let bytes = value.as_bytes();
    bytes.len() <= MAX_LABEL
        && bytes.iter().all(|b| edge(*b) || matches!(b, b'-' | b'_' | b'.'))
        && [bytes.first(), bytes.last()].into_iter().flatten().all(|b| edge(*b))
}

fn is_part(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}
