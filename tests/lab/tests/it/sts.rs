//! Session keys of the S3 server, by the client that spokes use.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use isthmus_lab::s3::{KeyAccess, KeyPair, REGION, S3, S3Options};
use isthmus_shared::staging::s3::{RetryPolicy, open_with};
use isthmus_shared::staging::sts::{VolumeUse, assume_role};
use isthmus_shared::staging::{ObjectStore, PairUid, StoreAccess, StsAccess, VolumeUid, layout};

const BUCKET: &str = "bucket";
const PREFIX: &str = "team";
const QUICK: RetryPolicy = RetryPolicy { max_elapsed: Duration::from_secs(2), ..RetryPolicy::PROMPT };
const PASS: u32 = 3;

/// A server with one key pair, and the names of a volume in it.
struct Lab {
    s3: S3,
    keys: KeyPair,
    pair: PairUid,
    volume: VolumeUid,
    _dir: tempfile::TempDir,
}

impl Lab {
    async fn start(tls: bool) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let s3 = S3::start(S3Options { dir: dir.path().to_owned(), tls }).await.unwrap();
        s3.create_bucket(BUCKET);
        let keys = s3.keys().add(KeyAccess::ReadWrite);
        let (pair, volume) = (PairUid::new("pair").unwrap(), VolumeUid::new("volume").unwrap());
        Self { s3, keys, pair, volume, _dir: dir }
    }

    fn access(&self) -> StoreAccess {
        let role_arn = "arn:aws:iam::123456789012:role/movers".to_owned();
        StoreAccess {
            endpoint: self.s3.endpoint().to_owned(),
            region: REGION.to_owned(),
            bucket: BUCKET.to_owned(),
            prefix: Some(PREFIX.to_owned()),
            path_style: true,
            ca_pem: self.s3.ca_pem().map(ToOwned::to_owned),
            access_key_id: self.keys.access_key.clone(),
            secret_access_key: self.keys.secret_key.clone(),
            session_token: None,
            sts: Some(StsAccess { endpoint: None, role_arn, duration_seconds: 900 }),
        }
    }

    async fn session(&self, purpose: VolumeUse) -> StoreAccess {
        let session = assume_role(&self.access(), &self.pair, &self.volume, purpose).await.unwrap();
        let left = session.expires.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((800..=900).contains(&left), "{left} s");
        session.access
    }

    fn segment(&self) -> String {
        layout::pass_segment(&self.pair, &self.volume, PASS, 1)
    }

    fn mark(&self, pass: u32) -> String {
        layout::pass_received(&self.pair, &self.volume, pass)
    }
}

fn open(access: &StoreAccess) -> Arc<dyn ObjectStore> {
    open_with(access, QUICK).unwrap()
}

async fn put(store: &Arc<dyn ObjectStore>, key: &str) -> &'static str {
    store.put(key, Bytes::from_static(b"x")).await.map_or_else(|error| error.reason(), |()| "written")
}

async fn get(store: &Arc<dyn ObjectStore>, key: &str) -> &'static str {
    store.get(key).await.map_or_else(|error| error.reason(), |_| "read")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_senders_keys_are_good_below_its_volume_and_nowhere_else() {
    let lab = Lab::start(false).await;
    let owner = open(&lab.access());
    let access = lab.session(VolumeUse::Send).await;
    assert!(access.sts.is_none() && access.session_token.is_some());
    assert_ne!(access.access_key_id, lab.keys.access_key);
    let sender = open(&access);

    let (pack, segment) = (layout::volume_pack(&lab.pair, &lab.volume, &[7; 16]), lab.segment());
    assert_eq!(get(&sender, &segment).await, "ObjectNotFound");
    for key in [&pack, &segment] {
        assert_eq!((put(&sender, key).await, get(&sender, key).await), ("written", "read"), "{key}");
    }
    let listed = sender.list(&layout::volume_prefix(&lab.pair, &lab.volume), None, 10).await.unwrap();
    assert_eq!(listed.objects.len(), 2);

    let neighbour = VolumeUid::new("volume2").unwrap();
    for key in [
        layout::pass_segment(&lab.pair, &neighbour, PASS, 1),
        layout::pass_segment(&PairUid::new("other").unwrap(), &lab.volume, PASS, 1),
        "pair/migrations/m/resources/cluster/trailer".to_owned(),
    ] {
        assert_eq!(put(&owner, &key).await, "written");
        assert_eq!(get(&sender, &key).await, "AccessDenied", "{key}");
        assert_eq!(put(&sender, &key).await, "AccessDenied", "{key}");
    }
    for prefix in ["", "pair/", "pair/volumes/", "pair/volumes/volume", "pair/migrations/"] {
        assert_eq!(sender.list(prefix, None, 10).await.unwrap_err().reason(), "AccessDenied", "{prefix:?}");
    }
    // Movers delete nothing.
    let gone = sender.delete(std::slice::from_ref(&segment)).await;
    assert_eq!(gone.unwrap_err().reason(), "AccessDenied");

    let touched = lab.s3.keys().touched(&access.access_key_id);
    let below = |action: &str| format!("{action} {PREFIX}/pair/volumes/volume");
    assert_eq!(touched, [below("s3:GetObject"), below("s3:PutObject")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receivers_keys_write_its_passs_mark_only() {
    let lab = Lab::start(true).await;
    let owner = open(&lab.access());
    assert_eq!(put(&owner, &lab.segment()).await, "written");
    let receiver = open(&lab.session(VolumeUse::Receive { pass: PASS }).await);
    assert_eq!(get(&receiver, &lab.segment()).await, "read");
    assert_eq!(put(&receiver, &lab.mark(PASS)).await, "written");
    for key in [lab.segment(), lab.mark(PASS + 1), layout::pass_sender(&lab.pair, &lab.volume, PASS)] {
        assert_eq!(put(&receiver, &key).await, "AccessDenied", "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_session_that_is_over_are_refused_and_beget_no_others() {
    let lab = Lab::start(false).await;
    let access = lab.session(VolumeUse::Send).await;
    let session = open(&access);
    assert_eq!(put(&session, &lab.segment()).await, "written");
    let assumed = lab.s3.keys().assumed();
    assert_eq!(assumed.len(), 1);
    assert_eq!(assumed[0].name, "isthmus-volume");
    assert_eq!(assumed[0].parent, lab.keys.access_key);

    let again = StoreAccess { sts: lab.access().sts, ..access.clone() };
    let refused = assume_role(&again, &lab.pair, &lab.volume, VolumeUse::Send).await.unwrap_err();
    assert_eq!(refused.reason(), "RoleRefused", "{refused}");
    let without_token = StoreAccess { session_token: None, ..access };
    assert_eq!(get(&open(&without_token), &lab.segment()).await, "BadCredentials");

    lab.s3.keys().expire_sessions();
    assert_eq!(get(&session, &lab.segment()).await, "SessionExpired");
    assert_eq!(put(&session, &lab.segment()).await, "SessionExpired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_with_the_right_secret_only_and_in_spite_of_a_busy_server() {
    let lab = Lab::start(false).await;
    let wrong = StoreAccess { secret_access_key: "wrong".to_owned(), ..lab.access() };
    let refused = assume_role(&wrong, &lab.pair, &lab.volume, VolumeUse::Send).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("role/movers") && text.contains("SignatureDoesNotMatch"), "{text}");
    assert!(lab.s3.keys().assumed().is_empty());

    lab.s3.faults().fail_next(2);
    lab.session(VolumeUse::Send).await;
}
