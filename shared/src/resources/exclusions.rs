//! `spec.excludePaths`: what of a volume is left alone on both sides.
//!
//! A pattern reads as in a `.gitignore`, without negation:
//! - `name` or `*.tmp`: that name in any directory;
//! - `/cache`, `a/b` (a `/` at the start or within): that path from the volume's root on;
//! - `logs/**/old`, `**/x/y`: any directories, or none, in the place of `**`;
//! - `cache/`: only directories.
//!
//! `*` and `?` never stand for a `/`; `[a-z]`, `{a,b}` and `\` before a character that is meant
//! as it is work, too. What lies in a directory that a pattern names is left alone with it. Names
//! are bytes: those that are not UTF-8 are matched as well.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// What ext filesystems keep at their root; it belongs to the filesystem, not to the content.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";
/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// The most patterns of one migration.
pub const MAX_PATTERNS: usize = 100;

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} {why}")]
pub struct BadPattern {
    /// Its place in the list, from 0.
    pub index: usize,
    /// The pattern.
    pub pattern: String,
    /// What is the matter, and what to write instead.
    pub why: String,
}

/// The paths of a volume that are neither read nor touched. [`LOST_AND_FOUND`] at the root always
/// is one of them.
#[derive(Debug, Clone, Default)]
pub struct Exclusions {
    /// For entries of any kind.
    any: GlobSet,
    /// For directories only.
    directories: GlobSet,
}

impl Exclusions {
    /// Reads patterns; the first bad one is the error.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, BadPattern> {
        if patterns.len() > MAX_PATTERNS {
            let pattern = patterns[MAX_PATTERNS].as_ref().to_owned();
            let why =
                format!("is one too many: at most {MAX_PATTERNS} patterns are taken, so put some together");
            return Err(BadPattern { index: MAX_PATTERNS, pattern, why });
        }
        let (mut any, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for (index, pattern) in patterns.iter().enumerate() {
            let pattern = pattern.as_ref();
            let bad = |why: String| BadPattern { index, pattern: pattern.to_owned(), why };
            let (glob, only_directories) = as_glob(pattern).map_err(bad)?;
            let glob =
                GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build().map_err(
                    |error| {
                        bad(format!(
                            "is no pattern ({}): write one such as /cache, *.tmp or logs/**/old",
                            error.kind()
                        ))
                    },
                )?;
            let set = if only_directories { &mut directories } else { &mut any };
            set.add(glob);
        }
        let too_large = |error: globset::Error| BadPattern {
            index: 0,
            pattern: patterns.first().map(|p| p.as_ref().to_owned()).unwrap_or_default(),
            why: format!(
                "and those after it are too much together ({}): write fewer or simpler ones",
                error.kind()
            ),
        };
        Ok(Self {
            any: any.build().map_err(too_large)?,
            directories: directories.build().map_err(too_large)?,
        })
    }

    /// Whether the entry at `path`, bytes below the volume's root, is left alone. What lies below
    /// an excluded directory is asked for with [`Self::covers`], or not at all.
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        if path == LOST_AND_FOUND {
            return true;
        }
        if self.any.is_empty() && self.directories.is_empty() {
            return false;
        }
        let candidate = Candidate::new(Path::new(OsStr::from_bytes(path)));
        self.any.is_match_candidate(&candidate)
            || (is_directory && self.directories.is_match_candidate(&candidate))
    }

    /// Whether the entry at `path` or a directory above it is left alone.
    pub fn covers(&self, path: &[u8], is_directory: bool) -> bool {
        let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        self.excludes(path, is_directory) || above.into_iter().any(|parent| self.excludes(parent, true))
    }
}

const WHOLE: &str = "would leave out the whole volume: to move none of it, leave its claim out";

