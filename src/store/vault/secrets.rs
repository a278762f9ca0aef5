//! Names in the vault, and which version of each is current.

use crate::error::Result;
use crate::pg::argument::Jsonb;
use crate::pg::datum::{timestamp, timestamptz};
use crate::pg::scan::{Key, Lock, UniqueIndex};
use crate::store::statement::statement;
use api_tokens_logic::time::Timestamp;

mod column {
    pub const VERSION: i16 = 3;
    pub const EXPIRES_AT: i16 = 7;
    pub const DELETED_AT: i16 = 8;
    pub const UPDATED_AT: i16 = 2;
    pub const CREATED_AT: i16 = 1;
}

thread_local! {
    static BY_NAME: UniqueIndex = const {
        let last = column::DELETED_AT as i32;
        UniqueIndex::new(c"api_tokens", c"vault_secrets", c"vault_secrets_pkey", last)
    };
}

/// A value's place in the vault.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    pub namespace: &'a str,
    pub key_name: &'a str,
}

/// What is known of a name besides its values.
pub struct Secret {
    /// The current version.
    pub version: i32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub deleted_at: Option<Timestamp>,
}

impl Secret {
    pub fn is_readable(&self, now: Timestamp) -> bool {
        self.deleted_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// As committed last.
pub fn find(name: Name) -> Option<Secret> {
    let keys = [Key::Text(name.namespace), Key::Text(name.key_name)];
    BY_NAME.with(|index| {
        index.find(&keys, Lock::None, |row| {
            let row = row?;
            Some(Secret {
                version: row.int(column::VERSION),
                created_at: row.timestamp(column::CREATED_AT).expect("is NOT NULL"),
                updated_at: row.timestamp(column::UPDATED_AT).expect("is NOT NULL"),
                expires_at: row.timestamp(column::EXPIRES_AT),
                deleted_at: row.timestamp(column::DELETED_AT),
            })
        })
    })
}

/// A name whose row this transaction has locked.
pub struct HeldSecret {
    pub version: i32,
    /// The highest number a version ever had: none is used twice.
    pub last_version: i32,
    pub is_deleted: bool,
    pub expires_at: Option<Timestamp>,
}

impl HeldSecret {
    pub fn is_readable(&self, now: Timestamp) -> bool {
        !self.is_deleted && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

statement!(
    HOLD = "
    SELECT version, last_version, deleted_at IS NOT NULL, expires_at FROM api_tokens.vault_secrets
    WHERE namespace OPERATOR(pg_catalog.=) $1 AND key_name OPERATOR(pg_catalog.=) $2
    FOR NO KEY UPDATE"
);

pub fn hold(name: Name) -> Result<Option<HeldSecret>> {
    let arguments = [name.namespace.into(), name.key_name.into()];
    HOLD.with(|hold| {
        hold.run(&arguments, |mut rows| {
            let Some(row) = rows.next() else { return Ok(None) };
            Ok(Some(HeldSecret {
                version: row.get(1)?.unwrap_or_default(),
                last_version: row.get(2)?.unwrap_or_default(),
                is_deleted: row.get(3)?.unwrap_or_default(),
                expires_at: row.get(4)?.map(timestamp),
            }))
        })
    })
}

/// What comes with a new version.
#[derive(Clone, Copy)]
pub struct About {
    pub metadata: Option<Jsonb>,
    pub expires_at: Option<Timestamp>,
}

statement!(
    INSERT = "
    INSERT INTO api_tokens.vault_secrets (created_at, updated_at, version, last_version, namespace,
        key_name, expires_at, metadata)
    VALUES ($3, $3, 1, 1, $1, $2, $4, $5)
    ON CONFLICT (namespace, key_name) DO NOTHING"
);

/// Adds a name with its first version; false if somebody else has added it.
pub fn insert(name: Name, about: &About, now: Timestamp) -> Result<bool> {
    let arguments = [
        name.namespace.into(),
        name.key_name.into(),
        timestamptz(now).into(),
        about.expires_at.map(timestamptz).into(),
        about.metadata.into(),
    ];
    Ok(INSERT.with(|insert| insert.execute(&arguments))? == 1)
}

statement!(
    ADVANCE = "
    UPDATE api_tokens.vault_secrets
    SET version = $3, last_version = $3, updated_at = $4, deleted_at = NULL,
        expires_at = CASE WHEN NOT $7 THEN $5
            WHEN expires_at OPERATOR(pg_catalog.>) $4 THEN expires_at END,
        metadata = CASE WHEN $7 THEN metadata ELSE $6 END
    WHERE namespace OPERATOR(pg_catalog.=) $1 AND key_name OPERATOR(pg_catalog.=) $2"
);

/// Makes a new version of a held name current; without anything about it, what there is stays, but
/// for an end that has passed.
pub fn advance(name: Name, version: i32, about: Option<&About>, now: Timestamp) -> Result<()> {
    let arguments = [
        name.namespace.into(),
        name.key_name.into(),
        version.into(),
        timestamptz(now).into(),
        about.and_then(|about| about.expires_at).map(timestamptz).into(),
        about.and_then(|about| about.metadata).into(),
        about.is_none().into(),
    ];
    ADVANCE.with(|advance| advance.execute(&arguments)).map(|_| ())
}

statement!(
    SET_DELETED = "
    UPDATE api_tokens.vault_secrets SET deleted_at = $3
    WHERE namespace OPERATOR(pg_catalog.=) $1 AND key_name OPERATOR(pg_catalog.=) $2"
);

/// Hides a held name, or shows it again.
pub fn set_deleted(name: Name, deleted_at: Option<Timestamp>) -> Result<()> {
    let deleted_at = deleted_at.map(timestamptz);
    let arguments = [name.namespace.into(), name.key_name.into(), deleted_at.into()];
    SET_DELETED.with(|set| set.execute(&arguments)).map(|_| ())
}

statement!(
    DELETE_ALL = "
    DELETE FROM api_tokens.vault_secrets WHERE namespace OPERATOR(pg_catalog.=) $1"
);

/// Removes all names of a namespace; says how many.
pub fn delete_all(namespace: &str) -> Result<usize> {
    DELETE_ALL.with(|delete| delete.execute(&[namespace.into()]))
}
