//! Who may be a spoke: each wrong token, CA or key gets its own clear error.

use isthmus_lab::Lab;
use isthmus_lab::programs::{HubOptions, Program, Spoke, SpokeOptions};
use isthmus_shared::protocol::identity::{SigningKey, read_join_token};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::world::{NAMESPACE, bare, eventually};

/// Waits until a program's log says something.
async fn says(program: &Program, text: &str) {
    eventually(&format!("{} to say {text:?}", program.name()), || async {
        let log = std::fs::read_to_string(program.log()).unwrap_or_default();
        if log.contains(text) { Ok(()) } else { Err(log) }
    })
    .await;
}

/// The key that the hub signs join tokens with.
async fn hub_key(lab: &Lab) -> SigningKey {
    let secrets = Api::<Secret>::namespaced(lab.client("hub").unwrap(), NAMESPACE);
    let data = secrets.get("isthmus-hub-signing").await.unwrap().data.unwrap();
    SigningKey::from_pkcs8(&data.values().next().unwrap().0).unwrap()
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_token_ca_or_key_gets_its_own_error() {
    let lab = bare().await;
    let hub = lab.start_hub(HubOptions::new(NAMESPACE)).await.unwrap();
    let join = |token: String, namespace: &'static str| {
        let (lab, url) = (&lab, hub.url.clone());
        async move { lab.start_spoke_with(&url, &token, SpokeOptions::new("east", namespace)).await.unwrap() }
    };

    let garbled = join("this-is-no-token".to_owned(), "garbled").await;
    says(&garbled.program, "not a valid join token").await;

    let good = hub.join_token("east").await.unwrap();
    let claims = read_join_token(&good).unwrap();
    let stranger = SigningKey::generate().unwrap();
    let forged = stranger.join_token("east", &claims.jti, &claims.ca, now()).unwrap();
    says(&join(forged, "forged").await.program, "not signed by the key").await;

    let elsewhere = stranger.join_token("east", &claims.jti, &"0".repeat(64), now()).unwrap();
    says(&join(elsewhere, "elsewhere").await.program, "CA").await;

    // What the hub's own key signed two hours ago.
    let key = hub_key(&lab).await;
    let stale = key.join_token("east", &claims.jti, &claims.ca, now() - 2 * 3600).unwrap();
    says(&join(stale, "stale").await.program, "has expired").await;

    let first = join(good.clone(), "first").await;
    hub.cluster_ready("east").await.unwrap();
    says(&join(good.clone(), "second").await.program, "used already").await;

    // Replaced by a newer token before it was used.
    let old = hub.join_token("west").await.unwrap();
    let new = hub.join_token("west").await.unwrap();
    let west = |token: String, namespace: &'static str| {
        let (lab, url) = (&lab, hub.url.clone());
        async move { lab.start_spoke_with(&url, &token, SpokeOptions::new("west", namespace)).await.unwrap() }
    };
    says(&west(old, "late").await.program, "replaced by a newer one").await;
    let replaced: Spoke = west(new, "third").await;
    hub.cluster_ready("west").await.unwrap();

    // Another spoke takes the cluster over with a new token: the former one's key is known no more.
    let takeover = hub.join_token("west").await.unwrap();
    let successor = west(takeover, "fourth").await;
    says(&replaced.program, "was not signed by the key").await;
    hub.cluster_ready("west").await.unwrap();
    assert!(successor.program.ended().is_none() && first.program.ended().is_none());
}
