//! What is kept of a token: its SHA-256 (FIPS 180-4) over all its bytes.
//!
//! A plain hash is right here and wrong for passwords: a token has 190 random bits, so there is no
//! dictionary to slow down, and a per-request KDF would only slow down the caller.

use sha2::{Digest as _, Sha256};

/// The longest text that is looked up at all. Longer ones are `invalid` unhashed, so that a
/// megabyte of garbage costs nothing. Real tokens, JWTs included, stay below it.
pub const MAX_TOKEN_BYTES: usize = 8192;

/// 32 bytes. No `Debug`: it identifies the token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest to look for, or `None` for what cannot be a token: nothing, or too much.
    pub fn of_token(token: &[u8]) -> Option<Self> {
        (!token.is_empty() && token.len() <= MAX_TOKEN_BYTES).then(|| Self::of(token))
    }

    /// Of any bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest the caller computed; `None` unless it is 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Does this digest give nothing away about the token, as far as `shown` goes? An importer
    /// who passes the whole token as display text, or the hash of nothing, is told so.
    pub fn is_kept_secret_by(&self, shown: &str) -> bool {
        *self != Self::of(shown.as_bytes()) && *self != Self::of(b"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_sha256() {
        // FIPS 180-4 example: "abc".
        let digest = Digest::of_token(b"abc").expect("hashed");
        assert_eq!(digest.0[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn refuses_nothing_and_too_much() {
        assert!(Digest::of_token(b"").is_none());
        assert!(Digest::of_token(&vec![b'a'; MAX_TOKEN_BYTES]).is_some());
        assert!(Digest::of_token(&vec![b'a'; MAX_TOKEN_BYTES + 1]).is_none());
        assert!(Digest::from_bytes(&[0; 31]).is_none());
    }

    #[test]
    fn notices_a_display_text_that_is_the_token() {
        let digest = Digest::of_token(b"sk_secret").expect("hashed");
        assert!(!digest.is_kept_secret_by("sk_secret"));
        assert!(digest.is_kept_secret_by("sk_s...cret"));
        assert!(!Digest::of(b"").is_kept_secret_by("anything"));
    }
}
