//! Get, list and watch.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use hyper::Response;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Server;
use super::columns;
use super::error::{ApiError, ApiResult};
use super::json::{list, namespace, text};
use super::options::{self, Moment, moment};
use super::registry::Resource;
use super::reply::{self, Body};
use super::request::{Call, Form, Target, form};
use super::selectors::{FieldSelector, LabelSelector};
use super::store::{Backlog, Change, Event, Listing, Range};
use super::versions::presented;

/// How long a watch lasts when the client does not say.
const WATCH_SECONDS: u64 = 1800;
/// How often a quiet watch gets a bookmark.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// Frames that may wait for a slow connection before its watch stops reading changes.
const FRAMES: usize = 64;

/// What of a table a request selects.
#[derive(Debug)]
pub struct Selection {
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads the selectors of a request.
    pub fn of(call: &Call, target: &Target, resource: &Resource) -> ApiResult<Self> {
        let custom = resource.custom.as_ref().map(|c| c.selectable.as_slice());
        let mut fields =
            FieldSelector::parse(call.query.get("fieldSelector").unwrap_or(""), &resource.kind, custom)?;
        if !target.name.is_empty() {
            fields = FieldSelector::parse(&format!("metadata.name={}", target.name), &resource.kind, custom)?;
        }
        Ok(Self {
            namespace: (resource.namespaced && !target.namespace.is_empty())
                .then(|| target.namespace.clone()),
            labels: LabelSelector::parse(call.query.get("labelSelector").unwrap_or(""))?,
            fields,
        })
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        self.namespace.as_ref().is_none_or(|n| namespace(object) == n)
            && self.labels.matches(object)
            && self.fields.matches(object)
    }

    /// The namespace, if only one is asked for.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

/// One object in the form that the client wants.
pub fn show(call: &Call, resource: &Resource, stored: &Value) -> ApiResult<Value> {
    let object = presented(resource, stored);
    Ok(match form(&call.accept)?.fit(false, &resource.internal_name(false))? {
        Form::Whole => object.into_owned(),
        Form::Metadata | Form::MetadataList => columns::metadata_of(&object),
        Form::Table => {
            let metadata = json!({"resourceVersion": text(stored, &["metadata", "resourceVersion"])});
            columns::table(
                resource,
                &[&object],
                &metadata,
                call.query.get("includeObject").unwrap_or("Metadata"),
                true,
            )
        }
    })
}

/// Answers a get.
pub fn get(server: &Server, call: &Call, target: &Target, resource: &Resource) -> ApiResult<Response<Body>> {
    let key = (target.namespace_key(resource), target.name.clone());
    let stored = server
        .store
        .get(&resource.storage, &key)
        .ok_or_else(|| ApiError::not_found(&resource.group, &resource.plural, &target.name))?;
    Ok(reply::json(200, &show(call, resource, &stored)?))
}

/// Where a paged list goes on.
struct Place {
    /// The version of the first page; none in a token that lets go of consistency.
    version: Option<u64>,
    after: (String, String),
}

fn read_continue(token: &str) -> ApiResult<Place> {
    let bad = |why: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
    };
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).map_err(|e| bad(&e))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(&e))?;
    let version = value["rv"].as_i64().ok_or_else(|| bad(&"incorrect encoded start resourceVersion"))?;
    let after = (text(&value, &["ns"]).to_owned(), text(&value, &["n"]).to_owned());
    Ok(Place { version: u64::try_from(version).ok(), after })
}

fn write_continue(version: Option<u64>, key: &(String, String)) -> String {
    let version = version.map_or_else(|| json!(-1), |v| json!(v));
    let token = json!({"rv": version, "ns": key.0, "n": key.1}).to_string();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token)
}

