//! What a destination refuses, under both policies. Most of it needs a filesystem or a right of
//! a certain kind: a test that cannot have it says so and ends.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    process::Command,
};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::{
    damage::{entry, own, receive_made_up, root},
    format::{Device, Entry, Kind, Metadata, Record, Xattr},
    privileges::left_out,
    *,
};

/// The variable that tells a test's second process where its filesystem is.
const MOUNTED: &str = "ISTHMUS_TEST_FILESYSTEM";
/// How that process's shell says that there can be no such filesystem.
const NO_MOUNT: i32 = 77;

/// Runs `body` on a filesystem that `mount` makes at `$1`: in a process of its own with its own
/// mounts, which is this test once more.
fn on_filesystem(mount: &str, body: impl FnOnce(&tokio::runtime::Runtime, tempfile::TempDir)) {
    let thread = std::thread::current();
    let test = thread.name().unwrap();
    if let Ok(at) = std::env::var(MOUNTED) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return body(&runtime, tempfile::tempdir_in(at).unwrap());
    }
    let at = tempfile::tempdir().unwrap();
    let script = format!(
        "mount --make-rprivate / 2>/dev/null; ({mount}) || exit {NO_MOUNT}; exec \"$2\" --exact \"$3\" --nocapture"
    );
    let mut command = Command::new("unshare");
    command.arg(if is_root() { "-m" } else { "-rm" }).args(["sh", "-c", &script, "sh"]);
    command.arg(at.path()).arg(std::env::current_exe().unwrap()).arg(test).env(MOUNTED, at.path());
    let Ok(output) = command.output() else {
        return left_out("unshare is not installed");
    };
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NO_MOUNT) || said.contains("unshare: ") {
        return left_out(&format!("filesystems cannot be mounted here: {}", said.trim()));
    }
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

fn best_effort(volume: &Volume) -> ReceiveOptions {
    ReceiveOptions { metadata_policy: MetadataPolicy::BestEffort, ..volume.receive_options(1) }
}

async fn receive_best_effort(volume: &Volume) -> Result<ReceiveReport, MoverError> {
    receive(best_effort(volume), Progress::new(), CancellationToken::new()).await
}

/// Runs `body` on a thread of root's that lacks `right`.
fn without(right: CapabilitySet, body: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static) {
    if !is_root() {
        return left_out("giving up a capability needs root");
    }
    let thread = std::thread::spawn(move || {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(right);
        sets.permitted.remove(right);
        sets.inheritable.remove(right);
        set_capabilities(None, sets).unwrap();
        // All threads that it starts inherit what is left.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        body(&runtime);
    });
    thread.join().unwrap();
}

#[test]
fn a_full_volume_is_an_error_under_either_policy() {
    on_filesystem("mount -t tmpfs -o size=2m,mode=777 tmpfs \"$1\"", |runtime, destination| {
        let mut volume = Volume::new();
        volume.destination = destination;
        fs::write(volume.source.path().join("large"), trees::Random::new(1).noise(8 << 20)).unwrap();
        runtime.block_on(async {
            volume.send(1).await.unwrap();
            for received in [receive_best_effort(&volume).await, volume.receive(1).await] {
                let error = received.unwrap_err();
                assert_eq!(error.reason(), "FileRefused");
                let text = error.to_string();
                assert!(text.contains("large") && text.contains("enlarge the destination"), "{text}");
            }
        });
    });
}

#[test]
fn a_volume_without_room_for_more_names_is_an_error_under_either_policy() {
    on_filesystem("mount -t tmpfs -o nr_inodes=20,mode=777 tmpfs \"$1\"", |runtime, destination| {
        let mut volume = Volume::new();
        volume.destination = destination;
        for n in 0..40 {
            fs::write(volume.source.path().join(format!("file-{n}")), b"x".repeat(100)).unwrap();
        }
        runtime.block_on(async {
            volume.send(1).await.unwrap();
            let text = receive_best_effort(&volume).await.unwrap_err().to_string();
            assert!(text.contains("file-") && text.contains("enlarge the destination"), "{text}");
        });
    });
}

