//! Checking a token: the hot path. One index probe, a pure decision, one row; a write at most
//! once per touch interval.

use super::Answer;
use super::create::checked_scopes;
use super::judge::{Judged, Judgement, VERDICT, judge};
use super::limits::{InTheWay, Waiting};
use crate::error::Result;
use crate::pg::argument::{Bound, HashBytes, InetAddress, TextArray, TokenText};
use crate::pg::clock;
use crate::pg::record::{Record, RecordSet};
use crate::pg::touch::Patience;
use crate::store::token::StoredToken;
use crate::store::tokens::Handle;
use crate::store::{tokens, uses};
use api_tokens_logic::digest::{Digest, MAX_TOKEN_BYTES};
use api_tokens_logic::lifetime::Status;
use api_tokens_logic::verdict::Request;
use api_tokens_logic::{Error, input, token};
use pgrx::{pg_extern, pg_sys};

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
    let required = checked_scopes("required_scopes", required_scopes.as_ref())?;
    let request = request(&required, client_ip, cost)?;
    judge_with(digest.as_ref(), &request, |_, judged| {
        VERDICT.with(|verdict| verdict.form(&judged.columns()))
    })
}

/// Judges a token, waiting for who is in the way of its quota, and gives the result on while the
/// token is at hand. What has waited looks at the token again: it may have been revoked meanwhile.
pub(super) fn judge_with<R>(
    digest: Option<&Digest>,
    request: &Request,
    give: impl Fn(Option<&StoredToken>, Judged) -> R,
) -> Result<R> {
    let attempt = |token: Option<StoredToken>| {
        let judgement = judge(token.as_ref(), request)?;
        Ok(match judgement {
            Judgement::Final(judged) => Ok(give(token.as_ref(), judged)),
            Judgement::Wait(in_the_way) => Err(in_the_way),
        })
    };
    let mut waiting = Waiting::default();
    loop {
        let attempted: Result<std::result::Result<R, InTheWay>> = match digest {
            Some(digest) => Handle::Digest(*digest).peek(attempt),
            None => attempt(None),
        };
        match attempted? {
            Ok(given) => return Ok(given),
            Err(in_the_way) => waiting.wait(in_the_way),
        }
    }
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
    let required = checked_scopes("required_scopes", required_scopes.as_ref())?;
    let request = request(&required, client_ip, cost)?;
    let bound = Bound { argument: "tokens", max: input::MAX_TOKENS };
    let tokens = input::required(bound.argument, tokens)?;
    let tokens = tokens.raw_elements(bound)?;
    let digests: Vec<Option<Digest>> =
        tokens.into_iter().map(|token| token.and_then(Digest::of_token)).collect();
    let mut failure = Ok(());
    let mut progress = Progress::InOneGo;
    let mut each = digests.iter();
    tokens::peek_each(digests.iter().map(Option::as_ref), |token| {
        let digest = each.next().and_then(Option::as_ref);
        if failure.is_ok() {
            failure = add_verdict(&rows, token.as_ref(), digest, &request, &mut progress);
        }
    });
    failure.map(|()| rows)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    InOneGo,
    /// It was held up: what was read together with the tokens before may be out of date.
    HeldUp,
}

fn add_verdict(
    rows: &RecordSet,
    token: Option<&StoredToken>,
    digest: Option<&Digest>,
    request: &Request,
    progress: &mut Progress,
) -> Result<()> {
    if *progress == Progress::InOneGo {
        match judge(token, request)? {
            Judgement::Final(judged) => {
                rows.push(&judged.columns());
                return Ok(());
            }
            Judgement::Wait(in_the_way) => Waiting::default().wait(in_the_way),
        }
    }
    *progress = Progress::HeldUp;
    judge_with(digest, request, |_, judged| rows.push(&judged.columns()))
}

pub(super) fn request<'a>(
    required_scopes: &'a [&'a str],
    client_ip: Option<InetAddress>,
    cost: Option<i32>,
) -> Result<Request<'a>> {
    let client_ip = client_ip.map(|address| address.network());
    Ok(Request { required_scopes, client_ip, cost: input::cost(cost)? })
}

/// Resets idleness at once: in shared memory, or else in the row. False also where neither can be
/// done, which is a transaction that cannot write on a server that is not preloaded.
fn touch(token: &StoredToken) -> bool {
    let now = clock::now();
    token.lifetime().status(now) == Status::Active
        && (uses::keep(&token.token_id(), now) || token.touch(now, Patience::ForThePage))
}
