//! Reading and setting what belongs to an entry besides its content.

mod privilege;
mod refusal;

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::OnceLock,
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod,
        chownat, fchmod, fchown, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat, futimens, lgetxattr,
        llistxattr, lremovexattr, lsetxattr, openat, statat, utimensat,
    },
    io::Errno,
};

pub use privilege::sees_trusted;
pub use refusal::{Part, Refused};

use super::{
    format::{Metadata, Stamp, Time, Xattr},
    limits::MAX_XATTR_BYTES,
};

/// SELinux labels arrive where both sides have them; where the destination has none there is
/// nothing that could carry them.
pub const SELINUX: &[u8] = b"security.selinux";
const ACL_PREFIX: &[u8] = b"system.posix_acl_";
const SET_IDS: u32 = 0o6000;

/// The metadata of an entry without its extended attributes.
pub fn from_stat(stat: &Stat) -> Metadata {
    Metadata {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        mtime: mtime(stat),
        xattrs: Vec::new(),
    }
}

/// The last modification.
pub fn mtime(stat: &Stat) -> Time {
    Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() }
}

/// What tells whether the entry changes.
pub fn stamp(stat: &Stat) -> Stamp {
    Stamp {
        inode: stat.st_ino,
        ctime: Time {
            seconds: stat.st_ctime,
            nanoseconds: u32::try_from(stat.st_ctime_nsec).unwrap_or_default(),
        },
        links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
    }
}

/// The entry's size in bytes.
pub fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// What the entry is.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Something whose metadata is read or set: an open file, or a name that is not to be opened (a
/// symbolic link, a FIFO, a device).
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A name in an open directory; never followed.
    Name(BorrowedFd<'a>, &'a CStr),
}

impl Target<'_> {
    /// There is no `lgetxattrat`: the directory is named through `/proc`, the entry by its name.
    fn through_proc(dir: BorrowedFd<'_>, name: &CStr) -> Result<CString, Errno> {
        let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        CString::new(path).map_err(|_| Errno::INVAL)
    }

    fn list_xattrs(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => flistxattr(fd, buffer),
            Self::Name(dir, name) => llistxattr(Self::through_proc(dir, name)?, buffer),
        }
    }

    fn get_xattr(self, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fgetxattr(fd, name, buffer),
            Self::Name(dir, of) => lgetxattr(Self::through_proc(dir, of)?, name, buffer),
        }
    }

    fn set_xattr(self, name: &CStr, value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Name(dir, of) => lsetxattr(Self::through_proc(dir, of)?, name, value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(self, name: &CStr) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fremovexattr(fd, name),
            Self::Name(dir, of) => lremovexattr(Self::through_proc(dir, of)?, name),
        }
    }

    fn stat(self) -> Result<Stat, Errno> {
        match self {
            Self::Open(fd) => fstat(fd),
            Self::Name(dir, name) => statat(dir, name, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn chown(self, uid: u32, gid: u32) -> Result<(), Errno> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Open(fd) => fchown(fd, uid, gid),
            Self::Name(dir, name) => chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn chmod(self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            // fchmodat follows links: through a handle of the entry itself it cannot.
            Self::Name(dir, name) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let entry = openat(dir, name, flags, Mode::empty())?;
                chmod(format!("/proc/self/fd/{}", entry.as_raw_fd()), mode)
            }
        }
    }

    fn set_mtime(self, mtime: Time) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
        };
        match self {
            Self::Open(fd) => futimens(fd, &times),
            Self::Name(dir, name) => utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }
}

fn without_support(errno: Errno) -> bool {
    errno == Errno::OPNOTSUPP || errno == Errno::NOSYS
}

/// All extended attributes, sorted by name. A filesystem without any has none.
pub fn read_xattrs(target: Target<'_>) -> Result<Vec<Xattr>, Errno> {
    // Nearly every file has none or a few short ones.
    let mut small = [0_u8; 512];
    let names = match target.list_xattrs(&mut small) {
        Ok(0) => return Ok(Vec::new()),
        Ok(length) => small[..length].to_vec(),
        Err(errno) if without_support(errno) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; 64 * 1024];
            let length = target.list_xattrs(&mut large)?;
            large.truncate(length);
            large
        }
        Err(errno) => return Err(errno),
    };
    let mut xattrs = Vec::new();
    let mut total = 0;
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let text = CString::new(name).map_err(|_| Errno::ILSEQ)?;
        let value = match read_xattr(target, &text) {
            Ok(value) => value,
            // Removed in between, or listed but not readable for anybody (NFS does that).
            Err(Errno::NODATA) => continue,
            Err(errno) if without_support(errno) => continue,
            Err(errno) => return Err(errno),
        };
        total += name.len() + value.len();
        if total > MAX_XATTR_BYTES {
            return Err(Errno::TOOBIG);
        }
        xattrs.push(Xattr { name: name.to_vec(), value });
    }
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(xattrs)
}

