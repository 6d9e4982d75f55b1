//! The ServiceAccount plugin: a pod runs as an account that exists and gets its token mounted.

use rand::RngExt;
use serde_json::{Value, json};

use crate::apiserver::error::{ApiError, ApiResult};
use crate::apiserver::json::{default, list, name, namespace, place, set, text};
use crate::apiserver::store::Transaction;

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Letters of generated names: no vowels, so that no words come out.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A random suffix for a generated name.
pub fn suffix() -> String {
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

/// Names the account of a new pod and mounts its token.
pub fn admit(transaction: &Transaction<'_>, pod: &mut Value) -> ApiResult<()> {
    // A mirror pod reports what a kubelet runs by itself.
    if pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        return Ok(());
    }
    default(pod, &["spec", "serviceAccountName"], "default");
    let account_name = text(pod, &["spec", "serviceAccountName"]).to_owned();
    set(pod, &["spec", "serviceAccount"], account_name.clone());
    let key = (namespace(pod).to_owned(), account_name.clone());
    let Some(account) = transaction.get("/serviceaccounts", &key) else {
        return Err(ApiError::forbidden(
            "",
            "pods",
            name(pod),
            &format!(
                "error looking up service account {}/{account_name}: serviceaccount {account_name:?} not found",
                key.0
            ),
        ));
    };
    let mount = [&pod["spec"]["automountServiceAccountToken"], &account["automountServiceAccountToken"]]
        .iter()
        .find_map(|v| v.as_bool())
        .unwrap_or(true);
    if mount {
        mount_token(pod);
    }
    let secrets = list(&account, &["imagePullSecrets"]);
    if list(pod, &["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
        set(pod, &["spec", "imagePullSecrets"], secrets.to_vec());
    }
    Ok(())
}

fn mount_token(pod: &mut Value) {
    let volume = list(pod, &["spec", "volumes"])
        .iter()
        .map(|v| text(v, &["name"]))
        .find(|n| n.starts_with("kube-api-access-"))
        .map_or_else(|| format!("kube-api-access-{}", suffix()), str::to_owned);
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounts = place(container, &["volumeMounts"]);
            if !mounts.is_array() {
                *mounts = json!([]);
            }
            if let Some(mounts) = mounts.as_array_mut()
                && !mounts.iter().any(|m| m["mountPath"] == MOUNT)
            {
                mounts.push(json!({"name": volume, "mountPath": MOUNT, "readOnly": true}));
                used = true;
            }
        }
    }
    let there = list(pod, &["spec", "volumes"]).iter().any(|v| v["name"] == volume.as_str());
    if !used || there {
        return;
    }
    let volumes = place(pod, &["spec", "volumes"]);
    if !volumes.is_array() {
        *volumes = json!([]);
    }
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}
