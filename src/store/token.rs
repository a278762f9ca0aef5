//! A row of `api_tokens.tokens`, read column by column as far as it is needed.

use super::columns as column;
use super::uses;
use crate::pg::kept::KeptJsonb;
use crate::pg::row::Row;
use crate::pg::touch::{Patience, Touched};
use api_tokens_logic::lifetime::{Lifetime, Revocation};
use api_tokens_logic::limits::Settings;
use api_tokens_logic::network::Network;
use api_tokens_logic::time::Timestamp;
use pgrx::Uuid;
use pgrx::pg_sys::Datum;

/// The row in place: valid where the scan hands it out.
pub struct StoredToken<'a>(Row<'a>);

impl<'a> StoredToken<'a> {
    pub(super) fn new(row: Row<'a>) -> Self {
        Self(row)
    }

    pub fn lifetime(&self) -> Lifetime {
        let row = &self.0;
        let max_idle = row.interval(column::MAX_IDLE);
        Lifetime {
            enabled: row.bool(column::ENABLED),
            revocation: Revocation::of(
                row.timestamp(column::REVOKED_AT),
                row.bool(column::IN_GRACE),
            ),
            expires_at: row.timestamp(column::EXPIRES_AT),
            last_used_at: self.last_used_at(max_idle.is_some()),
            max_idle,
        }
    }

    /// The last use in the table; or, if it matters, the one in shared memory that is later.
    fn last_used_at(&self, to_the_moment: bool) -> Timestamp {
        let stored = self.0.timestamp(column::LAST_USED_AT).unwrap_or(Timestamp::MIN);
        let live = to_the_moment.then(|| uses::last_use(&self.token_id())).flatten();
        live.map_or(stored, |live| live.max(stored))
    }

    pub fn token_id(&self) -> Uuid {
        self.0.uuid(column::TOKEN_ID).expect("is NOT NULL")
    }

    pub fn scopes(&self) -> Vec<&str> {
        self.0.texts(column::SCOPES)
    }

    pub fn allowed_ips(&self) -> Option<Vec<Network>> {
        self.0.networks(column::ALLOWED_IPS)
    }

    /// What limits it, each NULL or not.
    pub fn limits(&self) -> Settings {
        let row = &self.0;
        Settings {
            max_uses: row.bigint(column::MAX_USES),
            refill_amount: row.bigint(column::REFILL_AMOUNT),
            refill_every: row.interval(column::REFILL_EVERY),
            rate_limit: row.integer(column::RATE_LIMIT),
            rate_window: row.interval(column::RATE_WINDOW),
        }
    }

    /// Whose quota and rate limit these are: a rotation neither doubles nor resets them.
    pub fn family_id(&self) -> Uuid {
        self.0.uuid(column::FAMILY_ID).expect("is NOT NULL")
    }

    pub fn namespace(&self) -> &str {
        self.0.text(column::NAMESPACE).unwrap_or_default()
    }

    /// For passing on: `(token_id, namespace, name)` as they lie there.
    pub fn identity(&self) -> [Option<Datum>; 3] {
        [column::TOKEN_ID, column::NAMESPACE, column::NAME].map(|column| self.0.datum(column))
    }

    /// For passing on: `(metadata, scopes, expires_at)`, the first two as they lie there. A token in
    /// grace ends with it, which whoever remembers this answer must know. One that expires at
    /// `infinity` does not: many a driver cannot read that.
    pub fn grants(&self) -> [Option<Datum>; 3] {
        let row = &self.0;
        let in_grace = row.bool(column::IN_GRACE);
        let grace = in_grace.then(|| row.timestamp(column::REVOKED_AT)).flatten();
        let ends = [row.timestamp(column::EXPIRES_AT), grace].into_iter().flatten();
        let expires_at = ends.min().filter(|end| end.is_finite());
        let expires_at = expires_at.map(|end| Datum::from(end.0));
        [row.datum(column::METADATA), row.datum(column::SCOPES), expires_at]
    }

    /// What a transaction that acts as this token is told of it.
    pub fn to_holder(&self) -> Holder {
        let row = &self.0;
        let text = |column| row.text(column).map(str::to_owned);
        Holder {
            token_id: self.token_id(),
            namespace: text(column::NAMESPACE).unwrap_or_default(),
            name: text(column::NAME),
            metadata: row.jsonb(column::METADATA),
            scopes: self.scopes().into_iter().map(str::to_owned).collect(),
        }
    }

    /// Writes a use to the row; says whether it is there now. The patient wait for others to
    /// finish with the page.
    pub fn touch(&self, now: Timestamp, patience: Patience) -> bool {
        let touched = self.0.touch(column::TOUCHED, now, patience);
        if touched == Touched::Written {
            uses::note_row_write();
        }
        touched != Touched::No
    }

    /// Its id, and how many rotations lie behind it.
    pub fn lineage(&self) -> (Uuid, i32) {
        (self.token_id(), self.0.int(column::GENERATION))
    }

    /// What a change of the token needs to know, copied out of the scan.
    pub(super) fn to_held(&self) -> HeldToken {
        let row = &self.0;
        HeldToken {
            token_id: self.token_id(),
            family_id: row.uuid(column::FAMILY_ID).expect("is NOT NULL"),
            generation: row.int(column::GENERATION),
            namespace: row.text(column::NAMESPACE).unwrap_or_default().to_owned(),
            token_prefix: row.text(column::TOKEN_PREFIX).unwrap_or_default().to_owned(),
            max_expires_at: row.timestamp(column::MAX_EXPIRES_AT),
            replaced_by: row.uuid(column::REPLACED_BY),
            lifetime: self.lifetime(),
            limits: self.limits(),
            scopes: self.scopes().into_iter().map(str::to_owned).collect(),
        }
    }
}

/// A token that was accepted, copied out of the scan.
pub struct Holder {
    pub token_id: Uuid,
    pub namespace: String,
    pub name: Option<String>,
    pub metadata: Option<KeptJsonb>,
    pub scopes: Vec<String>,
}

/// A token whose row this transaction has locked, as it is now.
pub struct HeldToken {
    pub token_id: Uuid,
    pub family_id: Uuid,
    pub generation: i32,
    pub namespace: String,
    pub token_prefix: String,
    pub max_expires_at: Option<Timestamp>,
    pub replaced_by: Option<Uuid>,
    pub lifetime: Lifetime,
    pub limits: Settings,
    pub scopes: Vec<String>,
}
