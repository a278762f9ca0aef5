//! What `api_tokens` decides, as pure functions: no Postgres type, no clock, no randomness.
//!
//! Time comes in as an argument, random bytes come in through a closure, rows come in as plain
//! structs. So every rule here is tested by `cargo test -p api_tokens_logic` without a server.
#![forbid(unsafe_code)]

pub mod array;
pub mod change;
pub mod claims;
pub mod counters;
pub mod cursor;
pub mod digest;
pub mod error;
pub mod event;
pub mod header;
pub mod id;
pub mod input;
pub mod lifetime;
pub mod limits;
pub mod metadata_schema;
pub mod nested;
pub mod network;
pub mod quota;
pub mod rate;
pub mod rate_map;
pub mod redact;
pub mod rights;
pub mod rotation;
pub mod scope;
pub mod spin;
pub mod time;
pub mod token;
pub mod touch_map;
pub mod vault;
pub mod verdict;

pub use error::{Error, Result};
