//! Key pairs, and what each may do. They change at run time, as an operator's would.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::Faults;
use super::sessions::{Assumed, Session, action};

/// The most sessions, and the most kinds of use, that are kept for tests to look at.
pub const MAX_NOTED: usize = 10_000;
/// Names of an object's key that are kept of its use.
const NOTED_NAMES: usize = 4;

/// What a key pair may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAccess {
    /// Everything.
    ReadWrite,
    /// Gets, heads and listings only.
    ReadOnly,
}

/// An access key and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: String,
}

impl KeyPair {
    fn fresh() -> Self {
        Self {
            access_key: format!("LAB{}", &uuid::Uuid::new_v4().simple().to_string().to_uppercase()[..17]),
            secret_key: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
        }
    }
}

/// The key pairs of a server; clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<RwLock<Held>>);

#[derive(Debug, Default)]
struct Held {
    holders: HashMap<String, (String, Holder)>,
    assumed: Vec<Assumed>,
    touched: BTreeSet<(String, String)>,
}

/// Who has a key pair.
#[derive(Debug, Clone)]
enum Holder {
    Owner(KeyAccess),
    Session(Arc<Session>),
}

impl Keys {
    /// Makes a new pair.
    pub fn add(&self, access: KeyAccess) -> KeyPair {
        let pair = KeyPair::fresh();
        self.restore(&pair, access);
        pair
    }

    /// Takes a pair away; requests with it are refused from now on.
    pub fn revoke(&self, pair: &KeyPair) {
        self.write().holders.remove(&pair.access_key);
    }

    /// Puts a revoked pair back, or changes what one may do.
    pub fn restore(&self, pair: &KeyPair, access: KeyAccess) {
        let holder = (pair.secret_key.clone(), Holder::Owner(access));
        self.write().holders.insert(pair.access_key.clone(), holder);
    }

    /// The sessions that were begun, the first [`MAX_NOTED`] of them.
    pub fn assumed(&self) -> Vec<Assumed> {
        self.read().assumed.clone()
    }

    /// Ends all sessions at once, as if their time were over.
    pub fn expire_sessions(&self) {
        for (_, holder) in self.read().holders.values() {
            if let Holder::Session(session) = holder {
                session.end();
            }
        }
    }

    /// What a key was let do, as `<action> <folder>`: e.g. `s3:PutObject pair/volumes/v/packs`.
    /// Only the first four names of an object's key count, and the first [`MAX_NOTED`] of all.
    pub fn touched(&self, access_key: &str) -> Vec<String> {
        let held = self.read();
        let of_key = held.touched.iter().filter(|(key, _)| key == access_key);
        of_key.map(|(_, what)| what.clone()).collect()
    }

    /// Begins a session.
    pub(super) fn add_session(&self, assumed: Assumed, session: Session) -> KeyPair {
        let pair = KeyPair::fresh();
        let mut held = self.write();
        held.holders
            .insert(pair.access_key.clone(), (pair.secret_key.clone(), Holder::Session(Arc::new(session))));
        if held.assumed.len() < MAX_NOTED {
            held.assumed.push(Assumed { access_key: pair.access_key.clone(), ..assumed });
        }
        pair
    }

    /// Whether this key may begin sessions: those of sessions may not.
    pub(super) fn may_assume(&self, access_key: &str) -> bool {
        matches!(self.get(access_key), Some((_, Holder::Owner(_))))
    }

    fn note(&self, access_key: &str, action: &str, key: &str) {
        let folder: Vec<&str> = key.split('/').take(NOTED_NAMES).collect();
        let what = (access_key.to_owned(), format!("{action} {}", folder.join("/")));
        let mut held = self.write();
        if held.touched.len() < MAX_NOTED {
            held.touched.insert(what);
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, access_key: &str) -> Option<(String, Holder)> {
        self.read().holders.get(access_key).cloned()
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.get(access_key) {
            Some((secret, _)) => Ok(SecretKey::from(secret)),
            None => Err(s3_error!(InvalidAccessKeyId, "The access key does not exist or was revoked")),
        }
    }
}

/// Lets a request through by its key's rights and the faults that are set.
pub(super) struct Rights {
    pub keys: Keys,
    pub faults: Faults,
}

#[async_trait::async_trait]
impl S3Access for Rights {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(access_key) = cx.credentials().map(|credentials| credentials.access_key.clone()) else {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        };
        let writes = !matches!(*cx.method(), http::Method::GET | http::Method::HEAD);
        if writes && self.faults.writes_denied() {
            return Err(s3_error!(AccessDenied, "Writes are denied by the lab"));
        }
        match self.keys.get(&access_key) {
            Some((_, Holder::Owner(KeyAccess::ReadWrite))) => {}
            Some((_, Holder::Owner(KeyAccess::ReadOnly))) if !writes => {}
            Some((_, Holder::Owner(KeyAccess::ReadOnly))) => {
                return Err(s3_error!(AccessDenied, "This key may only read"));
            }
            Some((_, Holder::Session(session))) => session.check(cx)?,
            None => return Err(s3_error!(InvalidAccessKeyId, "The access key was revoked")),
        }
        if let Some((_, key)) = cx.s3_path().as_object() {
            self.keys.note(&access_key, action(cx.s3_op().name()), key);
        }
        Ok(())
    }
}