/// Answers a list.
pub fn list_objects(
    server: &Server,
    call: &Call,
    target: &Target,
    resource: &Resource,
) -> ApiResult<Response<Body>> {
    let selection = Selection::of(call, target, resource)?;
    let limit = call.query.number("limit")?.filter(|l| *l > 0).and_then(|l| usize::try_from(l).ok());
    let mut range = Range { namespace: selection.namespace(), limit, ..Range::default() };
    let form = form(&call.accept)?.fit(true, &resource.internal_name(true))?;
    match moment(&call.query)? {
        Moment::Exact(at) => range.at = Some(at),
        Moment::NotOlderThan(at) if at > server.store.version() => {
            return Err(ApiError::too_new_version(at, server.store.version()));
        }
        Moment::Now | Moment::NotOlderThan(_) => {}
        Moment::Continue(token) => {
            let place = read_continue(&token)?;
            // An inconsistent token goes on from its key in whatever is there now.
            range.at = place.version;
            range.after = Some(place.after);
        }
    }
    let Listing { version, objects, more } = server
        .store
        .list(&resource.storage, &range, |o| selection.matches(o))
        .map_err(|error| match &range.after {
            Some(after) if error.code() == 410 => error.with_continue(&write_continue(None, after)),
            _ => error,
        })?;
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some((key, left)) = more {
        metadata["continue"] = json!(write_continue(Some(version), &key));
        if selection.labels.is_empty() && selection.fields.is_empty() {
            metadata["remainingItemCount"] = json!(left);
        }
    }
    let shown: Vec<_> = objects.iter().map(|o| presented(resource, o)).collect();
    let answer = match form {
        Form::Table => {
            let rows: Vec<&Value> = shown.iter().map(AsRef::as_ref).collect();
            columns::table(
                resource,
                &rows,
                &metadata,
                call.query.get("includeObject").unwrap_or("Metadata"),
                true,
            )
        }
        Form::Metadata | Form::MetadataList => {
            let items: Vec<Value> = shown.iter().map(|o| columns::metadata_of(o)).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
        }
        Form::Whole => {
            let items: Vec<&Value> = shown.iter().map(AsRef::as_ref).collect();
            json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": items})
        }
    };
    Ok(reply::json(200, &answer))
}

/// A watch under way.
struct Watch {
    resource: Arc<Resource>,
    selection: Selection,
    form: Form,
    include: String,
    bookmarks: bool,
    header_sent: bool,
}

impl Watch {
    /// The line for a change of an object.
    fn line(&mut self, kind: &str, object: &Value) -> Bytes {
        let object = presented(&self.resource, object);
        let shown = match self.form {
            Form::Whole => object.into_owned(),
            Form::Metadata | Form::MetadataList => columns::metadata_of(&object),
            Form::Table => {
                let header = !std::mem::replace(&mut self.header_sent, true);
                let metadata = json!({"resourceVersion": text(&object, &["metadata", "resourceVersion"])});
                columns::table(&self.resource, &[&object], &metadata, &self.include, header)
            }
        };
        framed(&json!({"type": kind, "object": shown}))
    }

    /// The line for a change, if the client's selection sees it: an object that ceases to match is
    /// deleted to it, one that starts to match is added.
    fn event(&mut self, event: &Event) -> Option<Bytes> {
        let before = event.before.as_ref().is_some_and(|b| self.selection.matches(b));
        let after = event.change != Change::Deleted && self.selection.matches(&event.object);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(self.line("ADDED", &event.object)),
            (true, true) => Some(self.line("MODIFIED", &event.object)),
            (true, false) if event.change == Change::Deleted => Some(self.line("DELETED", &event.object)),
            (true, false) => {
                // What the client last saw, at the version at which it ceased to match.
                let mut last = event.before.as_ref().map(|b| Value::clone(b)).unwrap_or_default();
                super::json::set(&mut last, &["metadata", "resourceVersion"], event.version.to_string());
                Some(self.line("DELETED", &last))
            }
        }
    }

    fn bookmark(&self, version: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Whole => {
                json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata})
            }
            Form::Metadata | Form::MetadataList => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Table => {
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": null,
                "rows": [{"cells": [], "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}}]})
            }
        };
        framed(&json!({"type": "BOOKMARK", "object": object}))
    }
}

fn framed(value: &Value) -> Bytes {
    let mut line = value.to_string();
    line.push('\n');
    Bytes::from(line)
}

