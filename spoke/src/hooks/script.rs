//! What is done in a container for a command in the background, and what is read of it. Pure.
//!
//! The command is watched over by a small shell script in the container itself, which no connection to
//! us keeps alive or ends. Beside it lies a folder of the hook:
//!
//! ```text
//!   /tmp/isthmus-hook-<hash>/
//!     wait      the script that stands for ${WAIT_CMD}: comes back when the command is let go
//!     ready     the command has come to it
//!     renew     written by us at intervals: it is still wanted
//!     end       written by us: let go, or by the script after LEASE without renewal, beside `lapsed`
//!     output    the first part of what the command prints
//!     exit      the command's exit code, once it has ended
//!     was       whether it was held when it was let go
//! ```
//!
//! A command with `${WAIT_CMD}` is let go by letting that return, and has [`GRACE`] seconds to end by
//! itself; any other is ended by SIGTERM. What does not go then is killed, with its process group where
//! the container has `setsid`.
//!
//! Needed in the container: `sh`, `cat`, `chmod`, `head`, `mkdir`, `mkfifo`, `mv`, `rm`, `sleep`, and a
//! `/tmp` that may be written.

use isthmus_shared::resources::WAIT_CMD;

/// How long a command in the background goes on without a spoke that wants it, seconds.
pub const LEASE: u32 = 300;
/// How long a command that is let go may take to end by itself, seconds.
pub const GRACE: u32 = 10;
/// How long one that is let go is waited for, seconds.
const END_PATIENCE: u32 = 30;

/// Begins the command: `$1` the folder, `$2` the lease, `$3` the grace, then the command.
const BEGIN: &str = r#"
d=$1 lease=$2 grace=$3
shift 3
if ! mkdir "$d"; then
  [ -d "$d" ] && exit 0
  exit 98
fi
printf '#!/bin/sh\n: > "%s/ready"\nwhile [ -d "%s" ] && [ ! -e "%s/end" ]; do sleep 1; done\n' "$d" "$d" "$d" > "$d/wait" || exit 98
chmod 755 "$d/wait" && mkfifo "$d/pipe" || exit 98
(
  { head -c 65536 > "$d/output"; cat > /dev/null; } < "$d/pipe" &
  if command -v setsid > /dev/null 2>&1; then
    setsid "$@" > "$d/pipe" 2>&1 < /dev/null &
    group=-
  else
    "$@" > "$d/pipe" 2>&1 < /dev/null &
    group=
  fi
  command=$!
  n=0
  while kill -0 "$command" && [ -d "$d" ] && [ ! -e "$d/end" ]; do
    if [ -e "$d/renew" ]; then
      rm -f "$d/renew"
      n=0
    fi
    n=$((n + 1))
    if [ "$n" -gt "$lease" ]; then
      : > "$d/lapsed"
      : > "$d/end"
    fi
    sleep 1
  done
  n=0
  while kill -0 "$command" && [ "$n" -lt "$grace" ]; do
    sleep 1
    n=$((n + 1))
  done
  kill -TERM "$group$command"
  n=0
  while kill -0 "$command" && [ "$n" -lt 5 ]; do
    sleep 1
    n=$((n + 1))
  done
  kill -KILL "$group$command"
  wait "$command"
  echo "$?" > "$d/exit.new" && mv "$d/exit.new" "$d/exit"
) > /dev/null 2>&1 < /dev/null &
exit 0
"#;

/// Says how the command stands, and that it is still wanted: `$1` the folder.
const LOOK: &str = r#"
d=$1
if [ ! -d "$d" ]; then
  echo gone
elif [ -e "$d/exit" ]; then
  echo "ended $(cat "$d/exit")"
  cat "$d/output" >&2
else
  : > "$d/renew"
  if [ -e "$d/ready" ]; then echo ready; else echo running; fi
fi
"#;

