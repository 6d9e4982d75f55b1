//! The names of one directory in the order of their bytes, in bounded memory.
//!
//! A directory whose names do not fit is read again for each window of names: the smallest ones
//! that come after the last window. So a directory with millions of names costs time, not memory.

use std::{ffi::CString, os::fd::OwnedFd, sync::Arc};

use rustix::{
    fs::{Dir, FileType},
    io::Errno,
};

/// What one name costs beside its bytes.
const PER_NAME: usize = size_of::<Name>();

#[derive(Debug, Clone, Copy)]
struct Name {
    start: u32,
    length: u16,
    kind: FileType,
}

/// A name in a directory, and what it seems to be (`Unknown` where the filesystem keeps that to
/// itself).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: CString,
    /// Its kind.
    pub kind: FileType,
}

/// An iterator over a directory's names.
#[derive(Debug)]
pub struct SortedListing {
    fd: Arc<OwnedFd>,
    budget: usize,
    arena: Vec<u8>,
    names: Vec<Name>,
    next: usize,
    /// Names below this one are not wanted, or were given already.
    from: Vec<u8>,
    complete: bool,
}

impl SortedListing {
    /// Lists the names from `from` on (all, if it is empty), with about `budget` bytes of memory
    /// for names.
    pub fn new(fd: Arc<OwnedFd>, from: &[u8], budget: usize) -> Self {
        Self {
            fd,
            budget,
            arena: Vec::new(),
            names: Vec::new(),
            next: 0,
            from: from.to_vec(),
            complete: false,
        }
    }

    /// The memory that it holds now.
    pub fn weight(&self) -> usize {
        self.arena.capacity() + self.names.capacity() * PER_NAME
    }

    /// The next name.
    pub fn next(&mut self) -> Result<Option<Listed>, Errno> {
        if self.next == self.names.len() {
            if self.complete {
                return Ok(None);
            }
            self.fill()?;
            if self.names.is_empty() {
                return Ok(None);
            }
        }
        let name = self.names[self.next];
        self.next += 1;
        let bytes = self.bytes(name).to_vec();
        if self.next == self.names.len() {
            // No name holds a zero byte: this is the smallest string above the name.
            let mut above = bytes.clone();
            above.push(0);
            self.from = above;
        }
        // A name of the kernel has no zero byte within.
        let name_text = CString::new(bytes).map_err(|_| Errno::ILSEQ)?;
        Ok(Some(Listed { name: name_text, kind: name.kind }))
    }

    fn bytes(&self, name: Name) -> &[u8] {
        &self.arena[name.start as usize..][..usize::from(name.length)]
    }

    fn fill(&mut self) -> Result<(), Errno> {
        self.arena.clear();
        self.names.clear();
        self.next = 0;
        self.complete = true;
        // Names from this one on are for a later window.
        let mut ceiling: Option<Vec<u8>> = None;
        let mut dir = Dir::read_from(&*self.fd)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || name < self.from.as_slice() {
                continue;
            }
            if ceiling.as_deref().is_some_and(|ceiling| name > ceiling) {
                self.complete = false;
                continue;
            }
            self.names.push(Name {
                start: u32::try_from(self.arena.len()).map_err(|_| Errno::OVERFLOW)?,
                length: u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?,
                kind: entry.file_type(),
            });
            self.arena.extend_from_slice(name);
            if self.arena.len() + self.names.len() * PER_NAME > self.budget && self.names.len() > 16 {
                ceiling = Some(self.keep_smaller_half());
                self.complete = false;
            }
        }
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        let arena = std::mem::take(&mut self.arena);
        self.names.sort_unstable_by(|a, b| {
            let bytes = |n: &Name| &arena[n.start as usize..][..usize::from(n.length)];
            bytes(a).cmp(bytes(b))
        });
        self.arena = arena;
    }

    fn keep_smaller_half(&mut self) -> Vec<u8> {
        self.sort();
        self.names.truncate(self.names.len() / 2);
        let mut arena = Vec::with_capacity(self.arena.capacity());
        for name in &mut self.names {
            let bytes = &self.arena[name.start as usize..][..usize::from(name.length)];
            name.start = u32::try_from(arena.len()).unwrap_or(u32::MAX);
            arena.extend_from_slice(bytes);
        }
        self.arena = arena;
        self.names.last().map(|name| self.bytes(*name).to_vec()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(folder: &std::path::Path, from: &[u8], budget: usize) -> Vec<String> {
        let fd = Arc::new(OwnedFd::from(std::fs::File::open(folder).unwrap()));
        let mut listing = SortedListing::new(fd, from, budget);
        let mut names = Vec::new();
        while let Some(listed) = listing.next().unwrap() {
            assert!(listing.weight() < budget * 4 + 4096, "{}", listing.weight());
            names.push(listed.name.into_string().unwrap());
        }
        names
    }

    #[test]
    fn a_directory_larger_than_the_budget_is_listed_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected: Vec<String> = (0..3000).map(|n| format!("name-{n}")).collect();
        for name in &expected {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        expected.sort();
        assert_eq!(list(folder.path(), b"", 1 << 20), expected);
        assert_eq!(list(folder.path(), b"", 2000), expected);
        let rest = list(folder.path(), b"name-2", 2000);
        assert_eq!(rest[0], "name-2");
        assert!(list(folder.path(), b"z", 2000).is_empty());
    }
}
