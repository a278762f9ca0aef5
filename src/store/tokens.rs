//! Finding, adding and changing tokens.

use super::columns;
use super::statement::statement;
use super::token::{HeldToken, StoredToken};
use crate::error::Result;
use crate::pg::argument::{CidrArray, IntervalValue, Jsonb};
use crate::pg::datum::timestamptz;
use crate::pg::raise::{Before, Raise};
use crate::pg::row::Row;
use crate::pg::scan::{Key, Lock, UniqueIndex};
use api_tokens_logic::Error;
use api_tokens_logic::digest::Digest;
use api_tokens_logic::limits::Settings;
use api_tokens_logic::rotation::Retirement;
use api_tokens_logic::time::Timestamp;
use pgrx::Uuid;
use std::ffi::CStr;

thread_local! {
    static BY_HASH: UniqueIndex = const { index(c"tokens_token_hash_key") };
    static BY_ID: UniqueIndex = const { index(c"tokens_pkey") };
}

const fn index(name: &'static CStr) -> UniqueIndex {
    UniqueIndex::new(c"api_tokens", c"tokens", name, columns::LAST)
}

/// Which token is meant: by what its holder presents, or by its id.
pub enum Handle {
    Digest(Digest),
    Id(Uuid),
}

impl Handle {
    fn find<R>(&self, lock: Lock, read: impl FnOnce(Option<StoredToken>) -> R) -> R {
        let read = |row: Option<Row>| read(row.map(StoredToken::new));
        match self {
            Self::Digest(digest) => {
                BY_HASH.with(|index| index.find(&[Key::Bytea32(&digest.0)], lock, read))
            }
            Self::Id(id) => BY_ID.with(|index| index.find(&[Key::Uuid(id.as_bytes())], lock, read)),
        }
    }

    /// The token as committed last, without a lock.
    pub fn peek<R>(&self, read: impl FnOnce(Option<StoredToken>) -> R) -> R {
        self.find(Lock::None, read)
    }

    /// Locks the token until the transaction ends, waiting for whoever is changing it, and
    /// returns it as they left it. Only where the transaction can write.
    pub fn hold(&self) -> Option<HeldToken> {
        self.find(Lock::NoKeyUpdate, |token| token.map(|token| token.to_held()))
    }
}

/// The token for each digest in turn, as committed last.
pub fn peek_each<'d>(
    digests: impl Iterator<Item = Option<&'d Digest>>,
    mut read: impl FnMut(Option<StoredToken>),
) {
    let keys = digests.map(|digest| digest.map(|digest| Key::Bytea32(&digest.0)));
    BY_HASH.with(|index| index.find_each(keys, |row| read(row.map(StoredToken::new))));
}

/// Raises the last use and the use count of many tokens in place; see `UniqueIndex::raise`.
pub(super) fn raise(
    raises: &[Raise],
    raised: &mut dyn FnMut(usize, Before),
    gone: &mut dyn FnMut(usize),
) {
    BY_ID.with(|index| index.raise(&columns::RAISED, raises, raised, gone));
}

/// All that is known of a token when it comes in, whether made here or imported.
pub struct NewToken<'a> {
    pub token_id: Uuid,
    pub digest: &'a Digest,
    pub token_prefix: &'a str,
    pub namespace: &'a str,
    pub name: Option<&'a str>,
    pub metadata: Option<Jsonb>,
    pub scopes: &'a [&'a str],
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub max_expires_at: Option<Timestamp>,
    pub max_idle: Option<IntervalValue>,
    pub allowed_ips: Option<CidrArray>,
    pub enabled: bool,
    pub revoked_at: Option<Timestamp>,
    pub in_grace: bool,
    pub limits: LimitArguments,
}

/// Limits as they were given, for passing on.
#[derive(Clone, Copy, Default)]
pub struct LimitArguments {
    pub max_uses: Option<i64>,
    pub refill_amount: Option<i64>,
    pub refill_every: Option<IntervalValue>,
    pub rate_limit: Option<i32>,
    pub rate_window: Option<IntervalValue>,
}

impl LimitArguments {
    pub fn settings(&self) -> Settings {
        Settings {
            max_uses: self.max_uses,
            refill_amount: self.refill_amount,
            refill_every: self.refill_every.map(|every| every.span()),
            rate_limit: self.rate_limit,
            rate_window: self.rate_window.map(|window| window.span()),
        }
    }
}

statement!(
    INSERT = "
    INSERT INTO api_tokens.tokens (token_id, family_id, token_hash, token_prefix, namespace, name,
        metadata, scopes, created_at, last_used_at, expires_at, max_expires_at, max_idle,
        allowed_ips, enabled, revoked_at, in_grace, max_uses, refill_amount, refill_every,
        rate_limit, rate_window)
    VALUES ($1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
        $19, $20, $21)
    ON CONFLICT (token_hash) DO NOTHING"
);