/// Answers a watch.
pub fn watch(
    server: &Arc<Server>,
    call: &Call,
    target: &Target,
    resource: &Arc<Resource>,
) -> ApiResult<Response<Body>> {
    let selection = Selection::of(call, target, resource)?;
    let version = options::number(&call.query)?;
    let initial = call.query.flag("sendInitialEvents") && call.query.get("sendInitialEvents").is_some();
    let forbids_initial = call.query.get("sendInitialEvents") == Some("false");
    let bookmarks = call.query.flag("allowWatchBookmarks") && call.query.get("allowWatchBookmarks").is_some();
    if initial && (!bookmarks || call.query.get("resourceVersionMatch") != Some("NotOlderThan")) {
        return Err(ApiError::invalid(
            "meta.k8s.io",
            "ListOptions",
            "",
            &[super::error::FieldError::forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan and allowWatchBookmarks to true",
            )],
        ));
    }
    // Version 0 and no version at all begin with what is there.
    let since = version.filter(|v| *v > 0 && !initial);
    let mut watch = Watch {
        resource: Arc::clone(resource),
        selection,
        form: form(&call.accept)?,
        include: call.query.get("includeObject").unwrap_or("Metadata").to_owned(),
        bookmarks,
        header_sent: false,
    };
    let subscription = match server.store.watch(&resource.storage, since) {
        Ok(subscription) => subscription,
        // A watch that is too old is answered within the stream.
        Err(error) => {
            let line = framed(&json!({"type": "ERROR", "object": error.status()}));
            return Ok(reply::stream("application/json", futures::stream::iter([line])));
        }
    };
    let seconds = call.query.number("timeoutSeconds")?.unwrap_or(WATCH_SECONDS);
    let (frames, receiver) = mpsc::channel::<Bytes>(FRAMES);
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let version = subscription.version;
        let mut changes = subscription.changes;
        let mut opening = Vec::new();
        match subscription.backlog {
            Backlog::Objects(_) if forbids_initial => {}
            Backlog::Objects(objects) => {
                for object in &objects {
                    if watch.selection.matches(object) {
                        opening.push(watch.line("ADDED", object));
                    }
                }
                if initial {
                    opening.push(watch.bookmark(version, true));
                }
            }
            Backlog::Changes(missed) => opening.extend(missed.iter().filter_map(|event| watch.event(event))),
        }
        for line in opening {
            if frames.send(line).await.is_err() {
                return;
            }
        }
        let end = tokio::time::sleep(Duration::from_secs(seconds));
        tokio::pin!(end);
        let mut tick = tokio::time::interval(BOOKMARK_EVERY);
        tick.tick().await;
        loop {
            let line = tokio::select! {
                biased;
                () = server.stopping.cancelled() => return,
                () = frames.closed() => return,
                () = &mut end => {
                    if watch.bookmarks && let Some(version) = server.store.settled(&changes) {
                        // The client may be gone by now; the watch ends either way.
                        let _ = frames.send(watch.bookmark(version, false)).await;
                    }
                    return;
                }
                event = changes.recv() => {
                    let Some(event) = event else {
                        let error = ApiError::expired("the watch fell too far behind or its resource is served no more: list again and watch from there");
                        // The watch ends either way.
                        let _ = frames.send(framed(&json!({"type": "ERROR", "object": error.status()}))).await;
                        return;
                    };
                    watch.event(&event)
                }
                _ = tick.tick() => watch.bookmarks.then(|| server.store.settled(&changes)).flatten().map(|v| watch.bookmark(v, false)),
            };
            if let Some(line) = line
                && frames.send(line).await.is_err()
            {
                return;
            }
        }
    });
    let lines = tokio_stream::wrappers::ReceiverStream::new(receiver);
    Ok(reply::stream("application/json", lines))
}

/// The paths of a scale part in an object.
pub fn replicas_path(resource: &Resource) -> Option<(String, String, String)> {
    match &resource.custom {
        Some(custom) => custom.scale.clone(),
        None => {
            Some((".spec.replicas".to_owned(), ".status.replicas".to_owned(), ".spec.selector".to_owned()))
        }
    }
}

/// A label selector object in the query form.
pub fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let labels = selector.get("matchLabels").unwrap_or(selector);
    let mut terms: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    for expression in list(selector, &["matchExpressions"]) {
        let key = text(expression, &["key"]);
        let values: Vec<&str> = list(expression, &["values"]).iter().filter_map(Value::as_str).collect();
        terms.push(match text(expression, &["operator"]) {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    terms.join(",")
}
