//! `supervise [--remove-dir D] [--log F] [--as WHOM] -- PROGRAM ARGS`: ties a program's life to its parent's.
//!
//! The lab starts every process (etcd, API servers, hubs, spokes, movers) through this hidden
//! subcommand of its own executable. The supervisor's stdin is a pipe from the lab; the kernel closes
//! it whichever way the lab ends, SIGKILL included, and the supervisor then kills the program's
//! process group and removes `--remove-dir`. Without a PROGRAM it only guards that folder.
//!
//! Lines on stdin: `term` and `kill` send the signal to the program's group. Lines on stdout:
//! `pid N` once, then `exit N` or `signal N` when the program has ended. The program's output goes to
//! `--log`, kept at no more than twice [`LOG_LIMIT_BYTES`]; without it, to the supervisor's stderr.
//! With `--as` it runs with those [`Credentials`], and else with the lab's.
//!
//! It runs before any async runtime and uses no unsafe code.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::credentials::{BadCredentials, Credentials};

/// At this size a log is renamed to `F.1` (over an older one) and begun anew.
pub(crate) const LOG_LIMIT_BYTES: u64 = 8 << 20;
/// The exit code of a program that could not be started, as a shell gives it.
pub(crate) const NOT_STARTED: u8 = 127;
/// For so long removing the folder is tried again: what ran in it may be about to end.
const REMOVE_DEADLINE: Duration = Duration::from_secs(10);
const REMOVE_PAUSE: Duration = Duration::from_millis(100);
const COPY_BUFFER_BYTES: usize = 64 << 10;

#[derive(Debug, Default, PartialEq, Eq)]
struct Order {
    remove_dir: Option<PathBuf>,
    log: Option<PathBuf>,
    credentials: Option<Credentials>,
    program: Option<(OsString, Vec<OsString>)>,
}

#[derive(Debug, thiserror::Error)]
enum SuperviseError {
    #[error(
        "unknown argument {0:?}; usage: supervise [--remove-dir D] [--log F] [--as WHOM] [-- PROGRAM ARGS]"
    )]
    Usage(OsString),
    #[error("argument --as: {0}")]
    As(#[from] BadCredentials),
    #[error("opening the log {path}: {source}; check that its folder exists")]
    Log { path: PathBuf, source: io::Error },
    #[error("starting {program:?}: {source}; check that it exists and may be executed")]
    Start { program: OsString, source: io::Error },
    #[error("waiting for the program: {0}")]
    Wait(io::Error),
}

/// Runs the subcommand; `args` are those after `supervise`.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let order = match parse(args) {
        Ok(order) => order,
        Err(error) => return refuse(&error),
    };
    let code = if let Some((program, args)) = &order.program {
        run(&order, program, args)
    } else {
        wait_for_parent();
        Ok(ExitCode::SUCCESS)
    };
    if let Some(dir) = &order.remove_dir {
        remove(dir);
    }
    code.unwrap_or_else(|error| refuse(&error))
}

fn refuse(error: &SuperviseError) -> ExitCode {
    eprintln!("supervise: {error}");
    ExitCode::from(NOT_STARTED)
}

fn parse(args: Vec<OsString>) -> Result<Order, SuperviseError> {
    let mut order = Order::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match (arg.to_str(), &mut args) {
            (Some("--remove-dir"), rest) => {
                order.remove_dir = Some(rest.next().ok_or(SuperviseError::Usage(arg))?.into());
            }
            (Some("--log"), rest) => {
                order.log = Some(rest.next().ok_or(SuperviseError::Usage(arg))?.into());
            }
            (Some("--as"), rest) => {
                let whom = rest.next().ok_or(SuperviseError::Usage(arg))?;
                order.credentials = Some(whom.to_string_lossy().parse()?);
            }
            (Some("--"), rest) => {
                order.program = rest.next().map(|program| (program, rest.collect()));
            }
            _ => return Err(SuperviseError::Usage(arg)),
        }
    }
    Ok(order)
}

