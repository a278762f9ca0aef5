//! What of secrets reaches the server's log: nothing, as far as they can be recognised.
//!
//! Postgres lets a hook change an entry before it is written. An error of ours is logged without its
//! statement and context, which may have a token written into them. (pgrx cannot raise it so: while it
//! carries an error through Rust it forgets these two flags.) And with `api_tokens.redact_log` secrets are
//! taken out of all entries, whoever writes them; see `api_tokens_logic::redact`. A message that is
//! changed for the log is changed for the client too, to whom the same text is sent afterwards.
//!
//! The hook runs while an error is written. So it works in place, does not raise, and can do without the
//! memory it asks for.

use api_tokens_logic::redact;
use pgrx::pg_sys::{self, emit_log_hook_type};
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

/// The function that errors of ours name as their place.
pub const OURS: &str = "api_tokens";

/// What the hook calls when it is done, and asks whether to redact.
struct Hook {
    next: emit_log_hook_type,
    redacts: fn() -> bool,
}

static HOOK: OnceLock<Hook> = OnceLock::new();

/// Has the log leave out what it should. Call it once, from `_PG_init`.
pub fn install_hook(redacts: fn() -> bool) {
    // SAFETY: hooks are set while a library is loaded, by one thread; what was there is called.
    unsafe {
        if HOOK.set(Hook { next: pg_sys::emit_log_hook, redacts }).is_ok() {
            pg_sys::emit_log_hook = Some(before_writing);
        }
    }
}

unsafe extern "C-unwind" fn before_writing(entry: *mut pg_sys::ErrorData) {
    let Some(hook) = HOOK.get() else { return };
    // SAFETY: Postgres passes the entry being written, its texts NULL or C strings of its own.
    unsafe {
        let entry = &mut *entry;
        let is_ours = text(entry.funcname).is_some_and(|name| name == OURS.as_bytes());
        if is_ours {
            entry.hide_stmt = true;
            entry.hide_ctx = true;
        }
        if (hook.redacts)() {
            redact(entry, is_ours);
        }
        if let Some(next) = hook.next {
            next(entry);
        }
    }
}

/// # Safety
/// As [`before_writing`].
unsafe fn redact(entry: &mut pg_sys::ErrorData, is_ours: bool) {
    // SAFETY: the entry's texts are C strings that nobody else has; the statement is one that lives
    // while it runs.
    unsafe {
        let statement = pg_sys::debug_query_string;
        let names_a_secret = |place: *const c_char| text(place).is_some_and(redact::names_a_secret);
        let in_detail = names_a_secret(entry.detail) || names_a_secret(entry.detail_log);
        let in_context = names_a_secret(entry.context) || names_a_secret(entry.internalquery);
        let in_message = names_a_secret(entry.message);
        if in_message || in_detail || in_context || names_a_secret(statement) {
            entry.hide_stmt = true;
            entry.hide_ctx = true;
            // Parameters, or values that do not fit; the client may see those.
            if !is_ours && !entry.detail.is_null() {
                entry.detail_log = copy_to(entry.assoc_context, c"(hidden)".as_ptr());
                if entry.detail_log.is_null() {
                    entry.detail = std::ptr::null_mut();
                }
            }
            // A message that logs a statement; an error's own may name a function. What EXECUTE executes
            // is told by the detail.
            let logs_a_statement = entry.elevel < pgrx::PgLogLevel::ERROR as i32;
            if logs_a_statement && (in_message || in_detail) {
                shrink(entry.message, redact::hide_statement);
            }
        }
        for place in [
            entry.message,
            entry.detail,
            entry.detail_log,
            entry.hint,
            entry.context,
            entry.internalquery,
        ] {
            shrink(place, redact::shorten_tokens);
        }
        if !entry.hide_stmt && text(statement).is_some_and(redact::holds_a_token) {
            entry.hide_stmt = !replace_statement(statement);
        }
    }
}

/// # Safety
/// `place` must be NULL or a C string.
unsafe fn text<'a>(place: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: as promised by the caller.
    unsafe { (!place.is_null()).then(|| CStr::from_ptr(place).to_bytes()) }
}

/// # Safety
/// `place` must be NULL or a C string that nobody else has.
unsafe fn shrink(place: *mut c_char, change: fn(&mut [u8]) -> usize) {
    if place.is_null() {
        return;
    }
    // SAFETY: as promised by the caller; the new end lies within the old text.
    unsafe {
        let length = CStr::from_ptr(place).count_bytes();
        let bytes = std::slice::from_raw_parts_mut(place.cast::<u8>(), length);
        let length = change(bytes);
        place.add(length).write(0);
    }
}

/// Puts a copy without tokens in the place of the statement that the log names; others still use the
/// statement itself. `false` if there is no memory for one.
///
/// # Safety
/// `statement` must be a C string.
unsafe fn replace_statement(statement: *const c_char) -> bool {
    // SAFETY: MessageContext lives as long as a statement is named, or is NULL.
    unsafe {
        let copy = copy_to(pg_sys::MessageContext, statement);
        if !copy.is_null() {
            shrink(copy, redact::shorten_tokens);
            pg_sys::debug_query_string = copy;
        }
        !copy.is_null()
    }
}

/// A copy in a memory context; NULL without one, or without memory.
///
/// # Safety
/// `text` must be a C string, and the context live or NULL.
unsafe fn copy_to(context: pg_sys::MemoryContext, text: *const c_char) -> *mut c_char {
    if context.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: as promised by the caller; the copy is as long as the text with its end.
    unsafe {
        let size = CStr::from_ptr(text).to_bytes_with_nul().len();
        let flags = pg_sys::MCXT_ALLOC_NO_OOM | pg_sys::MCXT_ALLOC_HUGE;
        let copy = pg_sys::MemoryContextAllocExtended(context, size, flags as i32).cast::<c_char>();
        if !copy.is_null() {
            copy.copy_from_nonoverlapping(text, size);
        }
        copy
    }
}
