//! The store against an S3 server in this process.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_smithy_async::time::StaticTimeSource;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};

use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;
use crate::staging::{probe::probe, store::delete_prefix};

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("id", "secret"));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let service = service.clone();
                tokio::spawn(async move {
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok();
                });
            }
        });
        Self { address, connections, serving, _folder: folder }
    }

    fn access(&self) -> StoreAccess {
        StoreAccess {
            endpoint: format!("http://{}", self.address),
            region: "us-east-1".to_owned(),
            bucket: "bucket".to_owned(),
            prefix: Some("some/prefix".to_owned()),
            path_style: true,
            ca_pem: None,
            access_key_id: "id".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: None,
            sts: None,
        }
    }
}

fn settings() -> StoreAccess {
    StoreAccess {
        endpoint: "https://s3.example".to_owned(),
        region: "eu".to_owned(),
        bucket: "b".to_owned(),
        prefix: None,
        path_style: true,
        ca_pem: None,
        access_key_id: "id".to_owned(),
        secret_access_key: "secret".to_owned(),
        session_token: None,
        sts: None,
    }
}

#[tokio::test]
async fn objects_come_back_whole_and_in_ranges_over_few_connections() {
    let server = Server::start().await;
    let store = open(&server.access()).unwrap();
    let body = Bytes::from((0..3_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    for n in 0..5 {
        store.put(&format!("a/{n}"), body.clone()).await.unwrap();
    }
    assert_eq!(store.get("a/3").await.unwrap(), body);
    let mut buffer = b"kept".to_vec();
    store.read_range("a/1", 1000..2_000_000, &mut buffer).await.unwrap();
    assert_eq!(&buffer[..4], b"kept");
    assert_eq!(&buffer[4..], &body[1000..2_000_000]);
    assert!(matches!(
        store.get_range("a/1", 2_999_999..3_000_005).await,
        Err(StoreError::Truncated { .. } | StoreError::Other { .. })
    ));
    let first = store.list("a/", None, 3).await.unwrap();
    assert_eq!(first.objects.len(), 3);
    assert_eq!(first.objects[0].key, "a/0");
    assert_eq!(first.objects[0].size, 3_000_000);
    assert!(first.more);
    assert_eq!(delete_prefix(store.as_ref(), "a/").await.unwrap(), 5);
    assert!(matches!(store.get("a/1").await, Err(StoreError::NotFound { .. })));
    probe(store.as_ref(), "").await.unwrap();
    let connections = server.connections.load(Ordering::SeqCst);
    assert!(connections <= 3, "{connections} connections for sequential calls");
}

#[tokio::test]
async fn a_missing_bucket_and_wrong_keys_get_their_own_errors() {
    let server = Server::start().await;
    let missing = StoreAccess { bucket: "other".to_owned(), ..server.access() };
    let error = probe(open(&missing).unwrap().as_ref(), "").await.unwrap_err();
    assert_eq!(error.reason(), "NoSuchBucket", "{error}");
    for (id, secret) in [("id", "wrong"), ("unknown", "secret")] {
        let wrong = StoreAccess {
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            ..server.access()
        };
        let error = probe(open(&wrong).unwrap().as_ref(), "").await.unwrap_err();
        let reason = error.reason();
        assert!(matches!(reason, "BadCredentials" | "AccessDenied"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_and_named() {
    let server = Server::start().await;
    let access = server.access();
    drop(server);
    let policy = RetryPolicy { max_elapsed: Duration::ZERO, ..RetryPolicy::PROMPT };
    let store = open_with(&access, policy).unwrap();
    let error = store.get("k").await.unwrap_err();
    assert_eq!(error.reason(), "StoreUnreachable", "{error}");
    assert!(error.to_string().contains(&access.endpoint), "{error}");
}

/// A store whose own clock stands at this time.
fn with_clock(access: &StoreAccess, time: SystemTime) -> S3Store {
    let config = S3Store::config(access).unwrap().time_source(StaticTimeSource::new(time));
    S3Store::over(access, RetryPolicy::PROMPT, config)
}

#[tokio::test]
async fn a_clock_that_is_hours_wrong_is_corrected_by_the_stores_answers() {
    let server = Server::start().await;
    let hours = Duration::from_hours(5);
    for wrong in [SystemTime::now() - hours, SystemTime::now() + hours] {
        let store = with_clock(&server.access(), wrong);
        store.put("k", Bytes::from_static(b"content")).await.unwrap();
        assert_eq!(store.get("k").await.unwrap(), "content");
        assert_eq!(store.get_range("k", 1..4).await.unwrap(), "ont");
    }
}

/// Refuses every request for its time; its own clock stands still.
async fn refuse_all(listener: TcpListener, requests: Arc<AtomicUsize>) {
    const REFUSAL: &str = "<Error><Code>RequestTimeTooSkewed</Code><Message>Too far apart.</Message></Error>";
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let requests = requests.clone();
        let answer = service_fn(move |_: Request<Incoming>| {
            requests.fetch_add(1, Ordering::SeqCst);
            let response = Response::builder()
                .status(403)
                .header("date", "Thu, 01 Jan 2026 13:00:00 GMT")
                .body(REFUSAL.to_owned());
            async { response }
        });
        tokio::spawn(async move {
            hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await
                .ok();
        });
    }
}

#[tokio::test]
async fn a_store_that_refuses_every_time_is_left_soon_with_both_clocks_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let refusing = tokio::spawn(refuse_all(listener, requests.clone()));
    let access = StoreAccess { endpoint: format!("http://{address}"), ..settings() };
    let store = open(&access).unwrap();
    assert_eq!(store.clock_ahead(), None, "it was not asked anything");
    let error = store.get("k").await.unwrap_err();
    let behind = jiff::Timestamp::from_second(1_767_272_400).unwrap().duration_since(jiff::Timestamp::now());
    assert!(store.clock_ahead().unwrap().abs_diff(behind.as_secs()) <= 5, "{:?}", store.clock_ahead());
    refusing.abort();
    assert_eq!(error.reason(), "ClockSkew");
    let text = error.to_string();
    assert!(text.contains("the store's 2026-01-01T13:00:00Z") && text.contains("NTP"), "{text}");
    assert_eq!(requests.load(Ordering::SeqCst), 3, "twice corrected");
}

/// Answers each request with this head and then this body, again and again for as long as it is
/// taken; with none it keeps the answer open.
async fn answer_all(listener: TcpListener, head: &'static str, body: &'static [u8]) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let mut taken = stream.write_all(head.as_bytes()).await;
            while taken.is_ok() && !body.is_empty() {
                taken = stream.write_all(body).await;
            }
            // Until the client has closed it.
            while stream.read(&mut request).await.is_ok_and(|got| got > 0) {}
        });
    }
}

