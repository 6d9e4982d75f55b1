//! How an entry at the destination differs from what its manifest says: pure decisions.

use rustix::fs::{FileType, Stat};

use crate::mover::{
    format::{Device, Kind, Metadata, Xattr},
    metadata,
};

/// One way in which an entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs, with both values.
    pub what: String,
    /// Whether it is a matter of metadata, which a destination may have refused.
    pub metadata: bool,
}

impl Difference {
    /// Of content, type or names.
    pub fn of_content(what: impl Into<String>) -> Self {
        Self { what: what.into(), metadata: false }
    }

    fn of_metadata(what: String) -> Self {
        Self { what, metadata: true }
    }
}

/// The type that an entry of this kind has; a hard link has that of its first name.
pub fn type_of(kind: &Kind) -> Option<FileType> {
    match kind {
        Kind::Directory => Some(FileType::Directory),
        Kind::File(_) => Some(FileType::RegularFile),
        Kind::Symlink(_) => Some(FileType::Symlink),
        Kind::Fifo => Some(FileType::Fifo),
        Kind::CharDevice(_) => Some(FileType::CharacterDevice),
        Kind::BlockDevice(_) => Some(FileType::BlockDevice),
        Kind::HardLink(_) => None,
    }
}

/// A type in words.
pub fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "something unknown",
    }
}

/// Another type than the manifest's, or another device.
pub fn in_kind(stat: &Stat, kind: &Kind) -> Option<Difference> {
    let now = metadata::file_type(stat);
    let wanted = type_of(kind).filter(|wanted| *wanted != now);
    if let Some(wanted) = wanted {
        let what = format!("it is {}, not {}", name_of(now), name_of(wanted));
        return Some(Difference::of_content(what));
    }
    let (Kind::CharDevice(Device { major, minor }) | Kind::BlockDevice(Device { major, minor })) = kind
    else {
        return None;
    };
    let (now_major, now_minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    ((now_major, now_minor) != (*major, *minor)).then(|| {
        Difference::of_content(format!("it is the device {now_major}:{now_minor}, not {major}:{minor}"))
    })
}

/// Metadata that is not as it was sent. `selinux`: whether labels count here.
pub fn in_metadata(stat: &Stat, xattrs: &[Xattr], wanted: &Metadata, selinux: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    if (stat.st_uid, stat.st_gid) != (wanted.uid, wanted.gid) {
        found.push(format!(
            "it belongs to {}:{}, not {}:{}",
            stat.st_uid, stat.st_gid, wanted.uid, wanted.gid
        ));
    }
    let mode = stat.st_mode & 0o7777;
    // The mode of a symbolic link is not anybody's to set.
    if metadata::file_type(stat) != FileType::Symlink && mode != wanted.mode {
        found.push(format!("its mode is {mode:04o}, not {:04o}", wanted.mode));
    }
    let mtime = metadata::mtime(stat);
    if mtime != wanted.mtime {
        found.push(format!(
            "its modification time is {}.{:09}, not {}.{:09}",
            mtime.seconds, mtime.nanoseconds, wanted.mtime.seconds, wanted.mtime.nanoseconds
        ));
    }
    // A label that was not sent is the destination's own.
    let counts = |xattr: &&Xattr| {
        xattr.name != metadata::SELINUX
            || (selinux && wanted.xattrs.iter().any(|other| other.name == xattr.name))
    };
    let show = |name: &[u8]| String::from_utf8_lossy(name).escape_debug().to_string();
    for xattr in wanted.xattrs.iter().filter(counts) {
        match xattrs.iter().find(|other| other.name == xattr.name) {
            Some(now) if now.value == xattr.value => {}
            Some(_) => found.push(format!("its attribute {} has another value", show(&xattr.name))),
            None => found.push(format!("its attribute {} is missing", show(&xattr.name))),
        }
    }
    for xattr in xattrs.iter().filter(counts) {
        if !wanted.xattrs.iter().any(|other| other.name == xattr.name) {
            found.push(format!("it has an attribute {} too many", show(&xattr.name)));
        }
    }
    found.into_iter().map(Difference::of_metadata).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mover::format::Time;

    fn stat_of(path: &std::path::Path) -> Stat {
        rustix::fs::lstat(path).unwrap()
    }

    fn xattr(name: &str, value: &str) -> Xattr {
        Xattr { name: name.into(), value: value.into() }
    }

    #[test]
    fn each_part_of_the_metadata_that_differs_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stat = stat_of(file.path());
        let same = metadata::from_stat(&stat);
        assert_eq!(in_metadata(&stat, &[], &same, false), []);
        let other = Metadata {
            uid: same.uid + 1,
            gid: same.gid,
            mode: same.mode ^ 0o4001,
            mtime: Time { nanoseconds: same.mtime.nanoseconds ^ 1, ..same.mtime },
            xattrs: vec![xattr("user.a", "1"), xattr("user.b", "1"), xattr("user.c", "1")],
        };
        let now = [xattr("user.a", "1"), xattr("user.b", "2"), xattr("user.d", "1")];
        let found = in_metadata(&stat, &now, &other, false);
        assert!(found.iter().all(|difference| difference.metadata));
        let said: Vec<&str> = found.iter().map(|difference| difference.what.as_str()).collect();
        for (at, part) in [
            "belongs to",
            "its mode is 0600, not 4601",
            "its modification time",
            "user.b has another value",
            "user.c is missing",
            "user.d too many",
        ]
        .iter()
        .enumerate()
        {
            assert!(said[at].contains(part), "{said:#?}");
        }
        assert_eq!(said.len(), 6);
    }

    #[test]
    fn a_label_counts_only_where_both_sides_have_labels() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stat = stat_of(file.path());
        let plain = metadata::from_stat(&stat);
        let labelled = Metadata { xattrs: vec![xattr("security.selinux", "a")], ..plain.clone() };
        let other = [xattr("security.selinux", "b")];
        assert_eq!(in_metadata(&stat, &other, &plain, true), []);
        assert_eq!(in_metadata(&stat, &[], &labelled, false), []);
        assert_eq!(in_metadata(&stat, &other, &labelled, true).len(), 1);
    }

    #[test]
    fn another_type_is_told_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let stat = stat_of(folder.path());
        assert_eq!(in_kind(&stat, &Kind::Directory), None);
        assert_eq!(in_kind(&stat, &Kind::Fifo).unwrap().what, "it is a directory, not a named pipe");
        let null = stat_of(std::path::Path::new("/dev/null"));
        assert_eq!(in_kind(&null, &Kind::CharDevice(Device { major: 1, minor: 3 })), None);
        let other = in_kind(&null, &Kind::CharDevice(Device { major: 1, minor: 7 })).unwrap();
        assert_eq!(other.what, "it is the device 1:3, not 1:7");
    }
}
