//! The two states of a pair, from what is known of its clusters and probes: pure.

use isthmus_shared::resources::LinkState;

/// What is known of one participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It works.
    Works,
    /// It does not, and why.
    Broken(String),
    /// It has not shown yet whether it works; what it waits for.
    NotYet(String),
    /// It worked and has fallen silent.
    Silent(String),
    /// It cannot be told just now, e.g. because this hub has only begun to look.
    Unsure,
}

/// The state of a half of a pair, and why it is so, after what is known now of all who take part.
pub(super) fn state(
    before: (LinkState, Option<&str>),
    participants: &[(String, Known)],
) -> (LinkState, Option<String>) {
    let worked = matches!(before.0, LinkState::Ready | LinkState::Degraded);
    let some_work = participants.iter().any(|(_, known)| *known == Known::Works);
    let told = |wanted: fn(&Known) -> Option<&str>| {
        let told: Vec<String> = participants
            .iter()
            .filter_map(|(who, known)| wanted(known).map(|why| format!("{who}: {why}")))
            .collect();
        (!told.is_empty()).then(|| told.join("; "))
    };
    let broken = told(|known| match known {
        Known::Broken(why) | Known::Silent(why) => Some(why),
        _ => None,
    });
    if let Some(message) = broken {
        // A silence alone does not say that the rest is broken.
        let only_silence = !participants.iter().any(|(_, known)| matches!(known, Known::Broken(_)));
        let state =
            if worked && (some_work || only_silence) { LinkState::Degraded } else { LinkState::Error };
        return (state, Some(message));
    }
    let waits = told(|known| match known {
        Known::NotYet(why) => Some(why),
        _ => None,
    });
    if let Some(message) = waits {
        return (LinkState::Pending, Some(message));
    }
    if participants.iter().any(|(_, known)| *known == Known::Unsure) {
        return (before.0, before.1.map(str::to_owned));
    }
    (LinkState::Ready, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(known: [Known; 2]) -> Vec<(String, Known)> {
        let [source, destination] = known;
        vec![("spoke of cluster east".into(), source), ("spoke of cluster west".into(), destination)]
    }

    fn broken() -> Known {
        Known::Broken("NoSuchBucket".into())
    }

    #[test]
    fn a_pair_is_ready_when_all_who_take_part_work() {
        assert_eq!(
            state((LinkState::Error, Some("x")), &who([Known::Works, Known::Works])),
            (LinkState::Ready, None)
        );
    }

    #[test]
    fn what_worked_is_degraded_while_one_side_fails_and_in_error_when_both_do() {
        let (now, message) = state((LinkState::Ready, None), &who([broken(), Known::Works]));
        assert_eq!(
            (now, message.as_deref()),
            (LinkState::Degraded, Some("spoke of cluster east: NoSuchBucket"))
        );
        let (now, message) = state((now, message.as_deref()), &who([broken(), broken()]));
        assert_eq!(now, LinkState::Error);
        assert!(message.unwrap().contains("; spoke of cluster west"));
    }

    #[test]
    fn what_never_worked_is_in_error_at_once() {
        assert_eq!(state((LinkState::Pending, None), &who([broken(), Known::Works])).0, LinkState::Error);
    }

    #[test]
    fn a_new_pair_says_what_it_waits_for() {
        let waiting = Known::NotYet("waits for its first probe".into());
        let (now, message) = state((LinkState::Pending, None), &who([Known::Works, waiting]));
        assert_eq!(now, LinkState::Pending);
        assert_eq!(message.as_deref(), Some("spoke of cluster west: waits for its first probe"));
    }

    #[test]
    fn a_new_leader_leaves_a_state_as_it_is_until_it_knows_better() {
        let before = (LinkState::Degraded, Some("why"));
        assert_eq!(
            state(before, &who([Known::Unsure, Known::Works])),
            (LinkState::Degraded, Some("why".to_owned()))
        );
    }

    #[test]
    fn a_spoke_that_falls_silent_degrades_the_pair() {
        let silent = Known::Silent("no probe".into());
        assert_eq!(state((LinkState::Ready, None), &who([silent.clone(), silent])).0, LinkState::Degraded);
    }
}
