//! Which passes of a volume stay: pure.

use std::collections::BTreeSet;

/// How a pass stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was received to its end: a later pass may build on it.
    Complete,
    /// It was not, or not yet.
    Incomplete,
    /// Its mark cannot be read.
    Unreadable,
}

/// What becomes of a volume's passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Passes that stay and whose packs stay: their manifests are to be read.
    pub kept: BTreeSet<u32>,
    /// Passes that go, in the order in which they go.
    pub gone: Vec<u32>,
    /// The newest complete pass; packs of passes above it stay unread.
    pub newest_complete: Option<u32>,
}

/// Chooses among passes, the newest of which comes first; `keep` is at least 1. Those that are `held`
/// stay, unless they are incomplete.
///
/// Passes are looked at until so many complete ones were found, hence `standing` is asked of no
/// more, but for what is held. Below the last of them nothing is built on, whatever it is.
pub fn choose(passes: &[(u32, Standing)], keep: u32, held: &BTreeSet<u32>) -> Choice {
    let keep = keep.max(1) as usize;
    let newest_complete =
        passes.iter().find(|(_, standing)| *standing == Standing::Complete).map(|(pass, _)| *pass);
    let mut choice = Choice { newest_complete, ..Choice::default() };
    let mut complete = 0;
    for (pass, standing) in passes {
        let stays = match standing {
            // Above the newest complete one, and all if there is none, it may be under way.
            Standing::Incomplete => newest_complete.is_none_or(|newest| *pass > newest),
            // One that cannot be read counts for none, and stays as long as it might be of use.
            Standing::Complete | Standing::Unreadable => complete < keep || held.contains(pass),
        };
        complete += usize::from(*standing == Standing::Complete);
        if stays {
            choice.kept.insert(*pass);
        } else {
            choice.gone.push(*pass);
        }
    }
    // The oldest first: what is left of an interrupted collection is the newer part.
    choice.gone.reverse();
    choice
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Standing::{Complete, Incomplete, Unreadable};
    use super::*;

    fn chosen(passes: &[(u32, Standing)], keep: u32) -> (Vec<u32>, Vec<u32>) {
        let choice = choose(passes, keep, &BTreeSet::new());
        (choice.kept.into_iter().collect(), choice.gone)
    }

    #[test]
    fn the_newest_complete_passes_stay_and_all_above_them() {
        let passes =
            [(9, Incomplete), (8, Complete), (7, Incomplete), (6, Complete), (5, Complete), (4, Incomplete)];
        assert_eq!(chosen(&passes, 1), (vec![8, 9], vec![4, 5, 6, 7]));
        assert_eq!(chosen(&passes, 2), (vec![6, 8, 9], vec![4, 5, 7]));
        assert_eq!(chosen(&passes, 9), (vec![5, 6, 8, 9], vec![4, 7]));
    }

    #[test]
    fn a_pass_that_is_held_stays_beside_the_newest() {
        let passes = [(9, Complete), (8, Complete), (7, Incomplete), (6, Complete), (5, Complete)];
        let choice = choose(&passes, 1, &BTreeSet::from([6, 7]));
        assert_eq!((choice.kept, choice.gone), (BTreeSet::from([6, 9]), vec![5, 7, 8]));
    }

    #[test]
    fn without_a_complete_pass_everything_stays() {
        assert_eq!(chosen(&[(3, Incomplete), (2, Unreadable), (1, Incomplete)], 1), (vec![1, 2, 3], vec![]));
        assert_eq!(chosen(&[], 1), (vec![], vec![]));
    }

    #[test]
    fn a_pass_that_cannot_be_read_stays_as_long_as_it_might_be_of_use() {
        let passes = [(5, Unreadable), (4, Complete), (3, Unreadable), (2, Complete), (1, Unreadable)];
        assert_eq!(chosen(&passes, 2), (vec![2, 3, 4, 5], vec![1]));
        assert_eq!(chosen(&passes, 1), (vec![4, 5], vec![1, 2, 3]));
    }

    proptest! {
        #[test]
        fn the_newest_complete_pass_and_what_is_above_it_never_go(
            standings in proptest::collection::vec(prop_oneof![Just(Complete), Just(Incomplete), Just(Unreadable)], 0..12),
            keep in 0_u32..5, held in proptest::collection::vec(1_u32..12, 0..3),
        ) {
            let passes: Vec<_> = (1_u32..).zip(standings.iter().copied()).collect::<Vec<_>>().into_iter().rev().collect();
            let held: BTreeSet<u32> = held.into_iter().collect();
            let choice = choose(&passes, keep, &held);
            let stays = |n: &u32, s: &Standing| *s == Incomplete || choice.kept.contains(n);
            prop_assert!(passes.iter().all(|(n, s)| !held.contains(n) || stays(n, s)));
            prop_assert_eq!(choice.kept.len() + choice.gone.len(), passes.len());
            prop_assert!(choice.gone.iter().all(|pass| choice.newest_complete.is_some_and(|newest| *pass < newest)));
            let complete = passes.iter().filter(|(_, s)| *s == Complete).count();
            let kept = passes.iter().filter(|(n, s)| *s == Complete && choice.kept.contains(n)).count();
            let least = complete.min(keep.max(1) as usize);
            prop_assert!((least..=least + held.len()).contains(&kept));
        }
    }
}
