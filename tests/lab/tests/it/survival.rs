//! What the object store's client and the movers live through: on the lab's own S3 server, and on
//! garage behind a proxy with the same faults where garage is installed.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use isthmus_lab::s3::{Calls, Fault, FaultProxy, Faults, Garage, KeyAccess, REGION, S3, S3Options};
use isthmus_lab::trees::{CompareOptions, TreeKind, compare_trees, generate};
use isthmus_shared::resources::{Exclusions, MetadataPolicy, VerifyMethod};
use isthmus_shared::staging::s3::{RetryPolicy, open_with};
use isthmus_shared::staging::store::MAX_PAGE;
use isthmus_shared::staging::{
    MemoryStore, ObjectStore, PairKey, PairUid, StoreAccess, VolumeKey, VolumeUid, delete_prefix,
};
use isthmus_spoke::mover::{Limits, MoverError, Pass, Progress, ReceiveOptions, SendOptions, receive, send};
use tokio_util::sync::CancellationToken;

const BUCKET: &str = "bucket";
/// Silence is noticed soon, so that tests need not wait for it.
const ALERT: RetryPolicy =
    RetryPolicy { max_elapsed: Duration::from_mins(1), silence: Duration::from_millis(1500) };
/// The keys that a listing is tried with; `ISTHMUS_TEST_KEYS=1000000` tries the whole million.
const KEYS: u64 = 20_000;

/// A server that can be made to fail.
struct Server {
    name: &'static str,
    access: StoreAccess,
    faults: Faults,
    kept: Kept,
}

#[allow(clippy::large_enum_variant, dead_code)]
enum Kept {
    Own(S3, tempfile::TempDir),
    Garage(FaultProxy, Garage),
}

impl Server {
    async fn own() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let s3 = S3::start(S3Options { dir: dir.path().to_owned(), tls: false }).await.unwrap();
        s3.create_bucket(BUCKET);
        let keys = s3.keys().add(KeyAccess::ReadWrite);
        let access = StoreAccess {
            endpoint: s3.endpoint().to_owned(),
            region: REGION.to_owned(),
            bucket: BUCKET.to_owned(),
            prefix: None,
            path_style: true,
            ca_pem: None,
            access_key_id: keys.access_key,
            secret_access_key: keys.secret_key,
            session_token: None,
            sts: None,
        };
        let faults = s3.faults().clone();
        Self { name: "the lab's own", access, faults, kept: Kept::Own(s3, dir) }
    }

    async fn garage() -> Option<Self> {
        let Some(garage) = Garage::start().await.unwrap() else {
            eprintln!("not tested with garage: it is not installed");
            return None;
        };
        let proxy = FaultProxy::start(garage.address().unwrap()).await.unwrap();
        let access = StoreAccess { endpoint: proxy.endpoint().to_owned(), ..garage.access().clone() };
        let faults = proxy.faults().clone();
        Some(Self { name: "garage", access, faults, kept: Kept::Garage(proxy, garage) })
    }

    /// All that there are here.
    async fn all() -> Vec<Self> {
        let mut all = vec![Self::own().await];
        all.extend(Self::garage().await);
        all
    }

    fn store(&self) -> std::sync::Arc<dyn ObjectStore> {
        open_with(&self.access, ALERT).unwrap()
    }
}

fn body(bytes: u32) -> Bytes {
    (0..bytes).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect()
}

