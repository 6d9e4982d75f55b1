//! Reads objects that typed clients send in Kubernetes' protobuf form; answers are always JSON.
//!
//! `protobuf_fields.txt` says what the messages' fields are: a line without indentation names a type,
//! the lines under it the number, name and type of a field. `*` is a list, `map:` a map, `?` a field
//! whose zero is a value, `^` a message whose fields stand in the object itself.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine;
use serde_json::{Map, Value, json};

use super::error::{ApiError, ApiResult};

/// The content type.
pub const MEDIA: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may lie within one another.
const MAX_DEPTH: usize = 64;

struct Field {
    name: &'static str,
    ty: &'static str,
}

type Message = HashMap<u64, Field>;

static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    let mut messages: HashMap<&str, Message> = HashMap::new();
    let mut current = "";
    for line in include_str!("protobuf_fields.txt").lines() {
        let Some(field) = line.strip_prefix("  ") else {
            current = line.trim();
            continue;
        };
        let mut words = field.split(' ');
        let number = words.next().and_then(|n| n.parse().ok());
        if let (Some(number), Some(name), Some(ty)) = (number, words.next(), words.next()) {
            messages.entry(current).or_default().insert(number, Field { name, ty });
        }
    }
    messages
});

/// One field on the wire.
enum Wire<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

/// Bytes that are no message.
struct Damaged;

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next field, if there is one; damaged if the bytes are no message.
    fn next(&mut self) -> Option<Result<(u64, Wire<'a>), Damaged>> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.field().ok_or(Damaged))
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Fixed(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed(u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?))),
            _ => return None,
        };
        Some((key >> 3, wire))
    }
}