/// Lets the command go and waits for its end: `$1` the folder, `$2` for how long.
const END: &str = r#"
d=$1
[ -d "$d" ] || { echo gone; exit 0; }
if [ ! -e "$d/was" ]; then
  if [ -e "$d/lapsed" ]; then was=lapsed; elif [ -e "$d/exit" ]; then was=ended; else was=held; fi
  echo "$was" > "$d/was.new" && mv "$d/was.new" "$d/was"
fi
: > "$d/end"
n=0
while [ ! -e "$d/exit" ] && [ "$n" -lt "$2" ]; do
  sleep 1
  n=$((n + 1))
done
code=none
[ -e "$d/exit" ] && code=$(cat "$d/exit")
echo "$(cat "$d/was") $code"
[ -e "$d/output" ] && cat "$d/output" >&2
exit 0
"#;

/// Removes the folder: `$1`.
const FORGET: &str = r#"rm -rf "$1""#;

/// How a command in the background stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on, and has not come to `${WAIT_CMD}`.
    Running,
    /// It goes on, and has come to `${WAIT_CMD}`.
    Ready,
    /// It has ended with this code.
    Ended(String),
    /// The container knows nothing of it: it is another one.
    Gone,
}

/// What a command in the background was when it was let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Was {
    /// It went on until then; its exit code, if it has ended.
    Held(Option<String>),
    /// It had ended by itself before, with this code.
    Ended(String),
    /// No spoke had wanted it for [`LEASE`] seconds.
    Lapsed,
    /// The container knows nothing of it.
    Gone,
    /// The container could not be asked; why.
    Unknown(String),
}

/// The folder of a hook in a container.
pub fn folder(migration: &str, hook: &str) -> String {
    format!("/tmp/isthmus-hook-{}", mark(migration, hook))
}

/// What tells a hook of a run from all others, short.
pub fn mark(migration: &str, hook: &str) -> String {
    blake3::hash(format!("{migration}/{hook}").as_bytes()).to_hex().as_str()[..12].to_owned()
}

/// Whether a command waits to be let go.
pub fn waits(command: &[String]) -> bool {
    command.iter().any(|part| part.contains(WAIT_CMD))
}

fn script(text: &str, arguments: &[&str]) -> Vec<String> {
    let head = ["sh", "-c", text, "isthmus-hook"];
    head.iter().chain(arguments).map(|part| (*part).to_owned()).collect()
}

/// Begins a command.
pub fn begin(folder: &str, command: &[String]) -> Vec<String> {
    let grace = if waits(command) { GRACE } else { 0 };
    let mut all = script(BEGIN, &[folder, &LEASE.to_string(), &grace.to_string()]);
    let wait = format!("{folder}/wait");
    all.extend(command.iter().map(|part| part.replace(WAIT_CMD, &wait)));
    all
}

/// Asks how a command stands, and renews it.
pub fn look(folder: &str) -> Vec<String> {
    script(LOOK, &[folder])
}

/// Lets a command go.
pub fn end(folder: &str) -> Vec<String> {
    script(END, &[folder, &END_PATIENCE.to_string()])
}

/// Removes what is left of a command.
pub fn forget(folder: &str) -> Vec<String> {
    script(FORGET, &[folder])
}

/// What [`look`] printed.
pub fn state(said: &str) -> Option<State> {
    let said = said.trim();
    match said.split_once(' ') {
        Some(("ended", code)) => Some(State::Ended(code.trim().to_owned())),
        _ => match said {
            "running" => Some(State::Running),
            "ready" => Some(State::Ready),
            "ended" => Some(State::Ended("unknown".to_owned())),
            "gone" => Some(State::Gone),
            _ => None,
        },
    }
}

