//! What a volume is on this machine: a folder, or for raw blocks a file of the volume's size.
//!
//! It is made empty or as a copy of another, and removed with the volume. A copy is made by `cp -a`,
//! which shares blocks where the file system can, and keeps owners when it runs as root.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use tokio::process::Command;

use super::Error;

/// As the usual local provisioners do: the application's user is not known here.
const FOLDER_MODE: u32 = 0o777;
/// A device is read and written by whoever the pod runs as.
const DEVICE_MODE: u32 = 0o666;
/// What `cp` says of a file that the application removed meanwhile.
const VANISHED: &str = "No such file or directory";

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A filesystem.
    Folder,
    /// Raw blocks, so many bytes.
    Device(u64),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Folder { action, path, source }
}

/// Makes what an empty volume is; one that is there stays as it is.
pub(super) fn make(path: &Path, content: Content) -> Result<(), Error> {
    let made = match content {
        Content::Folder => DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(path)
            // The process's umask has narrowed it.
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))),
        Content::Device(bytes) => {
            grow(path, bytes).and_then(|()| fs::set_permissions(path, Permissions::from_mode(DEVICE_MODE)))
        }
    };
    made.map_err(failed("making the volume", path))
}

/// Gives a device its size; it never shrinks.
fn grow(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() < bytes { file.set_len(bytes) } else { Ok(()) }
}

/// Makes `to` what `from` is now. A copy that was broken off is made anew.
pub(super) async fn copy(from: &Path, to: &Path, content: Content) -> Result<(), Error> {
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    remove(part).await?;
    let said = Command::new("cp")
        .args(["--archive", "--reflink=auto", "--sparse=auto", "--no-target-directory"])
        .arg(from)
        .arg(part)
        .env("LC_ALL", "C")
        .output()
        .await
        .map_err(failed("running cp for", from))?;
    let told = String::from_utf8_lossy(&said.stderr);
    // A snapshot is of one instant: what the application removed meanwhile is not in it.
    if !said.status.success() && !told.lines().all(|line| line.contains(VANISHED)) {
        return Err(failed("copying", from)(io::Error::other(told.trim().to_owned())));
    }
    if let Content::Device(bytes) = content {
        grow(part, bytes).map_err(failed("enlarging", part))?;
    }
    fs::rename(part, to).map_err(failed("moving into its place", part))
}

/// Removes it; that it is not there is fine.
pub(super) async fn remove(path: &Path) -> Result<(), Error> {
    let removing = path.to_owned();
    let removed = tokio::task::spawn_blocking(move || match fs::symlink_metadata(&removing) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&removing),
        Ok(_) => fs::remove_file(&removing),
        Err(error) => Err(error),
    });
    match removed.await.map_err(io::Error::other).and_then(|removed| removed) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing the volume", path)(source))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[tokio::test]
    async fn a_copy_holds_what_was_there_when_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        make(&from, Content::Folder).unwrap();
        fs::write(from.join("file"), "before").unwrap();
        copy(&from, &to, Content::Folder).await.unwrap();
        fs::write(from.join("file"), "after").unwrap();
        assert_eq!(fs::read(to.join("file")).unwrap(), b"before");
        remove(&to).await.unwrap();
        remove(&to).await.unwrap();
        assert!(!to.exists());
    }

    #[tokio::test]
    async fn a_device_is_a_file_of_its_size_and_its_copy_may_be_larger() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        make(&from, Content::Device(1 << 20)).unwrap();
        File::options().write(true).open(&from).unwrap().write_all_at(b"block", 4096).unwrap();
        copy(&from, &to, Content::Device(2 << 20)).await.unwrap();
        let copied = fs::read(&to).unwrap();
        assert_eq!((copied.len(), &copied[4096..4101]), (2 << 20, b"block".as_slice()));
        assert_eq!(fs::metadata(&from).unwrap().len(), 1 << 20);
    }
}
