//! Removing what the manifest does not have, but for what `excludePaths` leaves alone.
//!
//! A directory that holds something excluded stays, and so do those above it. Links are removed,
//! never followed; what another filesystem keeps in a directory is not ours to remove. Trees of
//! any depth and width go in bounded memory and with a bounded number of descriptors.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use isthmus_shared::resources::Exclusions;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, openat, statat, unlinkat},
    io::Errno,
};

use crate::mover::{
    error::MoverError,
    limits::DIRECTORY_BYTES,
    listing::SortedListing,
    metadata::{chmod_name, file_type},
};

/// Directories on the way to the deepest one that are open at a time. Those above are opened
/// again, from below, when it is their turn.
const OPEN_LEVELS: usize = 64;
/// The least memory for the names of one directory.
const LEAST_NAMES: usize = 64 * 1024;

/// What removing came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many names went.
    pub count: u64,
    /// The first excluded path that was left, with all directories above it.
    pub kept: Option<Vec<u8>>,
}

/// Removes `name` in `parent`, whose path below the volume's root is `path`, with all that it
/// holds and that is not excluded.
pub fn remove_tree(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &[u8],
    exclude: &Exclusions,
) -> Result<Removed, MoverError> {
    Removal::new(path, exclude, false).run(parent, name)
}

/// What [`remove_tree`] would come to, with nothing done.
pub fn would_remove(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &[u8],
    exclude: &Exclusions,
) -> Result<Removed, MoverError> {
    Removal::new(path, exclude, true).run(parent, name)
}

struct Removal<'a> {
    exclude: &'a Exclusions,
    /// Whether nothing is done.
    dry: bool,
    path: Vec<u8>,
    levels: Vec<Level>,
    done: Removed,
}

/// A directory that is being emptied.
struct Level {
    name: CString,
    /// How much of the path is its own.
    path: usize,
    id: (u64, u64),
    open: Option<(Arc<OwnedFd>, SortedListing)>,
    /// The last name that was dealt with.
    last: Vec<u8>,
    /// Whether something in it stays.
    keeps: bool,
    made_writable: bool,
}

impl Level {
    fn next(&mut self) -> Result<Option<(Arc<OwnedFd>, CString, FileType)>, Errno> {
        let Some((fd, listing)) = &mut self.open else {
            return Ok(None);
        };
        let Some(listed) = listing.next()? else {
            return Ok(None);
        };
        self.last.clear();
        self.last.extend_from_slice(listed.name.to_bytes());
        Ok(Some((fd.clone(), listed.name, listed.kind)))
    }
}

impl<'a> Removal<'a> {
    fn new(path: &[u8], exclude: &'a Exclusions, dry: bool) -> Self {
        Self { exclude, dry, path: path.to_vec(), levels: Vec::new(), done: Removed::default() }
    }