#[test]
fn a_read_only_volume_is_an_error_under_either_policy() {
    let mount = "mount -t tmpfs tmpfs \"$1\" && mkdir -m 777 \"$1/d\" && TMP=\"$1\"";
    on_filesystem(mount, |runtime, destination| {
        let at = std::env::var(MOUNTED).unwrap();
        for what in ["content", "metadata"] {
            let mut volume = Volume::new();
            fs::write(volume.source.path().join("file"), b"x".repeat(1000)).unwrap();
            volume.destination = tempfile::tempdir_in(destination.path()).unwrap();
            runtime.block_on(async {
                if what == "metadata" {
                    volume.run_pass(1).await;
                    fs::set_permissions(volume.source.path().join("file"), fs::Permissions::from_mode(0o600))
                        .unwrap();
                }
                let pass = if what == "metadata" { 2 } else { 1 };
                volume.send(pass).await.unwrap();
                let remount = |how: &str| {
                    let remounted = Command::new("mount").args(["-o", how, &at]).status().unwrap();
                    assert!(remounted.success());
                };
                remount("remount,ro");
                for policy in [MetadataPolicy::Strict, MetadataPolicy::BestEffort] {
                    let options = ReceiveOptions { metadata_policy: policy, ..volume.receive_options(pass) };
                    let received = receive(options, Progress::new(), CancellationToken::new()).await;
                    let text = received.unwrap_err().to_string();
                    assert!(text.contains("file") && text.contains("mounted read-only"), "{what}: {text}");
                }
                remount("remount,rw");
            });
        }
    });
}

#[test]
fn what_another_filesystem_holds_within_a_volume_is_neither_sent_nor_removed() {
    on_filesystem("mount -t tmpfs -o mode=777 tmpfs \"$1\"", |runtime, _| {
        let volume = Volume::new();
        fs::write(volume.source.path().join("file"), b"of the volume").unwrap();
        let mounted = |root: &Path| {
            let inner = root.join("inner");
            fs::create_dir(&inner).unwrap();
            assert!(
                Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&inner).status().unwrap().success()
            );
            fs::write(inner.join("foreign"), b"kept").unwrap();
            inner
        };
        let [sent, received] = [&volume.source, &volume.destination].map(|root| mounted(root.path()));
        let unmount = |at: &Path| assert!(Command::new("umount").arg(at).status().unwrap().success());
        let (report, refused) =
            runtime.block_on(async { (volume.send(1).await.unwrap(), volume.receive(1).await.unwrap_err()) });
        let kept = fs::read(received.join("foreign")).ok();
        unmount(&received);
        let arrived = runtime.block_on(volume.receive(1));
        unmount(&sent);

        assert_eq!((report.totals.files, report.vanished.total), (1, 1), "{report:?}");
        let note = &report.vanished.listed[0];
        assert!(note.path == "inner" && note.message.contains("another filesystem is mounted"), "{note:?}");
        assert!(
            refused.to_string().contains("inner") && refused.to_string().contains("unmount it"),
            "{refused}"
        );
        assert_eq!(kept.as_deref(), Some(&b"kept"[..]));
        assert_eq!(arrived.unwrap().totals.files, 1);
        assert!(!received.exists(), "an empty directory that the source's volume does not have");
    });
}

#[test]
fn a_filesystem_without_attributes_fails_or_warns_once_for_each_file() {
    on_filesystem("mount -t ramfs -o mode=777 ramfs \"$1\"", |runtime, destination| {
        let mut volume = Volume::new();
        for n in 0..25 {
            let path = volume.source.path().join(format!("file-{n:02}"));
            fs::write(&path, b"x".repeat(100)).unwrap();
            for name in ["user.one", "user.two"] {
                if xattr::set(&path, name, b"value").is_err() {
                    return left_out("the temporary folder has no extended attributes either");
                }
            }
        }
        volume.destination = destination;
        runtime.block_on(async {
            volume.send(1).await.unwrap();
            let error = volume.receive(1).await.unwrap_err();
            assert_eq!(error.reason(), "MetadataRefused");
            let text = error.to_string();
            assert!(text.contains("file-") && text.contains("user.one"), "{text}");
            assert!(text.contains("storage class") && text.contains("BestEffort"), "{text}");
            let report = receive_best_effort(&volume).await.unwrap();
            assert_eq!((report.refused_metadata.total, report.refused_metadata.listed.len()), (25, 20));
            let message = &report.refused_metadata.listed[0].message;
            assert!(message.contains("user.one") && message.contains("user.two"), "{message}");
        });
        assert_eq!(fs::read(volume.destination.path().join("file-24")).unwrap().len(), 100);
    });
}

