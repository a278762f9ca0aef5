//! Tokens come in: made here, or moved here from elsewhere by their hash.

use super::Answer;
use super::metadata_schema;
use super::validate::hash;
use crate::error::Result;
use crate::pg::argument::{Bound, CidrArray, HashBytes, IntervalValue, Jsonb, TextArray};
use crate::pg::datum::timestamp;
use crate::pg::record::{Record, Shape, value};
use crate::pg::{clock, random, shmem, transaction};
use crate::store::events::{self, Event};
use crate::store::quotas;
use crate::store::tokens::{self, LimitArguments, NewToken};
use crate::store::update::json_text;
use api_tokens_logic::event::Method;
use api_tokens_logic::input::{self, History};
use api_tokens_logic::limits::{Limits, Settings};
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::token::{Prefix, Token};
use api_tokens_logic::{Error, id, network, rotation, scope};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Uuid, pg_extern, pg_sys};

thread_local! {
    static CREATED: Shape = const { Shape::new(&[
        (c"token", pg_sys::TEXTOID),
        (c"token_prefix", pg_sys::TEXTOID),
        (c"token_id", pg_sys::UUIDOID),
    ]) };
}

#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::too_many_arguments, reason = "the arguments of the SQL function")]
fn api_token_create(
    namespace: Option<&str>,
    name: Option<&str>,
    metadata: Option<Jsonb>,
    scopes: Option<TextArray>,
    expires_at: Option<TimestampWithTimeZone>,
    max_idle: Option<IntervalValue>,
    prefix: Option<&str>,
    allowed_ips: Option<CidrArray>,
    enabled: Option<bool>,
    max_uses: Option<i64>,
    refill_amount: Option<i64>,
    refill_every: Option<IntervalValue>,
    rate_limit: Option<i32>,
    rate_window: Option<IntervalValue>,
    max_expires_at: Option<TimestampWithTimeZone>,
) -> Answer<Record> {
    transaction::require_writable(c"api_token_create()");
    let limits = LimitArguments { max_uses, refill_amount, refill_every, rate_limit, rate_window };
    let wanted = Wanted {
        namespace,
        name,
        metadata,
        scopes: scopes.as_ref(),
        expires_at: expires_at.map(timestamp),
        max_expires_at: max_expires_at.map(timestamp),
        max_idle,
        allowed_ips,
        enabled,
        limits,
    };
    Ok(create(&wanted, prefix)?)
}

/// The arguments of `create`, converted and not yet checked.
struct Wanted<'a> {
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    metadata: Option<Jsonb>,
    scopes: Option<&'a TextArray>,
    expires_at: Option<Timestamp>,
    max_expires_at: Option<Timestamp>,
    max_idle: Option<IntervalValue>,
    allowed_ips: Option<CidrArray>,
    enabled: Option<bool>,
    limits: LimitArguments,
}

fn create(wanted: &Wanted, prefix: Option<&str>) -> Result<Record> {
    let now = clock::now();
    let prefix = Prefix::parse(input::required("prefix", prefix)?)?;
    let scopes = checked_scopes("scopes", wanted.scopes)?;
    input::positive("max_idle", wanted.max_idle.map(|idle| idle.span()))?;
    let allowed_ips = wanted.allowed_ips.map(checked_networks).transpose()?;

    let token = Token::generate(&prefix, random::fill);
    let digest = token.digest();
    let token_prefix = token.display_prefix();
    let token_id = new_id(now);
    let new = NewToken {
        token_id,
        digest: &digest,
        token_prefix: &token_prefix,
        namespace: input::namespace(wanted.namespace)?,
        name: input::name(wanted.name)?,
        metadata: wanted.metadata,
        scopes: &scopes,
        created_at: now,
        last_used_at: now,
        expires_at: input::ends(wanted.expires_at, wanted.max_expires_at, now)?,
        max_expires_at: wanted.max_expires_at,
        max_idle: wanted.max_idle,
        allowed_ips,
        enabled: input::required("enabled", wanted.enabled)?,
        revoked_at: None,
        in_grace: false,
        limits: wanted.limits,
    };
    add(&new, Method::Create)?;
    let columns = [value(token.expose()), value(token_prefix), value(token_id)];
    Ok(CREATED.with(|created| created.form(&columns)))
}

