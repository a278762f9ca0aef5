//! Checking a token: the hot path. One index probe, a pure decision, one row; a write at most
//! once per touch interval.

use super::Answer;
use crate::error::Result;
use crate::guc;
use crate::pg::argument::{Bound, HashBytes, InetAddress, TextArray, TokenText};
use crate::pg::record::{Record, RecordSet, Shape, value};
use crate::pg::touch::Patience;
use crate::pg::{clock, shmem};
use crate::store::token::StoredToken;
use crate::store::tokens::Handle;
use crate::store::{tokens, uses};
use api_tokens_logic::digest::{Digest, MAX_TOKEN_BYTES};
use api_tokens_logic::lifetime::Status;
use api_tokens_logic::verdict::{self, Credential, Reason, Request};
use api_tokens_logic::{Error, input, scope, token};
use pgrx::pg_sys::Datum;
use pgrx::{pg_extern, pg_sys};

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

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_validate(
    token: Option<TokenText>,
    required_scopes: Option<TextArray>,
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
) -> Answer<Record> {
    Ok(validate(digest_of(token.as_ref()), required_scopes, client_ip, cost)?)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_validate_hash(
    token_hash: Option<HashBytes>,
    required_scopes: Option<TextArray>,
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
) -> Answer<Record> {
    let digest = match token_hash {
        None => None,
        Some(bytes) => Some(hash("token_hash", &bytes)?),
    };
    Ok(validate(digest, required_scopes, client_ip, cost)?)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_touch(token: Option<TokenText>) -> bool {
    digest_of(token.as_ref()).is_some_and(|digest| {
        Handle::Digest(digest).peek(|token| token.is_some_and(|token| touch(&token)))
    })
}

#[pg_extern(immutable, parallel_safe)]
fn api_token_looks_valid(token: Option<TokenText>) -> bool {
    let text = token.as_ref().and_then(|token| token.bytes_up_to(MAX_TOKEN_BYTES));
    text.is_some_and(token::looks_valid)
}

/// What to look a presented token up by; `None` for what cannot be one.
pub(super) fn digest_of(token: Option<&TokenText>) -> Option<Digest> {
    token?.bytes_up_to(MAX_TOKEN_BYTES).and_then(Digest::of_token)
}

/// A hash the caller computed. One of the wrong length is a bad call, not a bad token.
pub(super) fn hash(argument: &'static str, bytes: &HashBytes) -> Result<Digest> {
    let digest = bytes.bytes_up_to(32).and_then(Digest::from_bytes);
    Ok(digest.ok_or(Error::Malformed { argument, expected: "a SHA-256, exactly 32 bytes" })?)
}

fn validate(
    digest: Option<Digest>,
    required_scopes: Option<TextArray>,
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
) -> Result<Record> {
    let required = checked_scopes(required_scopes.as_ref(), cost)?;
    let request = request(&required, client_ip);
    let form = |token: Option<StoredToken>| {
        let (_, columns) = answer(token.as_ref(), &request);
        VERDICT.with(|verdict| verdict.form(&columns))
    };
    Ok(match digest {
        Some(digest) => Handle::Digest(digest).peek(form),
        None => form(None),
    })
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_validate_many(
    tokens: Option<TextArray>,
    required_scopes: Option<TextArray>,
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
    call: pg_sys::FunctionCallInfo,
) -> Answer<RecordSet> {
    let rows = RecordSet::of_call(call);
    Ok(validate_many(rows, tokens, required_scopes, client_ip, cost)?)
}

fn validate_many(
    rows: RecordSet,
    tokens: Option<TextArray>,
    required_scopes: Option<TextArray>,
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
) -> Result<RecordSet> {
    let required = checked_scopes(required_scopes.as_ref(), cost)?;
    let request = request(&required, client_ip);
    let bound = Bound { argument: "tokens", max: input::MAX_TOKENS };
    let tokens = input::required(bound.argument, tokens)?.raw_elements(bound)?;
    let digests: Vec<Option<Digest>> =
        tokens.iter().map(|token| digest_of(token.as_ref())).collect();
    tokens::peek_each(digests.iter().map(Option::as_ref), |token| {
        rows.push(&answer(token.as_ref(), &request).1);
    });
    Ok(rows)
}

pub(super) fn checked_scopes(required: Option<&TextArray>, cost: Option<i32>) -> Result<Vec<&str>> {
    input::cost(cost)?;
    let bound = Bound { argument: "required_scopes", max: scope::MAX_SCOPES };
    let required = required.map_or(Ok(Vec::new()), |required| required.elements(bound))?;
    scope::check(bound.argument, required.iter().copied())?;
    Ok(required.into_iter().flatten().collect())
}

pub(super) fn request<'a>(
    required_scopes: &'a [&'a str],
    client_ip: Option<InetAddress>,
) -> Request<'a> {
    Request { required_scopes, client_ip: client_ip.map(|address| address.network()) }
}

/// The columns of an answer, those at the end left out.
pub(super) type Columns = [Option<Datum>; 8];

pub(super) type Verdict = std::result::Result<(), Reason>;

/// A known token is named also if it is refused, for the log and the dashboard; what it grants is
/// told only if it is accepted.
pub(super) fn answer(token: Option<&StoredToken>, request: &Request) -> (Verdict, Columns) {
    let verdict = match token {
        Some(token) => judge(token, request),
        None => Err(Reason::Invalid),
    };
    if let Some(shared) = shmem::shared() {
        shared.counters().verdict(verdict);
    }
    let [token_id, namespace, name] = token.map(StoredToken::identity).unwrap_or_default();
    let (reason, grants) = match verdict {
        Ok(()) => (None, token.map(StoredToken::grants)),
        Err(reason) => (value(reason.as_str()), None),
    };
    let [metadata, scopes, expires_at] = grants.unwrap_or_default();
    let columns =
        [value(verdict.is_ok()), reason, token_id, namespace, name, metadata, scopes, expires_at];
    (verdict, columns)
}

/// May it be used? Then that is a use.
fn judge(token: &StoredToken, request: &Request) -> Verdict {
    let now = clock::now();
    let lifetime = token.lifetime();
    let allowed_ips = token.allowed_ips();
    let scopes = if request.required_scopes.is_empty() { Vec::new() } else { token.scopes() };
    let credential = Credential { lifetime, allowed_ips: allowed_ips.as_deref(), scopes: &scopes };
    verdict::decide(&credential, request, now)?;
    if !uses::keep(&token.token_id(), now) && lifetime.touch_is_due(now, guc::touch_interval()) {
        token.touch(now, Patience::None);
    }
    Ok(())
}

/// Resets idleness at once: in shared memory, or else in the row. False also where neither can be
/// done, which is a transaction that cannot write on a server that is not preloaded.
fn touch(token: &StoredToken) -> bool {
    let now = clock::now();
    token.lifetime().status(now) == Status::Active
        && (uses::keep(&token.token_id(), now) || token.touch(now, Patience::ForThePage))
}