fn read_xattr(target: Target<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut small = [0_u8; 512];
    match target.get_xattr(name, &mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            // The kernel allows 64 KiB for one value.
            let mut large = vec![0; 64 * 1024];
            let length = target.get_xattr(name, &mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}

/// Sets everything on `target`, whose present state is `now` (`None`: not known), and gives what
/// was refused. `bare` says that it was just made, so it has no attributes to remove.
///
/// The order matters: a change of owner drops setuid and capabilities, an ACL is part of the
/// mode, and whatever comes later must not change the time.
pub fn apply(target: Target<'_>, now: Option<&Stat>, to: &Metadata, bare: bool) -> Vec<Refused> {
    let mut refused = Vec::new();
    let mut note = |part: Part, result: Result<(), Errno>| match result {
        Ok(()) => true,
        Err(errno) => {
            refused.push(Refused { part, errno });
            false
        }
    };
    let symlink = now.is_some_and(|stat| file_type(stat) == FileType::Symlink);
    let owned = now.is_some_and(|stat| stat.st_uid == to.uid && stat.st_gid == to.gid);
    let mut mode = to.mode;
    if !owned && !note(Part::Owner(to.uid, to.gid), target.chown(to.uid, to.gid)) && mode & SET_IDS != 0 {
        mode &= !SET_IDS;
        note(Part::SetIds, Err(Errno::PERM));
    }
    let wanted = to.xattrs.iter().filter(|xattr| xattr.name != SELINUX || has_selinux());
    let (acls, others): (Vec<&Xattr>, Vec<&Xattr>) =
        wanted.partition(|xattr| xattr.name.starts_with(ACL_PREFIX));
    let present = if bare { Ok(Vec::new()) } else { read_xattrs(target) };
    let present = present.unwrap_or_else(|errno| {
        note(Part::Xattrs, Err(errno));
        Vec::new()
    });
    for old in &present {
        let kept = to.xattrs.iter().any(|xattr| xattr.name == old.name);
        if !kept
            && old.name != SELINUX
            && let Ok(name) = CString::new(old.name.as_slice())
        {
            note(Part::Xattr(old.name.clone()), target.remove_xattr(&name));
        }
    }
    for xattr in others {
        if !present.contains(xattr) {
            note(Part::Xattr(xattr.name.clone()), set_xattr(target, xattr));
        }
    }
    let mut set_mode = false;
    if !symlink {
        // After a change of owner the bits may be gone although they were right before.
        let right = owned && now.is_some_and(|stat| stat.st_mode & 0o7777 == mode);
        let acl_removed = present.iter().any(|old| old.name.starts_with(ACL_PREFIX));
        if !right || acl_removed {
            set_mode = note(Part::Mode(mode), target.chmod(mode));
        }
    }
    let has_acls = !acls.is_empty();
    for xattr in acls {
        note(Part::Xattr(xattr.name.clone()), set_xattr(target, xattr));
    }
    if (set_mode || has_acls) && mode & SET_IDS != 0 {
        // Who is not in the file's group loses its setgid bit without a word.
        let kept = target.stat().map(|stat| stat.st_mode & SET_IDS == mode & SET_IDS);
        note(Part::Mode(mode), kept.and_then(|kept| if kept { Ok(()) } else { Err(Errno::PERM) }));
    }
    note(Part::Time, target.set_mtime(to.mtime));
    refused
}

fn set_xattr(target: Target<'_>, xattr: &Xattr) -> Result<(), Errno> {
    let name = CString::new(xattr.name.as_slice()).map_err(|_| Errno::INVAL)?;
    match target.set_xattr(&name, &xattr.value) {
        Err(errno) if without_support(errno) && xattr.name == SELINUX => Ok(()),
        other => other,
    }
}

/// Takes off what a new directory has of the one that it was made in: both ACLs, where that one has
/// a default ACL. So what is made in it inherits nothing either.
pub fn drop_inherited_acls<F: AsFd>(directory: &F) -> Result<(), Errno> {
    for name in [c"system.posix_acl_default", c"system.posix_acl_access"] {
        match fremovexattr(directory, name) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) if without_support(errno) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Whether this system labels files: else there is nothing that a label could mean here.
pub fn has_selinux() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        std::fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("selinuxfs"))
    })
}

/// Whether all that a stat shows is as wanted.
pub fn matches(stat: &Stat, to: &Metadata) -> bool {
    stat.st_uid == to.uid
        && stat.st_gid == to.gid
        && stat.st_mode & 0o7777 == to.mode
        && mtime(stat) == to.mtime
}

/// Sets the mode of a name in an open directory, never that of what a link leads to.
pub fn chmod_name<F: AsFd>(dir: &F, name: &CStr, mode: Mode) -> Result<(), Errno> {
    Target::Name(dir.as_fd(), name).chmod(mode.as_raw_mode())
}

/// The descriptor of an open file as a target.
pub fn open_target<F: AsFd>(fd: &F) -> Target<'_> {
    Target::Open(fd.as_fd())
}