/// What [`end`] printed.
pub fn was(said: &str) -> Option<Was> {
    let mut words = said.split_whitespace();
    let (was, code) = (words.next()?, words.next().filter(|code| *code != "none"));
    match was {
        "held" => Some(Was::Held(code.map(str::to_owned))),
        "ended" => Some(Was::Ended(code.unwrap_or("unknown").to_owned())),
        "lapsed" => Some(Was::Lapsed),
        "gone" => Some(Was::Gone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    /// Runs a script here, where `/tmp` is a folder of the test's own.
    fn sh(command: &[String]) -> (Option<i32>, String) {
        let output = Command::new(&command[0]).args(&command[1..]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn texts(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[track_caller]
    fn becomes(folder: &str, wanted: &State) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let now = state(&sh(&look(folder)).1);
            if now.as_ref() == Some(wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "it is {now:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_command_that_waits_is_ready_when_it_comes_to_it_and_ends_by_itself_when_it_is_let_go() {
        let own = tempfile::tempdir().unwrap();
        let folder = own.path().join("hook").to_str().unwrap().to_owned();
        let trace = own.path().join("trace").to_str().unwrap().to_owned();
        let text = format!("echo locked >> {trace}; ${{WAIT_CMD}}; echo released >> {trace}; exit 7");
        let command = begin(&folder, &texts(&["sh", "-c", &text]));
        assert_eq!(sh(&command).0, Some(0));
        becomes(&folder, &State::Ready);
        assert_eq!(sh(&command).0, Some(0), "begun once, however often");
        assert_eq!(was(&sh(&end(&folder)).1), Some(Was::Held(Some("7".into()))));
        assert_eq!(was(&sh(&end(&folder)).1), Some(Was::Held(Some("7".into()))), "and so the second time");
        assert_eq!(std::fs::read_to_string(&trace).unwrap(), "locked\nreleased\n");
        sh(&forget(&folder));
        assert_eq!(was(&sh(&end(&folder)).1), Some(Was::Gone));
    }

    #[test]
    fn a_command_that_does_not_wait_is_ended_with_what_it_has_begun() {
        let own = tempfile::tempdir().unwrap();
        let folder = own.path().join("hook").to_str().unwrap().to_owned();
        assert_eq!(sh(&begin(&folder, &texts(&["sh", "-c", "sleep 600; true"]))).0, Some(0));
        becomes(&folder, &State::Running);
        assert_eq!(was(&sh(&end(&folder)).1), Some(Was::Held(Some("143".into()))));
    }

    #[test]
    fn a_command_that_ended_before_it_was_let_go_is_known() {
        let own = tempfile::tempdir().unwrap();
        let folder = own.path().join("hook").to_str().unwrap().to_owned();
        assert_eq!(sh(&begin(&folder, &texts(&["sh", "-c", "echo oh no; exit 3"]))).0, Some(0));
        becomes(&folder, &State::Ended("3".into()));
        assert_eq!(was(&sh(&end(&folder)).1), Some(Was::Ended("3".into())));
    }

    #[test]
    fn a_command_that_nobody_renews_ends_by_itself() {
        let own = tempfile::tempdir().unwrap();
        let folder = own.path().join("hook").to_str().unwrap().to_owned();
        let mut command = begin(&folder, &texts(&["sleep", "600"]));
        // The lease stands behind the folder.
        command[5] = "1".to_owned();
        assert_eq!(sh(&command).0, Some(0));
        let deadline = Instant::now() + Duration::from_secs(30);
        while !own.path().join("hook/exit").exists() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert_eq!(was(&sh(&end(&folder)).1), Some(Was::Lapsed));
    }

    #[test]
    fn where_nothing_can_be_written_nothing_is_begun() {
        assert_eq!(sh(&begin("/nowhere/at/all", &texts(&["true"]))).0, Some(98));
    }

    #[test]
    fn what_is_read_of_a_container_is_understood_or_not() {
        assert_eq!(state("ended 0\n"), Some(State::Ended("0".into())));
        assert_eq!(state("Welcome!"), None);
        assert_eq!(was("held none"), Some(Was::Held(None)));
        assert_eq!(was(""), None);
    }
}
