//! A part of a tree gets new content, as between two passes of a migration.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{content::Random, generate::TreeKind};

const BLOCK: usize = 1 << 20;

/// Changes one part in `part` of a tree that [`super::generate()`] made: of large files, one
/// block in so many is written anew in place; of small ones, one file in so many. Names and sizes
/// stay.
pub fn change(root: &Path, kind: TreeKind, seed: u64, part: u64) -> io::Result<()> {
    let mut files = Vec::new();
    list(root, &mut files)?;
    // The order of a directory is the filesystem's own.
    files.sort();
    let mut random = Random::new(seed ^ part);
    for (number, path) in (0_u64..).zip(&files) {
        let length = fs::metadata(path)?.len();
        match kind {
            TreeKind::Large | TreeKind::Single => {
                let file = File::options().write(true).open(path)?;
                let blocks = (0..length / BLOCK as u64).filter(|block| block % part == part / 2);
                for block in blocks {
                    file.write_all_at(&random.noise(BLOCK), block * BLOCK as u64)?;
                }
            }
            TreeKind::Small | TreeKind::Mixed if number % part == part / 2 => {
                let permissions = fs::metadata(path)?.permissions();
                let length = usize::try_from(length).unwrap_or_default();
                // Written in place: owner, links and attributes stay.
                File::options().write(true).open(path)?.write_all_at(&random.noise(length), 0)?;
                // A write drops setuid and setgid.
                fs::set_permissions(path, permissions)?;
            }
            TreeKind::Small | TreeKind::Mixed => {}
        }
    }
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{CompareOptions, compare_trees, generate};
    use super::*;

    #[test]
    fn one_file_in_a_hundred_gets_new_content_of_the_same_length() {
        let (tree, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = generate(tree.path(), TreeKind::Small, 1, 0.003).unwrap();
        generate(copy.path(), TreeKind::Small, 1, 0.003).unwrap();
        change(tree.path(), TreeKind::Small, 1, 100).unwrap();
        let options = CompareOptions::default();
        let changed = compare_trees(tree.path(), copy.path(), &options).unwrap();
        let contents = changed.iter().filter(|found| found.to_string().contains("content")).count();
        assert_eq!(contents as u64, made.files / 100, "{changed:?}");
    }
}
