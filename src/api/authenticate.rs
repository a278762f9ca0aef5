//! Becoming a token for the rest of the transaction, and demanding to be one.

use super::Answer;
use super::create::checked_scopes;
use super::judge::{Judged, VERDICT, Verdict};
use super::validate::{digest_of, judge_with, request};
use crate::error::Result;
use crate::identity;
use crate::pg::argument::{InetAddress, TextArray, TokenText};
use crate::pg::clock;
use crate::pg::record::Record;
use crate::store::token::StoredToken;
use crate::store::tokens::Handle;
use api_tokens_logic::Error;
use api_tokens_logic::verdict::{self, Credential, Reason, Request};
use pgrx::{Uuid, pg_extern};

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_authenticate(
    token: Option<TokenText>,
    required_scopes: Option<TextArray>,
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
) -> Answer<Record> {
    Ok(authenticate(token, required_scopes, client_ip, cost)?.0)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_require(
    token: Option<TokenText>,
    required_scopes: Option<TextArray>,
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
) -> Answer<Record> {
    Ok(require(token, required_scopes, client_ip, cost)?)
}

fn require(
    token: Option<TokenText>,
    required_scopes: Option<TextArray>,
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
) -> Result<Record> {
    let (answer, refused) = authenticate(token, required_scopes, client_ip, cost)?;
    refused.map_or(Ok(answer), |refusal| Err(refusal.into()))
}

/// Validates, and is this token from now on; or nobody, if it is refused: whoever overlooks the
/// answer must not go on as who was there before.
fn authenticate(
    token: Option<TokenText>,
    required_scopes: Option<TextArray>,
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
) -> Result<(Record, Option<Error>)> {
    let required = checked_scopes("required_scopes", required_scopes.as_ref())?;
    let request = request(&required, client_ip, cost)?;
    judge_with(digest_of(token.as_ref()).as_ref(), &request, become_or_nobody)
}

fn become_or_nobody(token: Option<&StoredToken>, judged: Judged) -> (Record, Option<Error>) {
    let accepted = token.filter(|_| judged.verdict.is_ok());
    identity::set(accepted.map(StoredToken::to_holder));
    let refused = |reason| unauthorized(reason, token.map(StoredToken::token_id));
    let answer = VERDICT.with(|verdict| verdict.form(&judged.columns()));
    (answer, judged.verdict.err().map(refused))
}

fn unauthorized(reason: Reason, token_id: Option<Uuid>) -> Error {
    Error::Unauthorized { reason, token_id: token_id.map(|id| id.to_string()) }
}

/// For triggers and functions that demand a token which somebody else has authenticated. The token
/// is looked up again, so that one revoked meanwhile writes nothing more. That is no use of it, and
/// its address was checked when it was authenticated.
#[pg_extern(volatile, parallel_unsafe)]
fn api_token_require_current(required_scopes: Option<TextArray>) -> Answer<Uuid> {
    Ok(require_current(required_scopes)?)
}

fn require_current(required_scopes: Option<TextArray>) -> Result<Uuid> {
    let required = checked_scopes("required_scopes", required_scopes.as_ref())?;
    let token_id = identity::read(|holder| holder.token_id).ok_or(Error::NoIdentity)?;
    let verdict = Handle::Id(token_id).peek(|token| still_holds(token.as_ref(), &required));
    verdict.map_err(|reason| unauthorized(reason, Some(token_id)))?;
    Ok(token_id)
}

fn still_holds(token: Option<&StoredToken>, required: &[&str]) -> Verdict {
    let token = token.ok_or(Reason::Invalid)?;
    let scopes = token.scopes();
    let credential = Credential { lifetime: token.lifetime(), allowed_ips: None, scopes: &scopes };
    let request = Request { required_scopes: required, ..Request::default() };
    verdict::decide(&credential, &request, clock::now())
}
