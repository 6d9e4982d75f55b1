//! Removing what the manifest does not have.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, chmodat, openat, statat, unlinkat},
    io::Errno,
};

use crate::mover::metadata::file_type;

/// Directories nested deeper than this are removed in several rounds.
const MAX_DEPTH: usize = 200;

/// Removes `name` in `parent`, with all that it holds, and tells how many names went. Links are
/// removed, never followed.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> Result<u64, Errno> {
    let mut removed = 0;
    while !remove(parent, name, MAX_DEPTH, &mut removed)? {}
    Ok(removed)
}

/// False if something deeper than `depth` is left.
fn remove(parent: BorrowedFd<'_>, name: &CStr, depth: usize, removed: &mut u64) -> Result<bool, Errno> {
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(errno),
    };
    if file_type(&stat) != FileType::Directory {
        unlinkat(parent, name, AtFlags::empty())?;
        *removed += 1;
        return Ok(true);
    }
    if depth == 0 {
        // With a descriptor for each level, a chain of directories could use them up.
        return hoist(parent, name, removed);
    }
    let emptied = empty(parent, name, depth, removed)?;
    if emptied {
        unlinkat(parent, name, AtFlags::REMOVEDIR)?;
        *removed += 1;
    }
    Ok(emptied)
}

fn empty(parent: BorrowedFd<'_>, name: &CStr, depth: usize, removed: &mut u64) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            openat(parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let mut whole = true;
    let mut dir = Dir::read_from(&fd)?;
    let mut made_writable = false;
    while let Some(entry) = dir.read() {
        let entry = entry?;
        let child = entry.file_name();
        if child.to_bytes() == b"." || child.to_bytes() == b".." {
            continue;
        }
        match remove(fd.as_fd(), child, depth - 1, removed) {
            Ok(gone) => whole &= gone,
            Err(Errno::ACCESS) if !made_writable => {
                made_writable = true;
                rustix::fs::fchmod(&fd, Mode::RWXU)?;
                whole &= remove(fd.as_fd(), child, depth - 1, removed)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(whole)
}

/// Empties a very deep directory step by step from its own level on.
fn hoist(parent: BorrowedFd<'_>, name: &CStr, removed: &mut u64) -> Result<bool, Errno> {
    let mut deepest = None;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut fd = openat(parent, name, flags, Mode::empty())?;
    // Down to the deepest first directory: only two descriptors are open at a time.
    loop {
        let mut below = None;
        let mut dir = Dir::read_from(&fd)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let child = entry.file_name();
            if child.to_bytes() == b"." || child.to_bytes() == b".." {
                continue;
            }
            let stat = statat(&fd, child, AtFlags::SYMLINK_NOFOLLOW)?;
            if file_type(&stat) == FileType::Directory {
                below = Some(child.to_owned());
            } else {
                unlinkat(&fd, child, AtFlags::empty())?;
                *removed += 1;
            }
        }
        let Some(below) = below else { break };
        let next = openat(&fd, &below, flags, Mode::empty())?;
        deepest = Some((fd, below));
        fd = next;
    }
    let Some((holder, child)) = deepest else {
        drop(fd);
        unlinkat(parent, name, AtFlags::REMOVEDIR)?;
        *removed += 1;
        return Ok(true);
    };
    unlinkat(&holder, &child, AtFlags::REMOVEDIR)?;
    *removed += 1;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_whole_and_what_its_links_lead_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tree/a/b")).unwrap();
        std::fs::create_dir(folder.path().join("kept")).unwrap();
        std::fs::write(folder.path().join("kept/file"), b"x").unwrap();
        std::os::unix::fs::symlink("../kept", folder.path().join("tree/link")).unwrap();
        std::fs::write(folder.path().join("tree/a/b/file"), b"x").unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        assert_eq!(remove_tree(root.as_fd(), c"tree").unwrap(), 5);
        assert!(!folder.path().join("tree").exists());
        assert!(folder.path().join("kept/file").exists());
        assert_eq!(remove_tree(root.as_fd(), c"tree").unwrap(), 0);
    }

    #[test]
    fn a_tree_of_any_depth_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        let mut fd = rustix::io::dup(&root).unwrap();
        for _ in 0..600 {
            rustix::fs::mkdirat(&fd, c"d", Mode::RWXU).unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            fd = openat(&fd, c"d", flags, Mode::empty()).unwrap();
        }
        drop(fd);
        assert_eq!(remove_tree(root.as_fd(), c"d").unwrap(), 600);
    }
}
