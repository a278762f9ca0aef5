//! What of our errors reaches the server's log.
//!
//! A call that is refused may have a token written into it, and the log quotes the statement that
//! failed, and in its context the statements and parameters around it. So an error of ours is
//! logged without both; its caller has the statement. pgrx cannot raise it so: while it carries the
//! error through Rust it forgets these two flags. They are set where the log is written.

use pgrx::pg_sys::{self, emit_log_hook_type};
use std::ffi::CStr;
use std::sync::OnceLock;

/// The function that errors of ours name as their place.
pub const OURS: &str = "api_tokens";
const OURS_C: &CStr = c"api_tokens";

static NEXT: OnceLock<emit_log_hook_type> = OnceLock::new();

/// Has the log leave out what it should. Call it once, from `_PG_init`.
pub fn hide_statements_of_our_errors() {
    // SAFETY: hooks are set while a library is loaded, by one thread; what was there is called.
    unsafe {
        if NEXT.set(pg_sys::emit_log_hook).is_ok() {
            pg_sys::emit_log_hook = Some(hide);
        }
    }
}

/// Runs while an error is written, so it neither allocates nor raises.
unsafe extern "C-unwind" fn hide(error: *mut pg_sys::ErrorData) {
    // SAFETY: Postgres passes the error being written; its function name is NULL or a C string.
    unsafe {
        let function = (*error).funcname;
        if !function.is_null() && CStr::from_ptr(function) == OURS_C {
            (*error).hide_stmt = true;
            (*error).hide_ctx = true;
        }
        if let Some(Some(next)) = NEXT.get() {
            next(error);
        }
    }
}
