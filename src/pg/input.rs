//! Text read by a Postgres type's own input function, with a refusal instead of an ERROR.

use super::argument::{CidrArray, IntervalValue};
use api_tokens_logic::time::Timestamp;
use pgrx::PgSqlErrorCode;
use pgrx::PgTryBuilder;
use pgrx::pg_sys::{self, Datum};
use std::ffi::CString;

/// See [`read`].
pub fn timestamptz(text: &str) -> Option<Timestamp> {
    read(pg_sys::TIMESTAMPTZOID, text).map(|datum| Timestamp(datum.value() as i64))
}

/// See [`read`].
pub fn interval(text: &str) -> Option<IntervalValue> {
    read(pg_sys::INTERVALOID, text).map(IntervalValue)
}

/// See [`read`].
pub fn cidrs(texts: &[String]) -> Option<CidrArray> {
    let quoted = |text: &String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let literal = texts.iter().map(quoted).collect::<Vec<_>>().join(",");
    read(pg_sys::CIDRARRAYOID, &format!("{{{literal}}}")).map(CidrArray)
}

/// The datum of type `oid` that `text` spells, or `None` if it spells none.
///
/// The input function's ERROR would quote the text, which may be a secret in the wrong place. It
/// runs in a subtransaction, so that swallowing its ERROR leaves nothing half-done.
fn read(oid: pg_sys::Oid, text: &str) -> Option<Datum> {
    let text = CString::new(text).ok()?;
    // SAFETY: these save where we are, to return there from the subtransaction.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    let return_there = || {
        // SAFETY: restores what was saved; both outlive the subtransaction.
        unsafe {
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
        }
    };
    // SAFETY: begun here, and ended in both branches below.
    unsafe {
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
    }
    PgTryBuilder::new(|| {
        let value = call_input(oid, &text);
        // SAFETY: ends the subtransaction that was begun above.
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        return_there();
        Some(value)
    })
    .catch_others(|error| {
        // SAFETY: rolls back the subtransaction in which the input function raised, so that
        // whoever catches a rethrown error finds their own on top.
        unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
        return_there();
        match error {
            pgrx::pg_sys::panic::CaughtError::PostgresError(report)
                if is_data_error(report.sql_error_code()) =>
            {
                None
            }
            // A cancel or an out-of-memory is not about the text.
            other => other.rethrow(),
        }
    })
    .execute()
}

/// Class 22: the text is at fault.
fn is_data_error(code: PgSqlErrorCode) -> bool {
    const CLASS_22: i32 = 2 + (2 << 6);
    (code as i32) & 0xfff == CLASS_22
}

fn call_input(oid: pg_sys::Oid, text: &CString) -> Datum {
    let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: `oid` is a built-in type, so its input function exists; the text is NUL-terminated.
    unsafe {
        pg_sys::getTypeInputInfo(oid, &mut function, &mut parameter);
        pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), parameter, -1)
    }
}