    fn run(mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Removed, MoverError> {
        let device = fstat(parent).map_err(|errno| self.failed(errno))?.st_dev;
        self.visit(parent, name.to_owned(), FileType::Unknown, device)?;
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path);
            let listed = match level.next() {
                Ok(listed) => listed,
                Err(errno) => return Err(MoverError::file("listing", &self.path, errno)),
            };
            let Some((dir, name, kind)) = listed else {
                self.leave(parent)?;
                continue;
            };
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            self.visit(dir.as_fd(), name, kind, device)?;
        }
        Ok(self.done)
    }

    fn failed(&self, errno: Errno) -> MoverError {
        MoverError::file("removing", &self.path, errno)
    }

    /// Removes an entry, or enters it to empty it first.
    fn visit(
        &mut self,
        dir: BorrowedFd<'_>,
        name: CString,
        kind: FileType,
        device: u64,
    ) -> Result<(), MoverError> {
        let kind = match kind {
            FileType::Unknown => match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => file_type(&stat),
                Err(Errno::NOENT) => return Ok(()),
                Err(errno) => return Err(self.failed(errno)),
            },
            known => known,
        };
        if self.exclude.excludes(&self.path, kind == FileType::Directory) {
            self.done.kept.get_or_insert_with(|| self.path.clone());
            if let Some(level) = self.levels.last_mut() {
                level.keeps = true;
            }
            return Ok(());
        }
        if kind == FileType::Directory {
            return self.enter(dir, name, device);
        }
        self.unlink(dir, &name, AtFlags::empty())
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, name: CString, device: u64) -> Result<(), MoverError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(dir, &name, flags, Mode::empty()) {
            Err(Errno::ACCESS) if !self.dry => {
                chmod_name(&dir, &name, Mode::RWXU).and_then(|()| openat(dir, &name, flags, Mode::empty()))
            }
            other => other,
        };
        let fd = Arc::new(opened.map_err(|errno| self.failed(errno))?);
        let stat = fstat(&*fd).map_err(|errno| self.failed(errno))?;
        if stat.st_dev != device {
            // Another filesystem is mounted here.
            return Err(self.failed(Errno::BUSY));
        }
        let listing = self.listing(&fd, b"");
        self.levels.push(Level {
            name,
            path: self.path.len(),
            id: (stat.st_dev, stat.st_ino),
            open: Some((fd, listing)),
            last: Vec::new(),
            keeps: false,
            made_writable: false,
        });
        if let Some(above) = self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            self.levels[above].open = None;
        }
        Ok(())
    }

    /// The levels share one budget for names.
    fn listing(&self, fd: &Arc<OwnedFd>, from: &[u8]) -> SortedListing {
        let open = self.levels.iter().filter_map(|level| level.open.as_ref());
        let held: usize = open.map(|(_, listing)| listing.weight()).sum();
        let budget = ((DIRECTORY_BYTES / 4).saturating_sub(held) / 2).max(LEAST_NAMES);
        SortedListing::new(fd.clone(), from, budget)
    }

    /// Removes the directory that is empty now, unless something in it stays.
    fn leave(&mut self, top: BorrowedFd<'_>) -> Result<(), MoverError> {
        let Some(left) = self.levels.pop() else {
            return Ok(());
        };
        if let (Some((below, _)), Some(level)) = (&left.open, self.levels.last())
            && level.open.is_none()
        {
            let reopened = self.reopen(below, level)?;
            if let Some(level) = self.levels.last_mut() {
                level.open = Some(reopened);
            }
        }
        if left.keeps {
            if let Some(level) = self.levels.last_mut() {
                level.keeps = true;
            }
            return Ok(());
        }
        let holder = self.levels.last().and_then(|level| level.open.as_ref()).map(|(fd, _)| fd.clone());
        let holder = holder.as_ref().map_or(top, |fd| fd.as_fd());
        self.unlink(holder, &left.name, AtFlags::REMOVEDIR)
    }

    /// Goes up, making sure that it is the directory that it came from.
    fn reopen(
        &self,
        below: &Arc<OwnedFd>,
        level: &Level,
    ) -> Result<(Arc<OwnedFd>, SortedListing), MoverError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&**below, c"..", flags, Mode::empty()).map_err(|errno| self.failed(errno))?;
        let stat = fstat(&fd).map_err(|errno| self.failed(errno))?;
        if (stat.st_dev, stat.st_ino) != level.id {
            return Err(self.failed(Errno::XDEV));
        }
        let mut from = level.last.clone();
        from.push(0);
        let fd = Arc::new(fd);
        let listing = self.listing(&fd, &from);
        Ok((fd, listing))
    }

    fn unlink(&mut self, dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), MoverError> {
        if self.dry {
            self.done.count += 1;
            return Ok(());
        }
        let mut removed = unlinkat(dir, name, flags);
        if removed == Err(Errno::ACCESS)
            && let Some(level) = self.levels.last_mut()
            && !level.made_writable
        {
            level.made_writable = true;
            removed = fchmod(dir, Mode::RWXU).and_then(|()| unlinkat(dir, name, flags));
        }
        match removed {
            Ok(()) => self.done.count += 1,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.failed(errno)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn remove(folder: &Path, name: &str, patterns: &[&str]) -> Removed {
        let root = std::fs::File::open(folder).unwrap();
        let exclude = Exclusions::new(patterns).unwrap();
        remove_tree(root.as_fd(), &CString::new(name).unwrap(), name.as_bytes(), &exclude).unwrap()
    }

    #[test]
    fn a_tree_goes_whole_and_what_its_links_lead_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tree/a/b")).unwrap();
        std::fs::create_dir(folder.path().join("kept")).unwrap();
        std::fs::write(folder.path().join("kept/file"), b"x").unwrap();
        std::os::unix::fs::symlink("../kept", folder.path().join("tree/link")).unwrap();
        std::fs::write(folder.path().join("tree/a/b/file"), b"x").unwrap();
        assert_eq!(remove(folder.path(), "tree", &[]), Removed { count: 5, kept: None });
        assert!(!folder.path().join("tree").exists());
        assert!(folder.path().join("kept/file").exists());
        assert_eq!(remove(folder.path(), "tree", &[]).count, 0);
    }

    #[test]
    fn what_is_excluded_stays_with_the_directories_above_it_and_all_else_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for dir in ["tree/a/cache/deep", "tree/b/c", "tree/z"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        for file in
            ["tree/a/cache/deep/f", "tree/a/f", "tree/b/c/f", "tree/z/k.tmp", "tree/z/l", "tree/cache"]
        {
            std::fs::write(root.join(file), b"x").unwrap();
        }
        let dir = std::fs::File::open(root).unwrap();
        let exclude = Exclusions::new(&["cache/", "*.tmp"]).unwrap();
        let would = would_remove(dir.as_fd(), c"tree", b"tree", &exclude).unwrap();
        let removed = remove(root, "tree", &["cache/", "*.tmp"]);
        assert_eq!(would, removed);
        assert_eq!(would_remove(dir.as_fd(), c"tree", b"tree", &exclude).unwrap().count, 0);
        assert_eq!(removed.kept.as_deref(), Some(&b"tree/a/cache"[..]));
        // a/f, b, b/c, b/c/f, z/l, and the file named cache.
        assert_eq!(removed.count, 6);
        assert!(root.join("tree/a/cache/deep/f").exists() && root.join("tree/z/k.tmp").exists());
        assert!(!root.join("tree/b").exists() && !root.join("tree/a/f").exists());
        assert!(!root.join("tree/cache").exists());
    }

    #[test]
    fn a_tree_of_any_depth_goes_but_for_what_is_excluded_at_its_bottom() {
        const DEPTH: usize = 600;
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        let mut fd = rustix::io::dup(&root).unwrap();
        for _ in 0..DEPTH {
            for name in [c"d", c"a", c"z"] {
                rustix::fs::mkdirat(&fd, name, Mode::RWXU).unwrap();
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            fd = openat(&fd, c"d", flags, Mode::empty()).unwrap();
        }
        rustix::fs::mkdirat(&fd, c"kept", Mode::RWXU).unwrap();
        drop(fd);
        let kept = [b"d/".repeat(DEPTH).as_slice(), b"kept"].concat();
        let removed = remove(folder.path(), "d", &["kept"]);
        assert_eq!(removed.count, 2 * (DEPTH as u64 - 1));
        assert_eq!(removed.kept, Some(kept));
        assert_eq!(remove(folder.path(), "d", &[]).count, DEPTH as u64 + 1);
    }
}
