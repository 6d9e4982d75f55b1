//! Bytes from a seed: the same on every machine.

/// A small fast generator (SplitMix64); good enough for file contents.
#[derive(Debug, Clone)]
pub struct Random(u64);

const WORDS: [&str; 16] = [
    "volume ",
    "claim ",
    "the ",
    "cluster ",
    "pod ",
    "of ",
    "namespace ",
    "and ",
    "to ",
    "object ",
    "store ",
    "is ",
    "hub ",
    "spoke ",
    "in ",
    "pass\n",
];

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Between `low` and `high`, each order of magnitude as likely as the others.
    pub fn size_between(&mut self, low: u64, high: u64) -> u64 {
        let doublings = u64::from(high.ilog2() - low.ilog2());
        let base = low << self.below(doublings.max(1));
        (base + self.below(base)).min(high)
    }

    /// Bytes that do not compress.
    pub fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.word().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Text that compresses well.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 16);
        while bytes.len() < length {
            let mut bits = self.word();
            for _ in 0..8 {
                bytes.extend_from_slice(WORDS[(bits & 15) as usize].as_bytes());
                bits >>= 4;
            }
            bytes.extend_from_slice(format!("{:x} ", bits & 0xffff).as_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Half text, half noise.
    pub fn mixed(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = self.text(length / 2);
        bytes.extend(self.noise(length - length / 2));
        bytes
    }
}
