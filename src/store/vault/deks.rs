//! Data keys, wrapped: one that seals per namespace, and those that a rotation has not emptied yet.

use crate::error::Result;
use crate::pg::datum::timestamptz;
use crate::pg::latest;
use crate::pg::scan::{Key, Lock, UniqueIndex};
use crate::store::statement::statement;
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::vault::secret::KeyId;
use pgrx::spi::{SpiHeapTupleData, SpiResult};
use pgrx::{Uuid, pg_sys};

mod column {
    pub const NAMESPACE: i16 = 5;
    pub const KEK_ID: i16 = 6;
    pub const WRAPPED: i16 = 7;
}

thread_local! {
    static BY_ID: UniqueIndex = const {
        let last = column::WRAPPED as i32;
        UniqueIndex::new(c"api_tokens", c"vault_deks", c"vault_deks_pkey", last)
    };
}

/// A data key as it lies in the table.
pub struct WrappedDek {
    pub dek_id: KeyId,
    pub namespace: String,
    pub kek_id: KeyId,
    pub wrapped: Vec<u8>,
}

fn id(bytes: &[u8]) -> KeyId {
    KeyId(bytes.try_into().expect("checked by the table"))
}

statement!(
    AFTER = "
    SELECT dek_id, namespace, kek_id, wrapped FROM api_tokens.vault_deks
    WHERE $1 IS NULL OR dek_id OPERATOR(pg_catalog.>) $1 ORDER BY dek_id LIMIT $2"
);

/// Keys in the order of their ids, after one; from the first if there is none.
pub fn after(last: Option<&WrappedDek>, limit: i32) -> Result<Vec<WrappedDek>> {
    let last = last.map(|last| Uuid::from_bytes(last.dek_id.0));
    let arguments = [last.into(), i64::from(limit).into()];
    AFTER.with(|after| after.query(&arguments, |rows| rows.map(|row| decode(&row)).collect()))
}

/// What one KEK has wrapped.
pub struct Use {
    pub kek_id: KeyId,
    pub deks: i64,
    pub retired_deks: i64,
    /// Values that the retired ones still seal.
    pub values_to_move: i64,
}

statement!(
    USE = "
    SELECT d.kek_id, pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT d.is_active),
        COALESCE(pg_catalog.sum((SELECT pg_catalog.count(*) FROM api_tokens.vault_versions v
            WHERE v.dek_id OPERATOR(pg_catalog.=) d.dek_id)) FILTER (WHERE NOT d.is_active), 0)::bigint
    FROM api_tokens.vault_deks d GROUP BY d.kek_id ORDER BY d.kek_id"
);

/// What each KEK has wrapped.
pub fn uses() -> Result<Vec<Use>> {
    USE.with(|uses| {
        uses.query(&[], |rows| {
            let decode = |row: SpiHeapTupleData| {
                Ok(Use {
                    kek_id: id(row.get(1)?.expect("is NOT NULL")),
                    deks: row.get(2)?.unwrap_or_default(),
                    retired_deks: row.get(3)?.unwrap_or_default(),
                    values_to_move: row.get(4)?.unwrap_or_default(),
                })
            };
            rows.map(decode).collect()
        })
    })
}

/// The key as committed last, so that one that was destroyed is not found by an old snapshot.
pub fn find(dek_id: &KeyId) -> Option<WrappedDek> {
    BY_ID.with(|index| {
        index.find(&[Key::Uuid(&dek_id.0)], Lock::None, |row| {
            let row = row?;
            Some(WrappedDek {
                dek_id: *dek_id,
                namespace: row.text(column::NAMESPACE).expect("is NOT NULL").to_owned(),
                kek_id: id(row.bytes(column::KEK_ID).expect("is NOT NULL")),
                wrapped: row.bytes(column::WRAPPED).expect("is NOT NULL").to_vec(),
            })
        })
    })
}

fn decode(row: &SpiHeapTupleData) -> SpiResult<WrappedDek> {
    Ok(WrappedDek {
        dek_id: KeyId(*row.get::<Uuid>(1)?.expect("is NOT NULL").as_bytes()),
        namespace: row.get(2)?.expect("is NOT NULL"),
        kek_id: id(row.get(3)?.expect("is NOT NULL")),
        wrapped: row.get(4)?.expect("is NOT NULL"),
    })
}

