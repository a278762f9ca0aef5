//! Checking a token: the hot path. One index probe, a pure decision, one row; a write at most
//! once per touch interval.

use super::Answer;
use crate::error::Result;
use crate::pg::argument::{HashBytes, InetAddress, TextArray, TokenText};
use crate::pg::record::{Record, Shape, value};
use crate::store::token::StoredToken;
use crate::store::tokens::Handle;
use crate::{guc, pg::clock};
use api_tokens_logic::digest::{Digest, MAX_TOKEN_BYTES};
use api_tokens_logic::lifetime::Status;
use api_tokens_logic::verdict::{self, Credential, Reason, Request};
use api_tokens_logic::{Error, input, scope, token};
use pgrx::{pg_extern, pg_sys};

thread_local! {
    static VERDICT: Shape = const { Shape::new(&[
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
    input::cost(cost)?;
    let required = required_scopes.as_ref().map(TextArray::elements).unwrap_or_default();
    scope::check("required_scopes", required.iter().copied())?;
    let required: Vec<&str> = required.into_iter().flatten().collect();
    let client_ip = client_ip.map(|address| address.network());
    let request = Request { required_scopes: &required, client_ip };
    let Some(digest) = digest else {
        return Ok(refuse(Reason::Invalid, None));
    };
    Ok(Handle::Digest(digest).peek(|token| match token {
        Some(token) => judge(&token, &request),
        None => refuse(Reason::Invalid, None),
    }))
}

fn judge(token: &StoredToken, request: &Request) -> Record {
    let now = clock::now();
    let lifetime = token.lifetime();
    let allowed_ips = token.allowed_ips();
    let scopes = if request.required_scopes.is_empty() { Vec::new() } else { token.scopes() };
    let credential = Credential { lifetime, allowed_ips: allowed_ips.as_deref(), scopes: &scopes };
    if let Err(reason) = verdict::decide(&credential, request, now) {
        return refuse(reason, Some(token));
    }
    if lifetime.touch_is_due(now, guc::touch_interval()) {
        token.touch();
    }
    let [token_id, namespace, name] = token.identity();
    let [metadata, scopes, expires_at] = token.grants();
    let columns = [value(true), None, token_id, namespace, name, metadata, scopes, expires_at];
    VERDICT.with(|verdict| verdict.form(&columns))
}

/// A known token is named, for the log and the dashboard; what it grants is not told.
fn refuse(reason: Reason, token: Option<&StoredToken>) -> Record {
    let [token_id, namespace, name] = token.map(StoredToken::identity).unwrap_or_default();
    let columns = [value(false), value(reason.as_str()), token_id, namespace, name];
    VERDICT.with(|verdict| verdict.form(&columns))
}

fn touch(token: &StoredToken) -> bool {
    let active = token.lifetime().status(clock::now()) == Status::Active;
    if active {
        token.touch();
    }
    active
}
