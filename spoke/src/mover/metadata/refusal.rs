//! What a destination may refuse of an entry's metadata, what a policy may forgive of it, and
//! what a person can do about it.

use std::fmt;

use rustix::io::Errno;

/// A part of an entry's metadata, or an entry that is nothing but metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Owner and group.
    Owner(u32, u32),
    /// Permission bits.
    Mode(u32),
    /// Setuid and setgid of a file whose owner was refused: for another owner they would be a
    /// right that nobody gave.
    SetIds,
    /// The modification time.
    Time,
    /// The list of extended attributes.
    Xattrs,
    /// An extended attribute.
    Xattr(Vec<u8>),
    /// The device node itself.
    Device,
    /// The FIFO itself.
    Fifo,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(uid, gid) => write!(f, "owner {uid}:{gid}"),
            Self::Mode(mode) => write!(f, "mode {mode:04o}"),
            Self::SetIds => f.write_str("setuid and setgid bits"),
            Self::Time => f.write_str("modification time"),
            Self::Xattrs => f.write_str("extended attributes"),
            Self::Xattr(name) => {
                write!(f, "extended attribute {}", String::from_utf8_lossy(name).escape_debug())
            }
            Self::Device => f.write_str("device node"),
            Self::Fifo => f.write_str("named pipe"),
        }
    }
}

/// What could not be set, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Ownership, mode, ...
    pub part: Part,
    /// The system's answer.
    pub errno: Errno,
}

const CHOWN: &str =
    "let the mover run as root with the capability CHOWN, or set metadataPolicy to BestEffort";
const OWNER_ONLY: &str =
    "let the mover run as root or as the file's owner, or set metadataPolicy to BestEffort";
const UNKNOWN_ID: &str = "the destination's filesystem does not take this id: look at its id mapping (NFS, user namespaces), or set metadataPolicy to BestEffort";
const NO_XATTRS: &str = "the destination's filesystem keeps no such attributes: choose a storage class whose filesystem does, or set metadataPolicy to BestEffort";
const NO_ROOM: &str = "the destination's filesystem has no room for attributes of this size: enlarge the claim, choose a filesystem that takes larger ones, or set metadataPolicy to BestEffort";
const NO_LABEL: &str = "the node's SELinux policy refuses this label: let the mover run with a type that may relabel (spc_t), or set metadataPolicy to BestEffort";
const SYS_ADMIN: &str = "set mover.privilegedAttributes, with which movers have the capability SYS_ADMIN in namespaces that allow it, or set metadataPolicy to BestEffort";
const SETFCAP: &str =
    "let the mover run as root with the capability SETFCAP, or set metadataPolicy to BestEffort";
const MKNOD: &str =
    "let the mover run as root with the capability MKNOD, or set metadataPolicy to BestEffort";
const NO_SPECIAL: &str = "the destination's filesystem has no such entries: choose a storage class whose filesystem does, or set metadataPolicy to BestEffort";
const COARSE_TIME: &str = "the destination's filesystem keeps times less exactly: choose a storage class whose filesystem keeps nanoseconds, or set metadataPolicy to BestEffort";
const QUOTA: &str = "raise the quota of that owner at the destination, or set metadataPolicy to BestEffort";
const FORGIVE: &str = "choose another storage class for the destination, or set metadataPolicy to BestEffort";

impl Refused {
    /// Whether it is a matter of metadata alone, which `metadataPolicy: BestEffort` turns into a
    /// warning. A volume that is full, read-only or broken is none.
    pub fn is_forgivable(&self) -> bool {
        match self.errno {
            Errno::ROFS | Errno::IO | Errno::STALE | Errno::NOMEM | Errno::BADF | Errno::NOENT => false,
            Errno::NOSPC => matches!(self.part, Part::Xattr(_)),
            Errno::DQUOT => matches!(self.part, Part::Xattr(_) | Part::Owner(..)),
            _ => true,
        }
    }

