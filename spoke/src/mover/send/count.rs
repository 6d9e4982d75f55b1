//! How much there is to send: a walk of its own that only adds up sizes, beside the real one.

use std::{os::fd::OwnedFd, sync::Arc};

use isthmus_shared::resources::Exclusions;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use crate::mover::{limits::MAX_COUNTED, metadata, report::Progress, work::Stop};

/// After this many entries the figures are shown.
const SHOW_EVERY: u64 = 1024;
/// Directories below this depth are left to the estimate.
const MAX_DEPTH: usize = 64;

/// Adds up files and sizes below `root` until it is done or has seen [`MAX_COUNTED`] entries.
/// The figures are for people; an entry that cannot be read is left out of them.
pub fn count(root: &Arc<OwnedFd>, exclude: &Exclusions, progress: &Progress, stop: &Stop) {
    let (mut files, mut bytes, mut seen) = (0, 0, 0);
    let Ok(dir) = Dir::read_from(&**root) else {
        return;
    };
    // Each with how much of the path is its own.
    let mut levels = vec![(dir, 0)];
    let mut path: Vec<u8> = Vec::new();
    loop {
        let depth = levels.len();
        let Some((dir, own)) = levels.last_mut() else { break };
        if stop.is_set() || seen >= MAX_COUNTED {
            break;
        }
        let Some(Ok(entry)) = dir.read() else {
            levels.pop();
            continue;
        };
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        path.truncate(*own);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        seen += 1;
        let is_directory = entry.file_type() == FileType::Directory;
        if exclude.excludes(&path, is_directory) {
            continue;
        }
        let Ok(fd) = dir.fd() else { continue };
        if is_directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if depth < MAX_DEPTH
                && let Ok(below) = openat(fd, name, flags, Mode::empty())
                && let Ok(below) = Dir::new(below)
            {
                levels.push((below, path.len()));
            }
            continue;
        }
        if let Ok(stat) = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
            && metadata::file_type(&stat) == FileType::RegularFile
        {
            files += 1;
            // A file of several names is sent once.
            bytes +=
                metadata::size(&stat) / u64::from(u32::try_from(stat.st_nlink).unwrap_or(u32::MAX)).max(1);
        }
        if seen % SHOW_EVERY == 0 {
            progress.set_totals(files, bytes);
        }
    }
    progress.set_totals(files, bytes);
}

#[cfg(test)]
mod tests {
    use rustix::fs::open;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn a_file_of_several_names_is_counted_at_its_size() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), [7; 100]).unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::hard_link(folder.path().join("one"), folder.path().join("sub/two")).unwrap();
        std::fs::write(folder.path().join("other"), [7; 11]).unwrap();
        let root = Arc::new(open(folder.path(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap());
        let progress = Progress::default();
        count(&root, &Exclusions::default(), &progress, &Stop::new(&CancellationToken::new()));
        assert_eq!(progress.figures().bytes_total, 111);
    }
}
