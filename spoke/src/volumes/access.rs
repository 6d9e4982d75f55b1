//! The access that movers get: the one place where credentials for a single volume are made.

use std::time::{Duration, Instant};

use isthmus_shared::protocol::Direction;
use isthmus_shared::staging::sts::{self, StsError, VolumeUse};
use isthmus_shared::staging::{PairUid, StoreAccess, VolumeUid};
use jiff::Timestamp;

/// The least time between two renewals.
const RENEWAL_PAUSE: Duration = Duration::from_mins(1);

/// Access to one volume for a mover, and when it ends. Where the store has STS that is a session
/// of its own; without it the store's own keys are handed on.
pub async fn scoped_access(
    access: &StoreAccess,
    pair: &PairUid,
    volume: &VolumeUid,
    direction: Direction,
    pass: u32,
) -> Result<(StoreAccess, Option<Timestamp>), StsError> {
    if access.sts.is_none() {
        return Ok((access.clone(), None));
    }
    let purpose = match direction {
        Direction::Send => VolumeUse::Send,
        Direction::Receive => VolumeUse::Receive { pass },
    };
    let session = sts::assume_role(access, pair, volume, purpose).await?;
    Ok((session.access, Some(session.expires)))
}

/// When the grant for the next mover is made anew. A mover takes its grant when it starts, which
/// may be minutes after it was made; so the access in it always has half of its time left.
pub struct Renewal(Option<Instant>);

impl Renewal {
    /// That of access which ends then, if it ever does.
    pub fn of(expires: Option<Timestamp>) -> Self {
        Self(expires.map(|expires| {
            let left = Duration::try_from(expires.duration_since(Timestamp::now())).unwrap_or_default();
            Instant::now() + (left / 2).max(RENEWAL_PAUSE)
        }))
    }

    /// After one that failed.
    pub fn in_a_while() -> Self {
        Self(Some(Instant::now() + RENEWAL_PAUSE))
    }

    /// Whether it is time.
    pub fn is_due(&self) -> bool {
        self.0.is_some_and(|due| Instant::now() >= due)
    }
}
