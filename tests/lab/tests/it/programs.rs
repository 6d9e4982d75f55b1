//! What the lab starts ends with it, however it ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

fn supervise(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_isthmus-lab"))
        .arg("supervise")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn pid_of_program(supervisor: &mut Child) -> u32 {
    let mut line = String::new();
    BufReader::new(supervisor.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().strip_prefix("pid ").unwrap().parse().unwrap()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_supervised_program_and_its_folder_go_when_the_parent_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let mut supervisor = supervise(&["--remove-dir", folder.to_str().unwrap(), "--", "sleep", "1000"]);
    let pid = pid_of_program(&mut supervisor);
    assert!(runs(pid));
    // What the kernel does for a parent that was killed.
    drop(supervisor.stdin.take());
    until("the program ends", || !runs(pid));
    until("the folder goes", || !folder.exists());
    supervisor.wait().unwrap();
}

#[test]
fn a_supervisor_ends_with_the_programs_code_and_keeps_its_output() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut supervisor =
        supervise(&["--log", log.to_str().unwrap(), "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    let _stdin = supervisor.stdin.take();
    assert_eq!(supervisor.wait().unwrap().code(), Some(7));
    assert_eq!(std::fs::read_to_string(log).unwrap(), "out\nerr\n");
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}", left.display());
    let mut supervisor = supervise(&["--", "sh", "-c", &script]);
    let _stdin = supervisor.stdin.take();
    assert!(supervisor.wait().unwrap().success());
    let pid: u32 = std::fs::read_to_string(left).unwrap().trim().parse().unwrap();
    until("the left process ends", || !runs(pid));
}
