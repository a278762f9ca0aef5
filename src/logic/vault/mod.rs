//! The vault's cryptography: what is sealed how, and by which keys. No table, no file, no clock.
//!
//! Three layers of keys: a key-encryption key (KEK) outside the database seals one data key (DEK)
//! per namespace and generation, which is a row; each sealed value has a key of its own, derived
//! from the DEK. Changing the KEK rewrites one small row per namespace; destroying a DEK destroys
//! the values of a namespace wherever copies of them may lie.

pub mod keyring;
pub mod passphrase;
pub mod seal;
pub mod secret;

#[cfg(test)]
mod tests;
