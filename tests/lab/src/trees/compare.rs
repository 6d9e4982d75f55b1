//! Two folders side by side: names, types, content, and all metadata that a migration keeps.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{CString, OsString},
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};

/// Differences beyond this number are not looked for.
const MAX_DIFFERENCES: usize = 1000;

/// One difference between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, below both roots.
    pub path: String,
    /// What differs, with both values.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "(root)" } else { &self.path };
        write!(f, "{path}: {}", self.what)
    }
}

/// What to leave out of a comparison.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_field_names)]
pub struct CompareOptions {
    /// Owners and groups.
    pub ignore_ownership: bool,
    /// The metadata of the two roots themselves.
    pub ignore_root: bool,
    /// Extended attributes with these prefixes, e.g. `trusted.`.
    pub ignore_xattrs: Vec<String>,
}

struct Comparison<'a> {
    options: &'a CompareOptions,
    differences: Vec<Difference>,
    first_names: [HashMap<u64, String>; 2],
}

/// Compares two trees. Sockets in `a` and `lost+found` in either root do not count.
pub fn compare_trees(a: &Path, b: &Path, options: &CompareOptions) -> io::Result<Vec<Difference>> {
    let mut comparison = Comparison { options, differences: Vec::new(), first_names: Default::default() };
    let (a, b) = (OwnedFd::from(File::open(a)?), OwnedFd::from(File::open(b)?));
    if !options.ignore_root {
        let stats = [rustix::fs::fstat(&a)?, rustix::fs::fstat(&b)?];
        comparison.metadata("", &stats);
        comparison.xattrs("", &[through_proc(&a, None), through_proc(&b, None)])?;
    }
    comparison.directories("", &a, &b)?;
    Ok(comparison.differences)
}

fn through_proc(dir: &OwnedFd, name: Option<&CString>) -> PathBuf {
    let mut path = format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
    } else {
        path.extend_from_slice(b"/.");
    }
    PathBuf::from(OsString::from_vec(path))
}

