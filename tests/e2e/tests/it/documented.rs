//! The reasons that `docs/plans.md` lists, held against the code that tells them and the tests that provoke
//! them through a running hub and its spokes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = include_str!("../../../../docs/plans.md");
/// Where the table of reasons begins and ends.
const TABLE: (&str, &str) = ("| what is looked at |", "How some of it is known");
/// Reasons that no lab provokes, and why.
const NOT_PROVOKED: [(&str, &str); 10] = [
    ("ApiNotReadable", "it takes an API that is announced and not served"),
    ("AdmissionRefused", "the servers of the labs say of all that they refuse what it is"),
    ("ClockSkew", "all programs of a lab have one clock"),
    ("NoDefaultStorageClass", "each cluster of a lab has a default class"),
    ("NoNews", "a spoke that stops in the midst of a check is heard of only after minutes"),
    ("PlatformNamespace", "spokes leave them out by themselves, and the hub checks their word"),
    ("PortTaken", "who has a port is found and named, as NodePortTaken"),
    ("SameVolume", "it takes volumes of two clusters with the same uid"),
    ("SecurityContextConstraint", "the labs have no OpenShift"),
    ("TooManyVolumes", "it takes 501 of them"),
];
/// The parts of the code that look before a run begins, all of whose reasons are in the document.
const LOOKING: [&str; 4] =
    ["spoke/src/preflight", "hub/src/checks.rs", "hub/src/surroundings.rs", "hub/src/surroundings/clocks.rs"];
/// What makes a finding: its reason is the first such word among the arguments.
const CALLS: [&str; 5] = ["finding(", "failure(", "warning(", "of_pods(", "missing("];
/// What a reason alone follows.
const FIELDS: [&str; 2] = ["reason: \"", "REASON: &str = \""];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All Rust sources below a path.
fn sources(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_file() {
        return vec![(path.to_owned(), fs::read_to_string(path).unwrap())];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "rs"))
        .flat_map(|path| sources(&path))
        .collect()
}

fn is_reason(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphabetic())
        && text.chars().any(|c| c.is_ascii_lowercase())
}

/// The text between a mark and the next.
fn between(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).step_by(2)
}

/// What follows each of these in a text.
fn after<'a, const N: usize>(text: &'a str, marks: [&'static str; N]) -> impl Iterator<Item = &'a str> {
    marks
        .into_iter()
        .flat_map(move |mark| text.match_indices(mark).map(move |(at, _)| &text[at + mark.len()..]))
}

/// What stands before the parenthesis that closes one that is open.
fn arguments(text: &str) -> &str {
    let mut depth = 1_i32;
    let end = text.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    &text[..end.unwrap_or(text.len())]
}

/// The reasons in the table.
fn documented() -> BTreeSet<&'static str> {
    let table = DOCUMENT.split_once(TABLE.0).unwrap().1.split_once(TABLE.1).unwrap().0;
    let column = table.lines().filter_map(|line| line.split('|').nth(2));
    column.flat_map(|cell| between(cell, '`')).filter(|word| is_reason(word)).collect()
}

/// Whether a text is there as a whole literal.
fn has(sources: &[(PathBuf, String)], reason: &str) -> bool {
    let literal = format!("\"{reason}\"");
    sources.iter().any(|(_, text)| text.contains(&literal))
}

/// What is compiled into the programs.
fn code() -> Vec<(PathBuf, String)> {
    let parts = ["hub/src", "spoke/src", "shared/src"].map(|part| root().join(part));
    let mut code: Vec<_> = parts.iter().flat_map(|part| sources(part)).collect();
    code.retain(|(path, _)| {
        !path.ends_with("tests.rs") && !path.components().any(|c| c.as_os_str() == "tests")
    });
    for (_, text) in &mut code {
        if let Some(at) = text.find("#[cfg(test)]") {
            text.truncate(at);
        }
    }
    code
}

#[test]
fn every_documented_reason_is_told_by_the_code_and_provoked_by_a_test() {
    let code = code();
    let mut flows = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"));
    flows.retain(|(path, _)| !path.ends_with("documented.rs"));
    let documented = documented();
    assert!(documented.len() > 50, "{documented:?}");
    let mut wrong = Vec::new();
    for reason in documented {
        let excused = NOT_PROVOKED.iter().any(|(named, _)| *named == reason);
        if !has(&code, reason) {
            wrong.push(format!("{reason} is documented and told by nothing"));
        }
        match (has(&flows, reason), excused) {
            (false, false) => wrong.push(format!("{reason} is provoked by no end-to-end test")),
            (true, true) => wrong.push(format!("{reason} is provoked: take its excuse out")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_reason_that_stands_in_the_way_of_a_run_is_documented() {
    let others =
        ["volumes.md", "objects.md"].map(|name| fs::read_to_string(root().join("docs").join(name)).unwrap());
    let documented = documented();
    let known = |reason: &str| {
        documented.contains(reason) || others.iter().any(|text| text.contains(&format!("`{reason}`")))
    };
    let code = code();
    let mut unknown = BTreeSet::new();
    for (path, text) in &code {
        if !LOOKING.iter().any(|part| path.starts_with(root().join(part))) {
            continue;
        }
        let mut told: Vec<&str> = after(text, FIELDS).filter_map(|rest| rest.split('"').next()).collect();
        told.extend(
            after(text, CALLS).filter_map(|rest| between(arguments(rest), '"').find(|w| is_reason(w))),
        );
        let unheard = told.into_iter().filter(|reason| !known(reason));
        unknown.extend(unheard.map(|reason| format!("{reason} in {}", path.display())));
    }
    assert!(unknown.is_empty(), "not in docs/plans.md: {unknown:#?}");
}
