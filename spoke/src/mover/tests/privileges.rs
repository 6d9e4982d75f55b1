//! What a mover may do to metadata depends on who runs it.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::{
    trees::{CmsVolume, TreeKind, cms, generate},
    *,
};

/// Says why a part of the tests is left out.
pub fn left_out(what: &str) {
    println!("left out: {what}");
}

/// Runs `body` on a thread that has given up root's rights, as the user 12345.
pub fn as_ordinary_user<T: Send + 'static>(
    body: impl FnOnce(&tokio::runtime::Runtime) -> T + Send + 'static,
) -> Option<T> {
    if !is_root() {
        left_out("giving up root's rights needs root");
        return None;
    }
    let thread = std::thread::spawn(|| {
        let gid = rustix::process::Gid::from_raw(12345);
        let uid = rustix::process::Uid::from_raw(12345);
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        // All threads that it starts inherit this one's identity.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        body(&runtime)
    });
    Some(thread.join().unwrap())
}

fn give(path: &Path) {
    chown(path, Some(12345), Some(12345)).unwrap();
}

#[test]
fn an_ordinary_user_receives_its_own_files_under_the_strict_policy() {
    let volume = Volume::new();
    if is_root() {
        give(volume.source.path());
        give(volume.destination.path());
    }
    as_ordinary_user(move |runtime| {
        cms(volume.source.path(), CmsVolume::Web, 1).unwrap();
        generate(volume.source.path(), TreeKind::Mixed, 1, 0.005).unwrap();
        let closed = volume.source.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), b"x").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
        runtime.block_on(volume.run_pass(1));
        volume.assert_equal();
        // In place, in a directory and a file that their owner may not write.
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(closed.join("file"), b"longer than before").unwrap();
        fs::set_permissions(closed.join("file"), fs::Permissions::from_mode(0o444)).unwrap();
        fs::remove_file(volume.source.path().join("wp-config.php")).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
        runtime.block_on(volume.run_pass(2));
        volume.assert_equal();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
        let arrived = volume.destination.path().join("closed");
        fs::set_permissions(arrived, fs::Permissions::from_mode(0o755)).unwrap();
    });
}

#[test]
fn an_owner_that_may_not_be_set_fails_under_strict_and_is_noted_under_best_effort() {
    let volume = Volume::new();
    fs::write(volume.source.path().join("theirs"), b"x").unwrap();
    if is_root() {
        fs::set_permissions(volume.source.path(), fs::Permissions::from_mode(0o755)).unwrap();
        give(volume.source.path());
        give(volume.destination.path());
        chown(volume.source.path().join("theirs"), Some(777), Some(777)).unwrap();
    }
    as_ordinary_user(move |runtime| {
        runtime.block_on(async {
            volume.send(1).await.unwrap();
            let error = volume.receive(1).await.unwrap_err();
            assert_eq!(error.reason(), "MetadataRefused");
            let text = error.to_string();
            assert!(text.contains("theirs") && text.contains("777") && text.contains("BestEffort"), "{text}");
            let mut options = volume.receive_options(1);
            options.metadata_policy = MetadataPolicy::BestEffort;
            let report = receive(options, Progress::new(), CancellationToken::new()).await.unwrap();
            assert_eq!(report.refused_metadata.total, 1, "{report:?}");
            assert_eq!(report.refused_metadata.listed[0].path, "theirs");
        });
    });
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let volume = Volume::new();
    fs::write(volume.source.path().join("secret"), b"x".repeat(100)).unwrap();
    fs::set_permissions(volume.source.path().join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    if is_root() {
        fs::set_permissions(volume.source.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    as_ordinary_user(move |runtime| {
        let error = runtime.block_on(volume.send(1)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("secret") && text.contains("let it run as root"), "{text}");
    });
}

/// Runs `body` on a thread of root without `SYS_ADMIN`, as a mover that nobody asked for more.
pub fn without_sys_admin<T: Send + 'static>(
    body: impl FnOnce(&tokio::runtime::Runtime) -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::SYS_ADMIN);
        sets.permitted.remove(CapabilitySet::SYS_ADMIN);
        set_capabilities(None, sets).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        body(&runtime)
    });
    thread.join().unwrap()
}

