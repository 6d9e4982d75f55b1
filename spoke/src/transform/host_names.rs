//! Host names of services in renamed namespaces, in people's own texts.
//!
//! Where texts are configuration of a program - data of ConfigMaps, environment, commands,
//! arguments, probes, the names that pods search, an ExternalName, a webhook's URL - they are
//! rewritten if the run asks for it (`rewriteHostNames`). Anywhere else, and without that option,
//! they stay. Either way each is told, so that nobody has to search for them. In Secrets they are
//! told by their key alone and never changed.
//!
//! The same texts may name a namespace alone (`WATCH_NAMESPACE`, `--namespace=shop`). What they mean
//! by it is the program's to know: they are told and left.
//!
//! The walk is here; what a host name is, is [`hosts`]'.

mod hosts;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use self::hosts::Found;
use super::chosen::LAST_APPLIED;
use super::notes::{Notes, quote};
use super::{Namespaces, Scope, is};

/// Fields below which texts are configuration of a program.
const CONFIGURATION: &[&str] = &[
    "args",
    "clientConfig",
    "command",
    "dnsConfig",
    "env",
    "externalName",
    "hostAliases",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
];

/// No host names of the object's own: a copy of it, a schema, and images (whose registry another
/// rule maps).
const NOT_SEARCHED: &[&str] = &["image", LAST_APPLIED, "openAPIV3Schema"];

const REWRITTEN: &str = "HostNameRewritten";
const LEFT: &str = "HostNameOfRenamedNamespace";

/// Rewrites or tells them.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    let options = scope.options;
    if !options.namespaces.any_renamed() {
        return;
    }
    if is(object, "", "Secret") {
        secret(object, &options.namespaces, &mut scope.notes);
        return;
    }
    let data = is(object, "", "ConfigMap");
    let mut search = Search {
        names: &options.namespaces,
        change: options.rewrite_host_names,
        notes: &mut scope.notes,
        path: Vec::new(),
    };
    let Some(fields) = object.as_object_mut() else { return };
    for (key, value) in fields {
        search.field(key, value, data && key == "data");
    }
}

struct Search<'a> {
    names: &'a Namespaces,
    change: bool,
    notes: &'a mut Notes,
    path: Vec<String>,
}

impl Search<'_> {
    fn field(&mut self, key: &str, value: &mut Value, configuration: bool) {
        if NOT_SEARCHED.contains(&key) {
            return;
        }
        self.path.push(key.to_owned());
        self.value(value, configuration || CONFIGURATION.contains(&key));
        self.path.pop();
    }

    fn value(&mut self, value: &mut Value, configuration: bool) {
        match value {
            Value::Object(map) => {
                if configuration && let Some(variable) = map.get("name").and_then(Value::as_str) {
                    let value = map.get("value").and_then(Value::as_str).unwrap_or_default();
                    self.namespace(variable, value);
                }
                for (key, value) in map {
                    if let (true, Some(text)) = (configuration, value.as_str()) {
                        self.namespace(key, text);
                    }
                    self.field(key, value, configuration);
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|item| self.value(item, configuration)),
            Value::String(text) => self.text(text, configuration),
            _ => {}
        }
    }

    /// Tells of a setting that is called a namespace and names a renamed one.
    fn namespace(&mut self, setting: &str, value: &str) {
        if let Some(to) = self.names.renamed(value.trim())
            && setting.to_ascii_lowercase().contains("namespace")
        {
            let place = [&self.path.join("."), setting].join(".");
            self.notes.unsure(&place, value.trim(), to);
        }
    }

    fn text(&mut self, text: &mut String, configuration: bool) {
        if configuration && let Some((option, value)) = text.split_once('=') {
            self.namespace(option, value);
        }
        let found = hosts::find(text, self.names);
        if found.is_empty() {
            return;
        }
        let place = quote(&self.path.join("."));
        for host in &found {
            if self.change && configuration && host.certain {
                self.notes.push(REWRITTEN, format!("{place}: {} -> {}", host.name(text), host.renamed(text)));
            } else {
                self.notes.push(LEFT, left(&place, host, text, self.change, configuration));
            }
        }
        if self.change && configuration {
            *text = hosts::replace(text, &found);
        }
    }
}

/// Says of a host name why it was left, and what to do.
fn left(place: &str, host: &Found, text: &str, asked: bool, configuration: bool) -> String {
    let (name, renamed) = (host.name(text), host.renamed(text));
    if !host.certain {
        format!(
            "{place} holds {name}, which may be a service and was left as it is: if it is, change it to {renamed} by a transform"
        )
    } else if asked || !configuration {
        format!(
            "{place} holds {name}, which is {renamed} on the destination, and was left as it is: change it by a transform"
        )
    } else {
        format!(
            "{place} holds {name}, which is {renamed} on the destination, and was left as it is: set rewriteHostNames, or change it by a transform"
        )
    }
}

/// A Secret's values are not quoted, and not changed: what they are is its owner's to know.
fn secret(object: &Value, names: &Namespaces, notes: &mut Notes) {
    for (field, encoded) in [("data", true), ("stringData", false)] {
        let values = object.get(field).and_then(Value::as_object);
        for (key, value) in values.into_iter().flatten() {
            let Some(value) = value.as_str() else { continue };
            let decoded =
                encoded.then(|| STANDARD.decode(value).ok().and_then(|v| String::from_utf8(v).ok()));
            let text = decoded.map_or(Some(value.to_owned()), |decoded| decoded).unwrap_or_default();
            let count = hosts::find(&text, names).len();
            if count > 0 {
                let message = format!(
                    "{field}.{key} holds {count} host names of renamed namespaces, and Secrets are left as they are: change it on the destination"
                );
                notes.push(LEFT, message);
            }
        }
    }
}

#[cfg(test)]
mod tests;
