//! The sorted depth-first walk over the source, from any point on.

use std::{
    ffi::{CStr, CString},
    os::fd::OwnedFd,
    sync::Arc,
};

use isthmus_shared::resources::Exclusions;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

use crate::mover::{
    error::MoverError,
    format::{Time, show_path, split_path},
    limits::{DIRECTORY_BYTES, MAX_DEPTH, MAX_PATH_BYTES},
    listing::{Listed, SortedListing},
    metadata::{file_type, stamp},
};

/// An entry that the walk came to.
#[derive(Debug)]
pub struct Found {
    /// Below the root.
    pub path: Vec<u8>,
    /// The directory that holds it.
    pub parent: Arc<OwnedFd>,
    /// Its name there.
    pub name: CString,
    /// Its state when the walk came by.
    pub stat: Stat,
    /// The entry itself, if it is a directory that the walk goes into.
    pub directory: Option<Arc<OwnedFd>>,
}

/// One step of the walk.
#[derive(Debug)]
pub enum Step {
    /// The next entry.
    Found(Box<Found>),
    /// A name that was listed and is gone.
    Vanished(Vec<u8>),
    /// A directory on which something else is mounted: not part of this volume.
    ForeignMount(Vec<u8>),
    /// Names came to this directory or went while it was listed.
    Changed(Vec<u8>),
    /// The walk is over.
    End,
}

#[derive(Debug)]
struct Level {
    fd: Arc<OwnedFd>,
    listing: SortedListing,
    /// How much of `path` is this directory's.
    path: usize,
    /// Its last change when the walk came to it.
    ctime: Time,
}

impl Level {
    /// Whether it is not as it was when the walk came to it; also where that cannot be found out.
    fn has_changed(&self) -> bool {
        fstat(&*self.fd).map_or(true, |now| stamp(&now).ctime != self.ctime)
    }
}

/// The walk.
#[derive(Debug)]
pub struct Walk {
    device: u64,
    exclude: Exclusions,
    levels: Vec<Level>,
    path: Vec<u8>,
    /// Names that lead to where an earlier walk ended, below the level of the same number.
    resume: Vec<Vec<u8>>,
    /// Whether the entry at which it ended is to be given again.
    again: bool,
}

/// From where on a walk gives entries.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// The last entry that was given.
    pub path: Vec<u8>,
    /// Whether it is to be given again.
    pub again: bool,
}

impl Walk {
    /// Walks below `root`, which itself is not given, around what is excluded.
    pub fn new(root: Arc<OwnedFd>, exclude: Exclusions, resume: Option<&Resume>) -> Result<Self, MoverError> {
        let stat = fstat(&*root).map_err(|errno| MoverError::file("reading the state of", b"", errno))?;
        let names: Vec<Vec<u8>> =
            resume.map(|resume| split_path(&resume.path).map(<[u8]>::to_vec).collect()).unwrap_or_default();
        let from = names.first().cloned().unwrap_or_default();
        Ok(Self {
            device: stat.st_dev,
            exclude,
            levels: vec![Level {
                listing: SortedListing::new(root.clone(), &from, DIRECTORY_BYTES),
                fd: root,
                path: 0,
                ctime: stamp(&stat).ctime,
            }],
            path: Vec::new(),
            resume: names,
            again: resume.is_some_and(|resume| resume.again),
        })
    }

