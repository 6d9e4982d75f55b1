//! A file for a join token: readable by its owner only, there in full or not at all.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A token could not be put into its file.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path} failed: {source}: name a file in a folder where you may write")]
pub struct SecretFileError {
    doing: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// A file that is not there under its name yet. It is opened before a token is asked for, so that
/// no token is issued which then cannot be kept; dropped unwritten, it leaves nothing behind.
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    draft: PathBuf,
    file: Option<File>,
}

impl SecretFile {
    /// Opens a draft beside the file.
    pub fn open(path: &Path) -> Result<Self, SecretFileError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", uuid::Uuid::new_v4().simple()));
        let draft = path.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let fail =
            |source| SecretFileError { doing: "creating the token file", path: path.to_owned(), source };
        if path.is_dir() {
            return Err(fail(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        let file = options.open(&draft).map_err(fail)?;
        Ok(Self { path: path.to_owned(), draft, file: Some(file) })
    }

    /// Writes the secret and gives the file its name, in place of one that is there.
    pub fn write(mut self, secret: &str) -> Result<(), SecretFileError> {
        let fail =
            |source| SecretFileError { doing: "writing the token file", path: self.path.clone(), source };
        if let Some(mut file) = self.file.take() {
            file.write_all(secret.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
            std::fs::rename(&self.draft, &self.path).map_err(fail)?;
        }
        Ok(())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // After a rename there is no draft any more, and nothing to remove.
        if let Err(error) = std::fs::remove_file(&self.draft)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, draft = %self.draft.display(), "the draft of a token file was left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_for_its_owner_only_and_replaces_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("east.token");
        std::fs::write(&path, "old").unwrap();
        SecretFile::open(&path).unwrap().write("new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_token_that_never_came_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        drop(SecretFile::open(&folder.path().join("east.token")).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_said_before_any_token_is_issued() {
        let folder = tempfile::tempdir().unwrap();
        let error = SecretFile::open(&folder.path().join("no/east.token")).unwrap_err().to_string();
        assert!(error.contains("no/east.token"), "{error}");
    }
}
