//! Changing what a token may do, without changing the token.

use super::Answer;
use super::create::{checked_limits, checked_networks};
use super::limits::{InTheWay, Waiting};
use super::metadata_schema;
use crate::error::Result;
use crate::pg::argument::{IntervalValue, Jsonb};
use crate::pg::datum::timestamptz;
use crate::pg::words::Held;
use crate::pg::{clock, input as text, transaction};
use crate::store::events::{self, Event};
use crate::store::quotas;
use crate::store::token::HeldToken;
use crate::store::tokens::{self, Handle};
use crate::store::update::{self, Assignment};
use api_tokens_logic::change::{self, Change};
use api_tokens_logic::event::Method;
use api_tokens_logic::limits::Settings;
use api_tokens_logic::metadata_schema::of_changes;
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::{Error, input, rotation};
use pgrx::{Uuid, pg_extern};

/// The changing half of `api_token_update`; the install script returns the row after it.
#[pg_extern(volatile, parallel_unsafe)]
fn update_token(token_id: Option<Uuid>, changes: Option<Jsonb>) -> Answer<()> {
    transaction::require_writable(c"api_token_update()");
    Ok(change_token(token_id, changes)?)
}

fn change_token(token_id: Option<Uuid>, changes: Option<Jsonb>) -> Result<()> {
    let token_id = input::required("token_id", token_id)?;
    let json = input::required("changes", changes)?;
    let text = update::json_text(json)?;
    let changes = change::parse(&text)?;
    let limits_change = changes.iter().any(Change::is_of_family);
    if limits_change {
        tokens::lock_parent_in_grace(token_id)?;
    }
    let held = Handle::Id(token_id).hold().ok_or(Error::UnknownToken)?;
    if changes.is_empty() {
        return Ok(());
    }
    if changes.contains(&Change::Metadata) {
        metadata_schema::check(&held.namespace, || Ok(of_changes(&text)))?;
    }
    let keys: Vec<&str> = changes.iter().map(Change::key).collect();
    let mut settings = held.limits;
    update::assign(&held, assignments(&held, &changes, json, &mut settings)?)?;
    if settings != held.limits {
        change_limits(&held, &settings)?;
    }
    // What is limited is the family: the old token must not be the way around a new limit.
    let parent = if limits_change { update::limit_parent_in_grace(token_id)? } else { Vec::new() };
    for changed in parent.into_iter().chain([token_id]) {
        let mut event = Event::of(&held.namespace, changed);
        event.detail.insert("changed".to_owned(), keys.clone().into());
        events::record(Method::Update, event)?;
    }
    Ok(())
}

/// A quota that is new has an account; one that is refilled from now on, from now on.
fn change_limits(held: &HeldToken, settings: &Settings) -> Result<()> {
    let rate = |settings: &Settings| (settings.rate_limit, settings.rate_window);
    let limits = if rate(settings) == rate(&held.limits) {
        settings.check()?
    } else {
        checked_limits(settings)?
    };
    if limits.quota.is_some() {
        quotas::open(held.family_id, clock::now())?;
    }
    let refill = |settings: &Settings| (settings.refill_amount, settings.refill_every);
    let so_far = held.limits.check()?.quota;
    let has_account = limits.quota.is_some() || so_far.is_some();
    if has_account && refill(settings) != refill(&held.limits) {
        let restart = || quotas::restart_refill(&held.family_id, so_far.as_ref(), clock::now());
        let mut waiting = Waiting::default();
        while let Some(Held(by)) = restart() {
            waiting.wait(InTheWay::Holder(by));
        }
    }
    Ok(())
}

