//! ServiceAccounts: token Secrets, which the destination makes itself.

use serde_json::Value;

use super::{Scope, is, remove};
use crate::cluster::{name, text};

/// Drops the account's token Secrets (and OpenShift's dockercfg ones, which its registry makes);
/// other Secrets and the pull secrets that people chose stay.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    if !is(object, "", "ServiceAccount") {
        return;
    }
    let account = name(object).to_owned();
    let generated = |secret: &Value| {
        let secret = text(secret, "/name");
        ["token", "dockercfg"].iter().any(|kind| is_generated_name(secret, &format!("{account}-{kind}-")))
    };
    for list in ["secrets", "imagePullSecrets"] {
        let entries = object.get_mut(list).and_then(Value::as_array_mut);
        let emptied = entries.is_some_and(|entries| {
            entries.retain(|secret| !generated(secret));
            entries.is_empty()
        });
        if emptied {
            remove(object, "", &[list]);
        }
    }
}

/// Names of generated Secrets end in five random characters.
fn is_generated_name(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| {
        rest.len() == 5 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}
