//! What a person should know of a rewriting, bounded for each object.

/// The most notes kept of one object; further ones are counted.
pub const MAX_NOTES: usize = 20;

/// The most characters of an object's text that a note quotes.
const MAX_QUOTE: usize = 120;

/// What a person should know of a rewriting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// One word in CamelCase.
    pub reason: &'static str,
    /// The same for a person.
    pub message: String,
}

/// The notes of one object while it is rewritten.
#[derive(Debug, Default)]
pub struct Notes {
    kept: Vec<Note>,
    further: usize,
}

impl Notes {
    /// Adds a note, unless it has been told.
    pub fn push(&mut self, reason: &'static str, message: String) {
        if self.kept.iter().any(|note| note.reason == reason && note.message == message) {
            return;
        }
        if self.kept.len() < MAX_NOTES {
            self.kept.push(Note { reason, message });
        } else {
            self.further += 1;
        }
    }

    /// Tells of a text that is the name of a renamed namespace and may mean it.
    pub fn unsure(&mut self, place: &str, from: &str, to: &str) {
        let message = format!(
            "{} is {from:?}, a namespace that is called {to:?} on the destination, and was left as it is: if it means that namespace, change it by a transform",
            quote(place)
        );
        self.push("NamespaceNotRewritten", message);
    }

    /// All that were kept, and one that counts the rest.
    pub fn finish(self) -> Vec<Note> {
        let mut notes = self.kept;
        if self.further > 0 {
            let message = format!("{} more of the kind are not listed", self.further);
            notes.push(Note { reason: "MoreNotes", message });
        }
        notes
    }
}

/// A text of an object, short enough for a message.
pub fn quote(text: &str) -> String {
    if text.chars().count() <= MAX_QUOTE {
        return text.to_owned();
    }
    let start: String = text.chars().take(MAX_QUOTE).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_told_once_and_bounded() {
        let mut notes = Notes::default();
        for number in 0..50 {
            notes.push("Same", "same".to_owned());
            notes.push("Other", number.to_string());
        }
        let notes = notes.finish();
        assert_eq!(notes.len(), MAX_NOTES + 1);
        assert_eq!(notes[MAX_NOTES].message, "31 more of the kind are not listed");
    }
}
