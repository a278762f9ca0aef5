//! Writing the uses that are kept in shared memory, one short-lived process per flush.
//!
//! The first use of a database after a flush asks for a worker. It waits for the flush interval
//! without a connection, so that it is in the way of no DROP DATABASE; then it connects, writes,
//! and ends. If uses are left or came meanwhile, it asks for its successor, also after an error. So no
//! worker is there where nothing is used.

use crate::error::Result;
use crate::guc;
use crate::pg::shmem::{self, Shared};
use crate::pg::{clock, worker};
use crate::store::uses;
use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgTryBuilder, pg_guard};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

#[pg_guard]
#[allow(unsafe_code, reason = "the postmaster finds it by its name")]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn api_tokens_flush(database: Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let database = database.value() as u32;
    worker::take_over_claim(database);
    let failures = worker::failures();
    let woken = wait();
    worker::connect(database);
    let Some(shared) = shmem::shared() else { return };
    let is_stopping = move || woken == Woken::ToStop || BackgroundWorker::sigterm_received();
    PgTryBuilder::new(move || {
        flush(&shared, failures);
        if is_stopping() {
            flush_what_still_comes(&shared, failures);
        }
    })
    .catch_others(move |error| {
        shared.counters().flush_failed(sqlstate(&error), clock::now());
        worker::release_claim();
        if !is_stopping() && uses::is_any_pending(&shared) {
            worker::ensure_flush(guc::flush_interval(), failures + 1);
        }
        error.rethrow()
    })
    .execute();
    worker::release_claim();
    if !is_stopping() && uses::is_any_pending(&shared) && !worker::hand_over(guc::flush_interval())
    {
        flush_what_still_comes(&shared, 0);
    }
}

/// While the server stops, backends are still finishing what they do.
fn flush_what_still_comes(shared: &Shared, failures: u32) {
    const ROUNDS: usize = 50;
    const QUIET_ROUNDS: usize = 3;
    let mut quiet = 0;
    for _ in 0..ROUNDS {
        if uses::is_any_pending(shared) {
            flush(shared, failures);
            quiet = 0;
        } else if quiet == QUIET_ROUNDS {
            return;
        }
        quiet += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    ByTime,
    ToStop,
}

/// Until the interval is over, or the server stops. (pgrx' `wait_latch` takes the news of a SIGTERM
/// with it: it must be read off its result.)
fn wait() -> Woken {
    let begun = Instant::now();
    loop {
        let left = guc::flush_interval().saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Woken::ByTime;
        }
        if !BackgroundWorker::wait_latch(Some(left)) {
            return Woken::ToStop;
        }
        if BackgroundWorker::sighup_received() {
            worker::reload_settings();
        }
    }
}

/// An ERROR ends the worker; the uses stay pending.
fn flush(shared: &Shared, failures: u32) {
    let databases = within_transaction(uses::databases);
    shared.map().forget(|database| !databases.contains(&database));
    let mut rows = 0;
    for batch in uses::pending(shared, failures) {
        match within_transaction(|| uses::write(&batch, clock::now())) {
            Some(written) => rows += written,
            None => {
                let here = shmem::database();
                shared.map().forget(|database| database == here);
                break;
            }
        }
    }
    shared.counters().flushed(rows, clock::now());
}

fn within_transaction<R>(work: impl FnOnce() -> Result<R>) -> R {
    BackgroundWorker::transaction(AssertUnwindSafe(|| match work() {
        Ok(result) => result,
        Err(error) => {
            ErrorReport::from(error).report(PgLogLevel::ERROR);
            unreachable!("an ERROR does not return")
        }
    }))
}

fn sqlstate(error: &CaughtError) -> [u8; 5] {
    let report = match error {
        CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. } => report,
    };
    let packed = report.sql_error_code() as i32;
    std::array::from_fn(|place| b'0' + (packed >> (6 * place) & 0x3f) as u8)
}
