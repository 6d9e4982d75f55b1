//! Why a command failed, and how the program then ends.

use std::path::PathBuf;

use isthmus_shared::protocol::identity::Refusal;

use crate::connect::ConnectError;
use crate::ending::Ending;
use crate::hub_api::HubError;
use crate::names::BadName;
use crate::records::RecordError;
use crate::secret_file::SecretFileError;
use crate::watching::WatchError;

/// Whatever ends a command before it is done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// A name that Kubernetes would not take.
    #[error(transparent)]
    Name(#[from] BadName),
    /// No way to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record could not be watched to the end.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The hub itself did not answer as it should.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A token could not be put into its file.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    /// A token that the hub has issued cannot be read.
    #[error("the join token that the hub has issued cannot be read: {0}")]
    Token(#[source] Refusal),
    /// A file that was named cannot be read.
    #[error("reading {path} failed: {source}: check the path and its permissions")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something was not answered at the prompt.
    #[error("asking for the {what} failed: {source}: set {variable} instead")]
    Prompt {
        /// What was asked for.
        what: &'static str,
        /// The environment variable that does instead.
        variable: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The result could not be printed.
    #[error("writing the result failed: {0}")]
    Write(#[source] std::io::Error),
    /// A value could not be put into the format that was asked for.
    #[error("printing the result as {format} failed: {detail}")]
    Render {
        /// The format.
        format: &'static str,
        /// Why.
        detail: String,
    },
    /// What was waited for has not come.
    #[error("{0}")]
    NotReached(String),
    /// It is not known whether something is in the way.
    #[error("whether the migration could run is not known: {0}")]
    Untold(Box<Self>),
    /// Something is in the way.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// How the program ends with it.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Usage(_) | Self::Name(_) => Ending::Usage,
            Self::Untold(_) => Ending::Untold,
            _ => Ending::Failed,
        }
    }

    /// Whether the reader of our output has gone.
    pub fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Write(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
            Self::Untold(cause) => cause.is_closed_pipe(),
            _ => false,
        }
    }
}
