//! A Secret that every replica of the hub uses and whichever comes first makes.

use std::collections::BTreeMap;

use isthmus_shared::resources::FIELD_MANAGER;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

/// How often it is looked for and made: each further attempt means that somebody made and
/// removed it in between.
const MAX_ATTEMPTS: usize = 5;

/// The data of a Secret.
pub(crate) type Data = BTreeMap<String, ByteString>;

/// A Secret could not be read or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error(
        "{operation} the Secret {name} failed: {source}; grant the hub get, create and update on secrets in its namespace"
    )]
    Api { operation: &'static str, name: String, source: Box<kube::Error> },
    #[error("the Secret {name} appears and disappears: look who deletes it")]
    Unstable { name: String },
}

/// The Secret of that name, made with `data` if there is none. Of several replicas that come
/// here at once, all get what the first has made.
pub(crate) async fn get_or_create(api: &Api<Secret>, name: &str, data: &Data) -> Result<Secret, SecretError> {
    let failed = |operation| {
        move |source| SecretError::Api { operation, name: name.to_owned(), source: Box::new(source) }
    };
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some(data.clone()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    for _ in 0..MAX_ATTEMPTS {
        if let Some(found) = api.get_opt(name).await.map_err(failed("reading"))? {
            return Ok(found);
        }
        match api.create(&params, &secret).await {
            Ok(made) => return Ok(made),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(failed("creating")(error)),
        }
    }
    Err(SecretError::Unstable { name: name.to_owned() })
}

/// A text in a Secret.
pub(crate) fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}
