//! The program as people call it: its output, its exit codes, and what it leaves in a cluster.

#![allow(clippy::unwrap_used, reason = "a test whose setting cannot be made fails")]

mod describe;
mod documents;
mod fake_api;
mod flows;
mod manifests;
mod plans;
mod schedules;

use assert_cmd::Command;

/// The program, with nothing of this machine's environment that could change what it does.
fn isthmus() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
    command.env_clear().env("KUBECONFIG", "/nowhere/kubeconfig");
    command
}

/// What a command printed, which must succeed.
fn printed(command: &mut Command) -> String {
    let output = command.assert().success().get_output().clone();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command said, which must end with an exit code and without a result.
fn refused(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    assert!(output.stdout.is_empty(), "an error belongs to standard error");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
