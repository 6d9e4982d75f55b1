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
            bytes += metadata::size(&stat);
        }
        if seen % SHOW_EVERY == 0 {
            progress.set_totals(files, bytes);
        }
    }
    progress.set_totals(files, bytes);
}