#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::too_many_arguments, reason = "the arguments of the SQL function")]
fn api_token_import(
    namespace: Option<&str>,
    token_hash: Option<HashBytes>,
    token_prefix: Option<&str>,
    name: Option<&str>,
    metadata: Option<Jsonb>,
    scopes: Option<TextArray>,
    expires_at: Option<TimestampWithTimeZone>,
    max_idle: Option<IntervalValue>,
    created_at: Option<TimestampWithTimeZone>,
    last_used_at: Option<TimestampWithTimeZone>,
    revoked_at: Option<TimestampWithTimeZone>,
    allowed_ips: Option<CidrArray>,
    enabled: Option<bool>,
    max_uses: Option<i64>,
    refill_amount: Option<i64>,
    refill_every: Option<IntervalValue>,
    rate_limit: Option<i32>,
    rate_window: Option<IntervalValue>,
    max_expires_at: Option<TimestampWithTimeZone>,
) -> Answer<Uuid> {
    transaction::require_writable(c"api_token_import()");
    let wanted = Wanted {
        namespace,
        name,
        metadata,
        scopes: scopes.as_ref(),
        expires_at: expires_at.map(timestamp),
        max_expires_at: max_expires_at.map(timestamp),
        max_idle,
        allowed_ips,
        enabled,
        limits: LimitArguments { max_uses, refill_amount, refill_every, rate_limit, rate_window },
    };
    let life = (created_at.map(timestamp), last_used_at.map(timestamp), revoked_at.map(timestamp));
    Ok(import(&wanted, token_hash, token_prefix, life)?)
}

/// As `create`, with a past: an imported token may have expired or been revoked long ago, so that
/// the history moves too.
fn import(
    wanted: &Wanted,
    token_hash: Option<HashBytes>,
    token_prefix: Option<&str>,
    (created_at, last_used_at, revoked_at): (
        Option<Timestamp>,
        Option<Timestamp>,
        Option<Timestamp>,
    ),
) -> Result<Uuid> {
    let now = clock::now();
    let digest = hash("token_hash", &input::required("token_hash", token_hash)?)?;
    let lived = History::check(created_at, last_used_at, now)?;
    input::positive("max_idle", wanted.max_idle.map(|idle| idle.span()))?;
    let scopes = checked_scopes("scopes", wanted.scopes)?;
    let token_id = new_id(lived.created_at);
    let new = NewToken {
        token_id,
        digest: &digest,
        token_prefix: input::display_prefix(token_prefix, &digest)?,
        namespace: input::namespace(wanted.namespace)?,
        name: input::name(wanted.name)?,
        metadata: wanted.metadata,
        scopes: &scopes,
        created_at: lived.created_at,
        last_used_at: lived.last_used_at,
        expires_at: rotation::cap(wanted.expires_at, wanted.max_expires_at),
        max_expires_at: wanted.max_expires_at,
        max_idle: wanted.max_idle,
        allowed_ips: wanted.allowed_ips.map(checked_networks).transpose()?,
        enabled: input::required("enabled", wanted.enabled)?,
        revoked_at,
        in_grace: revoked_at.is_some_and(|at| at > now),
        limits: wanted.limits,
    };
    add(&new, Method::Import)?;
    Ok(token_id)
}

fn add(token: &NewToken, method: Method) -> Result<()> {
    let limits = checked_limits(&token.limits.settings())?;
    metadata_schema::check(token.namespace, || token.metadata.map(json_text).transpose())?;
    tokens::insert(token)?;
    if limits.quota.is_some() {
        quotas::open(token.token_id, clock::now())?;
    }
    events::record(method, Event::of(token.namespace, token.token_id))
}

/// Limits that mean something and can be kept here.
pub(super) fn checked_limits(settings: &Settings) -> Result<Limits> {
    let limits = settings.check()?;
    if limits.rate.is_some() && shmem::shared().is_none() {
        return Err(Error::NotPreloaded.into());
    }
    Ok(limits)
}

pub(super) fn checked_scopes<'a>(
    argument: &'static str,
    scopes: Option<&'a TextArray>,
) -> Result<Vec<&'a str>> {
    let bound = Bound { argument, max: scope::MAX_SCOPES };
    let scopes = scopes.map_or(Ok(Vec::new()), |scopes| scopes.elements(bound))?;
    scope::check(bound.argument, scopes.iter().copied())?;
    Ok(scopes.into_iter().flatten().collect())
}

pub(super) fn checked_networks(allowed_ips: CidrArray) -> Result<CidrArray> {
    let bound = Bound { argument: "allowed_ips", max: network::MAX_NETWORKS };
    network::check(&allowed_ips.networks(bound)?)?;
    Ok(allowed_ips)
}

pub(super) fn new_id(created_at: Timestamp) -> Uuid {
    Uuid::from_bytes(id::new_id(created_at, random::bytes()).into_bytes())
}
