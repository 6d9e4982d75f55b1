//! The mover's process against a spoke made up for the test.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use isthmus_shared::{
    protocol::{
        MOVER_PROGRESS_PATH, MOVER_RESULT_PATH, MOVER_SESSION_PATH, MoverGrant, MoverReply, MoverResult,
        VolumeContent,
    },
    resources::{MetadataPolicy, VerifyMethod},
    staging::{PairKey, StoreAccess},
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::mover::tests::privileges::without_sys_admin;

/// What the spoke saw, and how often it still refuses.
#[derive(Default)]
struct Seen {
    busy: AtomicU32,
    gone: bool,
    /// Whether its grants ask for privileged attributes.
    privileged: bool,
    results: Mutex<Vec<Value>>,
    tokens: Mutex<Vec<String>>,
}

struct FakeSpoke {
    seen: Arc<Seen>,
    url: String,
    ca: String,
    folder: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for FakeSpoke {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Reply = Result<Json<Value>, (StatusCode, Json<Value>)>;

fn refusal(status: StatusCode) -> Reply {
    Err((status, Json(json!({"reason": "Test", "message": "not now"}))))
}

async fn session(State(seen): State<Arc<Seen>>, headers: http::HeaderMap, Json(_): Json<Value>) -> Reply {
    let token = headers["authorization"].to_str().unwrap().to_owned();
    seen.tokens.lock().unwrap().push(token);
    if seen.gone {
        return refusal(StatusCode::GONE);
    }
    if seen.busy.load(Ordering::SeqCst) > 0 {
        seen.busy.fetch_sub(1, Ordering::SeqCst);
        return refusal(StatusCode::SERVICE_UNAVAILABLE);
    }
    let grant = MoverGrant { privileged_attributes: seen.privileged, ..grant() };
    Ok(Json(serde_json::to_value(grant).unwrap()))
}

fn grant() -> MoverGrant {
    MoverGrant {
        // Not what the tests start: nothing is moved, but the failure is reported.
        direction: Direction::Receive,
        pair: "pair".to_owned(),
        volume: "volume".to_owned(),
        pass: 1,
        recover: false,
        previous_pass: None,
        claim: None,
        key: PairKey::generate().unwrap().to_base64(),
        access: StoreAccess {
            endpoint: "http://127.0.0.1:1".to_owned(),
            region: "r".to_owned(),
            bucket: "b".to_owned(),
            prefix: None,
            path_style: true,
            ca_pem: None,
            access_key_id: "id".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: None,
            sts: None,
        },
        access_expires: None,
        metadata_policy: MetadataPolicy::Strict,
        verify: VerifyMethod::Inline,
        content: VolumeContent::Filesystem,
        still: false,
        privileged_attributes: false,
        exclude_paths: Vec::new(),
        bandwidth_limit: None,
        parallel_files: None,
        peer_timeout_seconds: 1,
    }
}

async fn result(State(seen): State<Arc<Seen>>, Json(result): Json<Value>) -> Reply {
    let mut results = seen.results.lock().unwrap();
    results.push(result);
    if results.len() == 1 {
        return refusal(StatusCode::SERVICE_UNAVAILABLE);
    }
    Ok(Json(serde_json::to_value(MoverReply::default()).unwrap()))
}

impl FakeSpoke {
    async fn start(seen: Seen) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let seen = Arc::new(seen);
        let names = vec!["localhost".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let router = Router::new()
            .route(MOVER_SESSION_PATH, post(session))
            .route(MOVER_PROGRESS_PATH, post(|| async { Json(MoverReply::default()) }))
            .route(MOVER_RESULT_PATH, post(result))
            .with_state(seen.clone());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                        .await
                        .ok();
                });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "the-token\n").unwrap();
        Self { seen, url, ca: certified.cert.pem(), folder, serving }
    }

    fn arguments(&self) -> Arguments {
        Arguments {
            direction: Way::Send,
            spoke_url: self.url.clone(),
            spoke_ca: Some(self.ca.clone()),
            spoke_ca_file: None,
            token_file: self.folder.path().join("token"),
            task: "record/FinalVolumes/send.volume".parse().unwrap(),
            root: self.folder.path().to_owned(),
        }
    }
}

#[tokio::test]
async fn a_busy_spoke_is_asked_again_and_the_result_is_told_until_it_is_taken() {
    let spoke = FakeSpoke::start(Seen { busy: AtomicU32::new(1), ..Seen::default() }).await;
    let (code, words) = work(&spoke.arguments()).await;
    assert_eq!(code, FAILED, "{words}");
    let results = spoke.seen.results.lock().unwrap();
    assert_eq!(results.len(), 2, "told again after a refusal");
    let told: MoverResult = serde_json::from_value(results[1].clone()).unwrap();
    assert!(!told.succeeded);
    assert_eq!(told.failures[0].reason, "WrongDirection");
    let tokens = spoke.seen.tokens.lock().unwrap();
    assert_eq!(*tokens, ["Bearer the-token", "Bearer the-token"]);
}

