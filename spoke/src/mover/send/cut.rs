//! Where the manifest is cut into segments: a receiver can begin on what a segment names once it is
//! written, and each segment costs both sides a request.
//!
//! So a segment ends with whatever comes first: many records, much new content, very much content
//! that the receiver may have already, or its age. The last lets a receiver keep up with a sender
//! that reads slowly.

use std::time::{Duration, Instant};

use crate::mover::{
    format::Record,
    limits::{SEGMENT_AGE, SEGMENT_CONTENT_BYTES, SEGMENT_NAMED_BYTES},
};

/// How full the segment is that is being filled.
#[derive(Debug)]
pub struct Cut {
    /// See [`crate::mover::limits::SEGMENT_BYTES`].
    at_bytes: usize,
    /// Content that its records name.
    named: u64,
    /// Of that what may be new to the receiver.
    new: u64,
    /// When its first record came.
    since: Option<Instant>,
}

impl Cut {
    /// Of an empty segment that is cut at `at_bytes` of records.
    pub fn new(at_bytes: usize) -> Self {
        Self { at_bytes, named: 0, new: 0, since: None }
    }

    /// Counts a record of something that changed: what was not kept of it is new.
    pub fn add_changed(&mut self, record: &Record, now: Instant) {
        let new = record.pieces().iter().filter(|piece| !piece.kept);
        self.new += new.map(|piece| u64::from(piece.length)).sum::<u64>();
        self.add_unchanged(record, now);
    }

    /// Counts a record that the previous pass had as well.
    pub fn add_unchanged(&mut self, record: &Record, now: Instant) {
        self.named += record.pieces().iter().map(|piece| u64::from(piece.length)).sum::<u64>();
        self.since.get_or_insert(now);
    }

    /// Whether the segment, whose records have `bytes`, ends here.
    pub fn is_due(&self, bytes: usize, now: Instant) -> bool {
        self.since.is_some()
            && (bytes >= self.at_bytes
                || self.new >= SEGMENT_CONTENT_BYTES
                || self.named >= SEGMENT_NAMED_BYTES
                || self.left(now) == Some(Duration::ZERO))
    }

    /// How long the segment may still wait for another record; an empty one waits for its first.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| SEGMENT_AGE.saturating_sub(now.saturating_duration_since(since)))
    }

    /// Begins anew, with an empty segment.
    pub fn begin(&mut self) {
        *self = Self::new(self.at_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mover::{
        format::{End, Piece, PiecePlace},
        limits::SEGMENT_BYTES,
    };

    const MIB: u32 = 1024 * 1024;

    fn content(lengths: &[u32], kept: bool) -> Record {
        let place = PiecePlace::Inline(Vec::new());
        let piece = |length: &u32| Piece { offset: 0, length: *length, place: place.clone(), kept };
        Record::Data(lengths.iter().map(piece).collect())
    }

    /// After how many of these records a segment is due; each of them has `bytes`.
    fn due_after(record: &Record, bytes: usize, add: fn(&mut Cut, &Record, Instant)) -> usize {
        let (now, mut cut) = (Instant::now(), Cut::new(SEGMENT_BYTES));
        let mut count = 0;
        while !cut.is_due(count * bytes, now) {
            add(&mut cut, record, now);
            count += 1;
        }
        count
    }

    #[test]
    fn many_records_make_a_segment_whatever_they_name() {
        let end = Record::End(End { inconsistent: false });
        assert_eq!(due_after(&end, 100, Cut::add_changed), SEGMENT_BYTES.div_ceil(100));
        assert_eq!(due_after(&end, 100, Cut::add_unchanged), SEGMENT_BYTES.div_ceil(100));
        assert_eq!(due_after(&end, SEGMENT_BYTES * 2, Cut::add_changed), 1);
    }

    #[test]
    fn new_content_makes_a_segment_long_before_content_that_the_receiver_has() {
        let (new, kept) = (content(&[MIB, MIB], false), content(&[MIB, MIB], true));
        let of_new = usize::try_from(SEGMENT_CONTENT_BYTES / (2 * u64::from(MIB))).unwrap();
        let of_any = usize::try_from(SEGMENT_NAMED_BYTES / (2 * u64::from(MIB))).unwrap();
        assert_eq!(due_after(&new, 100, Cut::add_changed), of_new);
        // Kept blocks of a file that changed, and all blocks of one that did not.
        assert_eq!(due_after(&kept, 100, Cut::add_changed), of_any);
        assert_eq!(due_after(&new, 100, Cut::add_unchanged), of_any);
        assert!(of_any > 10 * of_new);
    }

    #[test]
    fn a_segment_ends_at_an_age_that_counts_from_its_first_record() {
        let start = Instant::now();
        let mut cut = Cut::new(SEGMENT_BYTES);
        assert_eq!(cut.left(start), None, "an empty one does not age");
        assert!(!cut.is_due(0, start + SEGMENT_AGE * 3));
        let first = start + SEGMENT_AGE * 3;
        let record = content(&[1], false);
        cut.add_changed(&record, first);
        assert!(!cut.is_due(100, first));
        cut.add_changed(&record, first + SEGMENT_AGE / 2);
        assert_eq!(cut.left(first + SEGMENT_AGE / 2), Some(SEGMENT_AGE / 2), "of the first, not the last");
        assert!(cut.is_due(200, first + SEGMENT_AGE));
    }

    #[test]
    fn the_next_segment_begins_empty() {
        let now = Instant::now();
        let mut cut = Cut::new(300);
        cut.add_changed(&content(&[1 << 30], false), now);
        assert!(cut.is_due(1, now));
        cut.begin();
        assert!(!cut.is_due(299, now + SEGMENT_AGE) && cut.left(now).is_none());
        cut.add_changed(&content(&[1], false), now);
        assert!(!cut.is_due(299, now) && cut.is_due(300, now), "it keeps to the same size");
    }
}
