//! Who a Kubernetes bearer token is of, and whether they may read a migration: the API server is
//! asked (TokenReview, SubjectAccessReview) and its answer is kept for some seconds.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use isthmus_shared::resources::GROUP;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::staging::fingerprint;

/// How long an answer counts.
const KEEP: Duration = Duration::from_secs(10);
/// The most answers that are kept; beyond that the API server is asked each time.
const MAX_KEPT: usize = 1024;
/// The longest token that is passed on, bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    #[error(
        "the bearer token is not one that this cluster's API server knows ({0}): log in again, or use the kubeconfig of the hub's cluster"
    )]
    Unknown(String),
    #[error(
        "{user} may not {verb} migrations in namespace {namespace}: ask for a role that allows it on migrations.{GROUP}"
    )]
    Forbidden { user: String, verb: &'static str, namespace: String },
    #[error(
        "asking the API server about the token failed: {0}; the hub needs create on tokenreviews and subjectaccessreviews (ClusterRole system:auth-delegator)"
    )]
    Unanswered(String),
}

/// An answer, and when it was given.
type Kept = (Instant, Result<(), Stranger>);

/// Asks the API server, and remembers.
pub(crate) struct People {
    client: Client,
    kept: Mutex<HashMap<String, Kept>>,
}

impl People {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, kept: Mutex::default() }
    }

    /// Whether whoever has `token` may read this migration.
    pub(crate) async fn may_read(&self, token: &str, namespace: &str, name: &str) -> Result<(), Stranger> {
        if token.len() > MAX_TOKEN {
            return Err(Stranger::Unknown("it is too long".to_owned()));
        }
        let question = fingerprint(format!("{token}\n{namespace}\n{name}").as_bytes());
        if let Some(answer) = self.known(&question) {
            return answer;
        }
        let answer = self.ask(token, namespace, name).await;
        if !matches!(answer, Err(Stranger::Unanswered(_))) {
            self.keep(question, answer.clone());
        }
        answer
    }

    fn known(&self, question: &str) -> Option<Result<(), Stranger>> {
        let kept = self.kept.lock().ok()?;
        let (at, answer) = kept.get(question)?;
        (at.elapsed() < KEEP).then(|| answer.clone())
    }

    fn keep(&self, question: String, answer: Result<(), Stranger>) {
        let Ok(mut kept) = self.kept.lock() else { return };
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (at, _)| at.elapsed() < KEEP);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(question, (Instant::now(), answer));
        }
    }

    async fn ask(&self, token: &str, namespace: &str, name: &str) -> Result<(), Stranger> {
        let user = self.who(token).await?;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                groups: user.groups.clone(),
                uid: user.uid.clone(),
                extra: user.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some("migrations".to_owned()),
                    verb: Some("get".to_owned()),
                    namespace: Some(namespace.to_owned()),
                    name: Some(name.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answered = api.create(&PostParams::default(), &review).await;
        let answered = answered.map_err(|error| Stranger::Unanswered(error.to_string()))?;
        if answered.status.is_some_and(|status| status.allowed) {
            return Ok(());
        }
        let user = user.username.unwrap_or_else(|| "this user".to_owned());
        Err(Stranger::Forbidden { user, verb: "get", namespace: namespace.to_owned() })
    }

    async fn who(&self, token: &str) -> Result<UserInfo, Stranger> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answered = api.create(&PostParams::default(), &review).await;
        let status =
            answered.map_err(|error| Stranger::Unanswered(error.to_string()))?.status.unwrap_or_default();
        if status.authenticated == Some(true) {
            return Ok(status.user.unwrap_or_default());
        }
        Err(Stranger::Unknown(status.error.unwrap_or_else(|| "it is not valid".to_owned())))
    }
}