fn with_xattr(path: &str, name: &[u8], length: usize) -> Record {
    let metadata = Metadata {
        mode: 0o644,
        xattrs: vec![Xattr { name: name.to_vec(), value: vec![7; length] }],
        ..own()
    };
    match entry(path, Kind::File(format::Content::default())) {
        Record::Entry(it) => Record::Entry(Entry { metadata, ..it }),
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_are_too_large_or_of_an_unknown_kind_are_refused_by_name() {
    for (name, length, fix) in
        [(&b"user.large"[..], 60_000, "no room"), (b"nobody.knows", 10, "keeps no such attributes")]
    {
        let mut volume = Volume::new();
        let taken = receive_made_up(&mut volume, &[root(), with_xattr("file", name, length)]).await;
        let Err(error) = taken else {
            left_out("the filesystem takes attributes of 60,000 bytes");
            continue;
        };
        assert_eq!(error.reason(), "MetadataRefused");
        assert!(error.to_string().contains("file") && error.to_string().contains(fix), "{error}");
        let report = receive_best_effort(&volume).await.unwrap();
        assert_eq!(report.refused_metadata.total, 1, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_means_nothing_where_nothing_is_labelled() {
    if metadata::has_selinux() {
        return left_out("this system has SELinux");
    }
    let mut volume = Volume::new();
    let records = [root(), with_xattr("file", b"security.selinux", 30)];
    let report = receive_made_up(&mut volume, &records).await.unwrap();
    assert_eq!(report.refused_metadata.total, 0);
    let path = volume.destination.path().join("file");
    assert_eq!(xattr::get(path, "security.selinux").unwrap_or_default(), None);
}

#[test]
fn an_owner_that_is_refused_is_named_and_takes_its_set_id_bits_along() {
    let volume = Volume::new();
    if is_root() {
        let path = volume.source.path().join("theirs");
        fs::write(&path, b"#!").unwrap();
        chown(&path, Some(777), Some(777)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    }
    without(CapabilitySet::CHOWN, move |runtime| {
        runtime.block_on(async {
            volume.send(1).await.unwrap();
            let text = volume.receive(1).await.unwrap_err().to_string();
            assert!(text.contains("theirs") && text.contains("777:777") && text.contains("CHOWN"), "{text}");
            let report = receive_best_effort(&volume).await.unwrap();
            assert_eq!(report.refused_metadata.total, 1);
            assert!(report.refused_metadata.listed[0].message.contains("setuid"), "{report:?}");
            let arrived = fs::metadata(volume.destination.path().join("theirs")).unwrap();
            assert_eq!((arrived.uid(), arrived.mode() & 0o7777), (0, 0o755), "no setuid program of root");
        });
    });
}

#[test]
fn a_device_that_may_not_be_made_is_named_with_all_its_names() {
    let volume = Volume::new();
    if is_root() {
        let device = volume.source.path().join("device");
        let kind = rustix::fs::FileType::CharacterDevice;
        let mode = rustix::fs::Mode::RUSR;
        let number = rustix::fs::makedev(1, 7);
        if rustix::fs::mknodat(rustix::fs::CWD, &device, kind, mode, number).is_err() {
            return left_out("device nodes are not allowed here");
        }
        fs::hard_link(&device, volume.source.path().join("other")).unwrap();
        fs::write(volume.source.path().join("z"), b"arrives").unwrap();
    }
    without(CapabilitySet::MKNOD, move |runtime| {
        runtime.block_on(async {
            volume.send(1).await.unwrap();
            let text = volume.receive(1).await.unwrap_err().to_string();
            assert!(text.contains("device") && text.contains("MKNOD"), "{text}");
            let report = receive_best_effort(&volume).await.unwrap();
            assert_eq!(report.refused_metadata.total, 2, "{report:?}");
            assert!(volume.destination.path().join("z").exists());
            assert!(!volume.destination.path().join("device").exists());
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_device_is_made_only_by_those_who_may() {
    let mut volume = Volume::new();
    let records = [root(), entry("device", Kind::CharDevice(Device { major: 1, minor: 7 }))];
    match receive_made_up(&mut volume, &records).await {
        Ok(_) => assert!(is_root()),
        Err(error) => assert_eq!(error.reason(), "MetadataRefused"),
    }
}

#[test]
fn root_without_the_right_to_override_modes_writes_below_read_only_directories() {
    let volume = Volume::new();
    fs::create_dir(volume.source.path().join("closed")).unwrap();
    fs::write(volume.source.path().join("closed/file"), b"one").unwrap();
    fs::set_permissions(volume.source.path().join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    let both = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    without(both, move |runtime| {
        runtime.block_on(async {
            volume.run_pass(1).await;
            let path = volume.source.path().join("closed/file");
            fs::write(path, b"two, and longer").unwrap();
            volume.run_pass(2).await;
            volume.assert_equal();
        });
        for side in [volume.source.path(), volume.destination.path()] {
            fs::set_permissions(side.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
        }
    });
}
