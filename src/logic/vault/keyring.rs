//! The key-encryption keys, as an administrator writes them down: one per line, base64 of 32
//! bytes, then perhaps a label. The first is primary and seals; the others only open.

use super::secret::{KEY_BYTES, Key, KeyId};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// Far more than rotations leave behind in a lifetime.
pub const MAX_KEYS: usize = 1000;

/// A key-encryption key and how it is called.
pub struct Kek {
    pub id: KeyId,
    pub key: Key,
    pub label: Option<String>,
}

impl Kek {
    fn new(key: Key, label: Option<String>) -> Self {
        Self { id: fingerprint(&key), key, label }
    }
}

/// `HKDF-SHA256(key, salt "", info "api_tokens kek id v1")`, 16 bytes: tells keys apart without
/// telling anything about them.
fn fingerprint(key: &Key) -> KeyId {
    let mut id = KeyId([0; 16]);
    Hkdf::<Sha256>::new(None, key.as_bytes())
        .expand(b"api_tokens kek id v1", &mut id.0)
        .expect("16 bytes are less than HKDF's limit of 8160");
    id
}

/// At least one key; no two alike.
pub struct Ring(Vec<Kek>);

/// What is wrong with a text of keys: where, never what it says there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Empty,
    TooMany,
    Line { number: usize, problem: Problem },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    NotUtf8,
    NotBase64,
    WrongLength,
    Repeated,
    /// What is shown as a label would be a key.
    KeyInLabel,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("There is no key in it."),
            Self::TooMany => write!(f, "There are more than {MAX_KEYS} keys in it."),
            Self::Line { number, problem } => {
                let problem = match problem {
                    Problem::NotUtf8 => "is not UTF-8",
                    Problem::NotBase64 => "does not begin with base64",
                    Problem::WrongLength => "holds a key that is not 32 bytes long",
                    Problem::KeyInLabel => "has another key in its label",
                    Problem::Repeated => "holds a key that an earlier line has too",
                };
                write!(f, "Line {number} {problem}.")
            }
        }
    }
}

impl Ring {
    /// Reads a text of keys. Empty lines and those that begin with `#` are skipped.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let mut keys: Vec<Kek> = Vec::new();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let at = |problem| Malformed::Line { number, problem };
            let line = str::from_utf8(line).map_err(|_| at(Problem::NotUtf8))?.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if keys.len() == MAX_KEYS {
                return Err(Malformed::TooMany);
            }
            let (key, label) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if label.split_whitespace().any(|word| decode(word).is_ok()) {
                return Err(at(Problem::KeyInLabel));
            }
            let label = Some(label.trim().to_owned()).filter(|label| !label.is_empty());
            let kek = Kek::new(decode(key).map_err(at)?, label);
            if keys.iter().any(|other| other.id == kek.id) {
                return Err(at(Problem::Repeated));
            }
            keys.push(kek);
        }
        if keys.is_empty() { Err(Malformed::Empty) } else { Ok(Self(keys)) }
    }

    /// The one that seals.
    pub fn primary(&self) -> &Kek {
        &self.0[0]
    }

    pub fn find(&self, id: &KeyId) -> Option<&Kek> {
        self.0.iter().find(|kek| kek.id == *id)
    }

    /// All keys, the primary first.
    pub fn keys(&self) -> &[Kek] {
        &self.0
    }

    pub fn ids(&self) -> Vec<KeyId> {
        self.0.iter().map(|kek| kek.id).collect()
    }
}

fn decode(text: &str) -> Result<Key, Problem> {
    // Room for more than a key: what is too long must be told from what is not base64.
    let mut bytes = Zeroizing::new([0; 3 * KEY_BYTES]);
    let length = STANDARD.decode_slice(text, &mut bytes[..]).map_err(|error| match error {
        base64::DecodeSliceError::OutputSliceTooSmall => Problem::WrongLength,
        base64::DecodeSliceError::DecodeError(_) => Problem::NotBase64,
    })?;
    Key::from_slice(&bytes[..length]).ok_or(Problem::WrongLength)
}
