//! Keys, and the bytes that only their holders can make or read.
//!
//! ```text
//! PairKey ──HKDF──▶ SealKey of a migration      archives, logs, results
//!    └─────HKDF──▶ VolumeKey of a volume ─┬──▶ SealKey of its manifests
//!                                         ├──▶ key of its block names (BLAKE3)
//!                                         └──▶ PackKey of each pack (by the pack's random id)
//! ```
//!
//! A sealed object is `ISTH`, a format version, a random salt of 16 bytes, and AES-256-GCM under
//! a key that HKDF-SHA256 derives from the holder's key and that salt. Every object has a key of
//! its own, so no nonce comes twice under a key. The object's own name is authenticated with it
//! (as additional data), so an object that is served under another name does not open.
//!
//! A pack is sealed frame by frame: its key comes from its random id, and the frame's number is
//! the nonce.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::{Zeroize, Zeroizing};

use super::layout::{MigrationUid, VolumeUid};

/// What every sealed object starts with.
const MAGIC: &[u8; 4] = b"ISTH";
/// The version of the sealed format that this build writes.
const VERSION: u8 = 1;
const SALT_LEN: usize = 16;
const HEADER_LEN: usize = MAGIC.len() + 1 + SALT_LEN;
/// The authentication tag that follows each sealed message, in bytes.
pub const TAG_LEN: usize = 16;
/// By how much a sealed object is longer than its content.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// Separates our keys from any other use of the same random bytes.
const HKDF_SALT: &[u8] = b"isthmus.dev/staging/v1";

/// Why sealed bytes do not open, or bytes cannot be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Not something that this format wrote.
    #[error(
        "{object} is not a sealed object ({detail}); it is damaged or was not written by Isthmus: remove it and run the migration again"
    )]
    NotSealed {
        /// The object.
        object: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A version that this build does not know.
    #[error(
        "{object} has sealing format {found}, this version reads {VERSION}; use the same version of Isthmus in both clusters"
    )]
    UnknownVersion {
        /// The object.
        object: String,
        /// The version found.
        found: u8,
    },
    /// A changed byte, another object's bytes, or another key.
    #[error(
        "{object} does not open: it was changed in the bucket, moved from another key, or sealed by another pair's key; remove it and run the migration again"
    )]
    Tampered {
        /// The object.
        object: String,
    },
    /// The key's text form is wrong.
    #[error("a key must be 32 bytes in base64; take it unchanged from where it was made")]
    BadKey,
    /// The library or the system's random source failed.
    #[error(
        "sealing {object} failed in the cryptographic library; check that the system's random source works"
    )]
    Library {
        /// The object.
        object: String,
    },
}

/// 32 secret bytes, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
struct Secret([u8; 32]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

struct Len32;
impl KeyType for Len32 {
    fn len(&self) -> usize {
        32
    }
}

impl Secret {
    fn random() -> Result<Self, SealError> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| SealError::Library { object: "a new key".to_owned() })?;
        Ok(Self(bytes))
    }

    fn decode(text: &str) -> Result<Self, SealError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| SealError::BadKey)?);
        let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| SealError::BadKey)?;
        Ok(Self(bytes))
    }

    fn encode(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// HKDF-SHA256 of these bytes for one named purpose.
    fn derive(&self, purpose: &str, context: &[u8]) -> Result<Self, SealError> {
        derive(&Salt::new(HKDF_SHA256, HKDF_SALT).extract(&self.0), purpose, context)
    }
}

/// The purpose ends in a zero byte, so no purpose and context run into another pair of them.
fn derive(prk: &Prk, purpose: &str, context: &[u8]) -> Result<Secret, SealError> {
    let mut secret = Secret([0; 32]);
    prk.expand(&[purpose.as_bytes(), &[0], context], Len32)
        .and_then(|okm| okm.fill(&mut secret.0))
        .map_err(|_| SealError::Library { object: format!("the key of {purpose}") })?;
    Ok(secret)
}

