//! How the program ends: the exit codes that scripts rely on.

use std::process::ExitCode;

use isthmus_shared::resources::MigrationPhase;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// 0: what was asked for is done.
    Succeeded,
    /// 1: it is not.
    Failed,
    /// 2: the command line was wrong; nothing was tried.
    Usage,
    /// 3: it is done, and there are warnings that a person should read.
    Warnings,
    /// 4: whether it could be done is not known.
    Untold,
    /// 130, as shells have it: Ctrl-C ended the watching; what was watched goes on.
    Interrupted,
}

impl Ending {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Warnings => 3,
            Self::Untold => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending.code())
    }
}

impl From<MigrationPhase> for Ending {
    /// The ending of a command that has waited for a migration. One that still runs counts as
    /// failed: the command promised its end.
    fn from(phase: MigrationPhase) -> Self {
        match phase {
            MigrationPhase::Succeeded => Self::Succeeded,
            MigrationPhase::SucceededWithWarnings => Self::Warnings,
            MigrationPhase::Failed
            | MigrationPhase::RolledBack
            | MigrationPhase::Pending
            | MigrationPhase::InProgress => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_a_migration_has_its_exit_code() {
        let code = |phase| Ending::from(phase).code();
        assert_eq!(code(MigrationPhase::Succeeded), 0);
        assert_eq!(code(MigrationPhase::Failed), 1);
        assert_eq!(code(MigrationPhase::SucceededWithWarnings), 3);
    }
}
