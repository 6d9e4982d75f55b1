//! `isthmus-lab simulate`, at a small size.

use std::process::Command;

use serde_json::Value;

#[test]
fn many_spokes_and_migrations_are_simulated_against_a_hub_and_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_isthmus-lab"))
        .args([
            "simulate",
            "--spokes",
            "10",
            "--migrations",
            "40",
            "--rate",
            "10",
            "--seconds",
            "5",
            "--json",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("no {key} in {row}"));
    for key in ["cpu_s", "peak_mib", "p50_ms", "p99_ms"] {
        assert!(number(key) > 0.0, "{key}: {row}");
    }
    assert!(number("p50_ms") <= number("p99_ms"), "{row}");
    assert_eq!((row["spokes"].as_u64(), row["migrations"].as_u64()), (Some(10), Some(40)));
    assert_eq!(row["in_flight"].as_u64(), Some(40), "{row}");
    assert!(number("samples") >= 20.0, "{row}");
}

#[test]
fn a_pair_needs_two_spokes() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_isthmus-lab")).args(["simulate", "--spokes", "3"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--spokes must be even"));
}