statement!(
    HOLD_ACTIVE = "
    SELECT dek_id, namespace, kek_id, wrapped FROM api_tokens.vault_deks
    WHERE namespace OPERATOR(pg_catalog.=) $1 AND is_active
    FOR KEY SHARE"
);

/// The key that seals for a namespace, kept from being destroyed until the transaction ends.
/// Called before anything of the vault is locked: keys first, then secrets, then versions.
pub fn hold_active(namespace: &str) -> Result<Option<WrappedDek>> {
    HOLD_ACTIVE.with(|hold| {
        hold.run(&[namespace.into()], |mut rows| rows.next().map(|row| decode(&row)).transpose())
    })
}

statement!(
    IN_USE = "
    SELECT kek_id FROM api_tokens.vault_deks
    WHERE NOT EXISTS (SELECT FROM api_tokens.vault_deks d
        WHERE d.kek_id OPERATOR(pg_catalog.=) ANY ($1))
    LIMIT 1"
);

/// A KEK that is in use, if none of these is.
pub fn in_use_besides(loaded: &[KeyId]) -> Result<Option<KeyId>> {
    let loaded: Vec<&[u8]> = loaded.iter().map(|id| &id.0[..]).collect();
    IN_USE.with(|in_use| {
        in_use.run(&[loaded.into()], |mut rows| {
            rows.next().map(|row| Ok(id(row.get(1)?.expect("is NOT NULL")))).transpose()
        })
    })
}

statement!(
    INSERT = "
    INSERT INTO api_tokens.vault_deks (dek_id, created_at, generation, is_active, namespace, kek_id,
        wrapped)
    SELECT $1, $2, COALESCE(pg_catalog.max(generation), 0) OPERATOR(pg_catalog.+) 1, true, $3, $4, $5
    FROM api_tokens.vault_deks WHERE namespace OPERATOR(pg_catalog.=) $3
    ON CONFLICT DO NOTHING"
);

/// Makes this the key that seals for its namespace; false if there is one.
pub fn insert(dek: &WrappedDek, now: Timestamp) -> Result<bool> {
    let arguments = [
        Uuid::from_bytes(dek.dek_id.0).into(),
        timestamptz(now).into(),
        dek.namespace.as_str().into(),
        dek.kek_id.0.as_slice().into(),
        dek.wrapped.as_slice().into(),
    ];
    Ok(INSERT.with(|insert| insert.execute(&arguments))? == 1)
}

/// Two probes of the index on kek_id, one on each side of the primary, find another KEK.
macro_rules! of_others {
    ($lock:literal) => {
        concat!(
            "
    SELECT dek_id, namespace, kek_id, wrapped FROM api_tokens.vault_deks
    WHERE kek_id OPERATOR(pg_catalog.=) ANY (ARRAY(
        (SELECT kek_id FROM api_tokens.vault_deks WHERE kek_id OPERATOR(pg_catalog.<) $1
        ORDER BY kek_id LIMIT 1)
        UNION ALL
        (SELECT kek_id FROM api_tokens.vault_deks WHERE kek_id OPERATOR(pg_catalog.>) $1
        ORDER BY kek_id LIMIT 1)))
    LIMIT $2 FOR NO KEY UPDATE ",
            $lock
        )
    };
}
statement!(NEXT_OF_OTHERS = of_others!("SKIP LOCKED"));
statement!(NEXT_OF_OTHERS_WAITING = of_others!(""));

/// Some keys that another KEK wraps, held; what others hold is left out, or waited for.
pub fn hold_of_others(primary: &KeyId, limit: i32, wait: bool) -> Result<Vec<WrappedDek>> {
    let next = if wait { &NEXT_OF_OTHERS_WAITING } else { &NEXT_OF_OTHERS };
    let arguments = [primary.0.as_slice().into(), i64::from(limit).into()];
    next.with(|next| next.run(&arguments, |rows| rows.map(|row| decode(&row)).collect()))
}