/// Adds a token, the first of its family; refused if its hash is known.
pub fn insert(token: &NewToken) -> Result<()> {
    let arguments = [
        token.token_id.into(),
        token.digest.0.as_slice().into(),
        token.token_prefix.into(),
        token.namespace.into(),
        token.name.into(),
        token.metadata.into(),
        token.scopes.to_vec().into(),
        timestamptz(token.created_at).into(),
        timestamptz(token.last_used_at).into(),
        token.expires_at.map(timestamptz).into(),
        token.max_expires_at.map(timestamptz).into(),
        token.max_idle.into(),
        token.allowed_ips.into(),
        token.enabled.into(),
        token.revoked_at.map(timestamptz).into(),
        token.in_grace.into(),
        token.limits.max_uses.into(),
        token.limits.refill_amount.into(),
        token.limits.refill_every.into(),
        token.limits.rate_limit.into(),
        token.limits.rate_window.into(),
    ];
    match INSERT.with(|insert| insert.execute(&arguments))? {
        0 => Err(Error::DuplicateToken.into()),
        _ => Ok(()),
    }
}

/// What the next generation of a token does not inherit.
pub struct Heir<'a> {
    pub token_id: Uuid,
    pub digest: &'a Digest,
    pub token_prefix: &'a str,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// `None` inherits them.
    pub scopes: Option<Vec<&'a str>>,
}

statement!(
    INSERT_HEIR = "
    INSERT INTO api_tokens.tokens (token_id, family_id, generation, token_hash, token_prefix,
        namespace, name, metadata, scopes, created_at, last_used_at, expires_at, max_expires_at,
        max_idle, allowed_ips, max_uses, refill_amount, refill_every, rate_limit, rate_window)
    SELECT $1, family_id, generation OPERATOR(pg_catalog.+) 1, $2, $3, namespace, name, metadata,
        COALESCE($7, scopes), $4, $4, $5, max_expires_at, max_idle, allowed_ips, max_uses,
        refill_amount, refill_every, rate_limit, rate_window
    FROM api_tokens.tokens WHERE token_id OPERATOR(pg_catalog.=) $6"
);

statement!(
    RETIRE = "
    UPDATE api_tokens.tokens SET revoked_at = $2, in_grace = $3, replaced_by = $4
    WHERE token_id OPERATOR(pg_catalog.=) $1"
);

/// Puts an heir in the place of a token that is held.
pub fn replace(held: &HeldToken, retired: Retirement, heir: &Heir) -> Result<()> {
    let inherited = [
        heir.token_id.into(),
        heir.digest.0.as_slice().into(),
        heir.token_prefix.into(),
        timestamptz(heir.created_at).into(),
        heir.expires_at.map(timestamptz).into(),
        held.token_id.into(),
        heir.scopes.clone().into(),
    ];
    changed_one(INSERT_HEIR.with(|insert| insert.execute(&inherited))?)?;
    let end = [
        held.token_id.into(),
        timestamptz(retired.revoked_at).into(),
        retired.in_grace.into(),
        heir.token_id.into(),
    ];
    changed_one(RETIRE.with(|retire| retire.execute(&end))?)
}

statement!(
    LOCK_PARENT = "
    SELECT FROM api_tokens.tokens
    WHERE in_grace AND replaced_by OPERATOR(pg_catalog.=) $1
    FOR NO KEY UPDATE"
);

/// Locks the token that this one replaced, if it is still in grace. Called before the token
/// itself is held: rows of one family are locked oldest first, so that no two callers deadlock.
pub fn lock_parent_in_grace(heir: Uuid) -> Result<()> {
    LOCK_PARENT.with(|lock| lock.execute(&[heir.into()]))?;
    Ok(())
}

statement!(
    END_GRACE = "
    UPDATE api_tokens.tokens
    SET in_grace = false, revoked_at = LEAST(revoked_at, $2)
    WHERE in_grace AND replaced_by OPERATOR(pg_catalog.=) $1
    RETURNING token_id"
);

/// Ends the grace of the token that this one replaced, and returns its id: only the last
/// generation is ever in grace.
pub fn end_parents_grace(heir: Uuid, now: Timestamp) -> Result<Option<Uuid>> {
    let arguments = [heir.into(), timestamptz(now).into()];
    END_GRACE.with(|end| {
        end.run(&arguments, |rows| if rows.is_empty() { Ok(None) } else { rows.first().get_one() })
    })
}

statement!(
    SET_ENABLED = "
    UPDATE api_tokens.tokens SET enabled = $2 WHERE token_id OPERATOR(pg_catalog.=) $1"
);

pub fn set_enabled(held: &HeldToken, enabled: bool) -> Result<()> {
    let arguments = [held.token_id.into(), enabled.into()];
    changed_one(SET_ENABLED.with(|set| set.execute(&arguments))?)
}

/// Fails if a row that is held was out of sight of the statement that should change it: it was
/// committed after the snapshot of a REPEATABLE READ transaction.
pub(super) fn changed_one(rows: usize) -> Result<()> {
    if rows == 1 { Ok(()) } else { Err(Error::Conflict.into()) }
}
