//! The vault: values of third parties' keys, sealed before they touch a table.

mod dek;
mod lifecycle;
mod passphrase;
mod read;
mod rekey;
mod rotate;
mod status;
mod store;
mod verify;
