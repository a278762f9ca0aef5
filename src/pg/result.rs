//! Reading what a statement has returned.

use pgrx::PgMemoryContexts;

/// Runs `read` inside of a statement of SPI so that what it fetches goes with the statement. pgrx copies
/// such values into the parent of the memory that is current; that would be the transaction's own, where
/// they would pile up from call to call.
pub fn read<R: 'static>(read: impl FnOnce() -> R) -> R {
    let mut memory = PgMemoryContexts::new("api_tokens: a result");
    // SAFETY: what is returned is owned, so it does not lie in the memory that goes.
    unsafe { memory.switch_to(|_| read()) }
}