#[tokio::test]
async fn a_mover_that_nobody_wants_ends_and_is_not_to_be_started_again() {
    let spoke = FakeSpoke::start(Seen { gone: true, ..Seen::default() }).await;
    let (code, words) = work(&spoke.arguments()).await;
    assert_eq!(code, FAILED, "{words}");
    assert!(words.contains("no longer wants"), "{words}");
}

#[tokio::test]
async fn a_spoke_with_another_ca_is_not_trusted() {
    let spoke = FakeSpoke::start(Seen::default()).await;
    let other = FakeSpoke::start(Seen::default()).await;
    let arguments = Arguments { spoke_ca: Some(other.ca.clone()), ..spoke.arguments() };
    let client = SpokeClient::new(&arguments).unwrap();
    let progress = MoverProgress {
        task: arguments.task.clone(),
        progress: outcome::progress(Direction::Send, Progress::new().figures(), None),
    };
    let told = tokio::time::timeout(Duration::from_secs(10), client.progress(&progress)).await.unwrap();
    assert!(matches!(told, Err(CallError::Unreachable { .. })), "{told:?}");
}

#[tokio::test]
async fn a_mover_without_a_usable_ca_says_so() {
    let spoke = FakeSpoke::start(Seen::default()).await;
    let arguments = Arguments { spoke_ca: None, ..spoke.arguments() };
    let (code, words) = work(&arguments).await;
    assert_eq!(code, MAY_RESTART);
    assert!(words.contains("CA"), "{words}");
}

#[test]
fn a_mover_whose_capability_has_no_effect_says_so_before_it_moves_anything() {
    without_sys_admin(|runtime| {
        runtime.block_on(async {
            let spoke = FakeSpoke::start(Seen { privileged: true, ..Seen::default() }).await;
            let root = spoke.folder.path().join("volume");
            std::fs::create_dir(&root).unwrap();
            let arguments = Arguments { direction: Way::Receive, root: root.clone(), ..spoke.arguments() };
            let (code, words) = work(&arguments).await;
            assert_eq!(code, FAILED, "a new mover would fare no better: {words}");
            let told = spoke.seen.results.lock().unwrap().last().unwrap().clone();
            let told: MoverResult = serde_json::from_value(told).unwrap();
            let failure = &told.failures[0];
            assert_eq!(failure.reason, "PrivilegedAttributesUnavailable");
            for said in ["SYS_ADMIN", "virt_sandbox_use_sys_admin", "leave mover.privilegedAttributes out"] {
                assert!(failure.message.contains(said), "{said}: {failure:?}");
            }
            assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);

            // A device has no attributes: there it changes nothing.
            let (content, privileged_attributes) = (VolumeContent::Block, true);
            let grant = MoverGrant { content, privileged_attributes, ..grant() };
            let moved = move_volume(&arguments, &grant, &Progress::new(), &CancellationToken::new()).await;
            assert_eq!(moved.reason(), Some("VolumeNotMounted"));
        });
    });
}

#[test]
fn a_grant_bounds_workers_and_under_a_limit_packs() {
    let plain = limits(&grant());
    assert_eq!((plain.workers, plain.pack_bytes), (Limits::default().workers, Limits::default().pack_bytes));
    for (asked, workers) in [(0, 1), (1, 1), (3, 3), (10_000, MAX_WORKERS)] {
        assert_eq!(limits(&MoverGrant { parallel_files: Some(asked), ..grant() }).workers, workers);
    }
    let limited = limits(&MoverGrant { bandwidth_limit: Some(4 << 20), ..grant() });
    assert_eq!(limited.pack_bytes, 4 << 20);
}

#[test]
fn only_a_session_that_is_over_makes_a_mover_start_again() {
    let now = Timestamp::now();
    let (past, soon, later) =
        (now - Duration::from_secs(1), now + Duration::from_mins(1), now + Duration::from_mins(30));
    assert!(session_ended(Some(later), now, Some("SessionExpired")), "the store says so");
    assert!(session_ended(Some(past), now, Some("AccessDenied")));
    assert!(session_ended(Some(soon), now, Some("BadCredentials")), "clocks differ");
    assert!(!session_ended(Some(later), now, Some("AccessDenied")), "the policy is too narrow");
    assert!(!session_ended(Some(past), now, Some("FileRefused")));
    assert!(!session_ended(Some(past), now, None), "it succeeded");
    assert!(!session_ended(None, now, Some("SessionExpired")), "the keys are a person's");
}
