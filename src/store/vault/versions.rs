//! Versions of values: sealed here, or encrypted by a client.

use super::secrets::Name;
use crate::error::Result;
use crate::pg::datum::timestamptz;
use crate::pg::scan::{Key, Lock, UniqueIndex};
use crate::store::statement::statement;
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::vault::secret::KeyId;
use pgrx::Uuid;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

mod column {
    pub const SEALED: i16 = 6;
    pub const CLIENT_VALUE: i16 = 7;
    pub const CLIENT_IV: i16 = 8;
}

thread_local! {
    static BY_NUMBER: UniqueIndex = const {
        let last = column::CLIENT_IV as i32;
        UniqueIndex::new(c"api_tokens", c"vault_versions", c"vault_versions_pkey", last)
    };
}

/// A value as it lies in the table.
pub enum Content<'a> {
    Sealed { dek_id: KeyId, sealed: &'a [u8] },
    Client { encrypted_value: &'a str, iv: &'a str },
}

/// Gives `read` a version as committed last.
pub fn find<R>(name: Name, version: i32, read: impl FnOnce(Option<Found>) -> R) -> R {
    let keys = [Key::Text(name.namespace), Key::Text(name.key_name), Key::Integer(version)];
    BY_NUMBER.with(|index| {
        index.find(&keys, Lock::None, |row| {
            read(row.as_ref().map(|row| match row.bytes(column::SEALED) {
                Some(sealed) => Found::Sealed(sealed),
                None => Found::Client {
                    encrypted_value: row.text(column::CLIENT_VALUE).unwrap_or_default(),
                    iv: row.text(column::CLIENT_IV).unwrap_or_default(),
                },
            }))
        })
    })
}

/// A version, where the scan shows it.
pub enum Found<'a> {
    Sealed(&'a [u8]),
    Client { encrypted_value: &'a str, iv: &'a str },
}

statement!(
    INSERT = "
    INSERT INTO api_tokens.vault_versions (version, created_at, namespace, key_name, dek_id, sealed,
        client_value, client_iv)
    VALUES ($3, $4, $1, $2, $5, $6, $7, $8)"
);

pub fn insert(name: Name, version: i32, content: &Content, now: Timestamp) -> Result<()> {
    let (dek_id, sealed, value, iv) = match *content {
        Content::Sealed { dek_id, sealed } => {
            (Some(Uuid::from_bytes(dek_id.0)), Some(sealed), None, None)
        }
        Content::Client { encrypted_value, iv } => (None, None, Some(encrypted_value), Some(iv)),
    };
    let arguments = [
        name.namespace.into(),
        name.key_name.into(),
        version.into(),
        timestamptz(now).into(),
        dek_id.into(),
        sealed.into(),
        value.into(),
        iv.into(),
    ];
    INSERT.with(|insert| insert.execute(&arguments)).map(|_| ())
}

statement!(
    DELETE = "
    DELETE FROM api_tokens.vault_versions
    WHERE namespace OPERATOR(pg_catalog.=) $1 AND key_name OPERATOR(pg_catalog.=) $2
        AND version OPERATOR(pg_catalog.>=) $3 AND version OPERATOR(pg_catalog.<=) $4"
);

/// Deletes the versions of a held name from one number to another, both included; says how many.
pub fn delete(name: Name, from: i32, to: i32) -> Result<usize> {
    let arguments = [name.namespace.into(), name.key_name.into(), from.into(), to.into()];
    DELETE.with(|delete| delete.execute(&arguments))
}

statement!(
    EXIST = "
    SELECT FROM api_tokens.vault_versions
    WHERE namespace OPERATOR(pg_catalog.=) $1 AND key_name OPERATOR(pg_catalog.=) $2 LIMIT 1"
);

/// Has the name any version left?
pub fn exist(name: Name) -> Result<bool> {
    EXIST.with(|exist| exist.execute(&[name.namespace.into(), name.key_name.into()])).map(|n| n > 0)
}

statement!(
    DELETE_ALL = "
    DELETE FROM api_tokens.vault_versions WHERE namespace OPERATOR(pg_catalog.=) $1"
);

/// Deletes all versions of a namespace; says how many.
pub fn delete_all(namespace: &str) -> Result<usize> {
    DELETE_ALL.with(|delete| delete.execute(&[namespace.into()]))
}

