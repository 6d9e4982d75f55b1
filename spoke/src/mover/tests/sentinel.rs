//! What lies around a volume: whoever is led out of it by what the bucket says, or by a link, ends
//! there, and leaves a trace.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// How folders of volumes are named among what is watched.
const VOLUME: &str = "volume-";

/// A file or directory: its path, size, mode and last change.
type Seen = (String, u64, u32, i64, i64);

/// A folder with files, and what it looked like.
pub struct Sentinel {
    folder: tempfile::TempDir,
    before: Vec<Seen>,
}

impl Sentinel {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("dir")).unwrap();
        fs::write(folder.path().join("dir/file"), b"kept").unwrap();
        fs::write(folder.path().join("file"), b"kept").unwrap();
        let before = Self::look(folder.path());
        Self { folder, before }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A new folder for a volume, in the midst of what is watched.
    pub fn volume(&self) -> tempfile::TempDir {
        tempfile::Builder::new().prefix(VOLUME).tempdir_in(self.path()).unwrap()
    }

    /// All names but those of volumes, with size, mode and the time of the last change: whatever
    /// was done shows.
    fn look(root: &Path) -> Vec<Seen> {
        let mut seen = Vec::new();
        let is_volume = |path: &Path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(VOLUME.as_bytes()))
        };
        let list = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        // The folder itself changes with each volume that is made in it.
        let mut todo: Vec<_> = list(root).filter(|path| !is_volume(path)).collect();
        while let Some(path) = todo.pop() {
            let stat = fs::symlink_metadata(&path).unwrap();
            if stat.is_dir() {
                todo.extend(list(&path));
            }
            seen.push((path.display().to_string(), stat.len(), stat.mode(), stat.ctime(), stat.ctime_nsec()));
        }
        seen.sort();
        seen
    }

    #[track_caller]
    pub fn assert_untouched(&self, what: &str) {
        assert_eq!(Self::look(self.path()), self.before, "{what}");
    }
}
