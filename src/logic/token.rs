//! The token itself.
//!
//! ```text
//! sk_7Hq2mXk0vB9sT4wYc1LpR8dNf3GjZe6U41cXoL
//! ^^ ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ ^^^^^^
//!  |  32 secret characters, 190 bits   CRC-32 of all before it, 6 base62 digits
//!  prefix
//! ```
//!
//! The check lets a gateway or a secret scanner reject a typo without asking the database (the
//! scheme GitHub described in 2021). It proves nothing about validity.

use crate::digest::Digest;
use crate::error::{Error, Result};
use std::ops::Range;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_CHARS: usize = 32;
const CHECK_CHARS: usize = 6;
const MAX_PREFIX_BYTES: usize = 20;
/// Characters of the secret that a display text shows at its start, and of the token at its end.
const SHOWN_CHARS: usize = 4;

/// `[a-z][a-z0-9]*(_[a-z0-9]+)*`, 1 to 20 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > MAX_PREFIX_BYTES {
            let (max, actual) = (MAX_PREFIX_BYTES, text.len());
            return Err(Error::Length { argument: "prefix", min: 1, max, actual });
        }
        if !is_prefix(text.as_bytes()) {
            return Err(Error::Malformed {
                argument: "prefix",
                expected: "lower-case letters and digits, starting with a letter, words joined by \"_\"",
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// The prefix inside a display text made by [`Token::display_prefix`]; `sk` for any other.
    pub fn of_display(display: &str) -> Self {
        display
            .split_once("...")
            .and_then(|(start, _)| start.rsplit_once('_'))
            .and_then(|(prefix, _)| Self::parse(prefix).ok())
            .unwrap_or_else(|| Self("sk".to_owned()))
    }
}

fn is_prefix(text: &[u8]) -> bool {
    let is_word = |word: &[u8]| {
        !word.is_empty() && word.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (1..=MAX_PREFIX_BYTES).contains(&text.len())
        && text[0].is_ascii_lowercase()
        && text.split(|b| *b == b'_').all(is_word)
}

/// A freshly made token. It can be exposed, once, to the caller it was made for; it has no
/// `Debug` and no `Display`.
pub struct Token(String);

impl Token {
    /// `fill` supplies bytes of a cryptographic random source. Bytes that would favour some
    /// characters are thrown away (rejection sampling), so all 62 are equally likely.
    pub fn generate(prefix: &Prefix, mut fill: impl FnMut(&mut [u8])) -> Self {
        const UNBIASED: u8 = (256 / 62 * 62) as u8;
        let mut token = format!("{}_", prefix.0);
        let end = token.len() + SECRET_CHARS;
        let mut random = [0_u8; SECRET_CHARS + 8];
        while token.len() < end {
            fill(&mut random);
            let missing = end - token.len();
            let fair = random.iter().filter(|byte| **byte < UNBIASED).take(missing);
            token.extend(fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
        }
        token.extend(check(token.as_bytes()).map(char::from));
        Self(token)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// `<prefix>_` + 4 characters + `...` + the last 4: enough to recognise, not to use.
    pub fn display_prefix(&self) -> String {
        let token = &self.0;
        let secret_at = token.len() - SECRET_CHARS - CHECK_CHARS;
        let (start, end) = (&token[..secret_at + SHOWN_CHARS], &token[token.len() - SHOWN_CHARS..]);
        format!("{start}...{end}")
    }
}

/// Has `text` the form of a token, checksum included? Allocates nothing: logs are searched with it.
pub fn looks_valid(text: &[u8]) -> bool {
    let Some(body_len) = text.len().checked_sub(CHECK_CHARS) else {
        return false;
    };
    let (body, given_check) = text.split_at(body_len);
    let Some(prefix_len) = body.len().checked_sub(SECRET_CHARS + 1) else {
        return false;
    };
    let (prefix, secret) = body.split_at(prefix_len);
    secret[0] == b'_'
        && secret[1..].iter().all(u8::is_ascii_alphanumeric)
        && is_prefix(prefix)
        && check(body) == given_check
}

/// The first token in a text, wherever it begins and ends.
pub fn find(text: &[u8]) -> Option<Range<usize>> {
    let behind = 1 + SECRET_CHARS + CHECK_CHARS;
    let underscores = (1..text.len()).filter(|at| text[*at] == b'_');
    underscores.filter(|at| at + behind <= text.len()).find_map(|at| {
        let end = at + behind;
        let starts = at.saturating_sub(MAX_PREFIX_BYTES)..at;
        starts.into_iter().find(|start| looks_valid(&text[*start..end])).map(|start| start..end)
    })
}

/// Where a token's secret is not shown in its display text: what is between becomes `...`.
pub fn hidden_part(token: &Range<usize>) -> Range<usize> {
    token.end - SECRET_CHARS - CHECK_CHARS + SHOWN_CHARS..token.end - SHOWN_CHARS
}

/// CRC-32 (IEEE 802.3) as 6 base62 digits, most significant first, zero padded.
fn check(body: &[u8]) -> [u8; CHECK_CHARS] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [0_u8; CHECK_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Vectors from an independent implementation (Python's `zlib.crc32`); the README gives them.
    const VECTORS: [&str; 3] = [
        "sk_0000000000000000000000000000000030OBQY",
        "sk_abcdefghijklmnopqrstuvwxyz0123451sTrBG",
        "acme_live_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ0itk4T",
    ];

    fn counting() -> impl FnMut(&mut [u8]) {
        let mut next = 0_u8;
        move |bytes| {
            bytes.fill_with(|| {
                next = next.wrapping_add(37);
                next
            })
        }
    }

    #[test]
    fn vectors() {
        for vector in VECTORS {
            assert!(looks_valid(vector.as_bytes()), "{vector}");
        }
    }

    #[test]
    fn display_shows_prefix_and_ends() {
        let token = Token(VECTORS[2].to_owned());
        assert_eq!(token.display_prefix(), "acme_live_ZZZZ...tk4T");
        assert_eq!(Prefix::of_display("acme_live_ZZZZ...tk4T").0, "acme_live");
        assert_eq!(Prefix::of_display("sk_ab12...cd34").0, "sk");
        for foreign in ["", "...", "Bearer", "_...", "X_a...b", "key-1"] {
            assert_eq!(Prefix::of_display(foreign).0, "sk", "{foreign}");
        }
    }

    #[test]
    fn every_secret_character_is_equally_likely() {
        // All 256 byte values once: 248 pass, 4 for each of the 62 characters.
        let mut next = 0_u8;
        let mut seen = [0_u32; 256];
        for _ in 0..62 * 4 {
            let token = Token::generate(&Prefix("a".into()), |bytes| {
                bytes.fill_with(|| {
                    next = next.wrapping_add(1);
                    next
                })
            });
            token.0.as_bytes()[2..34].iter().for_each(|b| seen[usize::from(*b)] += 1);
        }
        let counts: Vec<u32> = seen.iter().copied().filter(|count| *count > 0).collect();
        assert_eq!(counts.len(), 62);
        assert!(
            counts.iter().max().zip(counts.iter().min()).is_some_and(|(max, min)| max - min < 20)
        );
    }

    #[test]
    fn prefix_grammar() {
        for good in ["a", "sk", "sk_live", "a1_2b", "abcdefghijklmnopqrst"] {
            assert!(Prefix::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "SK", "1a", "_a", "a_", "a__b", "a-b", "ä", "abcdefghijklmnopqrstu"] {
            assert!(Prefix::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_generated_token_looks_valid_and_any_changed_character_does_not(
            prefix in "[a-z][a-z0-9]{0,3}(_[a-z0-9]{1,4}){0,2}",
            seed in any::<u8>(),
            at in any::<prop::sample::Index>(),
            other in "[ -~]",
        ) {
            let mut next = counting();
            let token = Token::generate(&Prefix::parse(&prefix).expect("prefix"), |bytes| {
                next(bytes);
                bytes.iter_mut().for_each(|b| *b = b.wrapping_add(seed));
            }).0;
            prop_assert_eq!(token.len(), prefix.len() + 39);
            prop_assert!(looks_valid(token.as_bytes()));
            let at = at.index(token.len());
            let mut changed = token.clone().into_bytes();
            changed[at] = other.as_bytes()[0];
            prop_assert_eq!(looks_valid(&changed), changed == token.as_bytes());
            prop_assert!(!looks_valid(&token.as_bytes()[1..]) || prefix.len() > 1);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            looks_valid(&bytes);
        }
    }
}