fn names(dir: &OwnedFd, root: bool) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut listing = Dir::read_from(dir)?;
    while let Some(entry) = listing.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let skipped = name == b"." || name == b".." || (root && name == b"lost+found");
        if !skipped {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl Comparison<'_> {
    fn differ(&mut self, path: &str, what: String) {
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(Difference { path: path.to_owned(), what });
        }
    }

    fn directories(&mut self, path: &str, a: &OwnedFd, b: &OwnedFd) -> io::Result<()> {
        let mut both: BTreeMap<CString, [bool; 2]> = BTreeMap::new();
        for (side, dir) in [a, b].into_iter().enumerate() {
            for name in names(dir, path.is_empty())? {
                both.entry(name).or_default()[side] = true;
            }
        }
        for (name, present) in both {
            if self.differences.len() >= MAX_DIFFERENCES {
                return Ok(());
            }
            let shown = String::from_utf8_lossy(name.to_bytes()).into_owned();
            let child = if path.is_empty() { shown } else { format!("{path}/{shown}") };
            match present {
                [true, true] => self.entries(&child, &name, a, b)?,
                [true, false] => {
                    let stat = statat(a, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                    if kind(&stat) != FileType::Socket {
                        self.differ(&child, "only in the first tree".to_owned());
                    }
                }
                _ => self.differ(&child, "only in the second tree".to_owned()),
            }
        }
        Ok(())
    }

    fn entries(&mut self, path: &str, name: &CString, a: &OwnedFd, b: &OwnedFd) -> io::Result<()> {
        let stats =
            [statat(a, name, AtFlags::SYMLINK_NOFOLLOW)?, statat(b, name, AtFlags::SYMLINK_NOFOLLOW)?];
        let kinds = [kind(&stats[0]), kind(&stats[1])];
        if kinds[0] != kinds[1] {
            self.differ(path, format!("is {:?} and {:?}", kinds[0], kinds[1]));
            return Ok(());
        }
        self.metadata(path, &stats);
        self.xattrs(path, &[through_proc(a, Some(name)), through_proc(b, Some(name))])?;
        self.hard_links(path, &stats);
        match kinds[0] {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let open = |dir| openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty());
                self.directories(path, &open(a)?, &open(b)?)
            }
            FileType::RegularFile => {
                if stats[0].st_size != stats[1].st_size {
                    let [a, b] = [stats[0].st_size, stats[1].st_size];
                    self.differ(path, format!("has {a} and {b} bytes"));
                    return Ok(());
                }
                self.content(path, name, a, b)
            }
            FileType::Symlink => {
                let targets = [readlinkat(a, name, Vec::new())?, readlinkat(b, name, Vec::new())?];
                if targets[0] != targets[1] {
                    self.differ(path, format!("leads to {:?} and {:?}", targets[0], targets[1]));
                }
                Ok(())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                if stats[0].st_rdev != stats[1].st_rdev {
                    self.differ(path, "is another device".to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn metadata(&mut self, path: &str, [a, b]: &[Stat; 2]) {
        // The mode of a symbolic link is not anybody's to set.
        if kind(a) != FileType::Symlink && a.st_mode & 0o7777 != b.st_mode & 0o7777 {
            let [a, b] = [a.st_mode & 0o7777, b.st_mode & 0o7777];
            self.differ(path, format!("has mode {a:04o} and {b:04o}"));
        }
        if !self.options.ignore_ownership && (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid) {
            let what = format!("belongs to {}:{} and {}:{}", a.st_uid, a.st_gid, b.st_uid, b.st_gid);
            self.differ(path, what);
        }
        let times = [(a.st_mtime, a.st_mtime_nsec), (b.st_mtime, b.st_mtime_nsec)];
        if times[0] != times[1] {
            self.differ(path, format!("was modified at {:?} and {:?}", times[0], times[1]));
        }
    }

    fn xattrs(&mut self, path: &str, places: &[PathBuf; 2]) -> io::Result<()> {
        let mut lists = [BTreeMap::new(), BTreeMap::new()];
        for (list, place) in lists.iter_mut().zip(places) {
            let names = match xattr::list(place) {
                Ok(names) => names,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => continue,
                Err(error) => return Err(error),
            };
            for name in names {
                let shown = name.to_string_lossy().into_owned();
                let ignored = self.options.ignore_xattrs.iter();
                if ignored.into_iter().any(|prefix| shown.starts_with(prefix.as_str())) {
                    continue;
                }
                list.insert(shown, xattr::get(place, &name)?);
            }
        }
        let [a, b] = lists;
        if a != b {
            self.differ(path, format!("has extended attributes {a:?} and {b:?}"));
        }
        Ok(())
    }

    fn hard_links(&mut self, path: &str, stats: &[Stat; 2]) {
        if kind(&stats[0]) == FileType::Directory {
            return;
        }
        if stats[0].st_nlink != stats[1].st_nlink {
            let [a, b] = [stats[0].st_nlink, stats[1].st_nlink];
            self.differ(path, format!("has {a} and {b} names"));
        }
        if stats[0].st_nlink < 2 {
            return;
        }
        let first = [0, 1].map(|side: usize| {
            self.first_names[side].entry(stats[side].st_ino).or_insert_with(|| path.to_owned()).clone()
        });
        if first[0] != first[1] {
            self.differ(path, format!("is the same file as {} and {}", first[0], first[1]));
        }
    }

    fn content(&mut self, path: &str, name: &CString, a: &OwnedFd, b: &OwnedFd) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut files = [
            File::from(openat(a, name, flags, Mode::empty())?),
            File::from(openat(b, name, flags, Mode::empty())?),
        ];
        let mut buffers = [vec![0; 256 * 1024], vec![0; 256 * 1024]];
        let mut offset = 0_u64;
        loop {
            let mut lengths = [0, 0];
            for side in 0..2 {
                lengths[side] = read_full(&mut files[side], &mut buffers[side])?;
            }
            let [a, b] = [&buffers[0][..lengths[0]], &buffers[1][..lengths[1]]];
            if a != b {
                let at = a.iter().zip(b).take_while(|(a, b)| a == b).count() as u64;
                self.differ(path, format!("differs in content from byte {}", offset + at));
                return Ok(());
            }
            if lengths[0] == 0 {
                return Ok(());
            }
            offset += lengths[0] as u64;
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read(&mut buffer[got..])? {
            0 => break,
            read => got += read,
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_difference_is_found_and_equal_trees_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        for root in [&a, &b] {
            std::fs::create_dir_all(root.join("d")).unwrap();
            std::fs::write(root.join("d/f"), b"same").unwrap();
            std::os::unix::fs::symlink("x", root.join("l")).unwrap();
            let file = File::open(root.join("d/f")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let options = CompareOptions { ignore_root: true, ..CompareOptions::default() };
        let times_only = |difference: &Difference| difference.what.starts_with("was modified");
        let differences = compare_trees(&a, &b, &options).unwrap();
        assert!(differences.iter().all(times_only), "{differences:?}");
        std::fs::write(b.join("d/f"), b"sane").unwrap();
        std::fs::write(b.join("new"), b"").unwrap();
        std::fs::remove_file(b.join("l")).unwrap();
        std::fs::hard_link(b.join("d/f"), b.join("d/g")).unwrap();
        let found: Vec<String> =
            compare_trees(&a, &b, &options).unwrap().iter().map(ToString::to_string).collect();
        let expected = [
            "d/f: differs in content from byte 2",
            "d/f: has 1 and 2 names",
            "d/g: only in the second tree",
            "l: only in the first tree",
            "new: only in the second tree",
        ];
        for expected in expected {
            assert!(found.iter().any(|found| found == expected), "{expected} in {found:?}");
        }
    }
}
