//! Tokens of service accounts, which are good in the cluster that made them only.

use isthmus_lab::cluster::Flavour;
use isthmus_shared::protocol::ObjectAction::Created;
use serde_json::{Value, json};

use super::{Details, standing};
use crate::reading::text;
use crate::world::{World, eventually};

const ACCOUNT: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: left-tokens}
---
apiVersion: v1
kind: Secret
metadata: {name: registry, namespace: left-tokens}
type: Opaque
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: left-tokens, annotations: {example.com/role: deployer}}
imagePullSecrets: [{name: registry}]
secrets: [{name: robot-token-x7k2p}, {name: registry}]
---
apiVersion: v1
kind: Secret
metadata:
  name: robot-key
  namespace: left-tokens
  annotations: {kubernetes.io/service-account.name: robot}
type: kubernetes.io/service-account-token
---
apiVersion: v1
kind: Secret
metadata:
  name: robot-token-x7k2p
  namespace: left-tokens
  annotations: {kubernetes.io/service-account.name: robot}
type: kubernetes.io/service-account-token
";

fn secret(name: &str) -> String {
    format!("/api/v1/namespaces/left-tokens/secrets/{name}")
}

/// Whether a controller of the cluster fills in tokens; the lab's own has none that does.
fn fills_tokens(world: &World) -> bool {
    matches!(world.lab.flavour(), Flavour::Real(binaries) if binaries.controller_manager.is_some())
}

/// A Secret whose token the cluster's controller has made.
async fn filled(world: &World, cluster: &str, name: &str) -> Value {
    eventually(&format!("Secret {name} of {cluster} to get its token"), || async {
        let secret = world.get(cluster, &secret(name)).await;
        if text(&secret, "/data/token").is_empty() { Err(secret.to_string()) } else { Ok(secret) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_accounts_token_stays_and_the_destination_makes_another() {
    let world = World::shared().await;
    world.apply("east", ACCOUNT).await;
    if !fills_tokens(world) {
        for name in ["robot-key", "robot-token-x7k2p"] {
            let data = json!({"token": "c291cmNl", "ca.crt": "c291cmNl", "namespace": "bGVmdC10b2tlbnM="});
            world.patch("east", &secret(name), json!({"data": data})).await;
        }
    }
    let source = filled(world, "east", "robot-key").await;
    filled(world, "east", "robot-token-x7k2p").await;

    let spec = json!({"namespaces": ["left-tokens"]});
    let report = world.run("left-tokens", spec.clone()).await.succeeded();
    report.came_to(
        Created,
        &["Secret left-tokens/robot-key", "Secret left-tokens/registry", "ServiceAccount left-tokens/robot"],
    );
    report.left_behind("Generated", &["Secret left-tokens/robot-token-x7k2p"]);
    let details = Details::of(world, "left-tokens").await;
    details.say("left-tokens Secret robot-key", &["Created", "TokenMadeAnew", "ServiceAccount robot"]);
    details.say("left-tokens Secret robot-token-x7k2p", &["Left behind", "Generated: a token of a service"]);
    details.say("left-tokens ServiceAccount default", &["Left behind", "Generated"]);
    assert_eq!(world.find("west", &secret("robot-token-x7k2p")).await, None);

    let account = world.get("west", "/api/v1/namespaces/left-tokens/serviceaccounts/robot").await;
    assert_eq!(account["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(account["secrets"], json!([{"name": "registry"}]), "the source's token was listed too");
    assert_eq!(account["metadata"]["annotations"]["example.com/role"], "deployer");
    let uid_of = "/metadata/annotations/kubernetes.io~1service-account.uid";
    if fills_tokens(world) {
        let arrived = filled(world, "west", "robot-key").await;
        assert_ne!(text(&arrived, "/data/token"), text(&source, "/data/token"));
        assert_ne!(text(&arrived, "/data/ca.crt"), text(&source, "/data/ca.crt"), "another cluster's");
        assert_eq!(text(&arrived, uid_of), text(&account, "/metadata/uid"));
    } else {
        let arrived = world.get("west", &secret("robot-key")).await;
        assert_eq!(arrived.get("data"), None, "there is nobody to fill it");
        assert_eq!(text(&arrived, uid_of), "");
    }

    // What the destination's controller has filled in is not taken out by another run.
    let before = standing(world, "left-tokens").await;
    world.run("left-tokens-again", spec).await.succeeded();
    assert_eq!(standing(world, "left-tokens").await, before);
}
