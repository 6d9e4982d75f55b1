//! The managers' books: read from and written to `metadata.managedFields`, and kept up to date when
//! an object is created, updated or patched.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::set::FieldSet;
use super::typed;
use crate::apiserver::json::{at, list, now, set, text};
use crate::apiserver::schema::Schema;

/// Managers by update that one object keeps apart; older ones become one.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Who manages, and by what kind of write. The apiVersion tells updates apart, not applies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// `Apply` sorts before `Update`.
    pub operation: &'static str,
    /// The name.
    pub name: String,
    /// The apiVersion of updates; empty for applies.
    pub api_version: String,
    /// The part that was written; empty for the object.
    pub subresource: String,
}

/// What a manager manages.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The fields.
    pub set: FieldSet,
    /// The apiVersion of the last write.
    pub api_version: String,
    /// The time of the last write.
    pub time: String,
}

/// All managers of an object.
pub type Books = BTreeMap<Manager, Entry>;

/// Reads `metadata.managedFields`.
pub fn read(object: &Value) -> Books {
    let mut books = Books::new();
    for entry in list(object, &["metadata", "managedFields"]) {
        let api_version = text(entry, &["apiVersion"]).to_owned();
        let applied = text(entry, &["operation"]) == "Apply";
        let manager = Manager {
            operation: if applied { "Apply" } else { "Update" },
            name: text(entry, &["manager"]).to_owned(),
            api_version: if applied { String::new() } else { api_version.clone() },
            subresource: text(entry, &["subresource"]).to_owned(),
        };
        let set = FieldSet::from_json(at(entry, &["fieldsV1"]));
        if manager.name.is_empty() && set.is_empty() {
            continue;
        }
        books.insert(manager, Entry { set, api_version, time: text(entry, &["time"]).to_owned() });
    }
    books
}

/// Writes `metadata.managedFields`; entries whose fields did not change keep their time.
pub fn write(object: &mut Value, books: &Books, before: &Books) {
    let now = now();
    let mut entries: Vec<(&Manager, &Entry, String)> = books
        .iter()
        .filter(|(_, entry)| !entry.set.is_empty())
        .map(|(manager, entry)| {
            let same = before
                .get(manager)
                .filter(|old| old.set == entry.set && old.api_version == entry.api_version);
            let time = same.map_or_else(|| now.clone(), |old| old.time.clone());
            (manager, entry, time)
        })
        .collect();
    entries.sort_by(|a, b| (a.0.operation, &a.2, a.0).cmp(&(b.0.operation, &b.2, b.0)));
    let entries: Vec<Value> = entries
        .into_iter()
        .map(|(manager, entry, time)| {
            let mut fields = json!({
                "manager": manager.name,
                "operation": manager.operation,
                "apiVersion": entry.api_version,
                "time": time,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.set.to_json(),
            });
            if !manager.subresource.is_empty() {
                fields["subresource"] = json!(manager.subresource);
            }
            fields
        })
        .collect();
    if entries.is_empty() {
        crate::apiserver::json::remove(object, &["metadata", "managedFields"]);
    } else {
        set(object, &["metadata", "managedFields"], entries);
    }
}

/// Fields that the server keeps and nobody manages.
const NOBODYS: [&[&str]; 12] = [
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
    &["f:metadata", "f:deletionTimestamp"],
    &["f:metadata", "f:deletionGracePeriodSeconds"],
];

/// Takes out of a set what nobody manages, and what a write to this part cannot set.
pub fn strip(fields: &mut FieldSet, subresource: &str, has_status: bool) {
    fields.member = false;
    for path in NOBODYS {
        fields.forget(path);
    }
    if let Some(metadata) = fields.children.get_mut("f:metadata") {
        metadata.member = false;
        if metadata.is_empty() {
            fields.children.remove("f:metadata");
        }
    }
    if subresource.is_empty() && has_status {
        fields.forget(&["f:status"]);
    }
    if subresource == "status" {
        fields.children.retain(|element, _| element == "f:status" || element == "f:metadata");
    }
}