/// Every call once, with the answer that it must have.
async fn use_store(store: &dyn ObjectStore, name: &str) {
    let content = body(300_000);
    store.put("a/one", content.clone()).await.expect(name);
    store.put("a/two", Bytes::from_static(b"2")).await.expect(name);
    assert_eq!(store.get("a/one").await.expect(name), content, "{name}");
    let part = store.get_range("a/one", 100_000..200_000).await.expect(name);
    assert_eq!(part, content.slice(100_000..200_000), "{name}");
    let page = store.list("a/", None, 10).await.expect(name);
    assert_eq!(page.objects.len(), 2, "{name}");
    assert!(store.get("a/none").await.unwrap_err().is_not_found(), "{name}");
    store.delete(&["a/one".to_owned(), "a/two".to_owned()]).await.expect(name);
    assert!(store.list("a/", None, 10).await.expect(name).objects.is_empty(), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_refusals_is_sat_out() {
    for server in Server::all().await {
        let store = server.store();
        server.faults.next(Calls::All, 5, Fault::SlowDown);
        server.faults.each(2, Calls::All, Fault::SlowDown);
        server.faults.each(3, Calls::All, Fault::InternalError);
        use_store(store.as_ref(), server.name).await;
        assert!(server.faults.met() >= 10, "{}: {}", server.name, server.faults.met());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_that_does_not_end_is_an_error_in_time() {
    let server = Server::own().await;
    let policy = RetryPolicy { max_elapsed: Duration::from_secs(1), ..ALERT };
    let store = open_with(&server.access, policy).unwrap();
    server.faults.each(1, Calls::All, Fault::SlowDown);
    let started = Instant::now();
    let error = store.put("k", body(1000)).await.unwrap_err();
    assert_eq!(error.reason(), "StoreUnavailable");
    assert!(error.to_string().contains("SlowDown"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_break_off_are_fetched_and_sent_again() {
    for server in Server::all().await {
        let store = server.store();
        let content = body(3_000_000);
        for cut in [0, 1000, 2_000_000] {
            server.faults.next(Calls::Writes, 1, Fault::CutRequest(cut));
            store.put("k", content.clone()).await.expect(server.name);
            server.faults.next(Calls::Reads, 2, Fault::CutAnswer(cut));
            assert_eq!(store.get("k").await.expect(server.name), content, "{}", server.name);
            server.faults.next(Calls::Reads, 1, Fault::CutAnswer(cut));
            let part = store.get_range("k", 5..2_500_000).await.expect(server.name);
            assert_eq!(part, content.slice(5..2_500_000), "{}", server.name);
        }
        assert_eq!(server.faults.met(), 12, "{}", server.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_answer_was_lost_is_put_again() {
    for server in Server::all().await {
        let store = server.store();
        server.faults.next(Calls::Writes, 2, Fault::LoseAnswer);
        let before = server.faults.requests();
        store.put("k", body(100_000)).await.expect(server.name);
        assert_eq!(server.faults.requests() - before, 3, "{}", server.name);
        assert_eq!(store.get("k").await.expect(server.name), body(100_000), "{}", server.name);
        // A deletion that was done already counts as done.
        server.faults.next(Calls::Writes, 1, Fault::LoseAnswer);
        store.delete(&["k".to_owned()]).await.expect(server.name);
        assert!(store.get("k").await.unwrap_err().is_not_found(), "{}", server.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_silent_is_given_up_and_asked_again() {
    for server in Server::all().await {
        let store = server.store();
        let content = body(200_000);
        server.faults.next(Calls::Writes, 1, Fault::Stall);
        store.put("k", content.clone()).await.expect(server.name);
        for fault in [Fault::Stall, Fault::StallAnswer(0), Fault::StallAnswer(150_000)] {
            server.faults.next(Calls::Reads, 1, fault);
            let started = Instant::now();
            assert_eq!(store.get("k").await.expect(server.name), content, "{}", server.name);
            let took = started.elapsed();
            assert!(took < Duration::from_secs(20), "{}: {fault:?} took {took:?}", server.name);
        }
        server.faults.next(Calls::Reads, 1, Fault::StallAnswer(1000));
        let part = store.get_range("k", 0..100_000).await.expect(server.name);
        assert_eq!(part, content.slice(..100_000), "{}", server.name);
        server.faults.next(Calls::Reads, 1, Fault::Stall);
        assert_eq!(store.list("", None, 10).await.expect(server.name).objects.len(), 1, "{}", server.name);
        assert_eq!(server.faults.met(), 6, "{}", server.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_arrived_damaged_is_sent_again_and_entity_tags_are_not_relied_on() {
    let server = Server::own().await;
    let store = server.store();
    server.faults.next(Calls::Writes, 2, Fault::BadDigest);
    store.put("k", body(1000)).await.unwrap();
    server.faults.each(1, Calls::All, Fault::WrongTag);
    store.put("k", body(2000)).await.unwrap();
    assert_eq!(store.get("k").await.unwrap(), body(2000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_time_does_not_heal_is_told_at_once() {
    let server = Server::own().await;
    let store = server.store();
    server.faults.next(Calls::All, 1, Fault::ExpiredToken);
    let error = store.get("k").await.unwrap_err();
    assert_eq!(error.reason(), "SessionExpired");
    assert_eq!(server.faults.requests(), 1);
    server.faults.each(1, Calls::All, Fault::WrongTime);
    let error = store.put("k", body(10)).await.unwrap_err();
    assert_eq!(error.reason(), "ClockSkew");
    let text = error.to_string();
    assert!(text.contains("this machine's clock says") && text.contains("the store's"), "{text}");
    assert_eq!(server.faults.requests(), 4, "corrected twice");
}

/// A volume on its way through a server.
struct Move {
    pass: Pass,
    source: tempfile::TempDir,
    destination: tempfile::TempDir,
}

impl Move {
    fn new(server: &Server) -> Self {
        let (source, destination) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let volume = VolumeUid::new("volume").unwrap();
        let key: VolumeKey = PairKey::generate().unwrap().volume_key(&volume).unwrap();
        let limits = Limits {
            workers: 2,
            pack_bytes: 3 << 20,
            segment_bytes: 8 * 1024,
            heartbeat: Duration::from_millis(200),
            mark_interval: Duration::ZERO,
            durable: false,
            ..Limits::default()
        };
        let pass = Pass {
            root: source.path().to_owned(),
            store: server.store(),
            key,
            volume,
            pair: PairUid::new("pair").unwrap(),
            number: 1,
            previous: None,
            claim: None,
            exclude: Exclusions::default(),
            limits,
        };
        Self { pass, source, destination }
    }

    async fn send(&self) -> Result<(), MoverError> {
        let options = SendOptions { pass: self.pass.clone(), sender: "sender".to_owned(), still: false };
        send(options, Progress::new(), CancellationToken::new()).await.map(drop)
    }

    async fn receive(&self) -> Result<(), MoverError> {
        let pass = Pass { root: self.destination.path().to_owned(), ..self.pass.clone() };
        let (metadata_policy, verify) = (MetadataPolicy::Strict, VerifyMethod::Inline);
        let options = ReceiveOptions { pass, metadata_policy, verify };
        receive(options, Progress::new(), CancellationToken::new()).await.map(drop)
    }

    #[track_caller]
    fn assert_arrived(&self, name: &str) {
        assert_same(self.source.path(), self.destination.path(), name);
    }
}

#[track_caller]
fn assert_same(a: &Path, b: &Path, name: &str) {
    let differences = compare_trees(a, b, &CompareOptions::default()).unwrap();
    assert!(differences.is_empty(), "{name}: {} differences, e.g. {}", differences.len(), differences[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_arrives_through_everything_that_can_go_wrong() {
    for server in Server::all().await {
        let mut moving = Move::new(&server);
        generate(moving.source.path(), TreeKind::Mixed, 3, 0.005).unwrap();
        generate(moving.source.path(), TreeKind::Large, 4, 0.02).unwrap();
        for (each, calls, fault) in [
            (3, Calls::All, Fault::SlowDown),
            (7, Calls::Reads, Fault::CutAnswer(900)),
            (8, Calls::Writes, Fault::CutRequest(70_000)),
            (9, Calls::Writes, Fault::LoseAnswer),
            (11, Calls::All, Fault::InternalError),
            (13, Calls::All, Fault::WrongTag),
        ] {
            server.faults.each(each, calls, fault);
        }
        server.faults.next(Calls::Reads, 1, Fault::StallAnswer(100));
        server.faults.next(Calls::Writes, 1, Fault::Stall);
        for number in 1..=2 {
            moving.pass.number = number;
            moving.pass.previous = number.checked_sub(1).filter(|previous| *previous > 0);
            let (sent, received) = tokio::join!(moving.send(), moving.receive());
            sent.expect(server.name);
            received.expect(server.name);
            moving.assert_arrived(server.name);
            std::fs::write(moving.source.path().join("more"), body(3_000_000)).unwrap();
        }
        assert!(server.faults.met() > 30, "{}: {}", server.name, server.faults.met());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_damaged_is_refused_and_the_next_attempt_is_sound() {
    let server = Server::own().await;
    let moving = Move::new(&server);
    generate(moving.source.path(), TreeKind::Mixed, 5, 0.002).unwrap();
    moving.send().await.unwrap();
    server.faults.each(1, Calls::Reads, Fault::DamageAnswer);
    let error = moving.receive().await.unwrap_err();
    assert_eq!(error.reason(), "StagingDamaged", "{error}");
    assert_eq!(std::fs::read_dir(moving.destination.path()).unwrap().count(), 0);
    server.faults.clear();
    moving.receive().await.unwrap();
    moving.assert_arrived(server.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn movers_whose_session_expires_say_so_and_others_go_on() {
    let server = Server::own().await;
    let moving = Move::new(&server);
    generate(moving.source.path(), TreeKind::Mixed, 6, 0.005).unwrap();
    // Within the pass: some requests are served first.
    server.faults.after(2, Calls::All, Fault::ExpiredToken);
    assert_eq!(moving.send().await.unwrap_err().reason(), "SessionExpired");
    server.faults.clear();
    moving.send().await.unwrap();
    server.faults.after(2, Calls::All, Fault::ExpiredToken);
    assert_eq!(moving.receive().await.unwrap_err().reason(), "SessionExpired");
    server.faults.clear();
    moving.receive().await.unwrap();
    moving.assert_arrived(server.name);
}

fn keys() -> u64 {
    std::env::var("ISTHMUS_TEST_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(KEYS)
}

/// Counts what is below a prefix as every listing of Isthmus does: page after page.
async fn count(store: &dyn ObjectStore, prefix: &str) -> u64 {
    let (mut found, mut after) = (0, None);
    loop {
        let page = store.list(prefix, after.as_deref(), MAX_PAGE).await.unwrap();
        assert!(page.objects.len() <= MAX_PAGE);
        found += page.objects.len() as u64;
        after = page.objects.into_iter().next_back().map(|object| object.key);
        if !page.more {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_very_many_keys_comes_in_pages() {
    let server = Server::own().await;
    let Kept::Own(s3, _) = &server.kept else { unreachable!() };
    s3.fill(BUCKET, "pair/volumes/v/packs/", keys()).unwrap();
    s3.fill(BUCKET, "pair/volumes/w/packs/", 10).unwrap();
    let store = server.store();
    let before = server.faults.requests();
    assert_eq!(count(store.as_ref(), "pair/volumes/v/").await, keys());
    let pages = keys().div_ceil(MAX_PAGE as u64);
    assert_eq!(server.faults.requests() - before, pages);
    assert_eq!(delete_prefix(store.as_ref(), "pair/volumes/v/").await.unwrap(), keys());
    assert_eq!(s3.list(BUCKET, "").len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_keys_in_memory_are_listed_and_deleted_in_pages() {
    const MILLION: u64 = 1_000_000;
    let store = MemoryStore::new();
    for number in 0..MILLION {
        store.set_raw(&format!("p/{number:010}"), Bytes::new());
    }
    assert_eq!(count(&store, "p/").await, MILLION);
    assert_eq!(delete_prefix(&store, "p/").await.unwrap(), MILLION);
    assert!(store.contents().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_once_all_get_through_a_storm() {
    for server in Server::all().await {
        let store = server.store();
        server.faults.each(2, Calls::All, Fault::SlowDown);
        let puts = (0..40).map(|n| {
            let store = store.clone();
            async move { store.put(&format!("many/{n:02}"), body(20_000 + n)).await }
        });
        for put in join_all(puts).await {
            put.expect(server.name);
        }
        assert_eq!(count(store.as_ref(), "many/").await, 40, "{}", server.name);
    }
}