    /// The next step.
    pub fn next(&mut self) -> Result<Step, MoverError> {
        loop {
            let depth = self.levels.len();
            let Some(level) = self.levels.last_mut() else {
                return Ok(Step::End);
            };
            self.path.truncate(level.path);
            let listed =
                level.listing.next().map_err(|errno| MoverError::file("listing", &self.path, errno))?;
            let Some(listed) = listed else {
                let changed = level.has_changed();
                self.levels.pop();
                self.resume.truncate(self.levels.len());
                if changed {
                    return Ok(Step::Changed(self.path.clone()));
                }
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(listed.name.to_bytes());
            // Not even looked at, where the listing tells what it is.
            if self.exclude.excludes(&self.path, listed.kind == FileType::Directory) {
                continue;
            }
            let known = self.follow(depth, listed.name.to_bytes());
            let parent = self.levels[depth - 1].fd.clone();
            if let Some(step) = self.visit(parent, listed, known)? {
                return Ok(step);
            }
        }
    }

    /// Whether an earlier walk gave this entry already. Past the point where it ended there is
    /// nothing left to follow.
    fn follow(&mut self, depth: usize, name: &[u8]) -> bool {
        if self.resume.len() < depth || self.resume[depth - 1] != name {
            self.resume.truncate(depth - 1);
            return false;
        }
        let at_its_end = self.resume.len() == depth;
        !(at_its_end && self.again)
    }

    fn visit(
        &mut self,
        parent: Arc<OwnedFd>,
        listed: Listed,
        known: bool,
    ) -> Result<Option<Step>, MoverError> {
        if self.path.len() > MAX_PATH_BYTES || self.levels.len() > MAX_DEPTH {
            return Err(MoverError::TooDeep { path: show_path(&self.path) });
        }
        let Listed { name, kind } = listed;
        let stat = match statat(&*parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Some(Step::Vanished(self.path.clone()))),
            Err(errno) => {
                return Err(MoverError::file("reading the state of", &self.path, errno));
            }
        };
        let mut directory = None;
        if file_type(&stat) == FileType::Directory {
            if kind != FileType::Directory && self.exclude.excludes(&self.path, true) {
                return Ok(None);
            }
            if stat.st_dev != self.device {
                return Ok(Some(Step::ForeignMount(self.path.clone())));
            }
            match self.enter(&parent, &name, &stat) {
                Ok(fd) => directory = Some(fd),
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    return Ok(Some(Step::Vanished(self.path.clone())));
                }
                Err(errno) => return Err(MoverError::file("opening", &self.path, errno)),
            }
        }
        if known {
            return Ok(None);
        }
        Ok(Some(Step::Found(Box::new(Found { path: self.path.clone(), parent, name, stat, directory }))))
    }

    fn enter(&mut self, parent: &OwnedFd, name: &CStr, stat: &Stat) -> Result<Arc<OwnedFd>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = Arc::new(openat(parent, name, flags, Mode::empty())?);
        let depth = self.levels.len();
        let from = self.resume.get(depth).cloned().unwrap_or_default();
        // The levels share one budget: a chain of huge directories gets smaller windows.
        let held: usize = self.levels.iter().map(|level| level.listing.weight()).sum();
        let budget = (DIRECTORY_BYTES.saturating_sub(held) / 2).max(DIRECTORY_BYTES / 64);
        self.levels.push(Level {
            listing: SortedListing::new(fd.clone(), &from, budget),
            fd: fd.clone(),
            path: self.path.len(),
            ctime: stamp(stat).ctime,
        });
        Ok(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mover::format::compare_paths;

    fn walk(root: &std::path::Path, resume: Option<&Resume>) -> Vec<String> {
        walk_around(&[], root, resume)
    }

    fn walk_around(exclude: &[&str], root: &std::path::Path, resume: Option<&Resume>) -> Vec<String> {
        let exclude = Exclusions::new(exclude).unwrap();
        let root = Arc::new(OwnedFd::from(std::fs::File::open(root).unwrap()));
        let mut walk = Walk::new(root, exclude, resume).unwrap();
        let mut paths = Vec::new();
        loop {
            match walk.next().unwrap() {
                Step::Found(found) => paths.push(String::from_utf8(found.path).unwrap()),
                Step::End => return paths,
                other => panic!("{other:?}"),
            }
        }
    }

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["a/b/c", "a.x", "z/y", "lost+found/x"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in ["a/b/c/1", "a/b/2", "a/1", "m", "z/y/9", "a.x/q"] {
            std::fs::write(root.path().join(file), b"").unwrap();
        }
        root
    }

    #[test]
    fn the_walk_is_in_the_order_of_paths_and_leaves_lost_and_found_out() {
        let root = tree();
        let all = walk(root.path(), None);
        assert_eq!(all.len(), 12);
        for pair in all.windows(2) {
            assert!(compare_paths(pair[0].as_bytes(), pair[1].as_bytes()).is_lt(), "{pair:?}");
        }
        assert!(!all.iter().any(|path| path.contains("lost")));
    }

    #[test]
    fn what_is_excluded_is_not_given_also_when_the_walk_is_resumed() {
        let root = tree();
        let patterns = ["/a/b/", "9"];
        let all = walk_around(&patterns, root.path(), None);
        assert_eq!(all, ["a", "a/1", "a.x", "a.x/q", "m", "z", "z/y"]);
        for (at, path) in all.iter().enumerate() {
            let resume = Resume { path: path.clone().into_bytes(), again: false };
            assert_eq!(walk_around(&patterns, root.path(), Some(&resume)), all[at + 1..], "{path}");
        }
    }

    #[test]
    fn a_resumed_walk_gives_exactly_the_rest_from_any_entry_on() {
        let root = tree();
        let all = walk(root.path(), None);
        for (at, path) in all.iter().enumerate() {
            let mut resume = Resume { path: path.clone().into_bytes(), again: false };
            assert_eq!(walk(root.path(), Some(&resume)), all[at + 1..], "after {path}");
            resume.again = true;
            assert_eq!(walk(root.path(), Some(&resume)), all[at..], "from {path}");
        }
    }

    #[test]
    fn a_walk_resumes_where_its_last_entry_is_gone() {
        let root = tree();
        let resume = Resume { path: b"a/b/bb/gone".to_vec(), again: false };
        let rest = walk(root.path(), Some(&resume));
        assert_eq!(rest[0], "a/b/c");
    }
}
