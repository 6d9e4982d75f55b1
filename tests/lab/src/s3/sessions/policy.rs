//! Session policies: allowances only, on keys and on listed prefixes, with `*` at the end.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(rename = "Version")]
    _version: Version,
    statement: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
enum Version {
    #[serde(rename = "2012-10-17")]
    Current,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    #[serde(rename = "Effect")]
    _effect: Effect,
    action: Vec<String>,
    resource: Vec<String>,
    condition: Option<Condition>,
}

#[derive(Debug, Deserialize)]
enum Effect {
    Allow,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Condition {
    string_like: Prefixes,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prefixes {
    #[serde(rename = "s3:prefix")]
    prefix: Vec<String>,
}

impl Policy {
    pub fn allows_object(&self, action: &str, bucket: &str, key: &str) -> bool {
        let object = format!("arn:aws:s3:::{bucket}/{key}");
        self.statement.iter().any(|statement| {
            statement.condition.is_none() && statement.is_of(action, |resource| like(resource, &object))
        })
    }

    pub fn allows_listing(&self, action: &str, bucket: &str, prefix: Option<&str>) -> bool {
        let bucket = format!("arn:aws:s3:::{bucket}");
        self.statement.iter().any(|statement| {
            let listed = statement.condition.as_ref().is_none_or(|condition| {
                let patterns = &condition.string_like.prefix;
                prefix.is_some_and(|prefix| patterns.iter().any(|pattern| like(pattern, prefix)))
            });
            listed && statement.is_of(action, |resource| resource == bucket)
        })
    }
}

impl Statement {
    fn is_of(&self, action: &str, on: impl Fn(&str) -> bool) -> bool {
        self.action.iter().any(|allowed| allowed == action)
            && self.resource.iter().any(|resource| on(resource))
    }
}

fn like(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => text == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::b/v/*"]},
        {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::b"],
         "Condition": {"StringLike": {"s3:prefix": ["v/*"]}}}]}"#;

    #[test]
    fn what_is_not_allowed_is_denied() {
        let policy: Policy = serde_json::from_str(POLICY).unwrap();
        assert!(policy.allows_object("s3:GetObject", "b", "v/k"));
        assert!(!policy.allows_object("s3:PutObject", "b", "v/k"));
        assert!(!policy.allows_object("s3:GetObject", "b", "w/k"));
        assert!(!policy.allows_object("s3:GetObject", "c", "v/k"));
        assert!(policy.allows_listing("s3:ListBucket", "b", Some("v/")));
        assert!(!policy.allows_listing("s3:ListBucket", "b", Some("")));
        assert!(!policy.allows_listing("s3:ListBucket", "b", None));
        assert!(!policy.allows_listing("s3:ListBucket", "c", Some("v/")));
    }

    #[test]
    fn a_policy_that_is_not_understood_is_refused() {
        for broken in [
            POLICY.replacen("Allow", "Deny", 1),
            POLICY.replace("StringLike", "StringNotLike"),
            POLICY.replace("2012-10-17", "2008-10-17"),
            POLICY.replacen("Resource", "NotResource", 1),
        ] {
            assert!(serde_json::from_str::<Policy>(&broken).is_err(), "{broken}");
        }
    }
}
