//! What is done to generated trees: in any order, by whatever is there.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStringExt,
            fs::{FileExt, PermissionsExt, lchown, symlink},
        },
    },
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, OFlags, RenameFlags, Timespec, Timestamps, fallocate, mkdirat, openat,
    renameat_with, symlinkat, utimensat,
};

use crate::mover::tests::{is_root, trees::Random};

/// One thing done to a tree. Numbers choose among what is there.
#[derive(Debug, Clone)]
pub enum Action {
    Directory {
        parent: usize,
        name: Vec<u8>,
        mode: u32,
    },
    File {
        parent: usize,
        name: Vec<u8>,
        size: u64,
        mode: u32,
        seed: u64,
    },
    Sparse {
        parent: usize,
        name: Vec<u8>,
        size: u64,
        at: u64,
    },
    Symlink {
        parent: usize,
        name: Vec<u8>,
        target: Vec<u8>,
    },
    Fifo {
        parent: usize,
        name: Vec<u8>,
    },
    HardLink {
        file: usize,
        parent: usize,
        name: Vec<u8>,
    },
    Xattr {
        file: usize,
        value: Vec<u8>,
    },
    Owner {
        file: usize,
        uid: u32,
        gid: u32,
    },
    Overwrite {
        file: usize,
        at: u64,
        length: usize,
        seed: u64,
    },
    Resize {
        file: usize,
        size: u64,
    },
    Mode {
        file: usize,
        mode: u32,
    },
    Rename {
        file: usize,
        parent: usize,
        name: Vec<u8>,
    },
    Remove {
        file: usize,
    },
    /// Root only.
    Device {
        parent: usize,
        name: Vec<u8>,
        minor: u32,
    },
    Socket {
        parent: usize,
        name: Vec<u8>,
    },
    /// Of anything, directories and links too.
    Time {
        entry: usize,
        seconds: i64,
        nanoseconds: u32,
    },
    /// Root's kind for root.
    OddXattr {
        entry: usize,
        value: Vec<u8>,
    },
    Acl {
        entry: usize,
        user: u32,
        default: bool,
    },
    Punch {
        file: usize,
        at: u64,
        length: u64,
    },
    /// Something of another type takes its name.
    Retype {
        entry: usize,
        to: u8,
    },
    RenameTree {
        directory: usize,
        parent: usize,
        name: Vec<u8>,
    },
    RemoveTree {
        directory: usize,
    },
    /// Directories within each other, with a file and a link in the last one: beyond the longest
    /// path that the system takes at once, where names are long.
    Deep {
        parent: usize,
        name: Vec<u8>,
        levels: usize,
    },
    /// Two entries of any types take each other's names.
    Exchange {
        entry: usize,
        other: usize,
    },
    /// As databases and editors do: a new file takes the place of an old one.
    Replace {
        file: usize,
        by: usize,
    },
    /// Other content, with the size and the time of before.
    Unseen {
        file: usize,
        at: u64,
        seed: u64,
    },
    /// Root only; whoever writes to the file or gives it away takes it off again.
    Capability {
        file: usize,
    },
    NoXattrs {
        entry: usize,
    },
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // Few names, so that actions meet each other; among them some that sort oddly.
        4 => proptest::sample::select(vec![&b"a"[..], b"b", b"a.b", b"a b", b"~", b"!", b"A", b"\n"])
            .prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(1_u8..=255, 1..20)
            .prop_filter("a name", |n| !n.contains(&b'/') && n != b"." && n != b".."),
        1 => Just(vec![b'x'; 255]),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        1..100_u64,
        100..10_000_u64,
        250_000..300_000_u64,
        1_040_000..1_060_000_u64,
        Just(2 << 20),
    ]
}

/// Among them large files that are streamed; each costs as much as all the others.
fn any_size() -> impl Strategy<Value = u64> {
    prop_oneof![30 => size(), 1 => (16 << 20) + 1..(17_u64 << 20)]
}

