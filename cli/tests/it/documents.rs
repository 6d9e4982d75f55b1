//! The examples in the documents: each command line and each transform in them is taken.

use crate::{isthmus, printed};

const README: &str = include_str!("../../../README.md");
const VOLUMES: &str = include_str!("../../../docs/volumes.md");
const OBJECTS: &str = include_str!("../../../docs/objects.md");

/// The command lines that a document shows, continued lines joined.
fn commands(document: &str) -> Vec<String> {
    let joined = document.replace("\\\n", " ");
    let shown = joined.lines().filter_map(|line| line.strip_prefix("    isthmus "));
    shown.map(str::to_owned).collect()
}

/// The words of a command line as a shell reads them, as far as the documents need it.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(|(at, part)| {
            if at % 2 == 1 {
                vec![part.to_owned()]
            } else {
                part.split_whitespace().map(str::to_owned).collect()
            }
        })
        .collect()
}

/// The first YAML block of a document that is a list.
fn transforms(document: &str) -> &str {
    let block = document.split("```yaml\n").nth(1).unwrap();
    block.split("```").next().unwrap()
}

#[test]
fn the_migrations_and_diffs_of_the_documents_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("transforms.yaml"), transforms(OBJECTS)).unwrap();
    let mut taken = 0;
    for line in [README, OBJECTS, VOLUMES].into_iter().flat_map(commands) {
        let mut words = words(&line);
        // A diff takes the options of a migration and a few of its own.
        if words[0] == "diff" {
            words[0] = "migrate".to_owned();
            words.retain(|word| word != "--details");
        }
        if words[0] != "migrate" || words.contains(&"…".to_owned()) {
            continue;
        }
        words.retain(|word| word != "--wait");
        let text =
            printed(isthmus().current_dir(folder.path()).args(&words).args(["--dry-run", "-o", "yaml"]));
        assert!(text.contains("kind: Migration"), "{line}: {text}");
        taken += 1;
    }
    assert!(taken >= 8, "only {taken} examples were found");
}

#[test]
fn the_transforms_of_the_reference_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transforms.yaml");
    std::fs::write(&path, transforms(OBJECTS)).unwrap();
    let text = printed(
        isthmus()
            .args(["migrate", "cms", "--pair", "p", "--dry-run", "-o", "json", "--transforms"])
            .arg(&path),
    );
    let migration: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(migration["spec"]["transforms"].as_array().unwrap().len(), 3, "{text}");
}
