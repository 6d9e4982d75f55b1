//! Which executable the lab starts for its supervisors, hubs, spokes, movers and command lines.
//!
//! One multi-call program does all of it (see [`main`](super::main)). The program that runs is taken
//! unless something else was said: a test binary has no such subcommands, so its first line names
//! the program that Cargo built beside it.

use std::path::{Path, PathBuf};
use std::sync::{OnceLock, RwLock};

/// Names the executable where the running program is not a lab.
pub const EXECUTABLE_ENV: &str = "ISTHMUS_LAB_EXECUTABLE";

static CHOSEN: RwLock<Option<PathBuf>> = RwLock::new(None);
static IS_LAB: OnceLock<()> = OnceLock::new();

/// The lab has no executable to start its programs with.
#[derive(Debug, thiserror::Error)]
#[error(
    "the lab does not know its executable: this program is not one; call \
     isthmus_lab::programs::set_executable with the path of isthmus-lab, or set {EXECUTABLE_ENV}"
)]
pub struct ExecutableError;

/// Says which executable the lab starts. Tests pass `env!("CARGO_BIN_EXE_...")`.
pub fn set_executable(path: impl AsRef<Path>) {
    let mut chosen = CHOSEN.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    *chosen = Some(path.as_ref().to_owned());
}

/// Called by the multi-call `main`: the running program itself is the executable.
pub(super) fn this_is_the_lab() {
    IS_LAB.get_or_init(|| ());
}

pub(crate) fn path() -> Result<PathBuf, ExecutableError> {
    let chosen = CHOSEN.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    chosen
        .or_else(|| std::env::var_os(EXECUTABLE_ENV).map(PathBuf::from))
        .or_else(|| IS_LAB.get().and_then(|()| std::env::current_exe().ok()))
        .ok_or(ExecutableError)
}
