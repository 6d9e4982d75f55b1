//! The bodies of the fuzz targets for what is read from the bucket, and what drives them where
//! there is no fuzzer.
//!
//! `fuzz/` runs each body under libFuzzer. The tests here run each of them over its seeds, over
//! what `fuzz/regressions` holds of it, and over some thousands of mutations with a fixed seed. A body
//! takes any bytes: it may refuse them, but must not panic, hang, or take memory without bound.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;

use crate::staging::{
    ArchiveName, ArchiveReader, ArchiveWriter, LogWriter, MemoryStore, MigrationUid, ObjectStore, PairKey,
    PairUid, SealKey, VolumeUid, journal, layout, seal::TAG_LEN, sts,
};

/// A target: its name, its body, and inputs that lead deep into it.
#[derive(Clone, Copy)]
pub struct Target {
    /// As the file in `fuzz/fuzz_targets` is named.
    pub name: &'static str,
    /// Takes any bytes.
    pub body: fn(&[u8]),
    /// Sound inputs, and near ones.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    Target { name: "sealed_object", body: sealed_object, seeds: sealed_objects },
    Target { name: "pack_frame", body: pack_frame, seeds: pack_frames },
    Target { name: "archive", body: archive, seeds: archives },
    Target { name: "log_chunk", body: log_chunk, seeds: log_chunks },
    Target { name: "sts_answer", body: sts_answer, seeds: sts_answers },
];

/// The same key in each run, so that an input means the same again.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OBJECT: &str = "fuzzed";

struct Case {
    store: MemoryStore,
    key: PairKey,
    pair: PairUid,
    migration: MigrationUid,
}

impl Case {
    fn new() -> Option<Self> {
        Some(Self {
            store: MemoryStore::new(),
            key: PairKey::from_base64(KEY).ok()?,
            pair: PairUid::new("pair").ok()?,
            migration: MigrationUid::new("migration").ok()?,
        })
    }

    fn seal_key(&self) -> Option<SealKey> {
        self.key.migration_key(&self.migration).ok()
    }

    fn shared(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.store.clone())
    }

    /// Puts what somebody with the key could have put.
    fn put(&self, object: &str, plain: &[u8]) -> Option<()> {
        let sealed = self.seal_key()?.seal(object, plain).ok()?;
        block_on(self.store.put(object, Bytes::from(sealed))).ok()
    }
}

/// A sealed object as it lies in the bucket: without the key there is none that opens.
pub fn sealed_object(data: &[u8]) {
    let Some(key) = Case::new().and_then(|case| case.seal_key()) else { return };
    if let Ok(plain) = key.open(OBJECT, data) {
        assert!(plain.len() < data.len());
    }
}

fn sealed_objects() -> Vec<Vec<u8>> {
    let Some(key) = Case::new().and_then(|case| case.seal_key()) else { return Vec::new() };
    [&b""[..], b"content", &[7; 1000]].iter().filter_map(|plain| key.seal(OBJECT, plain).ok()).collect()
}

/// A frame of a pack: its number, its length before compression, and its sealed bytes.
pub fn pack_frame(data: &[u8]) {
    let Some((number, rest)) = data.split_first_chunk::<4>() else { return };
    let Some((raw, sealed)) = rest.split_first_chunk::<4>() else { return };
    let volume = VolumeUid::new("volume").ok();
    let Some(key) = Case::new().zip(volume).and_then(|(case, volume)| case.key.volume_key(&volume).ok())
    else {
        return;
    };
    let Ok(key) = key.pack_key(&[3; 16]) else { return };
    let mut sealed = sealed.to_vec();
    let length = sealed.len();
    if let Some(plain) = key.open_in_place(u32::from_be_bytes(*number), raw, &mut sealed) {
        assert_eq!(plain.len() + TAG_LEN, length);
    }
}

fn pack_frames() -> Vec<Vec<u8>> {
    let volume = VolumeUid::new("volume").ok();
    let key = Case::new().zip(volume).and_then(|(case, volume)| case.key.volume_key(&volume).ok());
    let Some(key) = key.and_then(|key| key.pack_key(&[3; 16]).ok()) else { return Vec::new() };
    let mut frame = b"content of a frame".to_vec();
    let raw = 18_u32.to_be_bytes();
    let Ok(tag) = key.seal_in_place(1, &raw, &mut frame) else { return Vec::new() };
    vec![[&1_u32.to_be_bytes()[..], &raw, &frame, &tag].concat(), vec![0; 8]]
}

