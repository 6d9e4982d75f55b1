//! What the kernel lets this process see of extended attributes.
//!
//! `trusted.*` is for processes with `CAP_SYS_ADMIN` alone: to others its attributes are not listed,
//! and nothing tells that there are any. So who reads without it has to know, and to say so.

use rustix::{
    fs::{Mode, OFlags, XattrFlags, fsetxattr, open},
    io::Errno,
    thread::{CapabilitySet, capabilities},
};

/// Whether `trusted.*` attributes are seen and can be set. It is tried on a file without a name, as
/// a capability may be had and do nothing: in a user namespace, or under a policy of the node.
pub fn sees_trusted() -> bool {
    tried().unwrap_or_else(|_| {
        // Where no such file can be made, or its filesystem has no attributes.
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
    })
}

fn tried() -> Result<bool, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?;
    match fsetxattr(&file, c"trusted.isthmus", b"", XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}
