//! Sending and receiving together, on real folders and a store in memory.

mod damage;
mod devices;
mod exactness;
mod exclusions;
mod faults;
mod flows;
mod generated;
mod hostile;
mod killed;
mod meddled;
mod policy;
pub mod privileges;
mod recovery;
mod sentinel;
mod still;
mod there_and_back;
mod verify;
// The lab, which these trees belong to, depends on this crate: so its files are compiled in.
#[allow(dead_code, unused_imports, unreachable_pub)]
#[path = "../../../tests/lab/src/trees/mod.rs"]
mod trees;

use std::{path::Path, sync::Arc, time::Duration};

use isthmus_shared::{
    resources::{Exclusions, MetadataPolicy, VerifyMethod},
    staging::{MemoryStore, ObjectStore, PairKey, PairUid, VolumeKey, VolumeUid},
};
use tokio_util::sync::CancellationToken;

use super::*;
use trees::{CompareOptions, compare_trees};

/// A volume with a source, a destination and staging between them.
struct Volume {
    source: tempfile::TempDir,
    destination: tempfile::TempDir,
    memory: MemoryStore,
    store: Arc<dyn ObjectStore>,
    key: VolumeKey,
    limits: Limits,
    exclude: Exclusions,
    /// The claims of source and destination, where passes go both ways.
    claims: Option<[String; 2]>,
}

impl Volume {
    fn new() -> Self {
        let memory = MemoryStore::new();
        Self::over(memory.clone(), Arc::new(memory))
    }

    fn over(memory: MemoryStore, store: Arc<dyn ObjectStore>) -> Self {
        let pair = PairKey::generate().unwrap();
        Self {
            source: tempfile::tempdir().unwrap(),
            destination: tempfile::tempdir().unwrap(),
            store,
            memory,
            key: pair.volume_key(&VolumeUid::new("volume").unwrap()).unwrap(),
            limits: Limits {
                workers: 2,
                peer_timeout: Duration::from_secs(20),
                pack_bytes: 3 << 20,
                heartbeat: Duration::from_millis(50),
                mark_interval: Duration::ZERO,
                durable: false,
                ..Limits::default()
            },
            exclude: Exclusions::default(),
            claims: None,
        }
    }

    fn pass(&self, root: &Path, number: u32) -> Pass {
        Pass {
            root: root.to_owned(),
            store: self.store.clone(),
            key: self.key.clone(),
            volume: VolumeUid::new("volume").unwrap(),
            pair: PairUid::new("pair").unwrap(),
            number,
            previous: (number > 1).then(|| number - 1),
            claim: self.claims.as_ref().map(|claims| claims[usize::from(root != self.source.path())].clone()),
            exclude: self.exclude.clone(),
            limits: self.limits.clone(),
        }
    }

    fn send_options(&self, pass: u32) -> SendOptions {
        let pass = self.pass(self.source.path(), pass);
        SendOptions { pass, sender: "sender-pod".to_owned(), still: false }
    }

    fn receive_options(&self, pass: u32) -> ReceiveOptions {
        ReceiveOptions {
            pass: self.pass(self.destination.path(), pass),
            metadata_policy: MetadataPolicy::Strict,
            verify: VerifyMethod::Inline,
        }
    }

    async fn send(&self, pass: u32) -> Result<SendReport, MoverError> {
        let cancel = CancellationToken::new();
        send(self.send_options(pass), Progress::new(), cancel).await
    }

    async fn receive(&self, pass: u32) -> Result<ReceiveReport, MoverError> {
        let cancel = CancellationToken::new();
        receive(self.receive_options(pass), Progress::new(), cancel).await
    }

    /// Both sides at once, as in a migration.
    async fn run_pass(&self, pass: u32) -> (SendReport, ReceiveReport) {
        let (sent, received) = tokio::join!(self.send(pass), self.receive(pass));
        (sent.unwrap(), received.unwrap())
    }

    #[track_caller]
    fn assert_equal(&self) {
        assert_same(self.source.path(), self.destination.path());
    }
}

#[track_caller]
fn assert_same(a: &Path, b: &Path) {
    let differences = compare_trees(a, b, &CompareOptions::default()).unwrap();
    let shown: Vec<String> = differences.iter().take(10).map(ToString::to_string).collect();
    assert!(shown.is_empty(), "{} differences: {shown:#?}", differences.len());
}

/// How many cases of a property are tried: `few` in a suite, else as many as `PROPTEST_CASES` says.
fn cases(few: u32) -> u32 {
    let asked = std::env::var_os("PROPTEST_CASES");
    asked.map_or(few, |_| proptest::test_runner::Config::default().cases)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
