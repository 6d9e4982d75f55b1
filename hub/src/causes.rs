//! Errors with their causes, for log lines: a client's own text often names only what it was doing.

use std::error::Error;

/// The text of an error, followed by those of its causes that it does not contain already.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading failed")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_and_none_is_told_twice() {
        let outer = Outer(std::io::Error::other("refused"));
        assert_eq!(chain(&outer), "reading failed: refused");
        assert_eq!(chain(&std::io::Error::other("refused")), "refused");
    }
}