fn assignments<'a>(
    held: &HeldToken,
    changes: &[Change],
    json: Jsonb,
    settings: &mut Settings,
) -> Result<Vec<Assignment<'a>>> {
    let now = clock::now();
    let mut all = Vec::new();
    let (mut expires_at, mut hard_end) = (held.lifetime.expires_at, held.max_expires_at);
    for change in changes {
        match change {
            Change::Name(name) => all.push(Assignment::plain("name", name.clone())),
            Change::Metadata => all.push(Assignment::json_member("metadata", json)),
            Change::Scopes(scopes) => all.push(Assignment::plain("scopes", scopes.clone())),
            Change::Enabled(enabled) => all.push(Assignment::plain("enabled", *enabled)),
            Change::MaxIdle(idle) => {
                let idle = interval("max_idle", idle.as_deref())?;
                input::positive("max_idle", idle.map(|idle| idle.span()))?;
                all.push(Assignment::plain("max_idle", idle));
            }
            Change::AllowedIps(networks) => {
                let networks =
                    read("allowed_ips", change::NETWORKS, networks.as_deref(), text::cidrs)?;
                let networks = networks.map(checked_networks).transpose()?;
                all.push(Assignment::plain("allowed_ips", networks));
            }
            Change::MaxUses(uses) => {
                settings.max_uses = *uses;
                all.push(Assignment::plain("max_uses", *uses));
            }
            Change::RefillAmount(amount) => {
                settings.refill_amount = *amount;
                all.push(Assignment::plain("refill_amount", *amount));
            }
            Change::RefillEvery(every) => {
                let every = interval("refill_every", every.as_deref())?;
                settings.refill_every = every.map(|every| every.span());
                all.push(Assignment::plain("refill_every", every));
            }
            Change::RateLimit(calls) => {
                settings.rate_limit = *calls;
                all.push(Assignment::plain("rate_limit", *calls));
            }
            Change::RateWindow(window) => {
                let window = interval("rate_window", window.as_deref())?;
                settings.rate_window = window.map(|window| window.span());
                all.push(Assignment::plain("rate_window", window));
            }
            Change::ExpiresAt(at) => expires_at = future("expires_at", at.as_deref(), now)?,
            Change::MaxExpiresAt(at) => {
                hard_end = future("max_expires_at", at.as_deref(), now)?;
                if held.max_expires_at.is_some() && hard_end != held.max_expires_at {
                    return Err(Error::HardEndFixed.into());
                }
                all.push(Assignment::plain("max_expires_at", hard_end.map(timestamptz)));
            }
        }
    }
    let expires_at = rotation::cap(expires_at, hard_end);
    if expires_at != held.lifetime.expires_at {
        all.push(Assignment::plain("expires_at", expires_at.map(timestamptz)));
    }
    Ok(all)
}

fn read<T: ?Sized, R>(
    argument: &'static str,
    expected: &'static str,
    given: Option<&T>,
    parse: impl FnOnce(&T) -> Option<R>,
) -> Result<Option<R>> {
    let parsed = given.map(|given| parse(given).ok_or(Error::Malformed { argument, expected }));
    Ok(parsed.transpose()?)
}

fn interval(argument: &'static str, given: Option<&str>) -> Result<Option<IntervalValue>> {
    read(argument, change::INTERVAL, given, text::interval)
}

fn future(
    argument: &'static str,
    given: Option<&str>,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let at = read(argument, change::TIMESTAMP, given, text::timestamptz)?;
    Ok(input::future(argument, at, now)?)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_set_enabled(token_id: Option<Uuid>, enabled: Option<bool>) -> Answer<bool> {
    transaction::require_writable(c"api_token_set_enabled()");
    Ok(set_enabled(token_id, enabled)?)
}

/// True if the token is known. Unlike a revocation it can be undone.
fn set_enabled(token_id: Option<Uuid>, enabled: Option<bool>) -> Result<bool> {
    let enabled = input::required("enabled", enabled)?;
    let handle = token_id.map(Handle::Id);
    let Some(held) = handle.and_then(|handle| handle.hold()) else {
        return Ok(false);
    };
    if held.lifetime.enabled != enabled {
        tokens::set_enabled(&held, enabled)?;
        let method = if enabled { Method::Enable } else { Method::Disable };
        events::record(method, Event::of(&held.namespace, held.token_id))?;
    }
    Ok(true)
}