/// An archive of objects: the first byte chooses whether the trailer or the only part is made
/// of the rest.
pub fn archive(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    let Some(case) = Case::new() else { return };
    read_archive(&case, *which, rest);
}

fn read_archive(case: &Case, which: u8, content: &[u8]) -> Option<()> {
    let name = ArchiveName::namespace("cms").ok()?;
    let run = uuid::Uuid::nil();
    let (part, trailer) = (
        layout::archive_part(&case.pair, &case.migration, &name, run, 0),
        layout::archive_trailer(&case.pair, &case.migration, &name),
    );
    if which.is_multiple_of(2) {
        case.put(&trailer, content)?;
    } else {
        let sound = serde_json::json!({"run": run, "parts": 1, "objects": 1, "bytes": 2, "digest": ""});
        case.put(&trailer, sound.to_string().as_bytes())?;
        case.put(&part, content)?;
    }
    let opened = ArchiveReader::open(case.shared(), &case.key, &case.pair, &case.migration, name);
    let mut reader = block_on(opened).ok()?;
    while block_on(reader.next()).ok()?.is_some() {}
    Some(())
}

fn archives() -> Vec<Vec<u8>> {
    let part = |objects: &[&str]| -> Option<Vec<u8>> {
        let mut raw = Vec::new();
        for object in objects {
            raw.extend_from_slice(&u32::try_from(object.len()).ok()?.to_be_bytes());
            raw.extend_from_slice(object.as_bytes());
        }
        Some([&[1][..], &zstd::bulk::compress(&raw, 1).ok()?].concat())
    };
    let trailer = r#"{"run":"00000000-0000-0000-0000-000000000000","parts":0,"objects":0,"bytes":0,"digest":"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"}"#;
    let many = trailer.replace(r#""parts":0"#, r#""parts":65536"#);
    let mut seeds: Vec<Vec<u8>> =
        [trailer, many.as_str(), "{}"].iter().map(|text| [&[0][..], text.as_bytes()].concat()).collect();
    seeds.extend(
        [part(&["{}"]), part(&[r#"{"kind":"ConfigMap"}"#, "[]", "null"]), part(&[])].into_iter().flatten(),
    );
    seeds.extend(written_archive());
    seeds
}

/// The trailer as the writer writes it.
fn written_archive() -> Option<Vec<u8>> {
    let case = Case::new()?;
    let name = ArchiveName::namespace("cms").ok()?;
    let mut writer =
        ArchiveWriter::new(case.shared(), &case.key, &case.pair, &case.migration, name.clone()).ok()?;
    block_on(writer.push(&serde_json::json!({"kind": "Secret"}))).ok()?;
    block_on(writer.finish()).ok()?;
    let trailer = layout::archive_trailer(&case.pair, &case.migration, &name);
    let sealed = block_on(case.store.get(&trailer)).ok()?;
    let plain = case.seal_key()?.open(&trailer, &sealed).ok()?;
    Some([&[0][..], &plain].concat())
}

/// A chunk of a migration's log.
pub fn log_chunk(data: &[u8]) {
    let Some(case) = Case::new() else { return };
    read_log(&case, data);
}

fn read_log(case: &Case, content: &[u8]) -> Option<()> {
    let chunk = layout::log_chunk(&case.pair, &case.migration, "east", 0).ok()?;
    case.put(&chunk, content)?;
    let read = journal::read_all(&case.store, &case.key, &case.pair, &case.migration, &["east"], 10);
    let lines = block_on(read).ok()?;
    assert!(lines.len() <= 10);
    // A writer goes on behind whatever is there.
    let writer = LogWriter::open(case.shared(), &case.key, &case.pair, &case.migration, "east");
    block_on(writer).ok().map(|_| ())
}

fn log_chunks() -> Vec<Vec<u8>> {
    let line = r#"{"at":"2026-11-22T18:00:00Z","text":"a line"}"#;
    vec![Vec::new(), format!("{line}\n").into_bytes(), format!("{line}\n").repeat(30).into_bytes()]
}

/// What STS answers.
pub fn sts_answer(data: &[u8]) {
    sts::read_any_answer(data);
}

fn sts_answers() -> Vec<Vec<u8>> {
    [
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2026-11-22T18:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
        "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>",
        "<?xml version=\"1.0\"?><Error><Code>A&amp;&#65;</Code><Message><![CDATA[<x>]]></Message></Error>",
        "<!DOCTYPE a [<!ENTITY b \"c\">]><Error><Code>&b;</Code></Error>",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// Makes inputs of other inputs; the same ones each time.
#[derive(Debug)]
pub struct Mutator(u64);

/// Numbers at which parsers break.
const ODD: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'/', b'.', b'<'];
/// No mutation makes an input longer than this.
const MAX_INPUT: usize = 64 * 1024;

impl Mutator {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap_or_default() % bound.max(1)
    }

    /// One of `seeds`, changed in a few places, cut, or put together with another.
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len());
            match self.below(8) {
                0 => input.truncate(at),
                1 if !input.is_empty() => input[at] ^= 1 << self.below(8),
                2 if !input.is_empty() => input[at] = ODD[self.below(ODD.len())],
                3 => input.insert(at.min(input.len()), ODD[self.below(ODD.len())]),
                4 if !input.is_empty() => {
                    input.remove(at);
                }
                5 => {
                    let end = (at + self.below(16)).min(input.len());
                    let part = input[at.min(end)..end].to_vec();
                    input.splice(at..at, part);
                }
                6 => {
                    let other = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
                    input.truncate(at);
                    input.extend_from_slice(&other[self.below(other.len()).min(other.len())..]);
                }
                _ => {
                    let end = (at + 4).min(input.len());
                    let with = ODD[self.below(ODD.len())];
                    input[at.min(end)..end].fill(with);
                }
            }
            input.truncate(MAX_INPUT);
        }
        input
    }
}

/// Runs a target over its seeds, over what the folder `regressions` holds of it, and over `mutations`
/// of both. Where `ISTHMUS_WRITE_CORPUS` names a folder, the seeds are written there: that is how
/// a fuzzer's corpus begins.
pub fn drive(target: &Target, regressions: &std::path::Path, mutations: usize) -> std::io::Result<()> {
    let mut inputs = (target.seeds)();
    if let Some(folder) = std::env::var_os("ISTHMUS_WRITE_CORPUS") {
        let folder = std::path::Path::new(&folder).join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (at, seed) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{at}")), seed)?;
        }
    }
    let folder = regressions.join(target.name);
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder)? {
            inputs.push(std::fs::read(entry?.path())?);
        }
    }
    for input in &inputs {
        (target.body)(input);
    }
    let mut mutator = Mutator::new(7);
    for _ in 0..mutations {
        (target.body)(&mutator.next(&inputs));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations of each target; the fuzzer makes millions.
    const MUTATIONS: usize = 3000;

    #[test]
    fn no_input_breaks_a_parser_of_bytes_from_the_bucket() {
        let regressions = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions");
        for target in TARGETS {
            drive(target, &regressions, MUTATIONS).unwrap();
        }
    }

    #[test]
    fn sound_seeds_are_read_to_their_end() {
        let case = Case::new().unwrap();
        let written = written_archive().unwrap();
        assert!(read_archive(&case, 0, &archives()[0][1..]).is_some(), "an empty archive");
        assert!(read_archive(&case, 0, &written[1..]).is_none(), "its parts are elsewhere");
        assert!(read_log(&case, &log_chunks()[2]).is_some());
        let key = case.seal_key().unwrap();
        assert!(sealed_objects().iter().all(|sealed| key.open(OBJECT, sealed).is_ok()));
    }

    #[test]
    fn mutations_are_the_same_each_time_and_differ_from_each_other() {
        let seeds = [b"some seed".to_vec(), b"another".to_vec()];
        let make = || {
            let mut mutator = Mutator::new(3);
            (0..100).map(|_| mutator.next(&seeds)).collect::<Vec<_>>()
        };
        let made = make();
        assert_eq!(made, make());
        let mut distinct = made;
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 60, "{}", distinct.len());
    }
}