fn mode() -> impl Strategy<Value = u32> {
    proptest::sample::select(vec![0o644, 0o600, 0o755, 0o4755, 0o2644, 0o1777, 0o400, 0o700])
}

pub fn creation() -> impl Strategy<Value = Action> {
    let place = || (any::<usize>(), name());
    prop_oneof![
        3 => (place(), mode())
            .prop_map(|((parent, name), mode)| Action::Directory { parent, name, mode: mode | 0o700 }),
        6 => (place(), any_size(), mode(), any::<u64>())
            .prop_map(|((parent, name), size, mode, seed)| Action::File { parent, name, size, mode, seed }),
        1 => (place(), 1..40_u64, 0..40_u64)
            .prop_map(|((parent, name), size, at)| Action::Sparse { parent, name, size: size << 20, at: at << 20 }),
        1 => (place(), name()).prop_map(|((parent, name), target)| Action::Symlink { parent, name, target }),
        1 => place().prop_map(|(parent, name)| Action::Fifo { parent, name }),
        2 => (any::<usize>(), place())
            .prop_map(|(file, (parent, name))| Action::HardLink { file, parent, name }),
        1 => (any::<usize>(), proptest::collection::vec(any::<u8>(), 0..600))
            .prop_map(|(file, value)| Action::Xattr { file, value }),
        1 => (any::<usize>(), 0..3000_u32, 0..3000_u32)
            .prop_map(|(file, uid, gid)| Action::Owner { file, uid, gid }),
        1 => (place(), 0..20_u32).prop_map(|((parent, name), minor)| Action::Device { parent, name, minor }),
        1 => place().prop_map(|(parent, name)| Action::Socket { parent, name }),
        1 => (any::<usize>(), -1_000_000_000..4_000_000_000_i64, 0..1_000_000_000_u32)
            .prop_map(|(entry, seconds, nanoseconds)| Action::Time { entry, seconds, nanoseconds }),
        1 => (any::<usize>(), proptest::collection::vec(any::<u8>(), 0..100))
            .prop_map(|(entry, value)| Action::OddXattr { entry, value }),
        1 => (any::<usize>(), 0..3000_u32, any::<bool>())
            .prop_map(|(entry, user, default)| Action::Acl { entry, user, default }),
        1 => (place(), 1..30_usize)
            .prop_map(|((parent, name), levels)| Action::Deep { parent, name, levels }),
        1 => any::<usize>().prop_map(|file| Action::Capability { file }),
    ]
}

pub fn change() -> impl Strategy<Value = Action> {
    let file = any::<usize>;
    prop_oneof![
        2 => creation(),
        1 => (file(), 0..3_000_000_u64, 1..5000_usize, any::<u64>())
            .prop_map(|(file, at, length, seed)| Action::Overwrite { file, at, length, seed }),
        1 => (file(), any_size()).prop_map(|(file, size)| Action::Resize { file, size }),
        1 => (file(), mode()).prop_map(|(file, mode)| Action::Mode { file, mode }),
        1 => (file(), file(), name()).prop_map(|(file, parent, name)| Action::Rename { file, parent, name }),
        1 => file().prop_map(|file| Action::Remove { file }),
        1 => (file(), 0..3_000_000_u64, 1..2_000_000_u64)
            .prop_map(|(file, at, length)| Action::Punch { file, at, length }),
        2 => (file(), 0..4_u8).prop_map(|(entry, to)| Action::Retype { entry, to }),
        1 => (file(), file(), name())
            .prop_map(|(directory, parent, name)| Action::RenameTree { directory, parent, name }),
        1 => file().prop_map(|directory| Action::RemoveTree { directory }),
        1 => (file(), file()).prop_map(|(entry, other)| Action::Exchange { entry, other }),
        1 => (file(), file()).prop_map(|(file, by)| Action::Replace { file, by }),
        1 => (file(), 0..3_000_000_u64, any::<u64>())
            .prop_map(|(file, at, seed)| Action::Unseen { file, at, seed }),
        1 => file().prop_map(|entry| Action::NoXattrs { entry }),
    ]
}

