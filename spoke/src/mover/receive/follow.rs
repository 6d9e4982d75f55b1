//! Following the sender: the next segment as soon as it is there, and an error that names the
//! sender when it has shown no sign of life for too long.

use std::time::{Duration, Instant};

use isthmus_shared::staging::layout;

use super::Shared;
use crate::mover::{
    error::MoverError,
    format::Segment,
    limits::{MAX_HEARTBEAT_BYTES, POLL_LONGEST, POLL_PART, POLL_SHORTEST},
    manifest::SegmentReader,
    send::Heartbeat,
};

/// Silence of the sender that is worth saying; it shows that it lives far more often.
const SILENCE: Duration = Duration::from_mins(1);

/// Follows one pass.
#[derive(Debug)]
pub struct Follower {
    reader: SegmentReader,
    pass: u32,
    peer_timeout: Duration,
    look: Duration,
    /// When the sender last showed that it lives, by our clock.
    alive: Instant,
    looked: Option<Instant>,
    last: Option<Heartbeat>,
}

impl Follower {
    /// Follows from where `reader` stands; looks for the sender's heartbeat every `look`.
    pub fn new(reader: SegmentReader, pass: u32, peer_timeout: Duration, look: Duration) -> Self {
        Self { reader, pass, peer_timeout, look, alive: Instant::now(), looked: None, last: None }
    }

    /// The reader, for its position.
    pub fn reader(&self) -> &SegmentReader {
        &self.reader
    }

    /// Waits for the next segment.
    pub async fn next(&mut self, shared: &Shared) -> Result<Segment, MoverError> {
        let started = Instant::now();
        loop {
            shared.stop.check()?;
            if !shared.recovers && self.looked.is_none_or(|looked| looked.elapsed() >= self.look) {
                self.look(shared).await?;
            }
            if let Some(segment) = self.reader.next().await? {
                self.alive = Instant::now();
                shared.progress.stall(None);
                return Ok(segment);
            }
            if shared.recovers {
                // All of it was there once.
                return Err(MoverError::StagingLost { pass: self.pass, segment: self.reader.position() });
            }
            if self.alive.elapsed() > self.peer_timeout {
                return Err(MoverError::SenderSilent {
                    pass: self.pass,
                    seconds: self.peer_timeout.as_secs(),
                    last: match &self.last {
                        None => "it never showed up".to_owned(),
                        Some(beat) => format!("last seen: {:.100}, beat {}", beat.sender, beat.beat),
                    },
                });
            }
            shared.progress.stall(self.silence());
            let left = self.peer_timeout.saturating_sub(self.alive.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause(started.elapsed()).min(left + POLL_SHORTEST)) => {}
                () = shared.stop.wait() => return Err(MoverError::Cancelled),
            }
        }
    }

    /// What there is to say of a sender from which nothing comes.
    fn silence(&self) -> Option<String> {
        let silent = self.alive.elapsed();
        let who = self.last.as_ref().map_or_else(
            || "the sender, which has not shown up yet,".to_owned(),
            |beat| format!("the sender {}", beat.sender),
        );
        (silent >= SILENCE).then(|| format!("nothing new from {who} for {} s", silent.as_secs()))
    }

    async fn look(&mut self, shared: &Shared) -> Result<(), MoverError> {
        self.looked = Some(Instant::now());
        let place = &shared.place;
        let object = layout::pass_sender(&place.pair, &place.volume, self.pass);
        let Some(plain) = place.read_sealed(&object, MAX_HEARTBEAT_BYTES).await? else {
            return Ok(());
        };
        let Ok(beat) = serde_json::from_slice::<Heartbeat>(&plain) else {
            // It opened, so a sender wrote it: one of another version, which lives too.
            return Ok(());
        };
        shared.progress.set_totals(beat.files_total, beat.bytes_total);
        if self.last.as_ref() != Some(&beat) {
            self.alive = Instant::now();
            self.last = Some(beat);
        }
        Ok(())
    }
}

/// How long to wait for the next look, after having waited for so long.
fn pause(waited: Duration) -> Duration {
    (waited / POLL_PART).clamp(POLL_SHORTEST, POLL_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_found_soon_after_it_was_written_by_few_looks() {
        let (mut waited, mut looks) = (Duration::ZERO, 0);
        while waited < Duration::from_mins(1) {
            let next = pause(waited);
            assert!(next <= POLL_SHORTEST.max(waited / POLL_PART), "{next:?} after {waited:?}");
            waited += next;
            looks += 1;
        }
        assert!(looks < 100, "{looks} looks within a minute");
        assert_eq!(pause(Duration::from_hours(1)), POLL_LONGEST);
    }
}
