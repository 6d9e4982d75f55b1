//! Movers that are really killed: processes of their own, which end without a word at whatever they
//! were doing, and are started again.

use std::{
    fs::{self, File},
    io::ErrorKind,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use isthmus_shared::staging::{ListPage, ListedObject, StoreError};
use serde::{Deserialize, Serialize};

use super::{
    trees::{Random, TreeKind, generate},
    *,
};

/// The variable that makes this test's process a mover: what it is to move.
const LIFE: &str = "ISTHMUS_TEST_LIFE";
/// Nobody takes longer over a pass, however often he was killed.
const ENOUGH: Duration = Duration::from_mins(3);

/// What one mover is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Life {
    receives: bool,
    root: PathBuf,
    store: PathBuf,
    key: VolumeKey,
    pass: u32,
}

impl Life {
    /// In this process.
    fn live(self) {
        let mut volume = Volume::over(MemoryStore::new(), Arc::new(Folder(self.store)));
        volume.key = self.key;
        volume.limits.segment_bytes = 400;
        volume.limits.pack_bytes = 1_100_000;
        let pass = volume.pass(&self.root, self.pass);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        if self.receives {
            let (metadata_policy, verify) = (MetadataPolicy::Strict, VerifyMethod::Full);
            let options = ReceiveOptions { pass, metadata_policy, verify };
            runtime.block_on(receive(options, progress, cancel)).unwrap();
        } else {
            let options = SendOptions { pass, sender: "a life".to_owned(), still: false };
            runtime.block_on(send(options, progress, cancel)).unwrap();
        }
    }

    /// Again and again in processes of their own, each killed after some time, until one comes to
    /// the end. Gives how many were killed.
    fn live_and_die(&self, test: &str, seed: u64) -> u32 {
        let said = tempfile::NamedTempFile::new().unwrap();
        // What those who are killed leave behind.
        let left = tempfile::tempdir().unwrap();
        let (mut random, mut patience, started) = (Random::new(seed), 100, Instant::now());
        let mut deaths = 0;
        loop {
            assert!(started.elapsed() < ENOUGH, "{self:?} does not end: {deaths} deaths");
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test, "--nocapture"])
                .env(LIFE, serde_json::to_string(self).unwrap())
                .env("TMPDIR", left.path())
                .stdout(Stdio::null())
                .stderr(said.reopen().unwrap())
                .spawn()
                .unwrap();
            let deadline = Instant::now() + Duration::from_millis(random.below(patience));
            if let Some(succeeded) = ended(&mut child, deadline) {
                assert!(succeeded, "{}", fs::read_to_string(said.path()).unwrap());
                return deaths;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            deaths += 1;
            patience += patience / 4;
        }
    }
}

/// Whether a process succeeded, if it ended in time.
fn ended(child: &mut Child, deadline: Instant) -> Option<bool> {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A store in a folder: what was put is there as a whole for the next process.
#[derive(Debug, Clone)]
struct Folder(PathBuf);

impl Folder {
    fn file(&self, key: &str) -> PathBuf {
        self.0.join(hex::encode(key))
    }

    fn failed(key: &str, error: &std::io::Error) -> StoreError {
        let (store, key, detail) = ("a folder".to_owned(), key.to_owned(), error.to_string());
        if error.kind() == ErrorKind::NotFound {
            return StoreError::NotFound { store, key };
        }
        StoreError::Other { store, operation: "call", key, detail }
    }
}

impl ObjectStore for Folder {
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        let written = tempfile::NamedTempFile::new_in(&self.0).and_then(|file| {
            file.as_file().write_all_at(&body, 0)?;
            file.persist(self.file(key)).map_err(|error| error.error)
        });
        let result = written.map(|_| ()).map_err(|error| Self::failed(key, &error));
        async move { result }.boxed()
    }

    fn get_at_most(&self, key: &str, _: usize) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let result = fs::read(self.file(key)).map(Bytes::from).map_err(|error| Self::failed(key, &error));
        async move { result }.boxed()
    }

    fn read_range<'a>(
        &'a self,
        key: &str,
        range: Range<u64>,
        into: &'a mut Vec<u8>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        let read = File::open(self.file(key)).and_then(|file| file.read_exact_at(&mut bytes, range.start));
        let result = read.map_err(|error| Self::failed(key, &error));
        async move {
            result?;
            into.append(&mut bytes);
            Ok(())
        }
        .boxed()
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        let mut objects: Vec<ListedObject> = fs::read_dir(&self.0)
            .unwrap()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let key = String::from_utf8(hex::decode(entry.file_name().as_encoded_bytes()).ok()?).ok()?;
                Some(ListedObject { key, size: entry.metadata().ok()?.len() })
            })
            .filter(|object| object.key.starts_with(prefix) && Some(object.key.as_str()) > after)
            .collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        let more = objects.len() > limit;
        objects.truncate(limit);
        async move { Ok(ListPage { objects, more }) }.boxed()
    }

    fn delete(&self, keys: &[String]) -> BoxFuture<'_, Result<(), StoreError>> {
        for key in keys {
            fs::remove_file(self.file(key)).ok();
        }
        async { Ok(()) }.boxed()
    }
}

/// Both sides of a pass at once, each killed without regard to the other.
fn run_killed_pass(of: &Life, destination: &Path, test: &str, seed: u64) -> u32 {
    let receiving = Life { receives: true, root: destination.to_owned(), ..of.clone() };
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| of.live_and_die(test, seed));
        let receiver = scope.spawn(|| receiving.live_and_die(test, seed + 1));
        sender.join().unwrap() + receiver.join().unwrap()
    })
}

#[test]
fn movers_whose_processes_are_killed_at_any_moment_still_end_exactly() {
    if let Ok(life) = std::env::var(LIFE) {
        return serde_json::from_str::<Life>(&life).unwrap().live();
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap();
    for seed in 0..u64::from(cases(1)) {
        let volume = Volume::new();
        let (source, store) = (volume.source.path(), tempfile::tempdir().unwrap());
        generate(source, TreeKind::Mixed, seed, 0.005).unwrap();
        generate(source, TreeKind::Large, seed, 0.04).unwrap();
        let (root, store) = (source.to_owned(), store.path().to_owned());
        let mut life = Life { receives: false, root, store, key: volume.key.clone(), pass: 1 };
        let deaths = run_killed_pass(&life, volume.destination.path(), test, 10 * seed);
        assert!(deaths > 3, "{deaths} deaths");
        volume.assert_equal();

        let more = source.join("d00/more");
        fs::create_dir(&more).unwrap();
        generate(&more, TreeKind::Mixed, seed + 1, 0.002).unwrap();
        fs::remove_file(source.join("large-2.bin")).unwrap();
        File::options()
            .write(true)
            .open(source.join("large-1.bin"))
            .unwrap()
            .write_all_at(b"x", 1 << 20)
            .unwrap();
        fs::rename(source.join("d00/e00"), source.join("moved")).unwrap();
        life.pass = 2;
        run_killed_pass(&life, volume.destination.path(), test, 10 * seed + 5);
        volume.assert_equal();
    }
}
