//! The events table: one row per change, told to listeners in the same transaction, and read
//! again by those who were away.

use super::statement::statement;
use crate::error::Result;
use crate::pg::datum::timestamptz;
use crate::pg::{result, role, transaction, wal};
use crate::{guc, pg};
use api_tokens_logic::cursor::{Cursor, History, Mark, Snapshot};
use api_tokens_logic::event::{Method, Notice};
use pgrx::datum::{JsonB, TimestampWithTimeZone};
use pgrx::spi::SpiHeapTupleData;
use pgrx::{Spi, Uuid};

/// What a change says about itself.
#[derive(Default)]
pub struct Event<'a> {
    pub namespace: Option<&'a str>,
    pub token_id: Option<Uuid>,
    pub replaced_by: Option<Uuid>,
    pub count: Option<i64>,
    pub detail: serde_json::Map<String, serde_json::Value>,
}

impl<'a> Event<'a> {
    /// About one token.
    pub fn of(namespace: &'a str, token_id: Uuid) -> Self {
        Self { namespace: Some(namespace), token_id: Some(token_id), ..Self::default() }
    }
}

statement!(
    INSERT = "
    INSERT INTO api_tokens.events (at, method, namespace, token_id, count, actor, detail, xid,
        cluster, timeline)
    VALUES ($1, $2, $3, $4, $5, $6, $7, pg_catalog.pg_current_xact_id(), $8,
        $9)
    RETURNING event_id"
);
statement!(NOTIFY = "SELECT pg_catalog.pg_notify($1, $2)");

/// Records the event, and notifies it if it can invalidate what a cache believes.
pub fn record(method: Method, event: Event) -> Result<()> {
    let mut detail = event.detail;
    if let Some(heir) = event.replaced_by {
        detail.insert("replaced_by".to_owned(), heir.to_string().into());
    }
    let here = transaction::history();
    let arguments = [
        timestamptz(pg::clock::now()).into(),
        method.as_str().into(),
        event.namespace.into(),
        event.token_id.into(),
        event.count.into(),
        role::actor().into(),
        (!detail.is_empty()).then(|| JsonB(detail.into())).into(),
        here.cluster.into(),
        here.timeline.into(),
    ];
    let event_id =
        INSERT.with(|insert| insert.run(&arguments, |rows| rows.first().get_one::<i64>()))?;
    let Some(channel) = guc::notify_channel().filter(|_| method.invalidates()) else {
        return Ok(());
    };
    let notice = Notice {
        method: method.as_str(),
        event_id: event_id.unwrap_or_default(),
        namespace: event.namespace,
        token_id: event.token_id.map(|id| id.to_string()),
        replaced_by: event.replaced_by.map(|id| id.to_string()),
        count: event.count,
    };
    NOTIFY.with(|notify| notify.execute(&[channel.into(), notice.to_json().into()]))?;
    Ok(())
}

/// Which events a reader is given.
pub struct Filter<'a> {
    pub namespace: Option<&'a str>,
    /// `None` gives all methods.
    pub methods: Option<Vec<&'static str>>,
    pub max_rows: i64,
}

/// An event as it is read back.
pub struct Read {
    /// Where a reader stands who has got this far.
    pub cursor: Cursor,
    pub event_id: i64,
    pub at: Option<TimestampWithTimeZone>,
    pub method: Option<String>,
    pub namespace: Option<String>,
    pub token_id: Option<Uuid>,
    pub count: Option<i64>,
    pub actor: Option<String>,
    pub detail: Option<JsonB>,
}

/// Is the event contained in a mark of this cluster, timeline and snapshot? One of an earlier
/// timeline is if the snapshot contains its transaction: it may have been prepared before a
/// promotion and committed after. One of a later timeline is not, whatever its id. One that was
/// written in another cluster and restored here is contained in all marks taken here.
macro_rules! contains {
    ($cluster:literal, $timeline:literal, $snapshot:literal) => {
        concat!(
            "CASE WHEN e.cluster OPERATOR(pg_catalog.=) ",
            $cluster,
            " THEN e.timeline OPERATOR(pg_catalog.<=) ",
            $timeline,
            " AND pg_catalog.pg_visible_in_snapshot(e.xid, ",
            $snapshot,
            "::pg_catalog.pg_snapshot) ELSE ",
            $cluster,
            " OPERATOR(pg_catalog.=) $1 END"
        )
    };
}

/// The present, as a snapshot. One does not list the transaction that takes it, and on a standby
/// none of those in progress; there the present ends at the oldest of them.
macro_rules! present {
    () => {
        "
        SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
                OR pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL
            THEN pg_catalog.format('%s:%s:', pg_catalog.pg_snapshot_xmin(s),
                pg_catalog.pg_snapshot_xmin(s))::pg_catalog.pg_snapshot
            ELSE s END AS snapshot
        FROM pg_catalog.pg_current_snapshot() s"
    };
}

