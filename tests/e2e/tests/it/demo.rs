//! The README's first command keeps its word: it compares both sides, and fails on any difference.

use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// A demo takes some 20 s on an idle machine.
const DEADLINE: Duration = Duration::from_mins(4);

#[tokio::test]
async fn the_demo_moves_an_application_and_finds_both_sides_the_same() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_isthmus-e2e"));
    let output = timeout(DEADLINE, demo.arg("demo").kill_on_drop(true).output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Both sides are the same."), "{said}");
}