/// The name of a manager: the one given, else the client's name from its user agent.
pub fn manager_name(given: Option<&str>, user_agent: &str) -> String {
    let name =
        given.filter(|name| !name.is_empty()).unwrap_or_else(|| user_agent.split('/').next().unwrap_or(""));
    let name: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// A write that is not an apply.
#[derive(Debug)]
pub struct Write<'a> {
    /// Who writes.
    pub manager: &'a str,
    /// The part that is written; empty for the object.
    pub subresource: &'a str,
    /// The version that the request speaks.
    pub api_version: &'a str,
    /// Whether the kind has a status part.
    pub has_status: bool,
    /// The kind's schema.
    pub schema: &'a Schema,
}

/// Enters in the books what changed from the old object to the new one.
pub fn track(old: Option<&Value>, new: &mut Value, write_: &Write<'_>) {
    // A client that sends managedFields as [{}] clears the books.
    let cleared = list(new, &["metadata", "managedFields"])
        .first()
        .is_some_and(|e| e.as_object().is_some_and(serde_json::Map::is_empty));
    let before = old.map(read).unwrap_or_default();
    let mut books = if cleared { Books::new() } else { before.clone() };
    crate::apiserver::json::remove(new, &["metadata", "managedFields"]);
    let nothing = json!({"metadata": {}});
    let difference = typed::compare(old.unwrap_or(&nothing), new, Some(write_.schema));
    let (mut changed, mut removed) = (difference.changed, difference.removed);
    strip(&mut changed, write_.subresource, write_.has_status);
    strip(&mut removed, write_.subresource, write_.has_status);
    let manager = Manager {
        operation: "Update",
        name: write_.manager.to_owned(),
        api_version: write_.api_version.to_owned(),
        subresource: write_.subresource.to_owned(),
    };
    let lost = changed.union(&removed);
    for (other, entry) in &mut books {
        entry.set = entry.set.minus(if *other == manager { &removed } else { &lost });
    }
    if !changed.is_empty() {
        let entry = books.entry(manager).or_insert_with(|| Entry {
            set: FieldSet::default(),
            api_version: write_.api_version.to_owned(),
            time: String::new(),
        });
        entry.set = entry.set.union(&changed);
    }
    cap(&mut books);
    write(new, &books, &before);
}

/// Unites the oldest update managers when there are too many.
fn cap(books: &mut Books) {
    books.retain(|_, entry| !entry.set.is_empty());
    let mut updates: Vec<(String, Manager)> = books
        .iter()
        .filter(|(manager, _)| manager.operation == "Update")
        .map(|(manager, entry)| (entry.time.clone(), manager.clone()))
        .collect();
    if updates.len() <= MAX_UPDATE_MANAGERS {
        return;
    }
    // The newest writer has no time yet and is not among the old ones.
    updates.sort_by_key(|(time, manager)| (time.is_empty(), time.clone(), manager.clone()));
    let surplus = updates.len() - MAX_UPDATE_MANAGERS + 1;
    for (_, manager) in updates.into_iter().take(surplus) {
        let Some(entry) = books.remove(&manager) else { continue };
        let ancient = Manager { name: ANCIENT.to_owned(), ..manager };
        let into =
            books.entry(ancient).or_insert_with(|| Entry { set: FieldSet::default(), ..entry.clone() });
        into.set = into.set.union(&entry.set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::schema::builtin;

    fn write_as<'a>(manager: &'a str, schema: &'a Schema) -> Write<'a> {
        Write { manager, subresource: "", api_version: "v1", has_status: false, schema }
    }

    #[test]
    fn a_change_moves_the_field_to_the_one_who_made_it() {
        let schema = builtin::definition("io.k8s.api.core.v1.ConfigMap");
        let mut first = json!({"metadata": {"name": "a"}, "data": {"x": "1", "y": "1"}});
        track(None, &mut first, &write_as("one", schema));
        assert_eq!(
            first["metadata"]["managedFields"][0]["fieldsV1"],
            json!({"f:data": {".": {}, "f:x": {}, "f:y": {}}})
        );
        let mut second = first.clone();
        second["data"]["x"] = json!("2");
        track(Some(&first), &mut second, &write_as("two", schema));
        let books = read(&second);
        let of = |name: &str| books.iter().find(|(m, _)| m.name == name).unwrap().1.set.paths();
        assert_eq!(of("one"), [".data", ".data.y"]);
        assert_eq!(of("two"), [".data.x"]);
    }
}
