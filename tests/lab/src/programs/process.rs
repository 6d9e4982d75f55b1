//! A process under supervision, seen from the lab's side.
//!
//! [`Process::spawn`] starts the supervisor of [`supervise`](super::supervise) with a pipe as its
//! stdin. A thread of its own, not a task, follows the supervisor's lines: a process outlives the
//! async runtime that started it, and tests have a runtime each.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use super::credentials::Credentials;
use super::executable;

/// A supervisor says the program's process id within this time, or something is very wrong.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// What went wrong with a process of the lab.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The lab does not know which executable is its own.
    #[error("{0}")]
    Executable(#[from] executable::ExecutableError),
    /// The supervisor could not be started.
    #[error("starting a supervisor for {program}: {source}; check that {executable} may be executed")]
    Spawn {
        /// The program that was to run.
        program: String,
        /// The lab's executable.
        executable: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The program did not start.
    #[error("{program} did not start; its log is {log}")]
    NotStarted {
        /// The program that was to run.
        program: String,
        /// Where its output went.
        log: PathBuf,
    },
    /// The program did not end in time.
    #[error("{program} (process {pid}) did not end within {seconds} s; its log is {log}")]
    StillRunning {
        /// The program that runs.
        program: String,
        /// Its process id.
        pid: u32,
        /// How long it was waited for.
        seconds: u64,
        /// Where its output goes.
        log: PathBuf,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Its supervisor was killed before it could tell.
    Unknown,
}

impl Exit {
    /// Whether the process returned 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The code as a container runtime would show it.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::Unknown => 255,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Running(u32),
    Ended(Exit),
}

/// What to run, and where its output goes.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub program: OsString,
    pub args: Vec<OsString>,
    pub env: Vec<(String, OsString)>,
    /// Whether the program sees the lab's own environment too.
    pub inherit_env: bool,
    /// As whom it runs; as the lab does, without.
    pub credentials: Option<Credentials>,
    pub dir: Option<PathBuf>,
    pub log: PathBuf,
}

impl Run {
    fn name(&self) -> String {
        let file = Path::new(&self.program).file_name().unwrap_or(&self.program);
        let first = self.args.first().map(|arg| format!(" {}", arg.to_string_lossy()));
        format!("{}{}", file.to_string_lossy(), first.unwrap_or_default())
    }
}

/// A running or ended process. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    run: Run,
    pid: u32,
    stdin: Mutex<Option<ChildStdin>>,
    state: watch::Receiver<State>,
}

impl Process {
    /// Starts the program and returns when it has a process id.
    pub async fn spawn(run: Run) -> Result<Self, ProcessError> {
        let executable = executable::path()?;
        let spawn_error =
            |source| ProcessError::Spawn { program: run.name(), executable: executable.clone(), source };
        let mut command = Command::new(&executable);
        command.arg("supervise").arg("--log").arg(&run.log);
        if let Some(credentials) = &run.credentials {
            command.arg("--as").arg(credentials.to_string());
        }
        command.arg("--").arg(&run.program).args(&run.args);
        if !run.inherit_env {
            command.env_clear();
        }
        command.envs(run.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &run.dir {
            command.current_dir(dir);
        }
        let mut supervisor = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C in the terminal is for the lab, which ends its programs in order.
            .process_group(0)
            .spawn()
            .map_err(spawn_error)?;
        let stdin = Mutex::new(supervisor.stdin.take());
        let stdout = supervisor.stdout.take();
        let (tell, mut state) = watch::channel(State::Starting);
        std::thread::spawn(move || {
            for line in
                stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok)
            {
                if let Some(next) = parse(&line) {
                    tell.send_replace(next);
                }
            }
            // Reaps the supervisor; its own code repeats what its lines said.
            drop(supervisor.wait());
            tell.send_if_modified(|state| {
                let untold = !matches!(state, State::Ended(_));
                if untold {
                    *state = State::Ended(Exit::Unknown);
                }
                untold
            });
        });
        let started =
            tokio::time::timeout(START_DEADLINE, state.wait_for(|state| *state != State::Starting)).await;
        let pid = match started.map(|seen| seen.map(|state| *state)) {
            Ok(Ok(State::Running(pid))) => Some(pid),
            // So short a program that its end is already told.
            Ok(Ok(State::Ended(Exit::Code(_) | Exit::Signal(_)))) => Some(0),
            _ => None,
        };
        match pid {
            Some(pid) => Ok(Self { run, pid, stdin, state }),
            None => Err(ProcessError::NotStarted { program: run.name(), log: run.log }),
        }
    }

    /// The program's process id; 0 when it had ended before it could be told.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Halts the program where it is (SIGSTOP), or has it go on (SIGCONT).
    pub fn halt(&self, halt: bool) -> std::io::Result<()> {
        let signal = if halt { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| std::io::Error::other("it has ended"))?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    pub fn run(&self) -> &Run {
        &self.run
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Exit> {
        match *self.state.borrow() {
            State::Ended(exit) => Some(exit),
            _ => None,
        }
    }

    /// SIGTERM to the program and what it started.
    pub fn terminate(&self) {
        self.tell("term\n");
    }

    /// SIGKILL to the program and what it started.
    pub fn kill(&self) {
        self.tell("kill\n");
    }

    fn tell(&self, line: &str) {
        let mut stdin = self.stdin.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(stdin) = stdin.as_mut() {
            // A supervisor that is gone has ended the program already.
            drop(stdin.write_all(line.as_bytes()));
        }
    }

    /// Waits until it has ended.
    pub async fn wait(&self) -> Exit {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_))).await;
        match ended.map(|state| *state) {
            Ok(State::Ended(exit)) => exit,
            _ => Exit::Unknown,
        }
    }

    /// Waits until it has ended, no longer than `deadline`.
    pub async fn wait_within(&self, deadline: Duration) -> Result<Exit, ProcessError> {
        tokio::time::timeout(deadline, self.wait()).await.map_err(|_| ProcessError::StillRunning {
            program: self.run.name(),
            pid: self.pid,
            seconds: deadline.as_secs(),
            log: self.run.log.clone(),
        })
    }
}

fn parse(line: &str) -> Option<State> {
    let (word, number) = line.split_once(' ')?;
    Some(match word {
        "pid" => State::Running(number.parse().ok()?),
        "exit" => State::Ended(Exit::Code(number.parse().ok()?)),
        "signal" => State::Ended(Exit::Signal(number.parse().ok()?)),
        _ => return None,
    })
}

/// Guards a folder: it is removed when this is dropped, and when the lab's process ends in any way.
#[derive(Debug)]
pub(crate) struct DirGuard {
    _stdin: Option<ChildStdin>,
}

impl DirGuard {
    pub fn new(dir: &Path) -> Result<Self, ProcessError> {
        let executable = executable::path()?;
        let mut guard = Command::new(&executable)
            .arg("supervise")
            .arg("--remove-dir")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| ProcessError::Spawn {
                program: "the folder's guard".into(),
                executable,
                source,
            })?;
        let stdin = guard.stdin.take();
        std::thread::spawn(move || drop(guard.wait()));
        Ok(Self { _stdin: stdin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisors_lines_are_understood() {
        assert_eq!(parse("pid 12"), Some(State::Running(12)));
        assert_eq!(parse("exit 3"), Some(State::Ended(Exit::Code(3))));
        assert_eq!(parse("signal 9"), Some(State::Ended(Exit::Signal(9))));
        assert_eq!(parse("other"), None);
    }

    #[test]
    fn a_signal_shows_as_a_container_runtime_shows_it() {
        assert_eq!(Exit::Signal(9).code(), 137);
    }
}