macro_rules! text_form {
    ($name:ident) => {
        impl $name {
            /// The key in base64, to be handed on over TLS or kept in a Secret.
            pub fn to_base64(&self) -> String {
                self.0.encode()
            }

            /// The inverse of `to_base64`.
            pub fn from_base64(text: &str) -> Result<Self, SealError> {
                Secret::decode(text).map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }

        impl FromStr for $name {
            type Err = SealError;
            fn from_str(text: &str) -> Result<Self, SealError> {
                Self::from_base64(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_base64())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Zeroizing::new(String::deserialize(deserializer)?);
                Self::from_base64(&text).map_err(de::Error::custom)
            }
        }
    };
}

/// The random key of a pair. The hub hands it to both spokes; it is never in the bucket.
#[derive(Clone, PartialEq, Eq)]
pub struct PairKey(Secret);

text_form!(PairKey);

impl PairKey {
    /// A new random key.
    pub fn generate() -> Result<Self, SealError> {
        Secret::random().map(Self)
    }

    /// The key that seals one migration's archives, results and logs.
    pub fn migration_key(&self, migration: &MigrationUid) -> Result<SealKey, SealError> {
        let secret = self.0.derive("migration", migration.as_str().as_bytes())?;
        Ok(SealKey::new(&secret))
    }

    /// The key of one volume, to be handed to the movers of that volume and to nobody else.
    pub fn volume_key(&self, volume: &VolumeUid) -> Result<VolumeKey, SealError> {
        self.0.derive("volume", volume.as_str().as_bytes()).map(VolumeKey)
    }
}

/// The key of one volume: opens this volume's packs and manifests and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct VolumeKey(Secret);

text_form!(VolumeKey);

impl VolumeKey {
    /// The key that seals the volume's manifests and marks.
    pub fn manifest_key(&self) -> Result<SealKey, SealError> {
        self.0.derive("manifest", &[]).map(|secret| SealKey::new(&secret))
    }

    /// The BLAKE3 key that names the volume's blocks: without it nobody can tell from a name
    /// whether the volume holds a given block.
    pub fn block_name_key(&self) -> Result<Zeroizing<[u8; 32]>, SealError> {
        self.0.derive("block names", &[]).map(|secret| Zeroizing::new(secret.0))
    }

    /// The key of one pack.
    pub fn pack_key(&self, pack: &[u8; 16]) -> Result<PackKey, SealError> {
        let object = || format!("pack {}", hex::encode(pack));
        let secret = self.0.derive("pack", pack)?;
        Ok(PackKey(aead_key(&secret).ok_or_else(|| SealError::Library { object: object() })?))
    }
}

fn aead_key(secret: &Secret) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, &secret.0).ok().map(LessSafeKey::new)
}

/// Random bytes for an id.
pub fn random_id() -> Result<[u8; 16], SealError> {
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|_| SealError::Library { object: "a new id".to_owned() })?;
    Ok(id)
}

/// Seals the frames of one pack; the frame's number is the nonce, so each number may be sealed
/// once only.
pub struct PackKey(LessSafeKey);

impl fmt::Debug for PackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PackKey(hidden)")
    }
}

impl PackKey {
    /// Seals `bytes` in place and gives the tag that belongs behind them.
    pub fn seal_in_place(
        &self,
        frame: u32,
        aad: &[u8],
        bytes: &mut [u8],
    ) -> Result<[u8; TAG_LEN], SealError> {
        let tag = self
            .0
            .seal_in_place_separate_tag(frame_nonce(frame), Aad::from(aad), bytes)
            .map_err(|_| SealError::Library { object: format!("frame {frame}") })?;
        tag.as_ref().try_into().map_err(|_| SealError::Library { object: format!("frame {frame}") })
    }

    /// Seals `plain` into `out`, which is as long, and gives the tag: for content that is
    /// sealed as it is, without being copied first.
    pub fn seal_into(
        &self,
        frame: u32,
        aad: &[u8],
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<[u8; TAG_LEN], SealError> {
        let mut tag = [0; TAG_LEN];
        self.0
            .seal_out_of_place_scatter(frame_nonce(frame), Aad::from(aad), plain, out, &[], &mut tag)
            .map_err(|_| SealError::Library { object: format!("frame {frame}") })?;
        Ok(tag)
    }

    /// Opens a frame (its bytes with the tag behind them) in place and gives the plain part,
    /// or nothing if a byte was changed.
    pub fn open_in_place<'a>(&self, frame: u32, aad: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.0.open_in_place(frame_nonce(frame), Aad::from(aad), sealed).ok()
    }
}

fn frame_nonce(frame: u32) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 4..].copy_from_slice(&frame.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Seals whole objects.
pub struct SealKey(Prk);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(hidden)")
    }
}

impl SealKey {
    fn new(secret: &Secret) -> Self {
        Self(Salt::new(HKDF_SHA256, HKDF_SALT).extract(&secret.0))
    }

    /// The object's own key. It seals exactly one message, so its nonce is always zero.
    fn object_key(&self, salt: &[u8], object: &str) -> Result<LessSafeKey, SealError> {
        let library = || SealError::Library { object: object.to_owned() };
        aead_key(&derive(&self.0, "object", salt)?).ok_or_else(library)
    }

