//! Background workers, started from any backend.

use super::shmem::{self, Claim};
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use pgrx::{IntoDatum, PgLogLevel, PgSqlErrorCode};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The symbol that the postmaster calls in a worker that flushes; `crate::worker` defines it.
const FLUSH_ENTRY_POINT: &str = "api_tokens_flush";

/// Sees to it that a flush of this session's database is under way; `false` if none can be.
///
/// A worker that is asked for on a standby is started when it is promoted.
pub fn ensure_flush() -> bool {
    let Some(shared) = shmem::shared() else { return false };
    if has_failed_lately() {
        return false;
    }
    let database = shmem::database();
    match shared.claim_flush(database) {
        Claim::UnderWay => return true,
        Claim::NoPlace => return false,
        Claim::Mine => {}
    }
    let worker = BackgroundWorkerBuilder::new("api_tokens flush")
        .set_library("api_tokens")
        .set_function(FLUSH_ENTRY_POINT)
        .set_argument(pg_sys::Oid::from(database).into_datum())
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .load_dynamic();
    if worker.is_err() {
        shared.release(database);
        warn();
        return false;
    }
    true
}

thread_local! {
    static FAILED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A server without a free place for a worker is not asked again with every check.
fn has_failed_lately() -> bool {
    const RETRY_AFTER: Duration = Duration::from_secs(60);
    FAILED_AT.get().is_some_and(|at| at.elapsed() < RETRY_AFTER)
}

fn warn() {
    FAILED_AT.set(Some(Instant::now()));
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        "api_tokens could not start a background worker",
        "api_tokens",
    )
    .set_detail("Uses of tokens are written by the checks themselves.")
    .set_hint("Raise max_worker_processes.")
    .report(PgLogLevel::WARNING);
}

thread_local! {
    /// The database whose flush this worker has claimed, until it has released it.
    static CLAIMED: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Takes over the claim this worker was started with: it is released when the worker ends, however
/// it ends, so that the next use can start another.
pub fn take_over_claim(database: u32) {
    CLAIMED.set(Some(database));
    // SAFETY: registers a callback of the right type in this process, which is about to work.
    unsafe { pg_sys::before_shmem_exit(Some(at_exit), Datum::from(0)) };
}

pub fn release_claim() {
    if let (Some(database), Some(shared)) = (CLAIMED.take(), shmem::shared()) {
        shared.release(database);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: i32, _argument: Datum) {
    release_claim();
}

/// Reads the configuration files again, as the main loop of a backend does after SIGHUP.
pub fn reload_settings() {
    // SAFETY: between transactions of a worker, where Postgres' own workers do the same.
    unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
}
