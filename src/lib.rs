//! `api_tokens`: API tokens inside Postgres, as SQL functions over tables of their own.
//!
//! Read it top-down: `api` (the SQL surface: convert, decide, store, return) calls `store` (the
//! only table access) and `api_tokens_logic` (the decisions, a crate without Postgres); both stand
//! on `pg` (the server as Rust sees it, the only unsafe code). Nothing leans the other way. `worker`
//! is a second way in, beside `api`.

#[cfg(not(panic = "unwind"))]
compile_error!(
    "a Postgres ERROR is carried through Rust by unwinding: build with panic = \"unwind\""
);

mod api;
mod error;
mod guc;
mod identity;
mod keyring;
mod pg;
mod store;
mod worker;

pgrx::pg_module_magic!(name, version);

/// Called once per backend, when the library is loaded; or once in the postmaster, if preloaded.
#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    guc::register();
    guc::register_vault();
    if pg::shmem::is_preloading() {
        guc::register_preloaded();
        pg::shmem::install_hooks(guc::touch_map_size(), guc::rate_map_size());
    }
    pg::compat::reserve_settings(c"api_tokens");
    pg::scan::watch_catalog();
    pg::log::install_hook(guc::redact_log);
    identity::follow_transactions();
}
