//! What differs between two states of an object, as a unified diff of its YAML.
//!
//! ```text
//!   shown    pure: the object without what the API server keeps for itself, and without secrets
//!     |
//!   yaml     pure: text with sorted keys, a line of a text a line of YAML
//!     |
//!   diff     the lines that differ, with what stands around them, at most `MAX_DIFF` bytes
//! ```
//!
//! Promises: no value of a Secret is in a diff, only its length and whether it changed; two states
//! that a person would call the same have no diff; a diff never takes long, however large the
//! object.

mod shown;
mod yaml;

use std::fmt::Write as _;
use std::time::Duration;

use isthmus_shared::protocol::MAX_DIFF;
use serde_json::Value;
use similar::TextDiff;

/// For how long the shortest diff is looked for; after that a longer one has to do.
const PATIENCE: Duration = Duration::from_millis(200);
/// Lines around each change.
const CONTEXT: usize = 3;
/// Room for the line that says that a diff was cut off.
const LAST_LINE: usize = 96;

/// A state of an object, and what it is called in the diff's head.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    /// `on the destination`, `after the migration`.
    pub name: &'a str,
    /// The object.
    pub object: &'a Value,
}

/// The unified diff of two states; none if there is nothing in it for a person.
pub fn diff(before: State<'_>, after: State<'_>) -> Option<String> {
    let (old, new) = shown::pair(before.object, after.object);
    if old == new {
        return None;
    }
    let (old, new) = (yaml::render(&old), yaml::render(&new));
    let lines = TextDiff::configure().timeout(PATIENCE).diff_lines(old.as_str(), new.as_str());
    let text = lines.unified_diff().context_radius(CONTEXT).header(before.name, after.name).to_string();
    (!text.is_empty()).then(|| bounded(text))
}

/// Whether two states are the same in everything that is not the API server's own.
pub fn is_same(before: &Value, after: &Value) -> bool {
    shown::content(before) == shown::content(after)
}

/// Cuts a diff off at the end of a line, and says so.
fn bounded(mut text: String) -> String {
    if text.len() <= MAX_DIFF {
        return text;
    }
    let mut end = MAX_DIFF - LAST_LINE;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // A line that is longer than all there is room for is cut in its middle.
    let whole = text[..end].rfind('\n').map_or(end, |line_end| line_end + 1);
    let kept = if whole > end / 2 { whole } else { end };
    let left_out = text[kept..].lines().count();
    text.truncate(kept);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "[cut off here: {left_out} more lines]");
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn diff_of(before: &Value, after: &Value) -> Option<String> {
        diff(State { name: "there", object: before }, State { name: "after", object: after })
    }

    #[test]
    fn a_diff_shows_changed_lines_with_what_stands_around_them() {
        let deployment = |replicas: u32, image: &str| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "uid": "u"},
                   "spec": {"replicas": replicas, "template": {"spec": {"containers": [
                       {"name": "web", "image": image, "args": ["--a", "b c"]}]}}}})
        };
        let text = diff_of(&deployment(1, "web:1"), &deployment(2, "web:2")).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn states_that_differ_in_what_the_api_server_keeps_have_no_diff() {
        let before = json!({"kind": "ConfigMap", "metadata": {"name": "x", "uid": "1", "resourceVersion": "1",
            "generation": 1, "creationTimestamp": "t", "managedFields": [1],
            "labels": {"isthmus.dev/migrated-by": "a", "isthmus.dev/plan": "p"}}, "status": {"a": 1}});
        let after = json!({"kind": "ConfigMap", "metadata": {"name": "x", "labels": {"isthmus.dev/migrated-by": "b"}}});
        assert_eq!(diff_of(&before, &after), None);
        assert!(is_same(&before, &after));
        let labelled = json!({"kind": "ConfigMap", "metadata": {"name": "x", "labels": {"app": "x"}}});
        assert!(!is_same(&after, &labelled));
    }

    #[test]
    fn a_secrets_values_are_in_no_diff() {
        let secret = |password: &str, user: &str| {
            let applied = format!("{{\"data\":{{\"password\":\"{password}\"}}}}");
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "annotations": {
                       "kubectl.kubernetes.io/last-applied-configuration": applied}},
                   "data": {"password": password, "user": user, "tls.key": "c2VjcmV0"}, "stringData": {"x": password}})
        };
        // `hunter2`, `changed!` and `root`.
        let text = diff_of(&secret("aHVudGVyMg==", "cm9vdA=="), &secret("Y2hhbmdlZCE=", "cm9vdA==")).unwrap();
        for leaked in ["aHVudGVyMg", "Y2hhbmdlZCE", "cm9vdA", "c2VjcmV0", "hunter2"] {
            assert!(!text.contains(leaked), "{text}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_long_diff_is_cut_off_and_says_so() {
        let map = |of: &str, lines: usize| json!({"kind": "ConfigMap", "data": {"x": format!("{of} é\n").repeat(lines)}});
        let text = diff_of(&map("old", 9_000), &map("new", 9_000)).unwrap();
        assert!(text.len() <= MAX_DIFF, "{}", text.len());
        assert!(text.lines().last().unwrap().starts_with("[cut off here: "));
        let line = |of: &str| json!({"kind": "ConfigMap", "data": {"x": of.repeat(200_000)}});
        let text = diff_of(&line("ä"), &line("b")).unwrap();
        assert!(text.len() <= MAX_DIFF && text.ends_with("more lines]\n"));
    }
}
