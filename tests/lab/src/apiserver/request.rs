//! What a request asks for: the path's parts, the query, the wanted representation.

use hyper::Method;
use serde_json::Value;

use super::auth::{Attributes, Identity};
use super::error::{ApiError, ApiResult};

/// A request, read and identified.
#[derive(Debug)]
pub struct Call {
    /// The HTTP method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The query.
    pub query: Query,
    /// The `Accept` header.
    pub accept: String,
    /// The `Content-Type` header, without parameters.
    pub content_type: String,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Who asks.
    pub identity: Identity,
    /// The body.
    pub body: bytes::Bytes,
}

/// The query's parameters.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string.
    pub fn parse(source: &str) -> Self {
        let pairs = source.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        });
        Self(pairs.collect())
    }

    /// A parameter; `None` if it is absent or empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// Every value of a parameter that is not empty.
    pub fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str()).collect()
    }

    /// Every value of a parameter, the empty ones too.
    pub fn every(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect()
    }

    /// Whether a parameter says yes.
    pub fn flag(&self, key: &str) -> bool {
        self.0.iter().any(|(k, v)| k == key && matches!(v.as_str(), "" | "1" | "true" | "True" | "t"))
    }

    /// A whole number.
    pub fn number(&self, key: &str) -> ApiResult<Option<u64>> {
        self.get(key)
            .map(|v| {
                v.parse().map_err(|_| {
                    ApiError::bad_request(format!("strconv.ParseInt: parsing {v:?}: invalid syntax"))
                })
            })
            .transpose()
    }
}

/// Undoes percent encoding.
pub fn decoded(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = (bytes[index] == b'%')
            .then(|| source.get(index + 1..index + 3).and_then(|h| u8::from_str_radix(h, 16).ok()))
            .flatten();
        match (bytes[index], hex) {
            (_, Some(byte)) => {
                out.push(byte);
                index += 3;
            }
            (b'+', None) => {
                out.push(b' ');
                index += 1;
            }
            (byte, None) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The parts of a resource's path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Resource; empty for a group version's discovery.
    pub resource: String,
    /// Namespace; empty for cluster scope and for all namespaces.
    pub namespace: String,
    /// Name; empty for the collection.
    pub name: String,
    /// Part of the resource.
    pub subresource: String,
    /// What follows a `proxy`.
    pub below: String,
    /// Whether the path is of the old `/watch/` form.
    pub watch: bool,
}

impl Target {
    /// Reads a path under `/api` or `/apis`; `None` for all other paths.
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> =
            path.split('/').filter(|p| !p.is_empty()).map(|p| decoded(&p.replace('+', "%2B"))).collect();
        let mut target = Self::default();
        let mut rest: &[String] = match parts.first()?.as_str() {
            "api" if parts.len() >= 2 => {
                target.version.clone_from(&parts[1]);
                &parts[2..]
            }
            "apis" if parts.len() >= 3 => {
                target.group.clone_from(&parts[1]);
                target.version.clone_from(&parts[2]);
                &parts[3..]
            }
            _ => return None,
        };
        if rest.first().is_some_and(|p| p == "watch") {
            target.watch = true;
            rest = &rest[1..];
        }
        if rest.first().is_some_and(|p| p == "namespaces") && rest.len() >= 2 {
            let own = rest.len() == 2 || matches!(rest[2].as_str(), "status" | "finalize");
            target.namespace.clone_from(&rest[1]);
            if !(own && target.group.is_empty()) {
                rest = &rest[2..];
            }
        }
        let mut rest = rest.iter();
        let mut next = || rest.next().cloned().unwrap_or_default();
        target.resource = next();
        target.name = next();
        target.subresource = next();
        target.below = rest.map(String::as_str).collect::<Vec<_>>().join("/");
        (target.below.is_empty() || target.subresource == "proxy").then_some(target)
    }

    /// The namespace under which the store has the resource's objects.
    pub fn namespace_key(&self, resource: &super::registry::Resource) -> String {
        if resource.namespaced { self.namespace.clone() } else { String::new() }
    }

    /// What authorization is asked about.
    pub fn attributes(&self, method: &Method, query: &Query, path: &str) -> Attributes {
        let watching = self.watch || query.flag("watch") && query.get("watch").is_some();
        let collection = self.name.is_empty();
        let verb = match method.as_str() {
            "GET" | "HEAD" if watching && collection => "watch",
            "GET" | "HEAD" if collection => "list",
            "GET" | "HEAD" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if collection => "deletecollection",
            "DELETE" => "delete",
            other => other,
        };
        Attributes {
            verb: verb.to_owned(),
            group: self.group.clone(),
            resource: self.resource.clone(),
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            path: path.to_owned(),
        }
    }
}

