//! Trees for the benchmark and the demo.

use std::{
    ffi::OsString,
    fs::{self, File, FileTimes},
    io::{self, Seek, SeekFrom, Write},
    os::unix::{
        ffi::OsStringExt,
        fs::{PermissionsExt, chown, symlink},
    },
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use super::content::Random;

/// The benchmark's trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind {
    /// 4 files of 512 MiB, half compressible.
    Large,
    /// 100,000 files of 0.5 to 8 KiB.
    Small,
    /// 20,000 files of 256 B to 1 MiB with odd metadata.
    Mixed,
    /// One file of 8 GiB, half compressible.
    Single,
}

impl TreeKind {
    /// Those that tools are compared on.
    pub const COMPARED: [Self; 3] = [Self::Large, Self::Small, Self::Mixed];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Small => "small",
            Self::Mixed => "mixed",
            Self::Single => "single",
        }
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeSummary {
    /// Regular files.
    pub files: u64,
    /// Their sizes.
    pub bytes: u64,
}

impl TreeSummary {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// Makes a tree in the existing folder `root`. `scale` 1.0 is the benchmark's own size; the
/// trees of large files scale their sizes, the others their number.
pub fn generate(root: &Path, kind: TreeKind, seed: u64, scale: f64) -> io::Result<TreeSummary> {
    let mut random = Random::new(seed);
    match kind {
        TreeKind::Large => large(root, &mut random, 4, scaled(512, scale)),
        TreeKind::Single => large(root, &mut random, 1, scaled(8192, scale)),
        TreeKind::Small => small(root, &mut random, scaled(100_000, scale)),
        TreeKind::Mixed => mixed(root, &mut random, scaled(20_000, scale)),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn scaled(count: u64, scale: f64) -> u64 {
    ((count as f64 * scale) as u64).max(1)
}

fn large(root: &Path, random: &mut Random, files: u32, blocks: u64) -> io::Result<TreeSummary> {
    let mut summary = TreeSummary::default();
    for number in 0..files {
        let mut file = File::create(root.join(format!("large-{number}.bin")))?;
        for block in 0..blocks {
            let bytes = if block % 2 == 0 { random.noise(1 << 20) } else { random.text(1 << 20) };
            file.write_all(&bytes)?;
        }
        summary.add(blocks << 20);
    }
    Ok(summary)
}

fn small(root: &Path, random: &mut Random, count: u64) -> io::Result<TreeSummary> {
    let mut summary = TreeSummary::default();
    for number in 0..count {
        let folder = root.join(format!("{:03}", number / 500));
        if number % 500 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let size = 512 + random.below(8 * 1024 - 512);
        let bytes = random.mixed(usize::try_from(size).unwrap_or(512));
        fs::write(folder.join(format!("file-{number:06}")), bytes)?;
        summary.add(size);
    }
    Ok(summary)
}

const ODD_MODES: [u32; 8] = [0o644, 0o600, 0o755, 0o640, 0o444, 0o4755, 0o2750, 0o1777];

fn mixed(root: &Path, random: &mut Random, count: u64) -> io::Result<TreeSummary> {
    let mut summary = TreeSummary::default();
    let privileged = rustix::process::geteuid().is_root();
    for number in 0..count {
        let folder = root.join(format!("d{:02}/e{:02}", number / 2000, number / 100 % 20));
        if number % 100 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let mut name = format!("file-{number:05}").into_bytes();
        if random.one_in(50) {
            // Not UTF-8.
            name.extend_from_slice(b" \xff\xfe \n");
        }
        let path = folder.join(OsString::from_vec(name));
        let size = random.size_between(256, 1 << 20);
        let length = usize::try_from(size).unwrap_or(256);
        let bytes = if random.one_in(2) { random.text(length) } else { random.noise(length) };
        fs::write(&path, bytes)?;
        summary.add(size);
        if random.one_in(10) {
            // Where the filesystem has none, the tree has none either.
            xattr::set(&path, "user.isthmus", &random.noise(40)).ok();
        }
        if privileged {
            let owner = 1000 + u32::try_from(random.below(5)).unwrap_or(0);
            chown(&path, Some(owner), Some(owner + 1))?;
        }
        let mode = ODD_MODES[usize::try_from(random.below(8)).unwrap_or(0)];
        set_times(&path, random)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if random.one_in(40) {
            fs::hard_link(&path, folder.join(format!("link-{number:05}")))?;
        }
        if random.one_in(40) {
            symlink(format!("nowhere/{number}"), folder.join(format!("sym-{number:05}")))?;
        }
    }
    Ok(summary)
}

fn set_times(path: &Path, random: &mut Random) -> io::Result<()> {
    let since = Duration::new(1_500_000_000 + random.below(100_000_000), 0)
        + Duration::from_nanos(random.below(1_000_000_000));
    File::open(path)?.set_times(FileTimes::new().set_modified(UNIX_EPOCH + since))
}

/// The two volumes of the demo's application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CmsVolume {
    /// A database's tables, logs and socket folder.
    Database,
    /// A web application's code and uploads.
    Web,
}

/// The owner of the files, where the caller may set it.
const CMS_OWNER: u32 = 999;
const MIB: usize = 1 << 20;

/// Fills the existing folder `root` with what the demo's application keeps: about 110 MiB in
/// each of its volumes, with odd modes, a sparse file, hard and symbolic links and an extended
/// attribute.
pub fn cms(root: &Path, volume: CmsVolume, seed: u64) -> io::Result<TreeSummary> {
    let mut random = Random::new(seed);
    let mut summary = match volume {
        CmsVolume::Database => database(root, &mut random)?,
        CmsVolume::Web => web(root, &mut random)?,
    };
    let sparse = root.join("sparse.img");
    let mut file = File::create(&sparse)?;
    file.seek(SeekFrom::Start(20 << 20))?;
    file.write_all(&random.noise(MIB))?;
    file.set_len(64 << 20)?;
    summary.add(64 << 20);
    fs::set_permissions(&sparse, fs::Permissions::from_mode(0o600))?;
    // Where the filesystem has no user attributes, the volume has none either.
    xattr::set(&sparse, "user.origin", b"made by the lab").ok();
    if rustix::process::geteuid().is_root() {
        own(root, CMS_OWNER)?;
    }
    Ok(summary)
}

fn put(summary: &mut TreeSummary, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    summary.add(bytes.len() as u64);
    Ok(())
}

fn database(root: &Path, random: &mut Random) -> io::Result<TreeSummary> {
    let mut summary = TreeSummary::default();
    let tables = root.join("wordpress");
    fs::create_dir_all(&tables)?;
    fs::set_permissions(&tables, fs::Permissions::from_mode(0o750))?;
    put(&mut summary, &root.join("ibdata1"), &random.mixed(48 * MIB), 0o660)?;
    for number in 0..2 {
        let name = format!("ib_logfile{number}");
        put(&mut summary, &root.join(name), &random.noise(16 * MIB), 0o640)?;
    }
    for number in 0..40 {
        let table = tables.join(format!("wp_table_{number:02}.ibd"));
        put(&mut summary, &table, &random.mixed(7 * MIB / 10), 0o660)?;
    }
    put(&mut summary, &root.join("auto.cnf"), b"[auto]\nserver-uuid=1\n", 0o444)?;
    fs::hard_link(root.join("auto.cnf"), tables.join("auto.cnf"))?;
    symlink("ibdata1", root.join("current"))?;
    Ok(summary)
}

fn web(root: &Path, random: &mut Random) -> io::Result<TreeSummary> {
    let mut summary = TreeSummary::default();
    let uploads = root.join("wp-content/uploads/2026/11");
    let code = root.join("wp-includes");
    fs::create_dir_all(&uploads)?;
    fs::create_dir_all(&code)?;
    for number in 0..1500 {
        let size = usize::try_from(random.size_between(512, 32 * 1024)).unwrap_or(512);
        let path = code.join(format!("class-{number:04}.php"));
        put(&mut summary, &path, &random.text(size), 0o644)?;
    }
    for number in 0..90 {
        let size = MIB + usize::try_from(random.below(300_000)).unwrap_or(0);
        let path = uploads.join(format!("photo {number} é.jpg"));
        put(&mut summary, &path, &random.noise(size), 0o664)?;
    }
    put(&mut summary, &root.join("wp-config.php"), &random.text(3000), 0o400)?;
    put(&mut summary, &root.join("run.sh"), b"#!/bin/sh\nexit 0\n", 0o4755)?;
    fs::hard_link(root.join("run.sh"), root.join("start.sh"))?;
    symlink("wp-content/uploads", root.join("uploads"))?;
    symlink("/nowhere/at/all", root.join("dangling"))?;
    let sticky = root.join("tmp");
    fs::create_dir(&sticky)?;
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777))?;
    Ok(summary)
}

/// Gives all below `root` to one owner, keeping modes: a change of owner drops setuid.
fn own(root: &Path, owner: u32) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_symlink() {
            std::os::unix::fs::lchown(&path, Some(owner), Some(owner))?;
            continue;
        }
        chown(&path, Some(owner), Some(owner))?;
        fs::set_permissions(&path, metadata.permissions())?;
        if metadata.is_dir() {
            own(&path, owner)?;
        }
    }
    chown(root, Some(owner), Some(owner))
}
