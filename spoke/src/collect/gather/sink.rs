//! Where gathered objects go.

use isthmus_shared::protocol::ObjectResult;
use isthmus_shared::resources::Finding;
use serde_json::Value;

use crate::task::TaskError;

/// Which objects come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// Those of cluster scope.
    Cluster,
    /// Those of a namespace, by its name on the source.
    Namespace(&'a str),
}

/// Takes what is gathered. A place is opened once.
pub trait Sink {
    /// What is taken from now on is of this place.
    async fn open(&mut self, place: Place<'_>) -> Result<(), TaskError>;
    /// An object goes along.
    async fn take(&mut self, object: &Value) -> Result<(), TaskError>;
    /// An object stays.
    async fn leave(&mut self, result: &ObjectResult) -> Result<(), TaskError>;
    /// A person should know something.
    fn warn(&mut self, finding: Finding);
    /// The log should say something.
    fn note(&mut self, line: String);
}
