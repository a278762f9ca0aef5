//! Writing the uses that are kept in shared memory, one short-lived process per flush.
//!
//! The first use of a database after a flush asks for a worker. It waits for the flush interval
//! without a connection, so that it is in the way of no DROP DATABASE; then it connects, writes,
//! and ends. If more uses came meanwhile it asks for its successor. So no worker is there where
//! nothing is used, and one that dies of an error is simply asked for again by the next use.

use crate::error::{Error, Result};
use crate::guc;
use crate::pg::shmem::{self, Shared};
use crate::pg::{clock, worker};
use crate::store::uses;
use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::{Datum, Oid};
use pgrx::{PgTryBuilder, pg_guard};
use std::time::Instant;

#[pg_guard]
#[allow(unsafe_code, reason = "the postmaster finds it by its name")]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn api_tokens_flush(database: Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let database = database.value() as u32;
    worker::take_over_claim(database);
    let stopping = wait() == Woken::ToStop;
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(Oid::from(database)), None);
    let Some(shared) = shmem::shared() else { return };
    flush(&shared);
    worker::release_claim();
    let stopping = stopping || BackgroundWorker::sigterm_received();
    if !stopping && !uses::pending(&shared).is_empty() {
        worker::ensure_flush();
    }
}

#[derive(PartialEq, Eq)]
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

/// Counts the failure and lets it end the worker: the uses stay pending.
fn flush(shared: &Shared) {
    let shared = *shared;
    PgTryBuilder::new(move || {
        let outcome = write_all(&shared);
        if let Err(error) = outcome {
            pgrx::pg_sys::panic::ErrorReport::from(error).report(pgrx::PgLogLevel::ERROR);
        }
    })
    .catch_others(move |error| {
        shared.counters().flush_failed(sqlstate(&error));
        error.rethrow()
    })
    .execute();
}

fn write_all(shared: &Shared) -> Result<()> {
    let (installed, databases) = BackgroundWorker::transaction(|| {
        Ok::<_, Error>((uses::is_installed()?, uses::databases()?))
    })?;
    let here = shmem::database();
    shared
        .map()
        .forget(|database| !databases.contains(&database) || (database == here && !installed));
    let mut rows = 0;
    for batch in uses::pending(shared) {
        rows += BackgroundWorker::transaction(|| uses::write(shared, &batch));
    }
    shared.counters().flushed(rows, clock::now());
    Ok(())
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
