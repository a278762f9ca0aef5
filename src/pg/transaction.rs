//! What the current transaction is and may do.

use super::compat;
use api_tokens_logic::cursor::History;
use api_tokens_logic::quota::{Outcome, User};
use pgrx::pg_sys;
use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

/// Raises 25006 where nothing can be written, in the words Postgres uses for its own commands.
pub fn require_writable(function: &CStr) {
    // SAFETY: both read the transaction's state and raise an ERROR at most.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(function.as_ptr());
        pg_sys::PreventCommandIfParallelMode(function.as_ptr());
    }
}

/// Could a page be changed here?
pub(super) fn can_touch() -> bool {
    // SAFETY: these read backend-local state.
    unsafe { !pg_sys::XactReadOnly && !pg_sys::IsInParallelMode() && !is_in_recovery() }
}

/// Does one snapshot serve the whole transaction (REPEATABLE READ and above)?
pub fn keeps_its_snapshot() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

pub fn is_in_recovery() -> bool {
    // SAFETY: reads a flag in shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// The full ids of the innermost subtransaction and of the transaction, given if they have none yet.
pub fn user() -> User {
    // SAFETY: assigns ids; an ERROR where none can be had, as in recovery.
    unsafe {
        let top = pg_sys::GetTopFullTransactionId().value;
        User { innermost: pg_sys::GetCurrentFullTransactionId().value, top }
    }
}

/// How a transaction ended, by its full id. One that nobody remembers is taken for committed.
pub fn outcome(transaction: u64) -> Outcome {
    // SAFETY: reads the counter of ids, and the transaction's state.
    let (next, is_current) = unsafe {
        let id = transaction as u32;
        let is_current = pg_sys::TransactionIdIsCurrentTransactionId(id.into());
        (pg_sys::ReadNextFullTransactionId().value, is_current)
    };
    if transaction >= next {
        return Outcome::Committed;
    }
    if is_current && next - transaction < 1 << 31 {
        return Outcome::Own;
    }
    // SAFETY: the server's own function of a full id, which lies in the past.
    let status = unsafe {
        pgrx::direct_function_call::<String>(pg_sys::pg_xact_status, &[Some(transaction.into())])
    };
    match status.as_deref() {
        Some("in progress") => Outcome::UnderWay,
        Some("aborted") => Outcome::RolledBack,
        _ => Outcome::Committed,
    }
}

/// In milliseconds.
const MOMENT: i64 = 5;

/// Waits a moment, after so many of them. What is waited for is no lock, so that Postgres finds no
/// deadlock in it; but `lock_timeout` holds, and `statement_timeout`.
pub fn wait_a_moment(moments: u32) {
    pgrx::check_for_interrupts!();
    // SAFETY: reads a setting, in milliseconds; 0 is none.
    let timeout = i64::from(unsafe { pg_sys::LockTimeout });
    if timeout > 0 && MOMENT * i64::from(moments) >= timeout {
        pgrx::ereport!(
            ERROR,
            pgrx::PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            "canceling statement due to lock timeout"
        );
    }
    let wakes = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: waits on this process's own latch, shown as a wait of an extension, and resets it, as all
    // waits of Postgres do.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, wakes as i32, MOMENT, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

/// Waits until a transaction has ended.
pub fn wait_for(transaction: u32) {
    pgrx::check_for_interrupts!();
    // SAFETY: waits for the lock that each transaction holds on its id, which raises an ERROR for a
    // deadlock, and would wait forever for its own; no row is told of.
    unsafe {
        if pg_sys::TransactionIdIsCurrentTransactionId(transaction.into()) {
            pgrx::error!("this transaction has locked or deleted a row of api_tokens.quotas");
        }
        let (relation, row) = (std::ptr::null_mut(), std::ptr::null_mut());
        let what = pg_sys::XLTW_Oper::XLTW_None;
        pg_sys::XactLockTableWait(transaction.into(), relation, row, what);
    }
}

/// The history that transaction ids belong to: the cluster's system identifier, and its timeline,
/// since after a promotion some ids are used again. On a standby, the timeline it follows.
pub fn history() -> History {
    // SAFETY: read fields of shared memory; the insertion timeline only outside of recovery, where
    // it is set.
    unsafe {
        let mut timeline = 0;
        if is_in_recovery() {
            pg_sys::GetXLogReplayRecPtr(&mut timeline);
        } else {
            timeline = compat::insertion_timeline();
        }
        let cluster = pg_sys::GetSystemIdentifier().cast_signed();
        History { cluster, timeline: timeline.cast_signed() }
    }
}

/// What is told of transactions as they end. None may raise: the transaction is past that.
#[derive(Clone, Copy)]
pub struct Watcher {
    /// A subtransaction was released into its parent.
    pub released: fn(subtransaction: u32, parent: u32),
    /// A subtransaction was rolled back, or failed.
    pub rolled_back: fn(subtransaction: u32),
    /// The transaction was committed, rolled back or prepared.
    pub ended: fn(),
}

static WATCHER: OnceLock<Watcher> = OnceLock::new();

/// Has Postgres tell us. Call it once, from `_PG_init`.
pub fn watch(watcher: Watcher) {
    if WATCHER.set(watcher).is_err() {
        return;
    }
    // SAFETY: register callbacks of the right types, which use no argument.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::*;
    // Deferred triggers still run before a commit, so what comes before these events is too early.
    let ends = [
        XACT_EVENT_COMMIT,
        XACT_EVENT_ABORT,
        XACT_EVENT_PREPARE,
        XACT_EVENT_PARALLEL_COMMIT,
        XACT_EVENT_PARALLEL_ABORT,
    ];
    if let Some(watcher) = WATCHER.get().filter(|_| ends.contains(&event)) {
        (watcher.ended)();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::*;
    match (WATCHER.get(), event) {
        (Some(watcher), SUBXACT_EVENT_COMMIT_SUB) => (watcher.released)(subtransaction, parent),
        (Some(watcher), SUBXACT_EVENT_ABORT_SUB) => (watcher.rolled_back)(subtransaction),
        _ => {}
    }
}

/// The number of the innermost subtransaction; the transaction itself has one too.
pub fn subtransaction() -> u32 {
    // SAFETY: reads the transaction's state.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}