    /// Seals `plain` as the object that is named `object` (its key in the bucket).
    pub fn seal(&self, object: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let library = || SealError::Library { object: object.to_owned() };
        let salt = random_id()?;
        let key = self.object_key(&salt, object)?;
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        sealed.extend_from_slice(MAGIC);
        sealed.push(VERSION);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key([0; NONCE_LEN]),
                Aad::from(aad(object)),
                &mut sealed[HEADER_LEN..],
            )
            .map_err(|_| library())?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what `seal` made for the same `object`.
    pub fn open(&self, object: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (salt, body) = split(object, sealed)?;
        let key = self.object_key(salt, object)?;
        let mut plain = body.to_vec();
        let length = key
            .open_in_place(Nonce::assume_unique_for_key([0; NONCE_LEN]), Aad::from(aad(object)), &mut plain)
            .map_err(|_| SealError::Tampered { object: object.to_owned() })?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// The version is authenticated with the name: changing it does not open as another format.
fn aad(object: &str) -> Vec<u8> {
    let mut aad = Vec::with_capacity(1 + object.len());
    aad.push(VERSION);
    aad.extend_from_slice(object.as_bytes());
    aad
}

fn split<'a>(object: &str, sealed: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), SealError> {
    let not_sealed = |detail| SealError::NotSealed { object: object.to_owned(), detail };
    let rest = sealed.strip_prefix(MAGIC).ok_or_else(|| not_sealed("it does not start as one"))?;
    let (version, rest) = rest.split_first().ok_or_else(|| not_sealed("it is cut off"))?;
    if *version != VERSION {
        return Err(SealError::UnknownVersion { object: object.to_owned(), found: *version });
    }
    if rest.len() < SALT_LEN + TAG_LEN {
        return Err(not_sealed("it is cut off"));
    }
    Ok(rest.split_at(SALT_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (PairKey, MigrationUid) {
        (PairKey::generate().unwrap(), MigrationUid::new("m").unwrap())
    }

    #[test]
    fn what_was_sealed_opens_under_the_same_key_and_name_only() {
        let (pair, migration) = keys();
        let key = pair.migration_key(&migration).unwrap();
        let sealed = key.seal("a/b", b"content").unwrap();
        assert_eq!(key.open("a/b", &sealed).unwrap(), b"content");
        assert!(matches!(key.open("a/c", &sealed), Err(SealError::Tampered { .. })));
        let other = PairKey::generate().unwrap().migration_key(&migration).unwrap();
        assert!(matches!(other.open("a/b", &sealed), Err(SealError::Tampered { .. })));
        let sibling = pair.migration_key(&MigrationUid::new("n").unwrap()).unwrap();
        assert!(sibling.open("a/b", &sealed).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (pair, migration) = keys();
        let key = pair.migration_key(&migration).unwrap();
        let sealed = key.seal("k", b"some content").unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert!(key.open("k", &changed).is_err(), "byte {at} bit {bit}");
            }
            assert!(key.open("k", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn two_seals_of_the_same_content_differ() {
        let (pair, migration) = keys();
        let key = pair.migration_key(&migration).unwrap();
        assert_ne!(key.seal("k", b"x").unwrap(), key.seal("k", b"x").unwrap());
    }

    #[test]
    fn a_key_survives_its_text_form_and_hides_in_debug_output() {
        let (pair, _) = keys();
        let text = pair.to_base64();
        assert_eq!(PairKey::from_base64(&text).unwrap(), pair);
        assert!(!format!("{pair:?}").contains(&text));
        assert_eq!(PairKey::from_base64("AAAA"), Err(SealError::BadKey));
        let volume = pair.volume_key(&VolumeUid::new("v").unwrap()).unwrap();
        let json = serde_json::to_string(&volume).unwrap();
        assert_eq!(serde_json::from_str::<VolumeKey>(&json).unwrap(), volume);
        assert_ne!(volume.to_base64(), text);
    }

    #[test]
    fn a_frame_opens_in_its_own_place_of_its_own_pack_only() {
        let (pair, _) = keys();
        let volume = pair.volume_key(&VolumeUid::new("v").unwrap()).unwrap();
        let pack = volume.pack_key(&[1; 16]).unwrap();
        let mut frame = b"frame content".to_vec();
        let tag = pack.seal_in_place(7, b"aad", &mut frame).unwrap();
        let mut out = vec![0; 13];
        assert_eq!(pack.seal_into(7, b"aad", b"frame content", &mut out).unwrap(), tag);
        assert_eq!(out, frame);
        frame.extend_from_slice(&tag);
        let opens = |key: &PackKey, number, aad: &[u8]| {
            key.open_in_place(number, aad, &mut frame.clone()).map(|plain| plain.to_vec())
        };
        assert_eq!(opens(&pack, 7, b"aad").as_deref(), Some(&b"frame content"[..]));
        assert_eq!(opens(&pack, 8, b"aad"), None);
        assert_eq!(opens(&pack, 7, b"other"), None);
        assert_eq!(opens(&volume.pack_key(&[2; 16]).unwrap(), 7, b"aad"), None);
    }
}
