//! Keys and plaintext: wiped when dropped, and without `Debug`, so that no log can show them.

use std::fmt;
use zeroize::Zeroizing;

pub const KEY_BYTES: usize = 32;

/// Plaintext on its way; wiped when dropped.
pub type Plaintext = Zeroizing<Vec<u8>>;

/// A 256-bit key. Boxed: moving it leaves no copy behind.
pub struct Key(Box<Zeroizing<[u8; KEY_BYTES]>>);

impl Key {
    /// A key made by whoever fills it.
    pub fn filled(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; KEY_BYTES]));
        fill(&mut bytes[..]);
        Self(bytes)
    }

    /// `None` unless there are exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY_BYTES).then(|| Self::filled(|key| key.copy_from_slice(bytes)))
    }

    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// Which key sealed a box: the id of a DEK, or a KEK's fingerprint. Not a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 16]);

/// As hexadecimal digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