/// A sealed version, copied out.
pub struct SealedVersion {
    pub namespace: String,
    pub key_name: String,
    pub version: i32,
    pub sealed: Vec<u8>,
    /// The key that the row says has sealed it.
    pub dek_id: KeyId,
}

impl SealedVersion {
    pub fn name(&self) -> Name<'_> {
        Name { namespace: &self.namespace, key_name: &self.key_name }
    }

    /// For people.
    pub fn place(&self) -> String {
        let Self { namespace, key_name, version, .. } = self;
        format!("version {version} of \"{key_name}\" in namespace \"{namespace}\"")
    }
}

fn decode(row: &SpiHeapTupleData) -> SpiResult<SealedVersion> {
    Ok(SealedVersion {
        namespace: row.get(1)?.expect("is NOT NULL"),
        key_name: row.get(2)?.expect("is NOT NULL"),
        version: row.get(3)?.expect("is NOT NULL"),
        sealed: row.get(4)?.expect("asked for those that have it"),
        dek_id: KeyId(*row.get::<Uuid>(5)?.expect("as has this").as_bytes()),
    })
}

statement!(
    HOLD_OF = "
    SELECT namespace, key_name, version, sealed, dek_id FROM api_tokens.vault_versions
    WHERE dek_id OPERATOR(pg_catalog.=) ANY ($1) LIMIT $2
    FOR UPDATE SKIP LOCKED"
);
statement!(
    HOLD_OF_WAITING = "
    SELECT namespace, key_name, version, sealed, dek_id FROM api_tokens.vault_versions
    WHERE dek_id OPERATOR(pg_catalog.=) ANY ($1) LIMIT $2
    FOR UPDATE"
);

/// Some versions that these keys seal, held; what others hold is left out, or waited for.
pub fn hold_of(deks: Vec<Uuid>, limit: i32, wait: bool) -> Result<Vec<SealedVersion>> {
    let next = if wait { &HOLD_OF_WAITING } else { &HOLD_OF };
    let arguments = [deks.into(), i64::from(limit).into()];
    next.with(|next| next.run(&arguments, |rows| rows.map(|row| decode(&row)).collect()))
}

statement!(
    RESEAL = "
    UPDATE api_tokens.vault_versions v SET dek_id = $1, sealed = n.sealed
    FROM ROWS FROM (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::integer[]),
        pg_catalog.unnest($5::bytea[])) n (key_name, version, sealed)
    WHERE v.namespace OPERATOR(pg_catalog.=) $2 AND v.key_name OPERATOR(pg_catalog.=) n.key_name
        AND v.version OPERATOR(pg_catalog.=) n.version"
);

/// Puts held versions of one namespace back, sealed by another key.
pub fn reseal(namespace: &str, dek_id: &KeyId, versions: &[SealedVersion]) -> Result<usize> {
    let names: Vec<&str> = versions.iter().map(|version| version.key_name.as_str()).collect();
    let numbers: Vec<i32> = versions.iter().map(|version| version.version).collect();
    let sealed: Vec<&[u8]> = versions.iter().map(|version| version.sealed.as_slice()).collect();
    let arguments = [
        Uuid::from_bytes(dek_id.0).into(),
        namespace.into(),
        names.into(),
        numbers.into(),
        sealed.into(),
    ];
    RESEAL.with(|reseal| reseal.execute(&arguments))
}

statement!(
    AFTER = "
    SELECT namespace, key_name, version, sealed, dek_id FROM api_tokens.vault_versions
    WHERE sealed IS NOT NULL
        AND (namespace, key_name, version) OPERATOR(pg_catalog.>) ($1::text COLLATE \"C\", $2::text COLLATE \"C\", $3)
    ORDER BY namespace, key_name, version LIMIT $4"
);

/// Sealed versions in the order of their names, after one; from the first if there is none.
pub fn after(last: Option<&SealedVersion>, limit: i32) -> Result<Vec<SealedVersion>> {
    let (namespace, key_name, version) =
        last.map_or(("", "", 0), |last| (&last.namespace, &last.key_name, last.version));
    let arguments = [namespace.into(), key_name.into(), version.into(), i64::from(limit).into()];
    AFTER.with(|after| after.query(&arguments, |rows| rows.map(|row| decode(&row)).collect()))
}
