//! A rate limit for all tokens of a namespace together, beside their own.

use super::Answer;
use super::create::checked_limits;
use crate::error::Result;
use crate::pg::argument::IntervalValue;
use crate::pg::transaction;
use crate::store::events::{self, Event};
use crate::store::namespace_limits;
use api_tokens_logic::event::Method;
use api_tokens_logic::input;
use api_tokens_logic::limits::Settings;
use pgrx::pg_extern;

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_set_namespace_limit(
    namespace: Option<&str>,
    rate_limit: Option<i32>,
    rate_window: Option<IntervalValue>,
) -> Answer<()> {
    transaction::require_writable(c"api_token_set_namespace_limit()");
    Ok(set(namespace, rate_limit, rate_window)?)
}

/// Without a limit and a window: from now on there is none.
fn set(
    namespace: Option<&str>,
    rate_limit: Option<i32>,
    rate_window: Option<IntervalValue>,
) -> Result<()> {
    let namespace = input::namespace(namespace)?;
    let rate_window_span = rate_window.map(|window| window.span());
    checked_limits(&Settings { rate_limit, rate_window: rate_window_span, ..Settings::default() })?;
    if !namespace_limits::set(namespace, rate_limit.zip(rate_window))? {
        return Ok(());
    }
    let event = Event { namespace: Some(namespace), ..Event::default() };
    events::record(Method::SetNamespaceLimit, event)
}