statement!(
    OTHERS = "
    SELECT FROM api_tokens.vault_deks
    WHERE kek_id OPERATOR(pg_catalog.<) $1 OR kek_id OPERATOR(pg_catalog.>) $1 LIMIT 1"
);

/// Is any key wrapped by another KEK?
pub fn are_of_others(primary: &KeyId) -> Result<bool> {
    OTHERS.with(|others| others.execute(&[primary.0.as_slice().into()])).map(|rows| rows > 0)
}

statement!(
    REWRAP = "
    UPDATE api_tokens.vault_deks d SET kek_id = $1, wrapped = n.wrapped
    FROM ROWS FROM (pg_catalog.unnest($2::uuid[]), pg_catalog.unnest($3::bytea[])) n (dek_id, wrapped)
    WHERE d.dek_id OPERATOR(pg_catalog.=) n.dek_id"
);

/// Puts keys that are held back, wrapped by another KEK.
pub fn rewrap(kek_id: &KeyId, deks: &[(KeyId, Vec<u8>)]) -> Result<usize> {
    let ids: Vec<Uuid> = deks.iter().map(|(id, _)| Uuid::from_bytes(id.0)).collect();
    let wrapped: Vec<&[u8]> = deks.iter().map(|(_, wrapped)| wrapped.as_slice()).collect();
    let arguments = [kek_id.0.as_slice().into(), ids.into(), wrapped.into()];
    REWRAP.with(|rewrap| rewrap.execute(&arguments))
}

statement!(
    RETIRE = "
    UPDATE api_tokens.vault_deks SET is_active = false
    WHERE namespace OPERATOR(pg_catalog.=) $1 AND is_active"
);

/// The key of the namespace opens, and seals no more; false if there is none.
pub fn retire(namespace: &str) -> Result<bool> {
    Ok(RETIRE.with(|retire| retire.execute(&[namespace.into()]))? > 0)
}

statement!(
    RETIRED = "
    SELECT dek_id FROM api_tokens.vault_deks
    WHERE namespace OPERATOR(pg_catalog.=) $1 AND NOT is_active"
);

/// Keys of the namespace that seal no more.
pub fn retired(namespace: &str) -> Result<Vec<Uuid>> {
    RETIRED.with(|retired| retired.run(&[namespace.into()], crate::store::statement::ids))
}

statement!(
    HOLD_ALL = "
    SELECT dek_id FROM api_tokens.vault_deks
    WHERE namespace OPERATOR(pg_catalog.=) $1 AND (NOT is_active OR $2)
    ORDER BY generation FOR UPDATE"
);
/// Is anything sealed by these keys, whatever the transaction's snapshot shows?
pub fn are_in_use(deks: &[Uuid]) -> bool {
    const SEALED: &str = "SELECT FROM api_tokens.vault_versions
        WHERE dek_id OPERATOR(pg_catalog.=) ANY ($1)";
    latest::finds_a_row(SEALED, &[deks.to_vec().into()])
}

statement!(
    DESTROY = "
    DELETE FROM api_tokens.vault_deks WHERE dek_id OPERATOR(pg_catalog.=) ANY ($1)"
);

/// Holds the keys of the namespace that seal no more, or all of them, once everybody who is
/// sealing with them has finished.
pub fn hold_all(namespace: &str, with_active: bool) -> Result<Vec<Uuid>> {
    let arguments = [namespace.into(), with_active.into()];
    HOLD_ALL.with(|hold| hold.run(&arguments, crate::store::statement::ids))
}

/// Destroys keys that are held and not in use, and has all backends forget what they keep.
pub fn destroy(deks: Vec<Uuid>) -> Result<usize> {
    let destroyed = DESTROY.with(|destroy| destroy.execute(&[deks.into()]))?;
    crate::pg::scan::tell_all_that_changed(table()?);
    Ok(destroyed)
}

fn table() -> Result<pg_sys::Oid> {
    let sql = "SELECT 'api_tokens.vault_deks'::pg_catalog.regclass::pg_catalog.oid";
    let oid = pgrx::Spi::connect(|client| client.select(sql, Some(1), &[])?.first().get_one())?;
    Ok(oid.unwrap_or(pg_sys::InvalidOid))
}
