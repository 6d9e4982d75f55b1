//! ServiceAccounts: token Secrets, which the destination makes itself.

use serde_json::Value;

use super::{Scope, is, remove};
use crate::cluster::{name, text};

/// OpenShift's: which Secret its registry made for the account.
const CLUSTER_MADE: &[&str] = &["openshift.io/internal-registry-pull-secret-ref"];

/// Drops the account's token Secrets (and OpenShift's dockercfg ones, which its registry makes);
/// other Secrets and the pull secrets that people chose stay.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    if !is(object, "", "ServiceAccount") {
        return;
    }
    let account = name(object).to_owned();
    let generated = |secret: &Value| {
        let secret = text(secret, "/name");
        is_generated_name(secret, &format!("{account}-token-")) || is_pull_secret_made_for(&account, secret)
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
    remove(object, "/metadata/annotations", CLUSTER_MADE);
}

/// Whether a Secret is one that OpenShift made for the account to pull images with.
pub fn is_pull_secret_made_for(account: &str, secret: &str) -> bool {
    is_generated_name(secret, &format!("{account}-dockercfg-"))
}

/// Names of generated Secrets end in five random characters.
fn is_generated_name(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| {
        rest.len() == 5 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}
