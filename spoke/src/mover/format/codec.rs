//! Numbers and byte strings in a manifest: LEB128 and length-prefixed, bounded when read.

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes end too early.
    #[error("it is cut off in {0}")]
    CutOff(&'static str),
    /// There are bytes behind the end.
    #[error("it has {0} bytes too many")]
    Surplus(usize),
    /// A value that the format does not have.
    #[error("it holds an unknown {what} ({value})")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// A value beyond its bound.
    #[error("it claims a {what} of {value}, more than the {limit} allowed")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The value.
        value: u64,
        /// The bound.
        limit: u64,
    },
    /// A path that could lead out of the volume or names nothing.
    #[error("it names the path {path:?}, which {why}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Records in an order that the walk cannot produce.
    #[error("its records are out of order at {path:?}: {why}")]
    Order {
        /// Where.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// Content that contradicts itself.
    #[error("the content of {path:?} contradicts itself: {why}")]
    Content {
        /// The file, if known.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// It does not follow the segment before it.
    #[error("it does not continue the segments before it")]
    Chain,
    /// It does not decompress.
    #[error("it does not decompress: {0}")]
    Compression(String),
    /// Its version is not this build's.
    #[error("it has manifest version {0}, which this version of Isthmus does not read")]
    Version(u64),
}

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub bytes: Vec<u8>,
}

impl Encoder {
    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn number(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.bytes.push(low);
            }
            self.bytes.push(low | 0x80);
        }
    }

    /// Small magnitudes of either sign stay short (zigzag).
    pub fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn string(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }
}

/// Takes values from a buffer.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn finish(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FormatError::Surplus(self.rest.len())) }
    }

    pub fn byte(&mut self, what: &'static str) -> Result<u8, FormatError> {
        let (first, rest) = self.rest.split_first().ok_or(FormatError::CutOff(what))?;
        self.rest = rest;
        Ok(*first)
    }

    pub fn number(&mut self, what: &'static str) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FormatError::Unknown { what, value })
    }

    pub fn bounded(&mut self, what: &'static str, limit: u64) -> Result<u64, FormatError> {
        let value = self.number(what)?;
        if value > limit {
            return Err(FormatError::TooLarge { what, value, limit });
        }
        Ok(value)
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        let value = self.bounded(what, u64::from(u32::MAX))?;
        u32::try_from(value).map_err(|_| FormatError::CutOff(what))
    }

    pub fn signed(&mut self, what: &'static str) -> Result<i64, FormatError> {
        let value = self.number(what)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub fn raw(&mut self, what: &'static str, length: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(FormatError::CutOff(what))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FormatError> {
        self.raw(what, N)?.try_into().map_err(|_| FormatError::CutOff(what))
    }

    pub fn string(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], FormatError> {
        let length = self.bounded(what, limit as u64)?;
        self.raw(what, usize::try_from(length).unwrap_or(usize::MAX))
    }
}