#[tokio::test]
async fn an_object_beyond_the_callers_limit_is_refused_by_its_announced_length_or_when_that_much_has_come() {
    const LIMIT: usize = 100_000;
    // A chunk of 8 bytes.
    const CHUNK: &[u8] = b"8\r\n01234567\r\n";
    for (what, head, body) in [
        ("announced", "HTTP/1.1 200 OK\r\ncontent-length: 60000000\r\n\r\n", &b""[..]),
        ("endless", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", CHUNK),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = tokio::spawn(answer_all(listener, head, body));
        let store = open(&StoreAccess { endpoint: format!("http://{address}"), ..settings() }).unwrap();
        let reading = store.get_at_most("k", LIMIT);
        // Far less than it waits for a body that does not come.
        let read = tokio::time::timeout(RetryPolicy::PROMPT.silence / 4, reading).await.expect(what);
        answering.abort();
        let Err(StoreError::TooLarge { bytes, limit, .. }) = read else { panic!("{what}: {read:?}") };
        assert_eq!(limit, LIMIT as u64, "{what}");
        assert!(if body.is_empty() { bytes == 60_000_000 } else { bytes < 2 * limit }, "{what}: {bytes}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_when_opened() {
    let sound = settings();
    let bad = [
        StoreAccess { endpoint: "s3.example".to_owned(), ..sound.clone() },
        StoreAccess { bucket: String::new(), ..sound.clone() },
        StoreAccess { region: String::new(), ..sound.clone() },
        StoreAccess { secret_access_key: String::new(), ..sound.clone() },
        StoreAccess { ca_pem: Some("not a certificate".to_owned()), ..sound.clone() },
    ];
    for access in bad {
        assert_eq!(open(&access).unwrap_err().reason(), "InvalidStore");
    }
}
