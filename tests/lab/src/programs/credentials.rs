//! As whom a program runs, where the lab itself may be anybody.
//!
//! A container runtime starts a container's process as its security context says: with its user, its
//! groups, and no capabilities beyond those it was given. A process that keeps root's rights instead
//! shows nothing of what a mover cannot keep.

use std::fmt;
use std::io;
use std::process::{Child, Command};
use std::str::FromStr;

use rustix::thread::{CapabilitySet, Gid, Uid};
use rustix::thread::{
    capability_is_in_bounding_set, remove_capability_from_bounding_set, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// A user, its groups, and what root may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub user: u32,
    pub group: u32,
    pub groups: Vec<u32>,
    /// Of root. Another user has none, as container runtimes give it none.
    pub capabilities: CapabilitySet,
}

/// Text that does not say as whom.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not USER:GROUP:GROUPS:CAPABILITIES")]
pub(crate) struct BadCredentials(String);

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let capabilities: Vec<&str> = self.capabilities.iter_names().map(|(name, _)| name).collect();
        write!(f, "{}:{}:{}:{}", self.user, self.group, groups.join(","), capabilities.join(","))
    }
}

impl FromStr for Credentials {
    type Err = BadCredentials;

    fn from_str(text: &str) -> Result<Self, BadCredentials> {
        let bad = || BadCredentials(text.to_owned());
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or_else(bad);
        let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
        let list = |text: &'_ str| -> Vec<String> {
            text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let (user, group) = (number(part()?)?, number(part()?)?);
        let groups = list(part()?).iter().map(|group| number(group)).collect::<Result<_, _>>()?;
        let mut capabilities = CapabilitySet::empty();
        for name in list(part()?) {
            capabilities |= CapabilitySet::from_name(&name).ok_or_else(bad)?;
        }
        Ok(Self { user, group, groups, capabilities })
    }
}

impl Credentials {
    /// Starts a program with them. They are those of a thread, which it inherits: the supervisor goes on
    /// as it was.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.assume()?;
                command.spawn()
            });
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it ended abnormally")))
        })
    }

    /// Makes them this thread's. What root may do counts from the next program on that it starts.
    fn assume(&self) -> io::Result<()> {
        for (_, capability) in CapabilitySet::all().iter_names() {
            // A kernel may know fewer of them.
            let is_there = capability_is_in_bounding_set(capability).unwrap_or(false);
            if is_there && !self.capabilities.contains(capability) {
                remove_capability_from_bounding_set(capability)?;
            }
        }
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        set_thread_groups(&groups)?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_they_are_written() {
        let capabilities = CapabilitySet::CHOWN | CapabilitySet::MKNOD;
        let all = Credentials { user: 1000, group: 1001, groups: vec![7, 2000], capabilities };
        assert_eq!(all.to_string(), "1000:1001:7,2000:CHOWN,MKNOD");
        assert_eq!(all.to_string().parse(), Ok(all));
        let none = Credentials { user: 0, group: 0, groups: vec![], capabilities: CapabilitySet::empty() };
        assert_eq!(none.to_string().parse(), Ok(none));
        for bad in ["", "1:2:3", "x:0::", "0:0:a:", "0:0::EVERYTHING"] {
            assert!(bad.parse::<Credentials>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_program_runs_as_whom_it_is_told_and_with_nothing_more() {
        if !rustix::process::geteuid().is_root() {
            println!("left out: becoming somebody else needs root");
            return;
        }
        let status = |credentials: &Credentials| {
            let mut command = Command::new("cat");
            command.arg("/proc/self/status").stdout(std::process::Stdio::piped());
            let output = credentials.spawn(&mut command).unwrap().wait_with_output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let user =
            Credentials { user: 1000, group: 1001, groups: vec![2000], capabilities: CapabilitySet::empty() };
        let said = status(&user);
        assert!(said.contains("Uid:\t1000\t1000\t1000\t1000"), "{said}");
        assert!(said.contains("Gid:\t1001\t1001") && said.contains("Groups:\t2000"), "{said}");
        assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
        let root = Credentials { user: 0, group: 0, groups: vec![], capabilities: CapabilitySet::CHOWN };
        let said = status(&root);
        assert!(said.contains("CapEff:\t0000000000000001"), "{said}");
        // The thread that tried it is gone, and nothing stuck to this one.
        assert!(rustix::process::geteuid().is_root());
    }
}