    /// What a person can do about it.
    pub fn fix(&self) -> &'static str {
        if !self.is_forgivable() {
            return crate::mover::error::advice(self.errno);
        }
        let unsupported = matches!(self.errno, Errno::OPNOTSUPP | Errno::NOSYS);
        match &self.part {
            Part::Owner(..) => match self.errno {
                Errno::PERM | Errno::ACCESS => CHOWN,
                Errno::INVAL | Errno::OVERFLOW => UNKNOWN_ID,
                Errno::DQUOT => QUOTA,
                _ => FORGIVE,
            },
            Part::SetIds => CHOWN,
            Part::Mode(_) if matches!(self.errno, Errno::PERM | Errno::ACCESS) => OWNER_ONLY,
            Part::Time if matches!(self.errno, Errno::PERM | Errno::ACCESS) => OWNER_ONLY,
            Part::Time if unsupported => COARSE_TIME,
            Part::Mode(_) | Part::Time | Part::Xattrs => FORGIVE,
            Part::Xattr(name) => fix_of_xattr(name, self.errno),
            Part::Device if self.errno == Errno::PERM => MKNOD,
            Part::Device | Part::Fifo => NO_SPECIAL,
        }
    }
}

fn fix_of_xattr(name: &[u8], errno: Errno) -> &'static str {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::RANGE | Errno::TOOBIG => NO_ROOM,
        _ if name == super::SELINUX => NO_LABEL,
        Errno::OPNOTSUPP | Errno::NOSYS => NO_XATTRS,
        Errno::PERM | Errno::ACCESS if name == b"security.capability" => SETFCAP,
        Errno::PERM | Errno::ACCESS if name.starts_with(b"trusted.") || name.starts_with(b"security.") => {
            SYS_ADMIN
        }
        Errno::PERM | Errno::ACCESS => OWNER_ONLY,
        Errno::INVAL if name.starts_with(super::ACL_PREFIX) => UNKNOWN_ID,
        _ => FORGIVE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(part: Part, errno: Errno) -> Refused {
        Refused { part, errno }
    }

    fn xattr(name: &str) -> Part {
        Part::Xattr(name.as_bytes().to_vec())
    }

    #[test]
    fn metadata_alone_may_be_forgiven_and_a_broken_or_full_volume_may_not() {
        let every = [
            Part::Owner(1, 2),
            Part::Mode(0o644),
            Part::SetIds,
            Part::Time,
            Part::Xattrs,
            xattr("user.a"),
            Part::Device,
            Part::Fifo,
        ];
        for part in every {
            for errno in [Errno::PERM, Errno::OPNOTSUPP] {
                let it = refused(part.clone(), errno);
                assert!(it.is_forgivable() && it.fix().contains("BestEffort"), "{it:?}");
            }
            for errno in [Errno::ROFS, Errno::IO] {
                let it = refused(part.clone(), errno);
                assert!(!it.is_forgivable() && !it.fix().contains("BestEffort"), "{it:?}");
            }
            let full = refused(part.clone(), Errno::NOSPC);
            assert_eq!(full.is_forgivable(), matches!(part, Part::Xattr(_)), "{full:?}");
        }
    }

    #[test]
    fn each_refusal_names_its_own_fix() {
        for (part, errno, fix) in [
            (Part::Owner(0, 0), Errno::PERM, "CHOWN"),
            (Part::Owner(0, 0), Errno::INVAL, "id mapping"),
            (Part::Owner(0, 0), Errno::DQUOT, "quota"),
            (Part::Owner(0, 0), Errno::ROFS, "read-only"),
            (Part::Mode(0o600), Errno::PERM, "file's owner"),
            (Part::Time, Errno::OPNOTSUPP, "nanoseconds"),
            (Part::Mode(0o600), Errno::NOSPC, "enlarge"),
            (xattr("user.a"), Errno::OPNOTSUPP, "keeps no such attributes"),
            (xattr("user.a"), Errno::NOSPC, "no room"),
            (xattr("user.a"), Errno::DQUOT, "no room"),
            (xattr("trusted.a"), Errno::PERM, "SYS_ADMIN"),
            (xattr("security.capability"), Errno::PERM, "SETFCAP"),
            (xattr("security.selinux"), Errno::INVAL, "SELinux"),
            (xattr("system.posix_acl_access"), Errno::OPNOTSUPP, "keeps no such attributes"),
            (Part::Device, Errno::PERM, "MKNOD"),
            (Part::Fifo, Errno::PERM, "no such entries"),
        ] {
            let it = refused(part, errno);
            assert!(it.fix().contains(fix), "{it:?}: {}", it.fix());
        }
    }
}
