//! What a POSIX volume can hold, each thing by itself.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink},
        },
    },
};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, Timespec, Timestamps, fallocate, mkdirat, mkfifoat, openat,
    utimensat,
};

use super::{privileges::left_out, *};

/// How many entries the large directory has, unless this variable says otherwise: the million
/// of the documentation takes minutes.
const ENTRIES: &str = "ISTHMUS_TEST_ENTRIES";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_very_many_entries_arrives_and_loses_some() {
    let entries: usize = std::env::var(ENTRIES).map_or(200_000, |number| number.parse().unwrap());
    let volume = Volume::new();
    let folder = volume.source.path().join("many");
    fs::create_dir(&folder).unwrap();
    // Links to few inodes are quick to make; a filesystem allows some ten thousand for each.
    let mut target = folder.join("first");
    for n in 0..entries {
        let name = folder.join(format!("entry-{n}-with-a-name-of-some-length"));
        if n % 20_000 == 0 {
            fs::write(&name, n.to_string()).unwrap();
            target = name;
        } else {
            fs::hard_link(&target, name).unwrap();
        }
    }
    let (sent, _) = volume.run_pass(1).await;
    assert_eq!(sent.totals.files + sent.totals.hard_links, entries as u64);
    let arrived = volume.destination.path().join("many");
    assert_eq!(fs::read_dir(&arrived).unwrap().count(), entries);
    for n in (0..entries).step_by(1000) {
        fs::remove_file(folder.join(format!("entry-{n}-with-a-name-of-some-length"))).unwrap();
    }
    let (_, received) = volume.run_pass(2).await;
    assert_eq!(received.deleted, entries.div_ceil(1000) as u64);
    assert_eq!(fs::read_dir(&arrived).unwrap().count(), entries - entries.div_ceil(1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_may_become_every_other() {
    const TYPES: [&str; 6] = ["file", "directory", "symlink", "fifo", "hard link", "nothing"];
    let volume = Volume::new();
    let root = volume.source.path();
    fs::write(root.join("a-first-name"), b"x".repeat(300)).unwrap();
    let make = |path: &Path, what: &str, content: &str| match what {
        "file" => fs::write(path, content.repeat(50)).unwrap(),
        "directory" => {
            fs::create_dir_all(path.join("below/deeper")).unwrap();
            fs::write(path.join("below/file"), content).unwrap();
        }
        "symlink" => symlink(content, path).unwrap(),
        "fifo" => mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap(),
        "hard link" => fs::hard_link(root.join("a-first-name"), path).unwrap(),
        _ => {}
    };
    let each = || TYPES.iter().flat_map(|from| TYPES.iter().map(move |to| (from, to)));
    let place = |from: &str, to: &str| root.join(format!("{from} to {to}"));
    for (from, to) in each() {
        make(&place(from, to), from, "before");
    }
    volume.run_pass(1).await;
    volume.assert_equal();
    for (from, to) in each() {
        let path = place(from, to);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).ok();
        }
        make(&path, to, "after");
    }
    volume.run_pass(2).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn times_arrive_to_the_nanosecond_on_everything() {
    let volume = Volume::new();
    let root = volume.source.path();
    fs::create_dir_all(root.join("dir/inner")).unwrap();
    fs::write(root.join("dir/file"), b"x".repeat(100)).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    symlink("nowhere", root.join("link")).unwrap();
    mkfifoat(CWD, root.join("fifo"), Mode::RUSR).unwrap();
    let times =
        [(1, 1), (0, 999_999_999), (-1, 1), (-86_400 * 365 * 20, 123_456_789), (4_102_444_800, 7), (1, 0)];
    let paths = ["dir/inner", "dir/file", "empty", "link", "fifo", "dir"];
    for (path, (seconds, nanoseconds)) in paths.iter().zip(times) {
        set_mtime(&root.join(path), seconds, nanoseconds);
    }
    set_mtime(root, 77, 77);
    volume.run_pass(1).await;
    volume.assert_equal();
    // Only times change.
    for (path, (seconds, nanoseconds)) in paths.iter().rev().zip(times) {
        set_mtime(&root.join(path), seconds, nanoseconds);
    }
    let (_, received) = volume.run_pass(2).await;
    volume.assert_equal();
    assert_eq!(received.bytes_written, 0, "{received:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_arrive_whole_and_change_whole() {
    let volume = Volume::new();
    let root = volume.source.path();
    let modes = [0o000, 0o400, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o2644];
    for mode in modes {
        let (file, dir) = (root.join(format!("file-{mode:o}")), root.join(format!("dir-{mode:o}")));
        fs::write(&file, b"x".repeat(100)).unwrap();
        fs::create_dir(&dir).unwrap();
        // What cannot be read cannot be sent by an ordinary user.
        let readable = if is_root() { 0 } else { 0o500 };
        set_mode(&file, mode | readable);
        set_mode(&dir, mode | readable);
    }
    volume.run_pass(1).await;
    volume.assert_equal();
    for mode in modes {
        set_mode(&root.join(format!("file-{mode:o}")), mode ^ 0o7077 | 0o400);
        set_mode(&root.join(format!("dir-{mode:o}")), mode ^ 0o7077 | 0o500);
    }
    let (_, received) = volume.run_pass(2).await;
    volume.assert_equal();
    assert_eq!(received.bytes_written, 0, "{received:?}");
    for side in [volume.source.path(), volume.destination.path()] {
        for mode in modes {
            set_mode(&side.join(format!("dir-{mode:o}")), 0o700);
        }
    }
}

/// user::rw-, user:1234:r--, group::r--, mask::r--, other::---
fn acl() -> Vec<u8> {
    let entries =
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let entries = entries.map(|(tag, permissions, id)| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    std::iter::once(2_u32.to_le_bytes().to_vec()).chain(entries).flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_where_a_default_acl_is_does_not_inherit_it() {
    let volume = Volume::new();
    let (root, arrived) = (volume.source.path(), volume.destination.path());
    let has_default = |path: &Path| xattr::set(path, "system.posix_acl_default", &acl()).is_ok();
    fs::create_dir(root.join("inherits")).unwrap();
    // Of the volume's root, as whoever provisioned it made it, and of a directory that arrived.
    if !has_default(arrived) || !has_default(&root.join("inherits")) {
        return left_out("the filesystem has no ACLs");
    }
    let tree = |at: &Path| {
        fs::create_dir_all(at.join("deeper")).unwrap();
        fs::write(at.join("file"), b"x".repeat(100)).unwrap();
        fs::write(at.join("deeper/file"), b"y".repeat(100)).unwrap();
        mkfifoat(CWD, at.join("deeper/fifo"), Mode::RUSR).unwrap();
    };
    tree(&root.join("first"));
    volume.run_pass(1).await;
    volume.assert_equal();
    // What is moved into a directory takes nothing of it.
    tree(&root.join("moved"));
    fs::rename(root.join("moved"), root.join("inherits/moved")).unwrap();
    volume.run_pass(2).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_and_acls_arrive_change_and_go() {
    let volume = Volume::new();
    let root = volume.source.path();
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("file"), b"x".repeat(100)).unwrap();
    symlink("file", root.join("link")).unwrap();
    let acl = acl();
    // VFS_CAP_REVISION_2 with CAP_NET_BIND_SERVICE, permitted and effective.
    let capability: Vec<u8> =
        [0x0200_0001_u32, 1 << 10, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    let settings: [(&str, &str, Vec<u8>); 7] = [
        ("file", "user.empty", Vec::new()),
        ("file", "user.large", vec![7; 2000]),
        ("dir", "user.dir", b"x".to_vec()),
        ("file", "system.posix_acl_access", acl.clone()),
        ("dir", "system.posix_acl_default", acl),
        ("link", "trusted.on-a-link", b"x".to_vec()),
        ("file", "security.capability", capability),
    ];
    let mut set = 0;
    for (path, name, value) in &settings {
        match xattr::set(root.join(path), name, value) {
            Ok(()) => set += 1,
            Err(error) => left_out(&format!("{name} cannot be set here: {error}")),
        }
    }
    volume.run_pass(1).await;
    volume.assert_equal();
    let arrived = settings.iter().filter(|(path, name, value)| {
        xattr::get(volume.destination.path().join(path), name).ok().flatten().as_ref() == Some(value)
    });
    assert_eq!(arrived.count(), set);
    // One changes, all others go.
    for (path, name, _) in &settings {
        xattr::remove(root.join(path), name).ok();
    }
    xattr::set(root.join("dir"), "user.dir", b"other").ok();
    volume.run_pass(2).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_links_follow_across_directories_and_passes() {
    let volume = Volume::new();
    let root = volume.source.path();
    for dir in ["a", "b/c", "z"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let text = |seed| trees::Random::new(seed).noise(5000);
    fs::write(root.join("b/c/one"), text(1)).unwrap();
    fs::hard_link(root.join("b/c/one"), root.join("z/one")).unwrap();
    fs::write(root.join("two"), text(2)).unwrap();
    symlink("anywhere", root.join("a/link")).unwrap();
    fs::hard_link(root.join("a/link"), root.join("z/link")).unwrap();
    mkfifoat(CWD, root.join("a/fifo"), Mode::RUSR).unwrap();
    fs::hard_link(root.join("a/fifo"), root.join("z/fifo")).unwrap();
    volume.run_pass(1).await;
    volume.assert_equal();
    // A name that comes before all others, so that each of them becomes a link to it.
    fs::hard_link(root.join("z/one"), root.join("a/0")).unwrap();
    volume.run_pass(2).await;
    volume.assert_equal();
    // The first name goes, another one goes over to another file, and the content changes.
    fs::remove_file(root.join("a/0")).unwrap();
    fs::remove_file(root.join("z/one")).unwrap();
    fs::hard_link(root.join("two"), root.join("z/one")).unwrap();
    File::options().write(true).open(root.join("two")).unwrap().write_all_at(b"new", 100).unwrap();
    volume.run_pass(3).await;
    volume.assert_equal();
    // Two files change places, with all their names.
    fs::rename(root.join("two"), root.join("kept")).unwrap();
    fs::rename(root.join("b/c/one"), root.join("two")).unwrap();
    fs::rename(root.join("kept"), root.join("b/c/one")).unwrap();
    fs::hard_link(root.join("two"), root.join("a/two")).unwrap();
    volume.run_pass(4).await;
    volume.assert_equal();
    // The inode is replaced under one of its names, as editors do.
    fs::write(root.join("fresh"), text(2)).unwrap();
    fs::rename(root.join("fresh"), root.join("a/two")).unwrap();
    volume.run_pass(5).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_come_go_and_move() {
    const MIB: u64 = 1 << 20;
    let volume = Volume::new();
    let root = volume.source.path();
    let open =
        |name: &str| File::options().write(true).create(true).truncate(false).open(root.join(name)).unwrap();
    for name in ["punched", "cut", "tail", "filled", "moved", "streamed"] {
        let size = if name == "streamed" { 20 * MIB } else { 4 * MIB };
        open(name).write_all_at(&trees::Random::new(9).noise(usize::try_from(size).unwrap()), 0).unwrap();
    }
    open("filled").set_len(8 * MIB).unwrap();
    volume.run_pass(1).await;
    volume.assert_equal();
    let punch = |name: &str, from: u64, length: u64| {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(open(name), mode, from, length).is_ok()
    };
    if !punch("punched", MIB, 2 * MIB) {
        return left_out("the filesystem has no holes");
    }
    // Not on the bounds of blocks.
    punch("streamed", MIB / 2, 18 * MIB);
    punch("moved", 0, MIB);
    open("cut").set_len(MIB + 5).unwrap();
    open("tail").set_len(100 * MIB).unwrap();
    open("filled").write_all_at(b"in the hole", 7 * MIB).unwrap();
    volume.run_pass(2).await;
    volume.assert_equal();
    punch("moved", 2 * MIB, MIB);
    open("moved").write_all_at(b"back", 10).unwrap();
    open("cut").set_len(3 * MIB).unwrap();
    open("tail").set_len(4 * MIB).unwrap();
    volume.run_pass(3).await;
    volume.assert_equal();
    for name in ["punched", "cut", "tail", "filled", "moved", "streamed"] {
        let blocks = |side: &Path| fs::metadata(side.join(name)).unwrap().blocks();
        let (sent, arrived) = (blocks(root), blocks(volume.destination.path()));
        assert!(arrived <= sent + 64, "{name} takes {arrived} blocks, not {sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_directories_and_odd_names_arrive() {
    let volume = Volume::new();
    let root = volume.source.path();
    let odd: [&[u8]; 7] = [b"\xff\xfe\xfd", b"new\nline", b" ", b"-rf", b"\x7f\x01", b"*?[a]", b"~"];
    let long = vec![b'n'; 255];
    let long_bytes = vec![0xe9; 255];
    for name in odd.iter().copied().chain([long.as_slice(), &long_bytes]) {
        let dir = root.join("old").join(OsStr::from_bytes(name));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(OsStr::from_bytes(name)), name.repeat(3)).unwrap();
        symlink(OsStr::from_bytes(name), dir.join("link")).unwrap();
    }
    volume.run_pass(1).await;
    volume.assert_equal();
    fs::rename(root.join("old"), root.join("a new place")).unwrap();
    volume.run_pass(2).await;
    volume.assert_equal();
    fs::create_dir(root.join("old")).unwrap();
    fs::rename(root.join("a new place"), root.join("old/within")).unwrap();
    volume.run_pass(3).await;
    volume.assert_equal();
}

/// Makes `depth` directories within each other, and gives the deepest.
fn nest(root: &Path, name: &str, depth: usize) -> OwnedFd {
    let mut fd = OwnedFd::from(File::open(root).unwrap());
    let name = CString::new(name).unwrap();
    for _ in 0..depth {
        mkdirat(&fd, &name, Mode::RWXU).unwrap();
        fd = openat(&fd, &name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    fd
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_beyond_the_longest_path_arrives_and_goes_again() {
    let volume = Volume::new();
    let deepest = nest(volume.source.path(), &"n".repeat(200), 40);
    let file =
        openat(&deepest, "file", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RWXU).unwrap();
    rustix::io::write(&file, b"content").unwrap();
    rustix::fs::symlinkat("file", &deepest, "symlink").unwrap();
    rustix::fs::linkat(&deepest, "file", &deepest, "linked", AtFlags::empty()).unwrap();
    rustix::fs::fsetxattr(&file, "user.deep", b"x", rustix::fs::XattrFlags::empty()).ok();
    mkfifoat(&deepest, "fifo", Mode::RUSR).unwrap();
    let mut options = volume.receive_options(1);
    options.verify = VerifyMethod::Full;
    volume.send(1).await.unwrap();
    receive(options, Progress::new(), CancellationToken::new()).await.unwrap();
    volume.assert_equal();
    fs::remove_dir_all(volume.source.path().join("n".repeat(200))).unwrap();
    let (_, received) = volume.run_pass(2).await;
    assert_eq!(received.deleted, 44);
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_deeper_than_any_is_named() {
    let volume = Volume::new();
    drop(nest(volume.source.path(), "d", limits::MAX_DEPTH + 1));
    let result = volume.send(1).await;
    if let Err(error @ MoverError::File { .. }) = &result {
        assert!(error.to_string().contains("limit of open files"), "{error}");
        return left_out("fewer files may be open here than directories may be nested");
    }
    let error = result.unwrap_err();
    assert_eq!(error.reason(), "PathTooDeep");
    assert!(error.to_string().contains("excludePaths"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_and_devices_change_between_passes() {
    if !is_root() {
        return left_out("owners and devices need root");
    }
    let volume = Volume::new();
    let root = volume.source.path();
    fs::write(root.join("file"), b"x".repeat(100)).unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    symlink("x", root.join("link")).unwrap();
    let device = |name: &str, minor| {
        let kind = rustix::fs::FileType::CharacterDevice;
        let number = rustix::fs::makedev(1, minor);
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::RUSR, number).is_ok()
    };
    let with_devices = device("device", 3) && device("other", 5);
    let own = |uid, gid| {
        for name in ["file", "dir"] {
            chown(root.join(name), Some(uid), Some(gid)).unwrap();
        }
        std::os::unix::fs::lchown(root.join("link"), Some(uid), Some(gid)).unwrap();
    };
    own(1000, 2000);
    set_mode(&root.join("file"), 0o6755);
    volume.run_pass(1).await;
    volume.assert_equal();
    // A change of owner takes the set-id bits away: they come back.
    own(3000, u32::MAX - 1);
    set_mode(&root.join("file"), 0o6755);
    if with_devices {
        fs::remove_file(root.join("device")).unwrap();
        device("device", 7);
        fs::remove_file(root.join("other")).unwrap();
        fs::write(root.join("other"), b"a file now").unwrap();
    } else {
        left_out("device nodes are not allowed here");
    }
    volume.run_pass(2).await;
    volume.assert_equal();
}
