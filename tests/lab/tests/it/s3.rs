//! The S3 server, through the client that hub, spokes and movers use.

use std::time::Duration;

use bytes::Bytes;
use isthmus_lab::s3::{KeyAccess, KeyPair, REGION, S3, S3Options};
use isthmus_shared::staging::access::StoreAccess;
use isthmus_shared::staging::s3::{RetryPolicy, open_with};

const BUCKET: &str = "bucket";
const QUICK: RetryPolicy = RetryPolicy { max_elapsed: Duration::from_secs(2), ..RetryPolicy::PROMPT };

async fn server(dir: &tempfile::TempDir, tls: bool) -> (S3, KeyPair) {
    let s3 = S3::start(S3Options { dir: dir.path().to_owned(), tls }).await.unwrap();
    s3.create_bucket(BUCKET);
    let keys = s3.keys().add(KeyAccess::ReadWrite);
    (s3, keys)
}

fn access(s3: &S3, keys: &KeyPair) -> StoreAccess {
    StoreAccess {
        endpoint: s3.endpoint().to_owned(),
        region: REGION.to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: None,
        path_style: true,
        ca_pem: s3.ca_pem().map(ToOwned::to_owned),
        access_key_id: keys.access_key.clone(),
        secret_access_key: keys.secret_key.clone(),
        session_token: None,
        sts: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_in_ranges_and_listed_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, keys) = server(&dir, false).await;
    let store = open_with(&access(&s3, &keys), QUICK).unwrap();
    let body: Bytes = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    store.put("a/big", body.clone()).await.unwrap();
    for name in ["a/1", "a/2", "b/1"] {
        store.put(name, Bytes::from_static(b"x")).await.unwrap();
    }
    assert_eq!(store.get("a/big").await.unwrap(), body);
    assert_eq!(
        store.get_range("a/big", 1_999_999..2_000_010).await.unwrap(),
        body.slice(1_999_999..2_000_010)
    );
    assert!(store.get_range("a/big", 2_999_999..3_000_001).await.is_err());

    let first = store.list("a/", None, 2).await.unwrap();
    assert_eq!(first.objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["a/1", "a/2"]);
    assert!(first.more);
    let second = store.list("a/", Some("a/2"), 2).await.unwrap();
    assert_eq!(
        (second.objects[0].key.as_str(), second.objects[0].size, second.more),
        ("a/big", 3_000_000, false)
    );

    store.delete(&["a/1".to_owned(), "a/none".to_owned()]).await.unwrap();
    assert!(store.get("a/1").await.unwrap_err().is_not_found());
    assert_eq!(s3.list(BUCKET, "a/"), ["a/2", "a/big"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_https_with_a_ca_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, keys) = server(&dir, true).await;
    let store = open_with(&access(&s3, &keys), QUICK).unwrap();
    store.put("key", Bytes::from_static(b"value")).await.unwrap();
    assert_eq!(store.get("key").await.unwrap(), "value");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_checked_narrowed_and_revoked_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, keys) = server(&dir, false).await;
    let store = open_with(&access(&s3, &keys), QUICK).unwrap();
    store.put("key", Bytes::from_static(b"value")).await.unwrap();

    let wrong = KeyPair { secret_key: "wrong".to_owned(), ..keys.clone() };
    let stranger = open_with(&access(&s3, &wrong), QUICK).unwrap();
    assert_eq!(stranger.get("key").await.unwrap_err().reason(), "BadCredentials");

    s3.keys().restore(&keys, KeyAccess::ReadOnly);
    assert_eq!(store.put("key", Bytes::new()).await.unwrap_err().reason(), "AccessDenied");
    assert_eq!(store.get("key").await.unwrap(), "value");

    s3.keys().revoke(&keys);
    assert_eq!(store.get("key").await.unwrap_err().reason(), "BadCredentials");
    s3.keys().restore(&keys, KeyAccess::ReadWrite);
    assert_eq!(store.get("key").await.unwrap(), "value");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_deleted_says_so_and_its_files_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, keys) = server(&dir, false).await;
    let store = open_with(&access(&s3, &keys), QUICK).unwrap();
    store.put("key", Bytes::from_static(b"value")).await.unwrap();
    let file = s3.object_file(BUCKET, "key").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"value");
    assert!(s3.delete_bucket(BUCKET));
    assert_eq!(store.get("key").await.unwrap_err().reason(), "NoSuchBucket");
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, keys) = server(&dir, false).await;
    let store = open_with(&access(&s3, &keys), QUICK).unwrap();
    s3.faults().fail_next(1);
    store.put("key", Bytes::from_static(b"value")).await.unwrap();
    assert!(s3.faults().requests() >= 2, "the client tried again");

    s3.faults().fail_next(u64::MAX);
    assert_eq!(store.get("key").await.unwrap_err().reason(), "StoreUnavailable");
    s3.faults().clear();

    s3.faults().deny_writes(true);
    assert_eq!(store.put("key", Bytes::new()).await.unwrap_err().reason(), "AccessDenied");
    s3.faults().clear();

    s3.faults().stop_answering(true);
    let asked = store.get("key");
    assert!(tokio::time::timeout(Duration::from_millis(200), asked).await.is_err());
    s3.faults().clear();
    assert_eq!(store.get("key").await.unwrap(), "value");
}