/// See `api_tokens_logic::cursor` for the marks. Page 1 goes on with what the cursor's horizon
/// contains and its reader has not got; page 2 begins what is new since, up to the present.
///
/// Both the rows and the present come from one statement, so they agree.
///
/// $1 this cluster · $2 $3 $4 seen (cluster, timeline, snapshot or NULL) · $5 $6 $7 horizon ·
/// $8 event id · $9 $10 floors of xid for the pages (for the index) · $11 namespace ·
/// $12 methods · $13 rows
const READ: &str = concat!(
    "
    WITH present AS MATERIALIZED (",
    present!(),
    ")
    SELECT page, present.snapshot::pg_catalog.text, event_id, at, method, namespace, token_id,
        count, actor, detail
    FROM present, LATERAL (
        (SELECT 1 AS page, e.* FROM api_tokens.events e
        WHERE $7::pg_catalog.pg_snapshot IS NOT NULL
            AND e.event_id OPERATOR(pg_catalog.>) $8
            AND e.xid OPERATOR(pg_catalog.>=) $9::pg_catalog.xid8
            AND ",
    contains!("$5", "$6", "$7"),
    " AND ($4::pg_catalog.pg_snapshot IS NULL OR NOT ",
    contains!("$2", "$3", "$4"),
    ")
            AND ($11 IS NULL OR e.namespace OPERATOR(pg_catalog.=) $11)
            AND ($12 IS NULL OR e.method OPERATOR(pg_catalog.=) ANY ($12))
        ORDER BY e.event_id LIMIT $13)
        UNION ALL
        (SELECT 2, e.* FROM api_tokens.events e
        WHERE (e.cluster OPERATOR(pg_catalog.<>) $1
                OR pg_catalog.pg_visible_in_snapshot(e.xid, present.snapshot))
            AND e.xid OPERATOR(pg_catalog.>=) $10::pg_catalog.xid8
            AND ($7::pg_catalog.pg_snapshot IS NULL OR NOT ",
    contains!("$5", "$6", "$7"),
    ")
            AND ($11 IS NULL OR e.namespace OPERATOR(pg_catalog.=) $11)
            AND ($12 IS NULL OR e.method OPERATOR(pg_catalog.=) ANY ($12))
        ORDER BY e.event_id LIMIT $13)
    ) found
    ORDER BY page, event_id LIMIT $13"
);

/// Events after the cursor. Planned anew for each call: with the floors known the planner sees
/// whether little or much is new, and takes the index on xid or on event id.
pub fn read(after: Option<&Cursor>, filter: &Filter) -> Result<Vec<Read>> {
    let here = transaction::history();
    let seen = after.and_then(|cursor| cursor.seen.as_ref());
    let horizon = after.map(|cursor| &cursor.horizon);
    let floor = |mark: Option<&Mark>| match mark {
        Some(mark) if mark.history == here => mark.snapshot.xmin.to_string(),
        _ => "0".to_owned(),
    };
    let history = |mark: Option<&Mark>| mark.map_or(here, |mark| mark.history);
    let snapshot = |mark: Option<&Mark>| mark.map(|mark| mark.snapshot.as_str().to_owned());
    let methods = filter.methods.clone();
    let arguments = [
        here.cluster.into(),
        history(seen).cluster.into(),
        history(seen).timeline.into(),
        snapshot(seen).into(),
        history(horizon).cluster.into(),
        history(horizon).timeline.into(),
        snapshot(horizon).into(),
        after.map_or(i64::MIN, |cursor| cursor.event_id).into(),
        floor(seen).into(),
        floor(horizon).into(),
        filter.namespace.into(),
        methods.into(),
        filter.max_rows.into(),
    ];
    let read: Vec<Read> = Spi::connect(|client| {
        let rows = client.select(READ, None, &arguments)?;
        let decode = |row| {
            pgrx::check_for_interrupts!();
            decode(&row, after, here)
        };
        result::read(|| rows.map(decode).collect::<Result<_>>())
    })?;
    if !read.is_empty() {
        // Each has a cursor with ids that must not be given out again.
        wal::make_ends_durable();
    }
    Ok(read)
}

statement!(PRESENT = concat!("SELECT snapshot::pg_catalog.text FROM (", present!(), ") present"));

/// Where a reader stands who knows of everything up to the present.
pub fn end() -> Result<Cursor> {
    let present = PRESENT.with(|present| present.query(&[], |rows| rows.first().get_one()))?;
    wal::make_ends_durable();
    let snapshot = Snapshot::parse(present.unwrap_or_default())?;
    let horizon = Mark { history: transaction::history(), snapshot };
    Ok(Cursor { seen: None, horizon, event_id: i64::MAX })
}

const NEW_SINCE_HORIZON: i32 = 2;

fn decode(row: &SpiHeapTupleData, after: Option<&Cursor>, here: History) -> Result<Read> {
    let page: Option<i32> = row.get(1)?;
    let event_id = row.get(3)?.unwrap_or_default();
    let (seen, horizon) = match after {
        Some(after) if page != Some(NEW_SINCE_HORIZON) => {
            (after.seen.clone(), after.horizon.clone())
        }
        _ => {
            let present: Option<&str> = row.get(2)?;
            let snapshot = Snapshot::parse(present.unwrap_or_default())?;
            (after.map(|after| after.horizon.clone()), Mark { history: here, snapshot })
        }
    };
    Ok(Read {
        cursor: Cursor { seen, horizon, event_id },
        event_id,
        at: row.get(4)?,
        method: row.get(5)?,
        namespace: row.get(6)?,
        token_id: row.get(7)?,
        count: row.get(8)?,
        actor: row.get(9)?,
        detail: row.get(10)?,
    })
}
