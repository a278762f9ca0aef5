//! The tables of the vault. What is sealed goes in and comes out sealed.

pub mod deks;
pub mod secrets;
pub mod versions;
