//! Which keys there are, which are in use, and what is left to do.

use crate::api::Answer;
use crate::error;
use crate::keyring;
use crate::store::vault::deks::{self, Use};
use api_tokens_logic::vault::keyring::Kek;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};

/// One key-encryption key, as the status shows it.
struct Row {
    key_id: String,
    label: Option<String>,
    role: &'static str,
    uses: Option<Use>,
}

#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity, reason = "pgrx reads the columns off the signature")]
fn api_vault_key_status() -> Result<
    TableIterator<
        'static,
        (
            name!(key_id, String),
            name!(label, Option<String>),
            name!(role, String),
            name!(deks, i64),
            name!(retired_deks, i64),
            name!(values_to_move, i64),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(rows()?.into_iter().map(|row| {
        let count = |of: fn(&Use) -> i64| row.uses.as_ref().map_or(0, of);
        let (deks, retired) = (count(|uses| uses.deks), count(|uses| uses.retired_deks));
        let to_move = count(|uses| uses.values_to_move);
        (row.key_id, row.label, row.role.to_owned(), deks, retired, to_move)
    })))
}

/// The keys of the ring, the primary first; then those in use that are not in it. Without a ring
/// that can be used there are only the latter.
fn rows() -> error::Result<Vec<Row>> {
    let mut uses = deks::uses()?;
    let mut rows = Vec::new();
    if let Ok(loaded) = keyring::loaded() {
        for (at, kek) in loaded.ring.keys().iter().enumerate() {
            let used = uses.iter().position(|uses| uses.kek_id == kek.id);
            let role = if at == 0 { "primary" } else { "open only" };
            rows.push(row_of(kek, role, used.map(|at| uses.remove(at))));
        }
    }
    let missing = uses.into_iter().map(|uses| Row {
        key_id: uses.kek_id.to_string(),
        label: None,
        role: "missing",
        uses: Some(uses),
    });
    rows.extend(missing);
    Ok(rows)
}

fn row_of(kek: &Kek, role: &'static str, uses: Option<Use>) -> Row {
    Row { key_id: kek.id.to_string(), label: kek.label.clone(), role, uses }
}

/// What is wrong with the key ring as it lies there now; NULL if nothing is.
#[pg_extern(volatile, parallel_unsafe)]
fn vault_key_problem() -> Answer<Option<String>> {
    let ring = match keyring::check() {
        Ok(ring) => ring,
        Err(error) => {
            let said = [Some(error.message()), error.detail()].into_iter().flatten();
            return Ok(Some(said.collect::<Vec<_>>().join(": ")));
        }
    };
    let uses = deks::uses()?;
    let missing = uses.iter().filter(|uses| ring.find(&uses.kek_id).is_none()).count();
    Ok((missing > 0).then(|| format!("{missing} of the keys in use are not in the ring")))
}
