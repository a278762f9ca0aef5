//! The settings. All of them are the administrator's: a user who could set the channel could
//! silence the notice of a revocation.

use api_tokens_logic::time::Span;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};
use std::ffi::CString;

/// What `refresh` does when a token is presented that was rotated before.
#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum OnReuse {
    #[name = c"audit"]
    Audit,
    #[name = c"revoke_family"]
    RevokeFamily,
}

static TOUCH_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
static EVENT_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(90 * 24 * 60 * 60);
static NOTIFY_CHANNEL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"api_tokens"));
static ON_REUSE: GucSetting<OnReuse> = GucSetting::<OnReuse>::new(OnReuse::Audit);

pub fn register() {
    GucRegistry::define_int_guc(
        c"api_tokens.touch_interval",
        c"Writes the last use of a token at most this often.",
        c"Tokens with max_idle are written at least every twentieth of it. 0 writes on each check.",
        &TOUCH_INTERVAL,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"api_tokens.event_retention",
        c"api_token_cleanup() deletes events older than this.",
        c"A cache that was disconnected for longer must start afresh instead of catching up.",
        &EVENT_RETENTION,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_string_guc(
        c"api_tokens.notify_channel",
        c"The channel that revocations and rotations are notified on.",
        c"Empty sends no notifications; caches then depend on api_token_events() alone.",
        &NOTIFY_CHANNEL,
        GucContext::Suset,
        GucFlags::IS_NAME,
    );
    GucRegistry::define_enum_guc(
        c"api_tokens.on_reuse",
        c"What happens when a token that was already rotated is presented to api_token_refresh().",
        c"audit records and notifies it; revoke_family also revokes every token of the family.",
        &ON_REUSE,
        GucContext::Suset,
        GucFlags::empty(),
    );
    reserve_prefix();
}

/// Otherwise any user could set a placeholder of a name we do not define.
#[allow(unsafe_code)]
fn reserve_prefix() {
    #[cfg(not(feature = "pg14"))]
    // SAFETY: a NUL-terminated literal; called once, after all settings are defined.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(c"api_tokens".as_ptr())
    }
    #[cfg(feature = "pg14")]
    // SAFETY: as above; the name this function had before Postgres 15.
    unsafe {
        pg_sys::EmitWarningsOnPlaceholders(c"api_tokens".as_ptr())
    }
}

pub fn touch_interval() -> Span {
    Span::from_seconds(TOUCH_INTERVAL.get())
}

pub fn event_retention() -> Span {
    Span::from_seconds(EVENT_RETENTION.get())
}

/// `None` if notifications are off.
pub fn notify_channel() -> Option<String> {
    let channel = NOTIFY_CHANNEL.get()?.into_string().ok()?;
    (!channel.is_empty()).then_some(channel)
}

pub fn on_reuse() -> OnReuse {
    ON_REUSE.get()
}
