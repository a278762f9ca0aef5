//! The settings. All of them are the administrator's: a user who could set the channel could
//! silence the notice of a revocation.

use api_tokens_logic::time::Span;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use std::ffi::CString;
use std::time::Duration;

/// What `refresh` does when a token is presented that was rotated before.
#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum OnReuse {
    #[name = c"audit"]
    Audit,
    #[name = c"revoke_family"]
    RevokeFamily,
}

static TOUCH_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
static FLUSH_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(10);
static TOUCH_MAP_SIZE: GucSetting<i32> = GucSetting::<i32>::new(100_000);
static RATE_MAP_SIZE: GucSetting<i32> = GucSetting::<i32>::new(65_536);
static EVENT_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(90 * 24 * 60 * 60);
static NOTIFY_CHANNEL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"api_tokens"));
static VAULT_KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static VAULT_KEY_COMMAND: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static VAULT_MAX_VALUE_BYTES: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);
static VAULT_KEEP_VERSIONS: GucSetting<i32> = GucSetting::<i32>::new(10);
static REDACT_LOG: GucSetting<bool> = GucSetting::<bool>::new(true);
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
    GucRegistry::define_bool_guc(
        c"api_tokens.redact_log",
        c"Keeps tokens and secrets out of the server's log.",
        c"Complete only with preloading: a statement is logged before a library is loaded on demand.",
        &REDACT_LOG,
        GucContext::Suset,
        GucFlags::empty(),
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
    GucRegistry::define_int_guc(
        c"api_tokens.flush_interval",
        c"Uses kept in shared memory are written to the table after at most this time.",
        c"Needs preloading. After a crash at most this much of last use and use count is forgotten.",
        &FLUSH_INTERVAL,
        1,
        3600,
        GucContext::Sighup,
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
}

/// Where the vault's keys are, never the keys. Nobody but the administrator may point it anywhere:
/// a user who could would have any file read.
pub fn register_vault() {
    let places = GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL;
    GucRegistry::define_string_guc(
        c"api_tokens.vault_key_file",
        c"The file that the vault's key-encryption keys are read from.",
        c"Lines of base64 of 32 bytes and a label; the first seals, the others only open.",
        &VAULT_KEY_FILE,
        GucContext::Sighup,
        places,
    );
    GucRegistry::define_string_guc(
        c"api_tokens.vault_key_command",
        c"A shell command that prints the vault's key-encryption keys.",
        c"As the lines of vault_key_file, which wins if both are set. Each session runs it once.",
        &VAULT_KEY_COMMAND,
        GucContext::Sighup,
        places,
    );
    GucRegistry::define_int_guc(
        c"api_tokens.vault_max_value_bytes",
        c"The longest value that the vault takes.",
        c"In bytes of UTF-8.",
        &VAULT_MAX_VALUE_BYTES,
        1,
        64 * 1024 * 1024,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"api_tokens.vault_keep_versions",
        c"How many versions of a value the vault keeps.",
        c"Storing a value deletes those before.",
        &VAULT_KEEP_VERSIONS,
        1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::empty(),
    );
}

/// Settings of the shared memory, which only the postmaster can have.
pub fn register_preloaded() {
    GucRegistry::define_int_guc(
        c"api_tokens.touch_map_size",
        c"How many tokens' last uses are kept in shared memory.",
        c"About 48 bytes each. Where it is full, uses are written to the row by the check itself.",
        &TOUCH_MAP_SIZE,
        64,
        100_000_000,
        GucContext::Postmaster,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"api_tokens.rate_map_size",
        c"How many rate limits can be in use at a time.",
        c"72 bytes each. One is in use until its window has run out. Where it is full, calls are refused.",
        &RATE_MAP_SIZE,
        64,
        100_000_000,
        GucContext::Postmaster,
        GucFlags::empty(),
    );
}

pub fn redact_log() -> bool {
    REDACT_LOG.get()
}

pub fn rate_map_size() -> usize {
    RATE_MAP_SIZE.get().unsigned_abs() as usize
}

pub fn touch_interval() -> Span {
    Span::from_seconds(TOUCH_INTERVAL.get())
}

pub fn flush_interval() -> Duration {
    Duration::from_secs(FLUSH_INTERVAL.get().unsigned_abs().into())
}

pub fn touch_map_size() -> usize {
    TOUCH_MAP_SIZE.get().unsigned_abs() as usize
}

pub fn event_retention() -> Span {
    Span::from_seconds(EVENT_RETENTION.get())
}

/// `None` if it is not set.
pub fn vault_key_file() -> Option<String> {
    text(&VAULT_KEY_FILE)
}

/// `None` if it is not set.
pub fn vault_key_command() -> Option<String> {
    text(&VAULT_KEY_COMMAND)
}

fn text(setting: &GucSetting<Option<CString>>) -> Option<String> {
    setting.get()?.into_string().ok().filter(|text| !text.is_empty())
}

pub fn vault_max_value_bytes() -> usize {
    VAULT_MAX_VALUE_BYTES.get().unsigned_abs() as usize
}

pub fn vault_keep_versions() -> i32 {
    VAULT_KEEP_VERSIONS.get()
}

/// `None` if notifications are off.
pub fn notify_channel() -> Option<String> {
    text(&NOTIFY_CHANNEL)
}

pub fn on_reuse() -> OnReuse {
    ON_REUSE.get()
}
