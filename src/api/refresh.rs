//! Rotation: a new token in the place of an old one.

use super::Answer;
use super::create::{checked_scopes, new_id};
use super::validate::digest_of;
use crate::error::Result;
use crate::guc::{self, OnReuse};
use crate::pg::argument::{IntervalValue, TextArray, TokenText};
use crate::pg::datum::timestamp;
use crate::pg::record::{Record, Shape, value};
use crate::pg::{clock, random, transaction};
use crate::store::events::{self, Event};
use crate::store::revocation;
use crate::store::token::HeldToken;
use crate::store::tokens::{self, Handle, Heir};
use api_tokens_logic::event::Method;
use api_tokens_logic::rotation::{self, Retirement, Rotation, Terms};
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::token::{Prefix, Token};
use api_tokens_logic::verdict::Reason;
use api_tokens_logic::{input, scope};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Uuid, pg_extern, pg_sys};

thread_local! {
    static REFRESHED: Shape = const { Shape::new(&[
        (c"ok", pg_sys::BOOLOID),
        (c"reason", pg_sys::TEXTOID),
        (c"token", pg_sys::TEXTOID),
        (c"token_prefix", pg_sys::TEXTOID),
        (c"token_id", pg_sys::UUIDOID),
    ]) };
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_refresh(
    token: Option<TokenText>,
    grace: Option<IntervalValue>,
    expires_at: Option<TimestampWithTimeZone>,
    scopes: Option<TextArray>,
) -> Answer<Record> {
    transaction::require_writable(c"api_token_refresh()");
    let handle = digest_of(token.as_ref()).map(Handle::Digest);
    let wanted = Wanted { grace, expires_at: expires_at.map(timestamp), scopes: scopes.as_ref() };
    Ok(refresh(handle, Presented::Token, &wanted)?)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_refresh_by_id(
    token_id: Option<Uuid>,
    grace: Option<IntervalValue>,
    expires_at: Option<TimestampWithTimeZone>,
    scopes: Option<TextArray>,
) -> Answer<Record> {
    transaction::require_writable(c"api_token_refresh_by_id()");
    let wanted = Wanted { grace, expires_at: expires_at.map(timestamp), scopes: scopes.as_ref() };
    Ok(refresh(token_id.map(Handle::Id), Presented::Id, &wanted)?)
}

/// Only who presents an old *token* shows that a copy is about; an id is no secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presented {
    Token,
    Id,
}

/// What the heir is to be, converted and not yet checked.
struct Wanted<'a> {
    grace: Option<IntervalValue>,
    expires_at: Option<Timestamp>,
    /// `None` keeps them.
    scopes: Option<&'a TextArray>,
}

fn refresh(handle: Option<Handle>, presented: Presented, wanted: &Wanted) -> Result<Record> {
    let grace = input::not_negative("grace", wanted.grace.map(|grace| grace.span()))?;
    let expires_at = input::future("expires_at", wanted.expires_at, clock::now())?;
    let scopes = wanted.scopes.map(|scopes| checked_scopes("scopes", Some(scopes))).transpose()?;
    let Some(held) = handle.map(|handle| hold(&handle)).transpose()?.flatten() else {
        return Ok(refuse(Reason::Invalid, None));
    };
    let now = clock::now();
    let replaced = held.replaced_by.is_some();
    let terms = Terms { grace, expires_at };
    match rotation::plan(&held.lifetime, replaced, held.max_expires_at, &terms, now) {
        Rotation::Granted { retired, expires_at } => {
            scope::check_narrowing(&held.scopes, scopes.as_deref())?;
            grant(&held, retired, expires_at, scopes, now)
        }
        Rotation::Refused(reason) => Ok(refuse(reason, Some(held.token_id))),
        Rotation::Reused => {
            if presented == Presented::Token {
                report_reuse(&held, now)?;
            }
            Ok(refuse(Reason::Revoked, Some(held.token_id)))
        }
    }
}

/// Holds the token, and before it the one it replaced if that is still in grace.
fn hold(handle: &Handle) -> Result<Option<HeldToken>> {
    let lineage = handle.peek(|token| token.map(|token| token.lineage()));
    if let Some((token_id, generation)) = lineage
        && generation > 0
    {
        tokens::lock_parent_in_grace(token_id)?;
    }
    Ok(handle.hold())
}

fn grant(
    held: &HeldToken,
    retired: Retirement,
    expires_at: Option<Timestamp>,
    scopes: Option<Vec<&str>>,
    now: Timestamp,
) -> Result<Record> {
    let token = Token::generate(&Prefix::of_display(&held.token_prefix), random::fill);
    let digest = token.digest();
    let token_prefix = token.display_prefix();
    let token_id = new_id(now);
    let heir = Heir {
        token_id,
        digest: &digest,
        token_prefix: &token_prefix,
        created_at: now,
        expires_at,
        scopes,
    };
    tokens::replace(held, retired, &heir)?;
    if held.generation > 0
        && let Some(parent) = tokens::end_parents_grace(held.token_id, now)?
    {
        report_end(held, parent, Method::Refresh)?;
    }
    let event = Event::of(&held.namespace, held.token_id);
    events::record(Method::Refresh, Event { replaced_by: Some(token_id), ..event })?;
    let columns = [value(true), None, value(token.expose()), value(token_prefix), value(token_id)];
    Ok(REFRESHED.with(|refreshed| refreshed.form(&columns)))
}

/// RFC 9700, 4.14.2: a rotated token that comes back was copied. It returns a row in any case;
/// raising would roll the revocation back.
fn report_reuse(held: &HeldToken, now: Timestamp) -> Result<()> {
    let revoked = match guc::on_reuse() {
        OnReuse::Audit => None,
        OnReuse::RevokeFamily => Some(revocation::revoke_family(held.family_id, now)?),
    };
    let count = revoked.as_ref().map(|revoked| revoked.len() as i64);
    let event = Event::of(&held.namespace, held.token_id);
    let event = Event { replaced_by: held.replaced_by, count, ..event };
    events::record(Method::ReuseDetected, event)?;
    for token_id in revoked.into_iter().flatten() {
        report_end(held, token_id, Method::ReuseDetected)?;
    }
    Ok(())
}

/// Another token than the one presented ended with it: caches must hear of each by its id.
fn report_end(held: &HeldToken, token_id: Uuid, cause: Method) -> Result<()> {
    let mut event = Event::of(&held.namespace, token_id);
    event.detail.insert("cause".to_owned(), cause.as_str().into());
    events::record(Method::InvalidateById, event)
}

fn refuse(reason: Reason, token_id: Option<Uuid>) -> Record {
    let columns = [value(false), value(reason.as_str()), None, None, value(token_id)];
    REFRESHED.with(|refreshed| refreshed.form(&columns))
}
