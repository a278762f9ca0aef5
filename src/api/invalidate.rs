//! Revocation, for good.

use super::Answer;
use super::validate::digest_of;
use crate::error::Result;
use crate::pg::argument::TokenText;
use crate::pg::datum::timestamp;
use crate::pg::{clock, transaction};
use crate::store::events::{self, Event};
use crate::store::revocation::{self, Selection};
use crate::store::tokens::Handle;
use api_tokens_logic::event::Method;
use api_tokens_logic::input;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Uuid, pg_extern};

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_invalidate(token: Option<TokenText>) -> Answer<bool> {
    transaction::require_writable(c"api_token_invalidate()");
    let handle = digest_of(token.as_ref()).map(Handle::Digest);
    Ok(invalidate(handle, Method::Invalidate)?)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_invalidate_by_id(token_id: Option<Uuid>) -> Answer<bool> {
    transaction::require_writable(c"api_token_invalidate_by_id()");
    Ok(invalidate(token_id.map(Handle::Id), Method::InvalidateById)?)
}

/// True if the token is known. Revoking what is revoked changes nothing and tells nobody.
fn invalidate(handle: Option<Handle>, method: Method) -> Result<bool> {
    let Some(held) = handle.and_then(|handle| handle.hold()) else {
        return Ok(false);
    };
    let now = clock::now();
    if !held.lifetime.is_revoked(now) {
        revocation::revoke(&held, now)?;
        events::record(method, Event::of(&held.namespace, held.token_id))?;
    }
    Ok(true)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_invalidate_all(
    namespace: Option<&str>,
    before: Option<TimestampWithTimeZone>,
    after: Option<TimestampWithTimeZone>,
) -> Answer<i64> {
    transaction::require_writable(c"api_token_invalidate_all()");
    let (before, after) = (before.map(timestamp), after.map(timestamp));
    Ok(invalidate_all(&Selection { namespace, before, after })?)
}

pub(super) fn invalidate_all(selection: &Selection) -> Result<i64> {
    if selection.namespace.is_some() {
        input::namespace(selection.namespace)?;
    }
    let revoked = revocation::revoke_all(selection, clock::now())?.len() as i64;
    if revoked > 0 {
        let (namespace, count) = (selection.namespace, Some(revoked));
        events::record(Method::InvalidateAll, Event { namespace, count, ..Event::default() })?;
    }
    Ok(revoked)
}