/// The glob over whole paths that a pattern stands for, and whether it means directories only.
fn as_glob(pattern: &str) -> Result<(String, bool), String> {
    if pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("has {} bytes: write 1 to {MAX_PATTERN_BYTES}", pattern.len()));
    }
    if pattern.starts_with('!') {
        return Err("begins with !, but nothing can be taken back in: name only what is left out, or write \\! for a name that begins so".to_owned());
    }
    if pattern.contains(['\0', '\n', '\r']) {
        return Err(
            "holds a line break or a zero byte: write one pattern for each entry of the list".to_owned()
        );
    }
    let (body, only_directories) = match pattern.strip_suffix('/') {
        Some(body) => (body, true),
        None => (pattern, false),
    };
    let anchored = body.contains('/');
    let body = body.strip_prefix('/').unwrap_or(body);
    if body.is_empty() {
        return Err(WHOLE.to_owned());
    }
    if body.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(
            "holds an empty name, . or ..: write the path from the volume's root on, such as /a/b".to_owned()
        );
    }
    if body == "**" || (!only_directories && body.bytes().all(|byte| matches!(byte, b'*' | b'/'))) {
        return Err(WHOLE.to_owned());
    }
    Ok(if anchored { (body.to_owned(), only_directories) } else { (format!("**/{body}"), only_directories) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[&str]) -> Exclusions {
        Exclusions::new(patterns).unwrap()
    }

    #[test]
    fn a_name_is_left_out_in_any_directory_and_a_path_only_where_it_is() {
        let by_name = of(&["*.tmp", "cache"]);
        for path in ["a.tmp", "x/y/b.tmp", "cache", "a/cache"] {
            assert!(by_name.excludes(path.as_bytes(), false), "{path}");
        }
        for path in ["a.tmpx", "cache2", "tmp", "x.tmp/y"] {
            assert!(!by_name.excludes(path.as_bytes(), false), "{path}");
        }
        let by_path = of(&["/cache", "a/b", "logs/**/old", "**/x/y", "deep/**"]);
        for path in ["cache", "a/b", "logs/old", "logs/1/2/old", "x/y", "q/x/y", "deep/er", "deep/er/est"] {
            assert!(by_path.excludes(path.as_bytes(), false), "{path}");
        }
        for path in ["a/cache", "z/a/b", "a/b/c", "x", "deep", "logs/olden"] {
            assert!(!by_path.excludes(path.as_bytes(), false), "{path}");
        }
    }

    #[test]
    fn a_slash_at_the_end_means_directories_only() {
        let exclusions = of(&["cache/", "/a/b/"]);
        assert!(exclusions.excludes(b"x/cache", true) && !exclusions.excludes(b"x/cache", false));
        assert!(exclusions.excludes(b"a/b", true) && !exclusions.excludes(b"z/a/b", true));
    }

    #[test]
    fn what_lies_in_an_excluded_directory_is_covered() {
        let exclusions = of(&["/cache/"]);
        assert!(exclusions.covers(b"cache/a/b", false));
        assert!(!exclusions.covers(b"cache", false) && !exclusions.covers(b"x/cache/a", false));
        assert!(exclusions.covers(b"lost+found/#123", false));
    }

    #[test]
    fn names_are_bytes() {
        let exclusions = of(&["*.t?p", "[a-c]x", r"\!odd"]);
        assert!(exclusions.excludes(b"\xff\xfe.tmp", false));
        assert!(exclusions.excludes(b"d/\xff.t\xe9p", false));
        assert!(exclusions.excludes(b"bx", false) && !exclusions.excludes(b"dx", false));
        assert!(exclusions.excludes(b"!odd", false));
    }

    #[test]
    fn lost_and_found_is_left_alone_at_the_root_only() {
        let none = Exclusions::default();
        assert!(none.excludes(b"lost+found", true));
        assert!(!none.excludes(b"a/lost+found", true) && !none.excludes(b"lost+found2", true));
    }

    #[test]
    fn a_pattern_that_cannot_be_is_refused_and_named() {
        for (pattern, said) in [
            ("", "0 bytes"),
            ("!kept", "begins with !"),
            ("/", "whole volume"),
            ("**", "whole volume"),
            ("/*", "whole volume"),
            ("a//b", "an empty name"),
            ("../x", ".."),
            ("a/./b", ". or .."),
            ("a\nb", "line break"),
            ("a[", "is no pattern"),
            ("{a,b", "is no pattern"),
        ] {
            let error = Exclusions::new(&["fine", pattern]).unwrap_err();
            assert_eq!((error.index, error.pattern.as_str()), (1, pattern));
            assert!(error.to_string().contains(said), "{error}");
        }
        let many = vec!["x"; MAX_PATTERNS + 1];
        assert!(Exclusions::new(&many).unwrap_err().to_string().contains("one too many"));
    }
}