fn run(order: &Order, program: &OsString, args: &[OsString]) -> Result<ExitCode, SuperviseError> {
    let start_error = |source| SuperviseError::Start { program: program.clone(), source };
    let mut command = match &order.credentials {
        // Somebody else may have no way to the lab's own executable, which may be in a home.
        Some(_) if std::env::current_exe().is_ok_and(|own| own == Path::new(program)) => {
            let mut command = Command::new("/proc/self/exe");
            command.arg0(program);
            command
        }
        _ => Command::new(program),
    };
    command.args(args).stdin(Stdio::null()).process_group(0);
    let log = if let Some(path) = &order.log {
        let log = Log::open(path)?;
        let (reader, writer) = io::pipe().map_err(start_error)?;
        command.stdout(writer.try_clone().map_err(start_error)?).stderr(writer);
        Some((log, reader))
    } else {
        command.stdout(io::stderr());
        None
    };
    let spawned = match &order.credentials {
        Some(credentials) => credentials.spawn(&mut command),
        None => command.spawn(),
    };
    let mut child = spawned.map_err(start_error)?;
    // The command still holds the pipe's writing ends; the copier would never see its end.
    drop(command);
    let group = Pid::from_child(&child);
    say(&format!("pid {}", child.id()));

    let copier = log.map(|(log, reader)| std::thread::spawn(move || log.copy(reader)));
    std::thread::spawn(move || obey(group));

    let status = wait(&mut child, group)?;
    if let Some(copier) = copier {
        // A copier that panicked has lost log lines, not the program's result.
        drop(copier.join());
    }
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => {
            say(&format!("exit {code}"));
            ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
        }
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            say(&format!("signal {signal}"));
            ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
    })
}

/// Waits for the program, then ends what it left in its group, and reaps it only after that: while it
/// is a zombie its id, which is the group's, cannot be given to another process.
fn wait(child: &mut Child, group: Pid) -> Result<std::process::ExitStatus, SuperviseError> {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(error) = rustix::process::waitid(WaitId::Pid(group), ended) {
        if error != rustix::io::Errno::INTR {
            return Err(SuperviseError::Wait(error.into()));
        }
    }
    signal(group, Signal::KILL);
    child.wait().map_err(SuperviseError::Wait)
}

/// Follows the parent's lines until it is gone, then kills the program.
fn obey(group: Pid) {
    for line in BufReader::new(io::stdin()).lines() {
        match line.as_deref() {
            Ok("term") => signal(group, Signal::TERM),
            Ok("kill") => signal(group, Signal::KILL),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    signal(group, Signal::KILL);
}

fn signal(group: Pid, signal: Signal) {
    // The only error that can occur is that the group has already ended, which is what was wanted.
    let _ = rustix::process::kill_process_group(group, signal);
}

fn wait_for_parent() {
    for line in BufReader::new(io::stdin()).lines() {
        if line.is_err() {
            break;
        }
    }
}

/// Tells the parent; a parent that is gone needs no answer.
fn say(line: &str) {
    let mut stdout = io::stdout();
    drop(writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
}

fn remove(dir: &Path) {
    let deadline = Instant::now() + REMOVE_DEADLINE;
    loop {
        match fs::remove_dir_all(dir) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) if Instant::now() >= deadline => {
                eprintln!("supervise: removing {}: {error}; remove it by hand", dir.display());
                return;
            }
            Err(_) => std::thread::sleep(REMOVE_PAUSE),
        }
    }
}

/// A log file of bounded size.
struct Log {
    path: PathBuf,
    file: File,
    written: u64,
}

impl Log {
    fn open(path: &Path) -> Result<Self, SuperviseError> {
        let opened = OpenOptions::new().create(true).append(true).open(path);
        let (file, written) = opened
            .and_then(|file| file.metadata().map(|meta| (file, meta.len())))
            .map_err(|source| SuperviseError::Log { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, written })
    }

    /// Copies until the writers are gone. What cannot be written is dropped, so that a full disk does
    /// not block the program on its own output.
    fn copy(mut self, mut from: PipeReader) {
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => {
                    if let Err(error) = self.write(&buffer[..read]) {
                        eprintln!("supervise: writing the log {}: {error}", self.path.display());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written > LOG_LIMIT_BYTES {
            fs::rename(&self.path, older(&self.path))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.written = 0;
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Where the older half of a log is.
pub(crate) fn older(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn options_end_at_the_double_dash_and_the_rest_is_the_program() {
        let order = parse(args(&["--remove-dir", "/d", "--log", "/l", "--", "p", "--log", "x"])).unwrap();
        assert_eq!(order.remove_dir, Some("/d".into()));
        assert_eq!(order.log, Some("/l".into()));
        assert_eq!(order.program, Some(("p".into(), args(&["--log", "x"]))));
    }

    #[test]
    fn an_unknown_option_is_refused() {
        assert!(parse(args(&["--what"])).is_err());
    }

    #[test]
    fn a_log_past_its_limit_begins_anew_and_keeps_the_older_half() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path).unwrap();
        log.write(b"first").unwrap();
        log.written = LOG_LIMIT_BYTES + 1;
        log.write(b"second").unwrap();
        assert_eq!(fs::read(older(&path)).unwrap(), b"first");
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }
}
