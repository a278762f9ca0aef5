//! The token that this transaction acts as.
//!
//! It is memory of this backend and not a setting: no SQL can set it but by presenting the token.
//! It ends with the transaction and follows savepoints.

use crate::pg::transaction::{self, Watcher};
use crate::store::token::Holder;
use api_tokens_logic::nested::Nested;
use std::cell::RefCell;

thread_local! {
    static IDENTITY: RefCell<Nested<Holder>> = const { RefCell::new(Nested::new()) };
}

/// Has the identity follow transactions. Call it once, from `_PG_init`.
pub fn follow_transactions() {
    transaction::watch(Watcher {
        released: |subtransaction, parent| {
            IDENTITY.with_borrow_mut(|identity| identity.release(subtransaction, parent));
        },
        rolled_back: |subtransaction| {
            IDENTITY.with_borrow_mut(|identity| identity.roll_back(subtransaction));
        },
        ended: || IDENTITY.with_borrow_mut(Nested::end),
    });
}

/// Becomes this token, or nobody.
pub fn set(holder: Option<Holder>) {
    IDENTITY.with_borrow_mut(|identity| identity.set(transaction::subtransaction(), holder));
}

/// Gives `read` the token that the transaction acts as, if there is one.
pub fn read<R>(read: impl FnOnce(&Holder) -> R) -> Option<R> {
    IDENTITY.with_borrow(|identity| identity.current().map(read))
}
