//! A set of pack ids in bounded memory.

/// The most packs that the kept passes of a volume may name: 32 MiB of ids, and as much again while
/// they are sorted. A full pack has 16 MiB or more, so that is 32 TiB of compressed data.
pub const MAX_PACKS: usize = 2_000_000;

/// Ids are sorted, and those that are there twice dropped, once so many more have come.
const UNSORTED: usize = 64 * 1024;

/// There are more than [`MAX_PACKS`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyPacks;

/// The packs that are named.
#[derive(Debug, Default)]
pub struct PackSet {
    ids: Vec<[u8; 16]>,
    sorted: usize,
    overflow: bool,
}

impl PackSet {
    /// Adds a pack; it may be there.
    pub fn insert(&mut self, id: [u8; 16]) {
        if self.overflow {
            return;
        }
        self.ids.push(id);
        if self.ids.len() >= self.sorted * 2 + UNSORTED {
            self.sort();
            self.overflow = self.ids.len() > MAX_PACKS;
        }
    }

    /// The set, to look up in.
    pub fn finish(mut self) -> Result<Packs, TooManyPacks> {
        self.sort();
        if self.overflow || self.ids.len() > MAX_PACKS { Err(TooManyPacks) } else { Ok(Packs(self.ids)) }
    }

    fn sort(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
        self.sorted = self.ids.len();
    }
}

/// A complete set.
#[derive(Debug, Default)]
pub struct Packs(Vec<[u8; 16]>);

impl Packs {
    /// Whether the pack is in it.
    pub fn contains(&self, id: &[u8; 16]) -> bool {
        self.0.binary_search(id).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> [u8; 16] {
        u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes()
    }

    #[test]
    fn ids_that_come_again_and_again_cost_their_memory_once() {
        let mut set = PackSet::default();
        for round in 0..50 {
            for number in 0..20_000 {
                set.insert(id(number));
            }
            assert!(set.ids.len() < 2 * 20_000 + UNSORTED, "round {round}");
        }
        let packs = set.finish().unwrap();
        assert_eq!(packs.0.len(), 20_000);
        assert!(packs.contains(&id(19_999)) && !packs.contains(&id(20_000)));
    }

    #[test]
    fn more_packs_than_there_is_memory_for_are_refused() {
        let mut set = PackSet::default();
        for number in 0..=MAX_PACKS as u64 {
            set.insert(id(number));
        }
        assert_eq!(set.finish().err(), Some(TooManyPacks));
    }
}
