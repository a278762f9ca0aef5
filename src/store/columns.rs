//! Column numbers of `api_tokens.tokens`, in the order of the install script. Columns that every
//! check reads come first, those of fixed width before the others, so that they are cheap to reach.
//! The surface test compares them with `pg_attribute`.

use crate::pg::raise::Layout;
use crate::pg::touch::FixedColumn;

pub const TOKEN_ID: i16 = 1;
pub const FAMILY_ID: i16 = 2;
pub const LAST_USED_AT: i16 = 4;
pub const GENERATION: i16 = 6;
pub const ENABLED: i16 = 7;
pub const IN_GRACE: i16 = 8;
pub const NAMESPACE: i16 = 10;
pub const TOKEN_PREFIX: i16 = 11;
pub const SCOPES: i16 = 12;
pub const EXPIRES_AT: i16 = 13;
pub const REVOKED_AT: i16 = 14;
pub const MAX_IDLE: i16 = 15;
pub const MAX_EXPIRES_AT: i16 = 16;
pub const REPLACED_BY: i16 = 17;
pub const ALLOWED_IPS: i16 = 18;
pub const MAX_USES: i16 = 19;
pub const REFILL_AMOUNT: i16 = 20;
pub const REFILL_EVERY: i16 = 21;
pub const RATE_LIMIT: i16 = 22;
pub const RATE_WINDOW: i16 = 23;
pub const NAME: i16 = 24;
pub const METADATA: i16 = 25;

/// `last_used_at` behind two uuids and a timestamptz.
pub const TOUCHED: FixedColumn = FixedColumn { number: LAST_USED_AT, offset: 16 + 16 + 8 };

/// `token_id` first, `use_count` behind `last_used_at`.
pub const RAISED: Layout = Layout { key: 0, pair: TOUCHED.offset };

/// How far a row is deformed.
pub const LAST: i32 = METADATA as i32;
