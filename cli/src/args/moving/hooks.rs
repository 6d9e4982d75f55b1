//! What is carried out at certain points of a run.

use std::path::PathBuf;

use clap::Args;
use isthmus_shared::resources::Hook;

use crate::error::Error;
use crate::names;

/// Commands and Jobs at certain points of the run.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Hooks")]
pub struct Hooks {
    /// A Rule of the pair's namespace that is carried out on the source before anything is changed
    #[arg(long, value_name = "RULE", value_parser = names::subdomain)]
    pub pre_exec_rule: Option<String>,
    /// A Rule of the pair's namespace that is carried out on the source when the volumes have been moved
    #[arg(long, value_name = "RULE", value_parser = names::subdomain)]
    pub post_exec_rule: Option<String>,
    /// A YAML or JSON file with a list of hooks, as in spec.hooks of a Migration
    ///
    /// A hook that fails with `onError: Fail` fails the run. With --quiesce a run that fails once the source
    /// stands still goes back, by PostHooks too, although the destination runs by then (--on-failure hold
    /// leaves it running). Give a hook `onError: Continue` where the move is to stand without it.
    #[arg(long = "hooks", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl Hooks {
    /// The hooks of the file.
    pub(super) fn read(&self) -> Result<Vec<Hook>, Error> {
        let Some(path) = &self.file else { return Ok(Vec::new()) };
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::ReadFile { path: path.clone(), source })?;
        serde_saphyr::from_str(&text).map_err(|error| {
            Error::Usage(format!(
                "{} is no list of hooks: {error}; each has a name, a phase and one of exec and job",
                path.display()
            ))
        })
    }
}
