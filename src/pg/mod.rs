//! The server as Rust sees it, and the only unsafe code of this extension.
//!
//! Each module wraps one facility so that its callers need no unsafe: nothing here names one of
//! our tables or decides anything about tokens.
#![allow(unsafe_code)]

pub mod argument;
pub mod clock;
pub mod compat;
pub mod datum;
pub mod input;
pub mod kept;
pub mod key_source;
pub mod latest;
pub mod log;
mod overwrite;
pub mod raise;
pub mod random;
mod raw;
pub mod record;
pub mod result;
pub mod role;
pub mod row;
pub mod scan;
pub mod shmem;
pub mod touch;
pub mod transaction;
pub mod trigger;
pub mod wal;
pub mod words;
pub mod worker;