/// Paths that are longer are left alone: with another name they would be longer than the system takes.
const LONGEST_PATH: usize = 3800;

/// All directories, and all else, below a root, as far as whole paths go.
fn contents(root: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut directories, mut others) = (vec![root.to_owned()], Vec::new());
    let mut at = 0;
    while at < directories.len() {
        let mut entries: Vec<_> = fs::read_dir(&directories[at]).unwrap().map(|e| e.unwrap()).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if entry.path().as_os_str().len() > LONGEST_PATH {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else {
                others.push(entry.path());
            }
        }
        at += 1;
    }
    (directories, others)
}

/// Does one thing. Where it cannot be done (the name is taken, there is no file yet, a file is
/// read-only for us) it is not done: the tree is any tree anyway.
pub fn act(root: &Path, action: &Action) -> Option<()> {
    let (directories, others) = contents(root);
    let place = |parent: &usize, name: &Vec<u8>| {
        directories[parent % directories.len()].join(OsString::from_vec(name.clone()))
    };
    let chosen = |file: &usize| others.get(file % others.len().max(1)).cloned();
    let anything = |entry: &usize| {
        let all: Vec<&PathBuf> = directories[1..].iter().chain(&others).collect();
        all.get(entry % all.len().max(1)).map(|path| (*path).clone())
    };
    let below_root = |directory: &usize| {
        let below = &directories[1..];
        below.get(directory % below.len().max(1)).cloned()
    };
    let regular = |file: &usize| chosen(file).filter(|path| fs::symlink_metadata(path).unwrap().is_file());
    match action {
        Action::Directory { parent, name, mode } => {
            let path = place(parent, name);
            fs::create_dir(&path).ok()?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).ok()?;
        }
        Action::File { parent, name, size, mode, seed } => {
            let path = place(parent, name);
            let file = File::create_new(&path).ok()?;
            let mut random = Random::new(*seed);
            let length = usize::try_from(*size).unwrap();
            let bytes = if seed % 2 == 0 { random.text(length) } else { random.noise(length) };
            file.write_all_at(&bytes, 0).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).ok()?;
        }
        Action::Sparse { parent, name, size, at } => {
            let file = File::create_new(place(parent, name)).ok()?;
            file.set_len(*size).unwrap();
            if at < size {
                file.write_all_at(b"in a hole", *at).unwrap();
            }
        }
        Action::Symlink { parent, name, target } => {
            symlink(OsString::from_vec(target.clone()), place(parent, name)).ok()?;
        }
        Action::Fifo { parent, name } => {
            let path = place(parent, name);
            rustix::fs::mkfifoat(CWD, &path, rustix::fs::Mode::RUSR).ok()?;
        }
        Action::HardLink { file, parent, name } => {
            fs::hard_link(chosen(file)?, place(parent, name)).ok()?;
        }
        Action::Xattr { file, value } => xattr::set(regular(file)?, "user.test", value).ok()?,
        Action::Owner { file, uid, gid } => {
            if is_root() {
                lchown(chosen(file)?, Some(*uid), Some(*gid)).unwrap();
            }
        }
        Action::Overwrite { file, at, length, seed } => {
            let file = File::options().write(true).open(regular(file)?).ok()?;
            file.write_all_at(&Random::new(*seed).noise(*length), *at).ok()?;
        }
        Action::Resize { file, size } => {
            File::options().write(true).open(regular(file)?).ok()?.set_len(*size).ok()?;
        }
        Action::Mode { file, mode } => {
            fs::set_permissions(regular(file)?, fs::Permissions::from_mode(*mode)).ok()?;
        }
        Action::Rename { file, parent, name } => {
            let to = place(parent, name);
            if fs::symlink_metadata(&to).is_err() {
                fs::rename(chosen(file)?, to).ok()?;
            }
        }
        Action::Remove { file } => fs::remove_file(chosen(file)?).ok()?,
        Action::Device { parent, name, minor } => {
            let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
            let device = rustix::fs::makedev(1, *minor);
            rustix::fs::mknodat(CWD, place(parent, name), kind, mode, device).ok()?;
        }
        Action::Socket { parent, name } => {
            std::os::unix::net::UnixListener::bind(place(parent, name)).ok()?;
        }
        Action::Time { entry, seconds, nanoseconds } => {
            let time = Timespec { tv_sec: *seconds, tv_nsec: i64::from(*nanoseconds) };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, anything(entry)?, &times, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        }
        Action::OddXattr { entry, value } => {
            let name = if is_root() { "trusted.odd" } else { "user.odd" };
            xattr::set(anything(entry)?, name, value).ok()?;
        }
        Action::Acl { entry, user, default } => {
            let path = anything(entry)?;
            let name = if *default { "system.posix_acl_default" } else { "system.posix_acl_access" };
            let all = u32::MAX;
            let acl = [(1_u16, 7_u16, all), (2, 5, *user), (4, 5, all), (16, 5, all), (32, 1, all)];
            let entries = acl.iter().map(|(tag, permissions, id)| {
                [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
            });
            let value = std::iter::once(2_u32.to_le_bytes().to_vec()).chain(entries).flatten();
            // A link has none, and would lead to something else.
            if !path.is_symlink() {
                xattr::set(path, name, &value.collect::<Vec<u8>>()).ok()?;
            }
        }
        Action::Punch { file, at, length } => {
            let file = File::options().write(true).open(regular(file)?).ok()?;
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&file, mode, *at, *length).ok()?;
        }
        Action::Retype { entry, to } => {
            let path = anything(entry)?;
            if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path).ok()?;
            } else {
                fs::remove_file(&path).ok()?;
            }
            match to {
                0 => fs::write(&path, b"of another type").ok()?,
                1 => fs::create_dir(&path).ok()?,
                2 => symlink("another type", &path).ok()?,
                _ => rustix::fs::mkfifoat(CWD, &path, rustix::fs::Mode::RUSR).ok()?,
            }
        }
        Action::RenameTree { directory, parent, name } => {
            fs::rename(below_root(directory)?, place(parent, name)).ok()?;
        }
        Action::RemoveTree { directory } => fs::remove_dir_all(below_root(directory)?).ok()?,
        Action::Deep { parent, name, levels } => {
            let parent = &directories[parent % directories.len()];
            let mut fd = OwnedFd::from(File::open(parent).ok()?);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            for _ in 0..*levels {
                mkdirat(&fd, name.as_slice(), rustix::fs::Mode::RWXU).ok()?;
                fd = openat(&fd, name.as_slice(), flags, rustix::fs::Mode::empty()).ok()?;
            }
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = openat(&fd, "file", flags, rustix::fs::Mode::RWXU).ok()?;
            rustix::io::write(&file, b"deep below").ok()?;
            symlinkat("file", &fd, "link").ok()?;
        }
        Action::Exchange { entry, other } => {
            renameat_with(CWD, anything(entry)?, CWD, anything(other)?, RenameFlags::EXCHANGE).ok()?;
        }
        Action::Replace { file, by } => fs::rename(chosen(by)?, chosen(file)?).ok()?,
        Action::Unseen { file, at, seed } => {
            let file = File::options().write(true).open(regular(file)?).ok()?;
            let before = file.metadata().ok()?;
            let length = usize::try_from(before.len().saturating_sub(*at)).ok()?.min(5000);
            file.write_all_at(&Random::new(*seed).noise(length), *at).ok()?;
            file.set_modified(before.modified().ok()?).ok()?;
        }
        Action::Capability { file } => {
            // As `setcap cap_net_bind_service=ep` does.
            let words = [0x0200_0001_u32, 1 << 10, 0, 0, 0];
            let value: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
            xattr::set(regular(file)?, "security.capability", &value).ok()?;
        }
        Action::NoXattrs { entry } => {
            let path = anything(entry)?;
            for name in xattr::list(&path).ok()? {
                xattr::remove(&path, name).ok()?;
            }
        }
    }
    Some(())
}
