//! Which inodes with several names came by already in a walk, and under which name.

use std::collections::HashMap;

use crate::mover::{error::MoverError, format::show_path, limits::HARD_LINK_BYTES};

/// Only inodes with more than one name are kept, and each only until its last name came.
#[derive(Debug, Default)]
pub struct HardLinks {
    first: HashMap<u64, Remembered>,
    bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    path: Vec<u8>,
    names_left: u32,
}

const PER_INODE: usize = 2 * size_of::<(u64, Remembered)>();

impl HardLinks {
    /// The earlier name of this inode, if there was one; else remembers this one.
    pub fn earlier(&mut self, inode: u64, links: u32, path: &[u8]) -> Result<Option<Vec<u8>>, MoverError> {
        if links < 2 {
            return Ok(None);
        }
        if let Some(known) = self.first.get_mut(&inode) {
            if known.path == path {
                // A large file that a resumed walk gives again.
                return Ok(None);
            }
            known.names_left = known.names_left.saturating_sub(1);
            if known.names_left > 0 {
                return Ok(Some(known.path.clone()));
            }
            let last = self.first.remove(&inode);
            return Ok(last.map(|last| {
                self.bytes -= last.path.len() + PER_INODE;
                last.path
            }));
        }
        self.bytes += path.len() + PER_INODE;
        if self.bytes > HARD_LINK_BYTES {
            return Err(MoverError::TooManyLinks { path: show_path(path), limit: HARD_LINK_BYTES });
        }
        let remembered = Remembered { path: path.to_vec(), names_left: links - 1 };
        self.first.insert(inode, remembered);
        Ok(None)
    }

    /// Forgets an inode: its next name is the first again.
    pub fn forget(&mut self, inode: u64) {
        if let Some(forgotten) = self.first.remove(&inode) {
            self.bytes -= forgotten.path.len() + PER_INODE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_forgotten_once_all_its_names_came() {
        let mut links = HardLinks::default();
        assert_eq!(links.earlier(7, 3, b"a").unwrap(), None);
        assert_eq!(links.earlier(7, 3, b"b").unwrap().unwrap(), b"a");
        assert_eq!(links.earlier(7, 3, b"c").unwrap().unwrap(), b"a");
        assert_eq!(links.bytes, 0);
        assert_eq!(links.earlier(9, 2, b"e").unwrap(), None);
        assert_eq!(links.earlier(9, 2, b"e").unwrap(), None, "the same name again");
        assert_eq!(links.earlier(9, 2, b"f").unwrap().unwrap(), b"e");
        assert_eq!(links.earlier(8, 1, b"d").unwrap(), None);
        assert_eq!(links.bytes, 0);
        assert_eq!(links.earlier(5, 2, b"g").unwrap(), None);
        links.forget(5);
        links.forget(6);
        assert_eq!(links.bytes, 0);
        assert_eq!(links.earlier(5, 2, b"h").unwrap(), None, "the first name that is left");
    }
}
