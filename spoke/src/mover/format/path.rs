//! Paths below the volume's root: bytes, not text; checked before use; in the walk's order.

use std::cmp::Ordering;

use super::codec::FormatError;
use crate::mover::limits::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES};

/// The names of a path; none for the root itself.
pub fn split_path(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty())
}

/// A path as people read it: never with control characters, never empty.
pub fn show_path(path: &[u8]) -> String {
    if path.is_empty() {
        return "the volume's root".to_owned();
    }
    String::from_utf8_lossy(path).escape_debug().collect()
}

/// Refuses every path that does not name something strictly below the root, and `.` and `..`.
/// The empty path is the root.
pub fn check_path(path: &[u8]) -> Result<(), FormatError> {
    let refuse = |why| {
        let shown = &path[..path.len().min(200)];
        Err(FormatError::Path { path: show_path(shown), why })
    };
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > MAX_PATH_BYTES {
        return refuse("is too long");
    }
    if path.contains(&0) {
        return refuse("contains a zero byte");
    }
    for (depth, name) in path.split(|b| *b == b'/').enumerate() {
        match name {
            _ if depth >= MAX_DEPTH => return refuse("lies too deep"),
            b"" => return refuse("has an empty name in it or is absolute"),
            b"." | b".." => return refuse("climbs by \".\" or \"..\""),
            name if name.len() > MAX_NAME_BYTES => return refuse("has a name that is too long"),
            _ => {}
        }
    }
    Ok(())
}

/// The order of the walk: names compare by their bytes, a directory before what it holds, all
/// that it holds before its next sibling. As no name holds a zero or a slash, that is the order
/// of the bytes with the slash below all others.
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

/// Checks the order of records as they come, from whoever they come.
#[derive(Debug, Default, Clone)]
pub struct PathOrder {
    last: Option<Vec<u8>>,
    open: bool,
}

impl PathOrder {
    /// Goes on behind `last`; `open` if that is a large file without its end.
    pub fn after(last: Option<Vec<u8>>, open: bool) -> Self {
        Self { last, open }
    }

    /// The last path that came.
    pub fn last(&self) -> Option<&[u8]> {
        self.last.as_deref()
    }

    /// Whether a large file is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Takes the path of the next entry; `opens` if `Data` records follow it.
    pub fn entry(&mut self, path: &[u8], opens: bool) -> Result<(), FormatError> {
        let error = |why| Err(FormatError::Order { path: show_path(path), why });
        match &self.last {
            None if !path.is_empty() => return error("the root must come first"),
            Some(last) => match compare_paths(last, path) {
                // The sender opened the same file again.
                Ordering::Equal if self.open => {}
                Ordering::Less if !self.open => {}
                Ordering::Less => return error("the file before it never ended"),
                _ => return error("it comes after a later or the same path"),
            },
            None => {}
        }
        self.last = Some(path.to_vec());
        self.open = opens;
        Ok(())
    }

    /// Takes a `Data` record.
    pub fn data(&self) -> Result<(), FormatError> {
        if self.open {
            return Ok(());
        }
        Err(FormatError::Order {
            path: self.last.as_deref().map(show_path).unwrap_or_default(),
            why: "content for a file that is not open",
        })
    }

    /// Takes an `End` record.
    pub fn end(&mut self) -> Result<(), FormatError> {
        self.data()?;
        self.open = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_and_its_content_come_before_its_next_sibling() {
        let sorted: [&[u8]; 6] = [b"", b"a", b"a/b", b"a/b/c", b"a/c", b"a.b"];
        for pair in sorted.windows(2) {
            assert_eq!(compare_paths(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn paths_that_lead_out_of_the_volume_are_refused() {
        let bad: [&[u8]; 7] = [b"/etc", b"..", b"a/../b", b"a/./b", b"a//b", b"a/", b"a\0b"];
        for path in bad {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert!(check_path(&[b'x'; 256]).is_err());
        assert!(check_path(&[b"a/".repeat(MAX_DEPTH).as_slice(), b"a"].concat()).is_err());
        assert!(check_path(&[b"a/".repeat(MAX_DEPTH - 1).as_slice(), b"a"].concat()).is_ok());
        assert!(check_path(&b"x/".repeat(MAX_PATH_BYTES)).is_err());
        assert!(check_path(b"a/..b/...").is_ok());
        assert!(check_path(b"\xff\xfe").is_ok());
    }

    #[test]
    fn only_an_open_file_may_come_twice() {
        let mut order = PathOrder::default();
        assert!(order.clone().entry(b"a", false).is_err(), "the root comes first");
        order.entry(b"", false).unwrap();
        order.entry(b"b", true).unwrap();
        order.entry(b"b", true).unwrap();
        order.data().unwrap();
        assert!(order.clone().entry(b"c", false).is_err(), "b is open");
        order.end().unwrap();
        assert!(order.clone().entry(b"b", false).is_err());
        assert!(order.clone().entry(b"a", false).is_err());
        assert!(order.data().is_err());
        order.entry(b"b/c", false).unwrap();
    }
}
