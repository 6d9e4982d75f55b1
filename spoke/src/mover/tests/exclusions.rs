//! What `excludePaths` leaves alone, on both sides.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
};

use super::*;

fn volume(patterns: &[&str]) -> Volume {
    let mut volume = Volume::new();
    volume.exclude = Exclusions::new(patterns).unwrap();
    volume
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn read(root: &Path, path: &str) -> Option<String> {
    fs::read_to_string(root.join(path)).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_paths_are_neither_sent_nor_touched_also_below_what_is_deleted() {
    let volume = volume(&["/cache", "*.tmp", "logs/", "a/**/skip"]);
    let (from, to) = (volume.source.path(), volume.destination.path());
    for path in ["cache/x", "data/b.tmp", "data/c", "logs/today", "a/1/2/skip/y", "a/1/keep", "data/logs/l"] {
        write(from, path, "new");
    }
    for path in ["cache/old", "data/b.tmp", "gone/deep/z.tmp", "gone/deep/other", "gone2/x", "a/1/2/skip/own"]
    {
        write(to, path, "theirs");
    }
    // A file of a name that is excluded for directories.
    write(from, "x/logs", "a file");
    let (sent, received) = volume.run_pass(1).await;
    assert_eq!(sent.totals.files, 3, "{sent:?}");
    for path in ["cache/old", "data/b.tmp", "gone/deep/z.tmp", "a/1/2/skip/own"] {
        assert_eq!(read(to, path).as_deref(), Some("theirs"), "{path}");
    }
    for path in ["cache/x", "logs/today", "a/1/2/skip/y", "data/logs/l", "gone/deep/other", "gone2"] {
        assert!(!to.join(path).exists(), "{path}");
    }
    for path in ["data/c", "a/1/keep", "x/logs"] {
        assert_eq!(read(to, path), read(from, path), "{path}");
    }
    // other, gone2/x and gone2; gone and gone/deep stay, as they hold something.
    assert_eq!(received.deleted, 3);
    // The next pass finds nothing to do about them.
    let (_, again) = volume.run_pass(2).await;
    assert_eq!(again.deleted, 0);
    assert_eq!(read(to, "gone/deep/z.tmp").as_deref(), Some("theirs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_excluded_path_in_the_way_of_a_type_change_is_named() {
    let volume = volume(&["keep"]);
    write(volume.source.path(), "was-dir", "now a file");
    write(volume.destination.path(), "was-dir/deep/keep", "theirs");
    write(volume.destination.path(), "was-dir/deep/other", "goes");
    volume.send(1).await.unwrap();
    let error = volume.receive(1).await.unwrap_err();
    assert_eq!(error.reason(), "ExcludedInTheWay");
    let text = error.to_string();
    assert!(text.starts_with("was-dir ") && text.contains("was-dir/deep/keep"), "{text}");
    assert_eq!(read(volume.destination.path(), "was-dir/deep/keep").as_deref(), Some("theirs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_text_and_what_may_not_be_read_can_be_excluded() {
    let volume = volume(&["*.tmp", "/closed"]);
    let odd = volume.source.path().join(OsStr::from_bytes(b"\xff\xfe.tmp"));
    fs::write(&odd, b"x").unwrap();
    fs::write(volume.source.path().join(OsStr::from_bytes(b"\xff\xfe")), b"x").unwrap();
    let closed = volume.source.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let (sent, _) = volume.run_pass(1).await;
    assert_eq!(sent.totals.files, 1);
    assert!(volume.destination.path().join(OsStr::from_bytes(b"\xff\xfe")).exists());
    assert!(!volume.destination.path().join("closed").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_excluded_only_from_the_second_pass_on_stays_as_the_first_left_it() {
    let mut volume = volume(&[]);
    write(volume.source.path(), "a/cache/x", "one");
    write(volume.source.path(), "a/y", "one");
    fs::hard_link(volume.source.path().join("a/cache/x"), volume.source.path().join("z")).unwrap();
    volume.run_pass(1).await;
    volume.exclude = Exclusions::new(&["cache"]).unwrap();
    write(volume.source.path(), "a/cache/x", "two");
    write(volume.source.path(), "a/y", "two");
    volume.run_pass(2).await;
    assert_eq!(read(volume.destination.path(), "a/cache/x").as_deref(), Some("one"));
    assert_eq!(read(volume.destination.path(), "a/y").as_deref(), Some("two"));
    assert_eq!(
        read(volume.destination.path(), "z").as_deref(),
        Some("two"),
        "its other name is none of ours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_names_an_excluded_path_is_refused() {
    let volume = volume(&[]);
    write(volume.source.path(), "cache/x", "one");
    volume.send(1).await.unwrap();
    let mut options = volume.receive_options(1);
    options.pass.exclude = Exclusions::new(&["cache"]).unwrap();
    let error = receive(options, Progress::new(), CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.reason(), "ManifestRefused");
    assert!(error.to_string().contains("excludePaths"), "{error}");
    assert!(!volume.destination.path().join("cache").exists());
}
