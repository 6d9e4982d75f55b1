//! Bearer tokens: static ones from the options, and service accounts' tokens, which are JWTs that the
//! server signs with a key of its own and that die with the account or the pod that they are bound to.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{AUTHENTICATED, Identity, MASTERS};
use crate::apiserver::error::{ApiError, ApiResult};
use crate::apiserver::json::{list, number, text, uid};
use crate::apiserver::store::Store;

/// The issuer, and the audience of tokens for the API itself.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const DEFAULT: i64 = 3600;

/// Makes and reads tokens.
pub struct Tokens {
    fixed: HashMap<String, Identity>,
    signing: EncodingKey,
    checking: DecodingKey,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("fixed", &self.fixed.len()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Takes the static tokens and makes a signing key.
    pub fn new(admin: &str, more: &[(String, String, Vec<String>)]) -> Result<Self, String> {
        let key = KeyPair::generate().map_err(|e| e.to_string())?;
        let signing = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).map_err(|e| e.to_string())?;
        let checking =
            DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()).map_err(|e| e.to_string())?;
        let identity = |user: &str, groups: &[String]| {
            let mut groups = groups.to_vec();
            groups.push(AUTHENTICATED.to_owned());
            Identity { user: user.to_owned(), groups, ..Identity::default() }
        };
        let mut fixed: HashMap<String, Identity> =
            more.iter().map(|(token, user, groups)| (token.clone(), identity(user, groups))).collect();
        fixed.insert(admin.to_owned(), identity("kubernetes-admin", &[MASTERS.to_owned()]));
        Ok(Self { fixed, signing, checking })
    }

    /// Who a token is, if it is good for one of the audiences; with the audiences that it is good for.
    pub fn identify(
        &self,
        token: &str,
        audiences: &[String],
        store: &Store,
    ) -> Option<(Identity, Vec<String>)> {
        let api = vec![ISSUER.to_owned()];
        let audiences = if audiences.is_empty() { api.as_slice() } else { audiences };
        if let Some(identity) = self.fixed.get(token) {
            return Some((identity.clone(), audiences.to_vec()));
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.validate_aud = false;
        validation.validate_nbf = true;
        validation.leeway = 0;
        let claims = jsonwebtoken::decode::<Value>(token, &self.checking, &validation).ok()?.claims;
        let good: Vec<String> = list(&claims, &["aud"])
            .iter()
            .filter_map(Value::as_str)
            .filter(|aud| audiences.iter().any(|a| a == aud))
            .map(str::to_owned)
            .collect();
        if good.is_empty() {
            return None;
        }
        service_account(&claims, store).map(|identity| (identity, good))
    }

    /// Answers a `TokenRequest` for a service account.
    pub fn request(&self, account: &Value, body: &Value, store: &Store) -> ApiResult<Value> {
        let namespace = text(account, &["metadata", "namespace"]);
        let name = text(account, &["metadata", "name"]);
        let mut audiences: Vec<String> =
            list(body, &["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if audiences.is_empty() {
            audiences.push(ISSUER.to_owned());
        }
        let seconds = number(body, &["spec", "expirationSeconds"]).unwrap_or(DEFAULT);
        if !(SHORTEST..=LONGEST).contains(&seconds) {
            let detail = if seconds < SHORTEST {
                "may not specify a duration less than 10 minutes"
            } else {
                "may not specify a duration larger than 2^32 seconds"
            };
            return Err(ApiError::invalid(
                "authentication.k8s.io",
                "TokenRequest",
                name,
                &[crate::apiserver::error::FieldError::invalid(
                    "spec.expirationSeconds",
                    &json!(seconds),
                    detail,
                )],
            ));
        }
        let mut bound =
            json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": uid(account)}});
        let reference = &body["spec"]["boundObjectRef"];
        if reference.is_object() {
            let (kind, target) = (text(reference, &["kind"]), text(reference, &["name"]));
            let storage = match kind {
                "Pod" => "/pods",
                "Secret" => "/secrets",
                other => {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount {name:?} to object of kind {other:?}: use Pod or Secret"
                    )));
                }
            };
            let object = store
                .get(storage, &(namespace.to_owned(), target.to_owned()))
                .ok_or_else(|| ApiError::not_found("", &storage[1..], target))?;
            let wanted = text(reference, &["uid"]);
            if !wanted.is_empty() && wanted != uid(&object) {
                return Err(ApiError::conflict(
                    "",
                    &storage[1..],
                    target,
                    &format!(
                        "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
                    ),
                ));
            }
            if kind == "Pod" && text(&object, &["spec", "serviceAccountName"]) != name {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {name:?} to pod running with different serviceaccount name."
                )));
            }
            bound[kind.to_lowercase()] = json!({"name": target, "uid": uid(&object)});
        }
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({
            "iss": ISSUER,
            "aud": audiences,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": bound,
        });
        let token =
            jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing).map_err(|e| {
                ApiError::internal(format!("signing a token for service account {namespace}/{name}: {e}"))
            })?;
        let mut answer = body.clone();
        answer["kind"] = json!("TokenRequest");
        answer["apiVersion"] = json!("authentication.k8s.io/v1");
        answer["metadata"] =
            json!({"name": name, "namespace": namespace, "creationTimestamp": crate::apiserver::json::now()});
        answer["spec"]["audiences"] = json!(audiences);
        answer["spec"]["expirationSeconds"] = json!(seconds);
        answer["status"] =
            json!({"token": token, "expirationTimestamp": crate::apiserver::json::after_now(seconds)});
        Ok(answer)
    }
}

/// The identity in a token's claims, if what it is bound to is still there.
fn service_account(claims: &Value, store: &Store) -> Option<Identity> {
    let bound = &claims["kubernetes.io"];
    let namespace = text(bound, &["namespace"]);
    let name = text(bound, &["serviceaccount", "name"]);
    let account = store.get("/serviceaccounts", &(namespace.to_owned(), name.to_owned()))?;
    if uid(&account) != text(bound, &["serviceaccount", "uid"]) {
        return None;
    }
    let mut identity = Identity {
        user: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid(&account).to_owned(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            AUTHENTICATED.to_owned(),
        ],
        ..Identity::default()
    };
    let mut tell = |key: &str, value: &str| {
        identity.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    tell("credential-id", &format!("JTI={}", text(claims, &["jti"])));
    for (kind, storage) in [("pod", "/pods"), ("secret", "/secrets")] {
        let reference = &bound[kind];
        if !reference.is_object() {
            continue;
        }
        let target = text(reference, &["name"]);
        let object = store.get(storage, &(namespace.to_owned(), target.to_owned()))?;
        if uid(&object) != text(reference, &["uid"]) {
            return None;
        }
        if kind == "pod" {
            tell("pod-name", target);
            tell("pod-uid", uid(&object));
            let node = text(&object, &["spec", "nodeName"]);
            if !node.is_empty() {
                tell("node-name", node);
            }
        }
    }
    Some(identity)
}