/// Reads an object with its envelope.
pub fn decode(bytes: &[u8]) -> ApiResult<Value> {
    let bad = || {
        ApiError::bad_request(
            "the object provided is unrecognized (its protobuf form is damaged): send it again, or as JSON",
        )
    };
    let mut envelope = Reader(bytes.strip_prefix(MAGIC).ok_or_else(bad)?);
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while let Some(field) = envelope.next() {
        match field.map_err(|Damaged| bad())? {
            (1, Wire::Bytes(meta)) => {
                let mut meta = Reader(meta);
                while let Some(field) = meta.next() {
                    match field.map_err(|Damaged| bad())? {
                        (1, Wire::Bytes(text)) => api_version = String::from_utf8_lossy(text).into_owned(),
                        (2, Wire::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let ty = type_of(&api_version, &kind);
    if !MESSAGES.contains_key(ty.as_str()) {
        return Err(ApiError::new(
            415,
            "UnsupportedMediaType",
            format!("this server does not read {api_version} {kind} as {MEDIA}: send it as application/json"),
        ));
    }
    let mut object = message(&ty, raw, 0).ok_or_else(bad)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}

fn type_of(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        return "meta.v1.DeleteOptions".to_owned();
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let group = group.split('.').next().unwrap_or(group);
    format!("{group}.{version}.{kind}")
}

fn message(ty: &str, bytes: &[u8], depth: usize) -> Option<Map<String, Value>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let nothing = Message::new();
    let fields = MESSAGES.get(ty).unwrap_or(&nothing);
    let mut object = Map::new();
    let mut reader = Reader(bytes);
    while let Some(field) = reader.next() {
        let (number, wire) = field.ok()?;
        let Some(field) = fields.get(&number) else { continue };
        if let Some(element) = field.ty.strip_prefix('*') {
            let value = value(element, &wire, depth)?;
            if let Value::Array(list) = object.entry(field.name).or_insert_with(|| json!([])) {
                list.push(value);
            }
        } else if let Some(element) = field.ty.strip_prefix("map:") {
            let Wire::Bytes(entry) = wire else { return None };
            let (key, value) = map_entry(element, entry, depth)?;
            if let Value::Object(map) = object.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
        } else if let Some(inner) = field.ty.strip_prefix('^') {
            let Wire::Bytes(inside) = wire else { return None };
            object.extend(message(inner, inside, depth + 1)?);
        } else {
            let (ty, zero_is_a_value) = field.ty.strip_prefix('?').map_or((field.ty, false), |ty| (ty, true));
            let value = value(ty, &wire, depth)?;
            if zero_is_a_value || !is_zero(&value) {
                object.insert(field.name.to_owned(), value);
            }
        }
    }
    Some(object)
}

/// What a typed client writes for a field that was not set.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn map_entry(ty: &str, bytes: &[u8], depth: usize) -> Option<(String, Value)> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader(bytes);
    while let Some(field) = reader.next() {
        match field.ok()? {
            (1, Wire::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
            (2, wire) => {
                // A list as a map's value is a message with the items.
                found = Some(match (ty.strip_prefix('*'), wire) {
                    (Some(element), Wire::Bytes(items)) => list_value(element, items, depth)?,
                    (_, wire) => value(ty, &wire, depth)?,
                });
            }
            _ => {}
        }
    }
    Some((key, found.unwrap_or_else(|| json!(""))))
}

fn list_value(ty: &str, bytes: &[u8], depth: usize) -> Option<Value> {
    let mut items = Vec::new();
    let mut reader = Reader(bytes);
    while let Some(field) = reader.next() {
        if let (1, wire) = field.ok()? {
            items.push(value(ty, &wire, depth)?);
        }
    }
    Some(Value::Array(items))
}

fn value(ty: &str, wire: &Wire<'_>, depth: usize) -> Option<Value> {
    Some(match (ty, wire) {
        ("string", Wire::Bytes(bytes)) => json!(String::from_utf8_lossy(bytes)),
        ("bytes", Wire::Bytes(bytes)) => json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
        ("bool", Wire::Number(n)) => json!(*n != 0),
        // Negative numbers are sign-extended to 64 bits on the wire.
        ("int32" | "int64", Wire::Number(n)) => json!(n.cast_signed()),
        ("double", Wire::Fixed(bits)) => json!(f64::from_bits(*bits)),
        ("Quantity", Wire::Bytes(bytes)) => first_text(bytes)?,
        ("IntOrString", Wire::Bytes(bytes)) => int_or_string(bytes)?,
        ("meta.v1.Time" | "meta.v1.MicroTime", Wire::Bytes(bytes)) => time(bytes, ty.ends_with("MicroTime"))?,
        ("RawExtension", Wire::Bytes(bytes)) => {
            let Wire::Bytes(raw) = Reader(bytes).field()?.1 else { return None };
            serde_json::from_slice(raw).ok()?
        }
        (ty, Wire::Bytes(bytes)) => Value::Object(message(ty, bytes, depth + 1)?),
        _ => return None,
    })
}

fn first_text(bytes: &[u8]) -> Option<Value> {
    match Reader(bytes).field()? {
        (1, Wire::Bytes(text)) => Some(json!(String::from_utf8_lossy(text))),
        _ => None,
    }
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    let mut reader = Reader(bytes);
    while let Some(field) = reader.next() {
        match field.ok()? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(n)) => number = n.cast_signed(),
            (3, Wire::Bytes(bytes)) => text = String::from_utf8_lossy(bytes).into_owned(),
            _ => {}
        }
    }
    Some(if is_text { json!(text) } else { json!(number) })
}

fn time(bytes: &[u8], micro: bool) -> Option<Value> {
    let (mut seconds, mut nanos) = (None, 0);
    let mut reader = Reader(bytes);
    while let Some(field) = reader.next() {
        match field.ok()? {
            (1, Wire::Number(n)) => seconds = Some(n.cast_signed()),
            (2, Wire::Number(n)) => nanos = i32::try_from(n.cast_signed()).ok()?,
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Some(Value::Null) };
    // The zero time of the clients' language stands for no time.
    if seconds < -62_000_000_000 {
        return Some(Value::Null);
    }
    let at = jiff::Timestamp::new(seconds, nanos).ok()?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Some(json!(at.strftime(format).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    fn namespace() -> Vec<u8> {
        let mut meta = bytes_field(1, b"v1");
        meta.extend(bytes_field(2, b"Namespace"));
        let mut object_meta = bytes_field(1, b"team");
        object_meta.extend(bytes_field(2, b""));
        let mut label = bytes_field(1, b"a");
        label.extend(bytes_field(2, b"b"));
        object_meta.extend(bytes_field(11, &label));
        let mut raw = bytes_field(1, &object_meta);
        raw.extend(bytes_field(2, b""));
        let mut all = MAGIC.to_vec();
        all.extend(bytes_field(1, &meta));
        all.extend(bytes_field(2, &raw));
        all
    }

    #[test]
    fn an_object_is_read_without_the_fields_that_were_not_set() {
        assert_eq!(
            decode(&namespace()).unwrap(),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "labels": {"a": "b"}}})
        );
    }

    #[test]
    fn damaged_bytes_are_refused_wherever_they_are_cut() {
        let whole = namespace();
        for end in 0..whole.len() {
            // A cut between two fields leaves a shorter but whole message.
            if let Ok(object) = decode(&whole[..end]) {
                assert_ne!(object, decode(&whole).unwrap());
            }
        }
    }
}
