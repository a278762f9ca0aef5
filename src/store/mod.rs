//! The only access to the tables of schema `api_tokens`: scans and SQL text, one function per
//! question. Nothing here decides anything about a token.

pub mod cleanup;
mod columns;
pub mod events;
mod membership;
pub mod metadata_schemas;
pub mod namespace_limits;
pub mod quotas;
pub mod revocation;
pub mod rights;
mod statement;
pub mod token;
pub mod tokens;
pub mod update;
pub mod usage;
pub mod uses;
pub mod vault;
