//! The SQL surface. One function is one use case, read top-down: convert the arguments, decide,
//! store, return. Names, defaults, rights and comments are in `sql/api_tokens--<version>.sql`.

mod authenticate;
mod cleanup;
mod create;
mod events;
mod header;
mod identity;
mod invalidate;
mod judge;
mod limits;
mod listing;
mod metadata_schema;
mod namespace_limits;
mod owner;
mod refresh;
mod rights;
mod scopes;
mod stats;
mod update;
mod validate;
mod vault;

/// What every function returns: only this error type carries its SQLSTATE to Postgres.
type Answer<T> = Result<T, pgrx::pg_sys::panic::ErrorReport>;
