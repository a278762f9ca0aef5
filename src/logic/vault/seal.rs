//! The sealed box: one format for values and for wrapped data keys.
//!
//! ```text
//! 0 format 0x01 | 1 suite 0x01 | 2..18 key id | 18..42 salt | 42..74 commitment | ciphertext | 16 tag
//! aad = "api_tokens/" purpose "/v1" 00 || bytes[0..42) || fields, each u32-BE length + bytes
//! okm = HKDF-SHA256(ikm = key, salt, info = "api_tokens v1 " purpose 00 SHA-256(aad), 76 bytes)
//!       → key 32, nonce 12, commitment 32;  AES-256-GCM(key, nonce, plaintext, aad)
//! ```
//!
//! A fresh key per box lifts the limit on random GCM nonces (NIST SP 800-38D, 8.3). GCM alone does
//! not commit to its key, so the commitment binds key and context, and tells a box that was moved
//! from one that is damaged. Nothing in the context is local to a cluster, so dumps restore
//! anywhere. HKDF is RFC 5869.

use super::secret::{Key, KeyId, Plaintext};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const FORMAT: u8 = 0x01;
const SUITE: u8 = 0x01;
const HEADER: usize = 42;
const BODY: usize = 74;
const TAG: usize = 16;

pub const SALT_BYTES: usize = 24;
/// How much longer a box is than what is in it.
pub const OVERHEAD: usize = BODY + TAG;

/// What a box is bound to: it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub enum Context<'a> {
    Value { namespace: &'a str, key_name: &'a str, version: u64 },
    Dek { dek_id: &'a KeyId, namespace: &'a str },
}

/// Why a box does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Too short, or of a format that is not known here.
    Malformed,
    /// It was sealed by a key that is not there.
    KeyMissing(KeyId),
    /// Sealed by another key of this id, or for another place than it lies in.
    WrongContext,
    /// Sealed for this place, and changed since.
    Damaged,
}

impl Context<'_> {
    const fn purpose(&self) -> &'static str {
        match self {
            Self::Value { .. } => "value",
            Self::Dek { .. } => "dek",
        }
    }

    fn aad(&self, header: &[u8]) -> Vec<u8> {
        let mut aad = Vec::with_capacity(160);
        aad.extend_from_slice(b"api_tokens/");
        aad.extend_from_slice(self.purpose().as_bytes());
        aad.extend_from_slice(b"/v1\0");
        aad.extend_from_slice(header);
        let mut field = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).expect("a field is shorter than 4 GB");
            aad.extend_from_slice(&length.to_be_bytes());
            aad.extend_from_slice(bytes);
        };
        match self {
            Self::Value { namespace, key_name, version } => {
                field(namespace.as_bytes());
                field(key_name.as_bytes());
                field(&version.to_be_bytes());
            }
            Self::Dek { dek_id, namespace } => {
                field(&dek_id.0);
                field(namespace.as_bytes());
            }
        }
        aad
    }
}

/// What one box is sealed with.
struct Derived(Zeroizing<[u8; 76]>);

impl Derived {
    fn new(key: &Key, salt: &[u8], purpose: &str, aad: &[u8]) -> Self {
        let mut okm = Zeroizing::new([0; 76]);
        let digest = Sha256::digest(aad);
        let info: [&[u8]; 4] = [b"api_tokens v1 ", purpose.as_bytes(), &[0], &digest];
        Hkdf::<Sha256>::new(Some(salt), key.as_bytes())
            .expand_multi_info(&info, &mut okm[..])
            .expect("76 bytes are less than HKDF's limit of 8160");
        Self(okm)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.0[..32].into())
    }

    fn nonce(&self) -> &[u8] {
        &self.0[32..44]
    }

    fn commitment(&self) -> &[u8] {
        &self.0[44..]
    }
}

/// Seals `plaintext`. The salt must be fresh from a cryptographic source for each box.
pub fn seal(
    key: &Key,
    key_id: &KeyId,
    context: &Context,
    salt: &[u8; SALT_BYTES],
    plaintext: &[u8],
) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
    sealed.extend_from_slice(&[FORMAT, SUITE]);
    sealed.extend_from_slice(&key_id.0);
    sealed.extend_from_slice(salt);
    let aad = context.aad(&sealed);
    let derived = Derived::new(key, salt, context.purpose(), &aad);
    sealed.extend_from_slice(derived.commitment());
    // Encrypted where it lies: there is no second copy of the plaintext to wipe.
    sealed.extend_from_slice(plaintext);
    let tag = derived
        .cipher()
        .encrypt_in_place_detached(derived.nonce().into(), &aad, &mut sealed[BODY..])
        .expect("a value is shorter than GCM's limit of 64 GB");
    sealed.extend_from_slice(&tag);
    sealed
}

/// The id of the key that a box was sealed with.
pub fn key_id(sealed: &[u8]) -> Result<KeyId, OpenError> {
    if sealed.len() < OVERHEAD || sealed[0] != FORMAT || sealed[1] != SUITE {
        return Err(OpenError::Malformed);
    }
    let mut id = KeyId([0; 16]);
    id.0.copy_from_slice(&sealed[2..18]);
    Ok(id)
}

/// Opens a box with the key that [`key_id`] named.
pub fn open(key: &Key, context: &Context, sealed: &[u8]) -> Result<Plaintext, OpenError> {
    key_id(sealed)?;
    let (head, rest) = sealed.split_at(BODY);
    let (header, commitment) = head.split_at(HEADER);
    let (body, tag) = rest.split_at(rest.len() - TAG);
    let aad = context.aad(header);
    let derived = Derived::new(key, &header[18..], context.purpose(), &aad);
    if !bool::from(derived.commitment().ct_eq(commitment)) {
        return Err(OpenError::WrongContext);
    }
    let mut plaintext = Zeroizing::new(body.to_vec());
    derived
        .cipher()
        .decrypt_in_place_detached(derived.nonce().into(), &aad, &mut plaintext, tag.into())
        .map_err(|_| OpenError::Damaged)?;
    Ok(plaintext)
}
