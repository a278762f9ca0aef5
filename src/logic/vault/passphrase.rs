//! Encryption under a text the caller brings along, byte for byte as `convex-api-tokens` 0.3.2
//! does it in the client: AES-256-GCM under PBKDF2-HMAC-SHA256 (RFC 8018), base64.
//!
//! The salt is fixed and the work factor is of its time; it is here so that what was encrypted
//! there can be read and moved into the vault. Its key derivation takes tens of milliseconds, so
//! it calls `tick` on the way: the caller's chance to be interrupted.

use super::secret::{Key, Plaintext};
use crate::error::{Error, Result};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

const ROUNDS: u32 = 100_000;
const ROUNDS_PER_TICK: u32 = 1_000;
const SALT: &[u8] = b"convex-api-tokens-salt";
const TAG: usize = 16;

pub const IV_BYTES: usize = 12;

/// What a client encrypted, in base64.
#[derive(Debug, PartialEq, Eq)]
pub struct Encrypted {
    pub encrypted_value: String,
    pub iv: String,
}

/// PBKDF2 with one block of output, written out because the crate's cannot be interrupted.
fn derive(secret: &str, mut tick: impl FnMut()) -> Key {
    let keyed = <Hmac<Sha256> as Mac>::new_from_slice(secret.as_bytes())
        .expect("HMAC takes a key of any length");
    let mut first = keyed.clone();
    first.update(SALT);
    first.update(&1_u32.to_be_bytes());
    let mut block = Zeroizing::new(<[u8; 32]>::from(first.finalize().into_bytes()));
    Key::filled(|key| {
        key.copy_from_slice(&block[..]);
        for round in 1..ROUNDS {
            if round.is_multiple_of(ROUNDS_PER_TICK) {
                tick();
            }
            let mut next = keyed.clone();
            next.update(&block[..]);
            block.copy_from_slice(&next.finalize().into_bytes());
            key.iter_mut().zip(&block[..]).for_each(|(sum, byte)| *sum ^= byte);
        }
    })
}

fn cipher(secret: &str, tick: impl FnMut()) -> Aes256Gcm {
    Aes256Gcm::new(derive(secret, tick).as_bytes().into())
}

/// The iv must be fresh from a cryptographic source.
pub fn encrypt(
    plaintext: &str,
    secret: &str,
    iv: &[u8; IV_BYTES],
    tick: impl FnMut(),
) -> Encrypted {
    let mut body = plaintext.as_bytes().to_vec();
    let tag = cipher(secret, tick)
        .encrypt_in_place_detached(iv.into(), b"", &mut body)
        .expect("a text is shorter than GCM's limit of 64 GB");
    body.extend_from_slice(&tag);
    Encrypted { encrypted_value: STANDARD.encode(&body), iv: STANDARD.encode(iv) }
}

/// The two halves of an encrypted value, decoded: iv, then ciphertext and tag.
fn decode(encrypted_value: &str, iv: &str) -> Result<([u8; IV_BYTES], Plaintext)> {
    let expected = "base64 of a ciphertext and its 16-byte tag";
    let malformed = Error::Malformed { argument: "encrypted_value", expected };
    let body = Zeroizing::new(STANDARD.decode(encrypted_value).map_err(|_| malformed.clone())?);
    if body.len() < TAG {
        return Err(malformed);
    }
    let iv = STANDARD.decode(iv).ok().and_then(|iv| iv.try_into().ok());
    let iv = iv.ok_or(Error::Malformed { argument: "iv", expected: "base64 of 12 bytes" })?;
    Ok((iv, body))
}

/// Could this be an encrypted value?
pub fn check(encrypted_value: &str, iv: &str) -> Result<()> {
    decode(encrypted_value, iv).map(|_| ())
}

pub fn decrypt(
    encrypted_value: &str,
    iv: &str,
    secret: &str,
    tick: impl FnMut(),
) -> Result<Plaintext> {
    let (iv, mut body) = decode(encrypted_value, iv)?;
    let length = body.len() - TAG;
    let tag = body.split_off(length);
    cipher(secret, tick)
        .decrypt_in_place_detached((&iv).into(), b"", &mut body, tag.as_slice().into())
        .map_err(|_| Error::NotDecrypted)?;
    if str::from_utf8(&body).is_err() {
        return Err(Error::NotDecrypted);
    }
    Ok(body)
}
