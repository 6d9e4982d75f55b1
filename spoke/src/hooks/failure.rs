//! Why an attempt at a hook came to nothing.

use isthmus_shared::resources::Finding;

use crate::cluster::ClusterError;
use crate::findings::finding;

/// Why an attempt came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// It counts: what failed, for a person.
    Failed(String),
    /// The API server could not be asked: it counts as no attempt, and the task is begun again.
    Waits(Finding),
}

impl Failure {
    /// A command that could not be begun. What the API server says of a node counts, as it does of a
    /// container: whether it is tried again is the hook's to say.
    pub fn exec(doing: &str, error: &ClusterError) -> Self {
        match error {
            ClusterError::Refused { code, .. } if *code != 429 => Self::counted(doing, error),
            _ => Self::cluster(doing, error),
        }
    }

    /// A call to the API server that was not carried out.
    pub fn cluster(doing: &str, error: &ClusterError) -> Self {
        if error.is_transient() {
            return Self::Waits(finding(doing, error.reason(), error.to_string()));
        }
        Self::counted(doing, error)
    }

    fn counted(doing: &str, error: &ClusterError) -> Self {
        let advice = match error.code() {
            Some(401 | 403) => {
                "; grant the spoke's service account what its ClusterRole in deploy/ lists for hooks"
            }
            _ => "",
        };
        Self::Failed(format!("{doing} failed: {error}{advice}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_as_an_attempt_and_a_server_that_is_away_does_not() {
        let refused = |code| ClusterError::refused("GET /x".to_owned(), code, None, b"{}");
        let Failure::Failed(why) = Failure::cluster("listing Pods", &refused(403)) else {
            panic!("it counts")
        };
        assert!(why.contains("for hooks"), "{why}");
        assert!(matches!(Failure::cluster("listing Pods", &refused(503)), Failure::Waits(_)));
        assert!(matches!(Failure::exec("running it", &refused(500)), Failure::Failed(_)), "the node's fault");
        assert!(matches!(Failure::exec("running it", &refused(429)), Failure::Waits(_)));
    }
}
