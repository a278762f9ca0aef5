//! The verdict on a token at hand, and how it is told.

use super::limits::{self, Charge, InTheWay};
use crate::error::Result;
use crate::guc;
use crate::pg::record::{Shape, value};
use crate::pg::touch::Patience;
use crate::pg::{clock, datum, shmem};
use crate::store::token::StoredToken;
use crate::store::uses;
use api_tokens_logic::limits::Allowance;
use api_tokens_logic::verdict::{self, Credential, Reason, Request};
use pgrx::pg_sys::{self, Datum};

thread_local! {
    pub(super) static VERDICT: Shape = const { Shape::new(&[
        (c"ok", pg_sys::BOOLOID),
        (c"reason", pg_sys::TEXTOID),
        (c"token_id", pg_sys::UUIDOID),
        (c"namespace", pg_sys::TEXTOID),
        (c"name", pg_sys::TEXTOID),
        (c"metadata", pg_sys::JSONBOID),
        (c"scopes", pg_sys::TEXTARRAYOID),
        (c"expires_at", pg_sys::TIMESTAMPTZOID),
        (c"remaining", pg_sys::INT8OID),
        (c"retry_after", pg_sys::INTERVALOID),
    ]) };
}

pub(super) type Verdict = std::result::Result<(), Reason>;

pub(super) enum Judgement<'a> {
    Final(Judged<'a>),
    /// Something is in the way of its quota: wait, and look at the token again.
    Wait(InTheWay),
}

/// A verdict, and the token it is about if that is known.
pub(super) struct Judged<'a> {
    token: Option<&'a StoredToken<'a>>,
    pub verdict: Verdict,
    allowance: Allowance,
}

/// May it be used? Then that is a use.
pub(super) fn judge<'a>(
    token: Option<&'a StoredToken<'a>>,
    request: &Request,
) -> Result<Judgement<'a>> {
    let (verdict, allowance) = match token.map(|token| use_once(token, request)).transpose()? {
        None => (Err(Reason::Invalid), Allowance::default()),
        Some(Charge::Accepted(allowance)) => (Ok(()), allowance),
        Some(Charge::Refused(reason, allowance)) => (Err(reason), allowance),
        Some(Charge::Wait(in_the_way)) => return Ok(Judgement::Wait(in_the_way)),
    };
    if let Some(shared) = shmem::shared() {
        shared.counters().verdict(verdict);
    }
    Ok(Judgement::Final(Judged { token, verdict, allowance }))
}

fn use_once(token: &StoredToken, request: &Request) -> Result<Charge> {
    let now = clock::now();
    let lifetime = token.lifetime();
    let allowed_ips = token.allowed_ips();
    let scopes = if request.required_scopes.is_empty() { Vec::new() } else { token.scopes() };
    let credential = Credential { lifetime, allowed_ips: allowed_ips.as_deref(), scopes: &scopes };
    if let Err(reason) = verdict::decide(&credential, request, now) {
        return Ok(Charge::Refused(reason, Allowance::default()));
    }
    let charge = limits::charge(token, request.cost, now)?;
    // Who only asks does not use it.
    if matches!(charge, Charge::Accepted(_))
        && request.cost > 0
        && !uses::keep(&token.token_id(), now)
        && lifetime.touch_is_due(now, guc::touch_interval())
    {
        token.touch(now, Patience::None);
    }
    Ok(charge)
}

/// The columns of an answer.
pub(super) type Columns = [Option<Datum>; 10];

impl Judged<'_> {
    /// A known token is named also if it is refused, for the log and the dashboard; what it grants
    /// is told only if it is accepted.
    pub(super) fn columns(&self) -> Columns {
        let Self { token, verdict, allowance } = self;
        let [token_id, namespace, name] = token.map(StoredToken::identity).unwrap_or_default();
        let (reason, grants) = match verdict {
            Ok(()) => (None, token.map(StoredToken::grants)),
            Err(reason) => (value(reason.as_str()), None),
        };
        let [metadata, scopes, expires_at] = grants.unwrap_or_default();
        let remaining = allowance.remaining.and_then(value);
        let retry_after = allowance.retry_after.and_then(|after| value(datum::interval_of(after)));
        let ok = value(verdict.is_ok());
        [
            ok,
            reason,
            token_id,
            namespace,
            name,
            metadata,
            scopes,
            expires_at,
            remaining,
            retry_after,
        ]
    }
}
