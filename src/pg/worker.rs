//! Background workers, started from any backend.

use super::{clock, compat, shmem, transaction};
use api_tokens_logic::claims::Claim;
use api_tokens_logic::time::{Span, Timestamp};
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use pgrx::{IntoDatum, PgLogLevel, PgSqlErrorCode};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The symbol that the postmaster calls in a worker that flushes; `crate::worker` defines it.
const FLUSH_ENTRY_POINT: &str = "api_tokens_flush";

/// Sees to it that a flush of this session's database is under way; `false` if none can be.
/// `interval` is how long a worker waits before it flushes.
///
/// A worker that is asked for on a standby is started when it is promoted. It is told how many
/// flushes have failed in a row.
pub fn ensure_flush(interval: Duration, failures: u32) -> bool {
    start(interval, failures, false)
}

/// For a worker whose work is not done: sees to a successor, and waits until it has started; `false`
/// if it has not, which is so where the server stops.
pub fn hand_over(interval: Duration) -> bool {
    start(interval, 0, true)
}

fn start(interval: Duration, failures: u32, wait: bool) -> bool {
    let Some(shared) = shmem::shared() else { return false };
    if has_failed_lately() {
        return false;
    }
    let database = shmem::database();
    let stamp = match shared.claims().claim(database, clock::now(), patience(interval)) {
        Claim::Mine(stamp) => stamp,
        Claim::UnderWay => return true,
        Claim::NoPlace => {
            FAILED_AT.set(Some(Instant::now()));
            shared.counters().flush_failed(*b"53400", clock::now());
            return false;
        }
    };
    // SAFETY: the process id is set once, at the start of the process.
    let here = unsafe { pg_sys::MyProcPid };
    let started = BackgroundWorkerBuilder::new("api_tokens flush")
        .set_library("api_tokens")
        .set_function(FLUSH_ENTRY_POINT)
        .set_argument(pg_sys::Oid::from(database).into_datum())
        .set_extra(&failures.to_string())
        .set_notify_pid(if wait { here } else { 0 })
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .load_dynamic();
    let Ok(worker) = started else {
        shared.claims().release(database, stamp);
        shared.counters().flush_failed(*b"53400", clock::now());
        warn();
        return false;
    };
    if wait && worker.wait_for_startup().is_err() {
        shared.claims().release(database, stamp);
        return false;
    }
    true
}

/// How many flushes have failed before this worker was started.
pub fn failures() -> u32 {
    BackgroundWorker::get_extra().parse().unwrap_or(0)
}

/// How long a worker may take, waiting included, before it is taken to be gone. On a standby it
/// waits for the promotion.
fn patience(interval: Duration) -> Span {
    const TO_START_AND_FLUSH: Duration = Duration::from_secs(60);
    if transaction::is_in_recovery() {
        return Span(i64::MAX);
    }
    Span((2 * interval + TO_START_AND_FLUSH).as_micros() as i64)
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
    /// What this worker has claimed, until it has let go of it.
    static CLAIMED: Cell<Option<(u32, Timestamp)>> = const { Cell::new(None) };
}

/// Takes over the claim this worker was started with: it is let go of when the worker ends,
/// however it ends, so that the next use can start another.
pub fn take_over_claim(database: u32) {
    let stamp = shmem::shared().and_then(|shared| shared.claims().stamp(database));
    CLAIMED.set(stamp.map(|stamp| (database, stamp)));
    // SAFETY: registers a callback of the right type in this process, which is about to work.
    unsafe { pg_sys::before_shmem_exit(Some(at_exit), Datum::from(0)) };
}

pub fn release_claim() {
    if let (Some((database, stamp)), Some(shared)) = (CLAIMED.take(), shmem::shared()) {
        shared.claims().release(database, stamp);
    }
}

/// Connects the worker, as a superuser, with settings of its own: it must be able to write where
/// the database is read-only by default, must not be ended before it has given back what it did not
/// write, and must not wait for a lock for long, nor for a standby, since a server that stops waits for it.
pub fn connect(database: u32) {
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(pg_sys::Oid::from(database)), None);
    let timeout = compat::TRANSACTION_TIMEOUT.map(|name| (name, c"0"));
    let settings = [
        (c"role", c"none"),
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_isolation", c"read committed"),
        (c"lock_timeout", c"2s"),
        (c"statement_timeout", c"0"),
        (c"synchronous_commit", c"local"),
    ];
    for (name, value) in settings.into_iter().chain(timeout) {
        // SAFETY: NUL-terminated literals, set as a session of a superuser would.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: i32, _argument: Datum) {
    // One that ends in good order has let go of its claim. This one could not connect.
    if let (Some(_), Some(shared)) = (CLAIMED.get(), shmem::shared()) {
        shared.counters().flush_failed(*b"57P03", clock::now());
    }
    release_claim();
}

/// Reads the configuration files again, as the main loop of a backend does after SIGHUP.
pub fn reload_settings() {
    // SAFETY: between transactions of a worker, where Postgres' own workers do the same.
    unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
}