#[test]
fn trusted_attributes_arrive_with_the_capability_for_them_and_are_looked_for_anew_once_it_is_there() {
    let volume = Volume::new();
    let (source, destination) = (volume.source.path().to_owned(), volume.destination.path().to_owned());
    fs::create_dir(source.join("folder")).unwrap();
    fs::write(source.join("file"), b"x".repeat(5000)).unwrap();
    let named = ["file", "folder", ""];
    let set = |name: &str| xattr::set(source.join(name), "trusted.isthmus", name.as_bytes()).is_ok();
    if !is_root() || !named.into_iter().all(set) {
        left_out("trusted attributes need root and a filesystem that has them");
        return;
    }
    let arrived = |name: &str| xattr::get(destination.join(name), "trusted.isthmus").unwrap();
    // A ctime of the moment tells nothing: the next pass would read the file in any case.
    std::thread::sleep(limits::RACY_AGE + Duration::from_secs(1));
    let volume = without_sys_admin(move |runtime| {
        let (sent, _) = runtime.block_on(volume.run_pass(1));
        assert!(!sent.sees_trusted);
        // Nothing changed, and nothing more is seen.
        let (sent, _) = runtime.block_on(volume.run_pass(2));
        assert_eq!((sent.totals.unchanged_files, sent.bytes_read), (1, 0), "{sent:?}");
        volume
    });
    assert!(named.iter().all(|name| arrived(name).is_none()), "they were seen without SYS_ADMIN");

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (sent, _) = runtime.block_on(volume.run_pass(3));
    assert!(sent.sees_trusted && sent.totals.unchanged_files == 0, "{sent:?}");
    assert_eq!(sent.bytes_uploaded, 0, "the content is staged already");
    for name in named {
        assert_eq!(arrived(name).as_deref(), Some(name.as_bytes()), "{name:?}");
    }
    let (sent, _) = runtime.block_on(volume.run_pass(4));
    assert_eq!((sent.totals.unchanged_files, sent.bytes_read), (1, 0), "{sent:?}");

    // Who cannot set them says so, with what would help.
    runtime.block_on(volume.send(5)).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    without_sys_admin(move |runtime| {
        let mut options = volume.receive_options(5);
        options.pass.root = fresh.path().to_owned();
        let error =
            runtime.block_on(receive(options, Progress::new(), CancellationToken::new())).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.reason(), "MetadataRefused");
        assert!(text.contains("trusted.isthmus") && text.contains("privilegedAttributes"), "{text}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn root_keeps_owners_devices_and_trusted_attributes() {
    if !is_root() {
        left_out("owners, devices and trusted attributes need root");
        return;
    }
    let volume = Volume::new();
    let root = volume.source.path();
    fs::write(root.join("owned"), b"x".repeat(1000)).unwrap();
    chown(root.join("owned"), Some(999), Some(998)).unwrap();
    fs::set_permissions(root.join("owned"), fs::Permissions::from_mode(0o6755)).unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
    std::os::unix::fs::lchown(root.join("link"), Some(5), Some(6)).unwrap();
    let device = rustix::fs::makedev(1, 7);
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("full"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::RUSR,
        device,
    );
    if made.is_err() {
        left_out("device nodes are not allowed here");
    }
    if xattr::set(root.join("owned"), "trusted.test", b"value").is_err() {
        left_out("the filesystem has no trusted attributes");
    }
    // A default ACL: user::rwx, user:999:rwx, group::r-x, mask::rwx, other::r-x.
    let acl: Vec<u8> = [2_u32.to_le_bytes().to_vec()]
        .into_iter()
        .chain(
            [(1_u16, 7_u16, u32::MAX), (2, 7, 999), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
                .map(|(tag, perm, id)| {
                    [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
                }),
        )
        .flatten()
        .collect();
    fs::create_dir(root.join("acl")).unwrap();
    let with_acl = xattr::set(root.join("acl"), "system.posix_acl_default", &acl).is_ok()
        && xattr::set(root.join("owned"), "system.posix_acl_access", &acl).is_ok();
    if !with_acl {
        left_out("the filesystem has no ACLs");
    }
    fs::write(root.join("acl/plain"), b"made before").unwrap();
    volume.run_pass(1).await;
    volume.assert_equal();
    // New files in a directory with a default ACL get what the source has, not what it says.
    fs::write(root.join("acl/second"), b"made later").unwrap();
    xattr::remove(root.join("acl/second"), "system.posix_acl_access").ok();
    fs::set_permissions(root.join("acl/second"), fs::Permissions::from_mode(0o640)).unwrap();
    volume.run_pass(2).await;
    volume.assert_equal();
    let arrived = fs::metadata(volume.destination.path().join("owned")).unwrap();
    assert_eq!(
        (arrived.uid(), arrived.gid(), arrived.mode() & 0o7777),
        (999, 998, if with_acl { 0o6775 } else { 0o6755 })
    );
}
