//! The system's cryptographic random source, as Postgres itself uses it.

use pgrx::{PgLogLevel, PgSqlErrorCode, ereport, pg_sys};

/// Fills `bytes`, or raises an ERROR: a token made of anything weaker must not exist.
pub fn fill(bytes: &mut [u8]) {
    // SAFETY: the pointer and length describe a live, exclusive buffer.
    let filled = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    if !filled {
        ereport!(
            PgLogLevel::ERROR,
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            "could not read the system's random source"
        );
    }
}

pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}