/// How the client wants objects shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Whole,
    /// As rows.
    Table,
    /// Their metadata alone.
    Metadata,
    /// The metadata alone of each object of a list.
    MetadataList,
}

impl Form {
    /// The form for an answer that is a list, or is none; the wrong one for it is refused.
    pub fn fit(self, is_list: bool, kind: &str) -> ApiResult<Self> {
        let refused = |what: &str, is: &str| {
            let message = format!("you requested {what}, but the requested object is {is} (*{kind})");
            Err(ApiError::new(406, "NotAcceptable", message))
        };
        match self {
            Self::Metadata if is_list => refused("PartialObjectMetadata", "a list"),
            Self::MetadataList if !is_list => refused("PartialObjectMetadataList", "not a list"),
            fits => Ok(fits),
        }
    }
}

/// Reads the wanted form from an `Accept` header.
pub fn form(accept: &str) -> ApiResult<Form> {
    let mut acceptable = accept.trim().is_empty();
    for part in accept.split(',') {
        let mut params = part.split(';').map(str::trim);
        let media = params.next().unwrap_or("");
        if !matches!(media, "application/json" | "*/*" | "application/*" | "") {
            continue;
        }
        acceptable = true;
        let mut wanted = None;
        let mut supported = true;
        for param in params {
            match param.split_once('=') {
                Some(("as", "Table")) => wanted = Some(Form::Table),
                Some(("as", "PartialObjectMetadata")) => wanted = Some(Form::Metadata),
                Some(("as", "PartialObjectMetadataList")) => wanted = Some(Form::MetadataList),
                Some(("as", _)) => supported = false,
                Some(("v", version)) => supported &= version == "v1",
                Some(("g", group)) => supported &= group == "meta.k8s.io",
                _ => {}
            }
        }
        if supported {
            return Ok(wanted.unwrap_or(Form::Whole));
        }
    }
    if acceptable {
        return Ok(Form::Whole);
    }
    Err(ApiError::new(406, "NotAcceptable", "only the following media types are accepted: application/json"))
}

/// Reads a body that is JSON or YAML.
pub fn body(content_type: &str, bytes: &[u8]) -> ApiResult<Value> {
    let bad = |e: &dyn std::fmt::Display| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type JSON or YAML): {e}"
        ))
    };
    match content_type {
        "" | "application/json" | "text/plain" | "*/*" => serde_json::from_slice(bytes).map_err(|e| bad(&e)),
        super::protobuf::MEDIA => super::protobuf::decode(bytes),
        "application/yaml" => yaml(bytes).map_err(|e| bad(&e)),
        other => Err(ApiError::unsupported_media(other)),
    }
}

/// Reads YAML, of which JSON is a part. The last of keys that are there twice counts.
pub fn yaml(bytes: &[u8]) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> (String, String, String, String) {
        let t = Target::parse(path).unwrap();
        (t.namespace, t.resource, t.name, t.subresource)
    }

    #[test]
    fn paths_are_read_into_their_parts() {
        let parts =
            |a: &str, b: &str, c: &str, d: &str| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned());
        assert_eq!(target("/api/v1/namespaces"), parts("", "namespaces", "", ""));
        assert_eq!(target("/api/v1/namespaces/a"), parts("a", "namespaces", "a", ""));
        assert_eq!(target("/api/v1/namespaces/a/finalize"), parts("a", "namespaces", "a", "finalize"));
        assert_eq!(target("/api/v1/namespaces/a/pods/b/log"), parts("a", "pods", "b", "log"));
        assert_eq!(
            target("/apis/apps/v1/namespaces/a/deployments/b/scale"),
            parts("a", "deployments", "b", "scale")
        );
        assert_eq!(target("/apis/apps/v1/deployments"), parts("", "deployments", "", ""));
        assert!(Target::parse("/version").is_none());
        assert!(Target::parse("/api/v1/nodes/a/status/more").is_none());
        let proxied = Target::parse("/api/v1/nodes/a/proxy/stats/summary").unwrap();
        assert_eq!((proxied.subresource.as_str(), proxied.below.as_str()), ("proxy", "stats/summary"));
    }

    #[test]
    fn the_first_form_that_is_served_is_taken() {
        assert_eq!(
            form("application/json;as=Table;v=v1;g=meta.k8s.io,application/json").unwrap(),
            Form::Table
        );
        assert_eq!(form("application/vnd.kubernetes.protobuf,application/json").unwrap(), Form::Whole);
        assert_eq!(form("").unwrap(), Form::Whole);
        assert_eq!(form("application/vnd.kubernetes.protobuf").unwrap_err().code(), 406);
    }
}
