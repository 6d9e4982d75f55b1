//! The lab's executable is many programs in one, and this is how the lab starts them.
//!
//! - [`main`]: the multi-call program: `hub`, `spoke` and `isthmus` are those programs; `supervise` and
//!   `ledger` are the lab's own, hidden; the rest (`up`, `demo`, `bench`) are the lab's commands.
//! - [`process`]: a process whose life is tied to the lab's, by [`supervise`].
//! - [`program`]: hubs, spokes and command lines as tests use them.
//! - [`executable`]: which file is started.

pub(crate) mod credentials;
pub(crate) mod executable;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod supervise;

use std::ffi::OsString;
use std::process::ExitCode;

pub use executable::{EXECUTABLE_ENV, ExecutableError, set_executable};
pub use process::{Exit, ProcessError};
pub use program::{Hub, HubOptions, Program, ProgramError, Spoke, SpokeOptions};

/// The `main` of every executable that is a lab.
pub fn main() -> ExitCode {
    executable::this_is_the_lab();
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    let first = rest.first().and_then(|arg| arg.to_str()).unwrap_or_default().to_owned();
    if first == "supervise" {
        // Before anything else: it must not depend on a runtime or on TLS.
        return supervise::main(rest.into_iter().skip(1).collect());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("isthmus-lab: starting the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let as_program = |program: &str| {
        let mut args = vec![OsString::from(program)];
        args.extend(rest.iter().skip(1).cloned());
        args
    };
    let code = match first.as_str() {
        "hub" => runtime.block_on(isthmus_hub::main_with_args(as_program("isthmus-hub"))),
        "spoke" => runtime.block_on(isthmus_spoke::main_with_args(as_program("isthmus-spoke"))),
        "mover-bench" => runtime.block_on(crate::bench::child(rest.into_iter().skip(1).collect())),
        "ledger" => runtime.block_on(crate::ledger::main(rest.into_iter().skip(1).collect())),
        "isthmus" => runtime.block_on(isthmus::main_with_args(as_program("isthmus"))),
        _ => {
            let mut args = vec![name];
            args.extend(rest);
            runtime.block_on(crate::command::main(args))
        }
    };
    // A thread that still reads from a terminal must not keep the process.
    runtime.shutdown_background();
    code
}
