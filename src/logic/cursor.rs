//! Where a reader of `api_token_events` stands.
//!
//! The easy cursor, "the last event id", skips: ids are drawn before commit, so a transaction
//! that began early and commits late puts a small id behind a reader that is past it. Holding
//! back every event newer than the oldest running transaction does not skip, but one idle
//! transaction then delays all revocations. So a cursor remembers *which transactions* its
//! reader has seen, as a Postgres snapshot: what is new is what that snapshot does not contain.
//!
//! Paging through what is new must be stable while more arrives, hence two marks: everything in
//! `seen` was delivered; what `horizon` contains beyond it is being delivered in order of event
//! id, and `event_id` is the last one. A mark names the history it was taken in: after a restore
//! into another cluster transaction ids mean nothing, and after a fail-over some are used again.

use crate::error::{Error, Result};
use std::fmt;

const VERSION: &str = "1";
const MALFORMED: Error = Error::Malformed {
    argument: "after_cursor",
    expected: "the cursor of a row that api_token_events returned",
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// `None` at the very start: nothing was delivered yet.
    pub seen: Option<Mark>,
    pub horizon: Mark,
    pub event_id: i64,
}

/// A cluster, by its system identifier, and its timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    pub cluster: i64,
    pub timeline: i32,
}

/// A snapshot and the history it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub history: History,
    pub snapshot: Snapshot,
}

/// The text form of `pg_snapshot`, `xmin:xmax:xip,xip,…`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    text: String,
    /// All transactions before this one are contained in the snapshot.
    pub xmin: u64,
}

impl Snapshot {
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let mut number = || parts.next().and_then(parse_xid).ok_or(MALFORMED);
        let (xmin, xmax) = (number()?, number()?);
        let running = parts.next().ok_or(MALFORMED)?;
        if parts.next().is_some() || xmin == 0 || xmin > xmax {
            return Err(MALFORMED);
        }
        let mut at_least = xmin;
        for xid in running.split(',').filter(|_| !running.is_empty()) {
            let xid = parse_xid(xid).ok_or(MALFORMED)?;
            if xid < at_least || xid >= xmax {
                return Err(MALFORMED);
            }
            at_least = xid + 1;
        }
        Ok(Self { text: text.to_owned(), xmin })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn parse_xid(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().filter(|xid| *xid <= i64::MAX as u64)
}

/// Two snapshots list as many transactions as there can be connections, 21 bytes each: 11 MB at most.
const MAX_BYTES: usize = 16 << 20;

impl Cursor {
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_BYTES {
            return Err(MALFORMED);
        }
        let parts: Vec<&str> = text.splitn(7, '/').collect();
        let [VERSION, seen_history, seen, history, horizon, event_id] = parts[..] else {
            return Err(MALFORMED);
        };
        let seen = if seen.is_empty() { None } else { Some(Mark::parse(seen_history, seen)?) };
        Ok(Self {
            seen,
            horizon: Mark::parse(history, horizon)?,
            event_id: event_id.parse().map_err(|_| MALFORMED)?,
        })
    }
}

impl Mark {
    fn parse(history: &str, snapshot: &str) -> Result<Self> {
        let (cluster, timeline) = history.split_once('.').ok_or(MALFORMED)?;
        let history = History {
            cluster: cluster.parse().map_err(|_| MALFORMED)?,
            timeline: timeline.parse().map_err(|_| MALFORMED)?,
        };
        Ok(Self { history, snapshot: Snapshot::parse(snapshot)? })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let History { cluster, timeline } = self.history;
        write!(f, "{cluster}.{timeline}/{}", self.snapshot.text)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.seen {
            Some(seen) => write!(f, "{VERSION}/{seen}")?,
            None => write!(f, "{VERSION}//")?,
        }
        write!(f, "/{}/{}", self.horizon, self.event_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark() -> impl Strategy<Value = Mark> {
        let ids = (any::<i64>(), any::<i32>());
        (ids, 1_u64..1000, prop::collection::btree_set(0_u64..50, 0..5)).prop_map(
            |((cluster, timeline), xmin, running)| {
                let running: Vec<String> =
                    running.iter().map(|step| (xmin + step).to_string()).collect();
                let text = format!("{xmin}:{}:{}", xmin + 50, running.join(","));
                Mark {
                    history: History { cluster, timeline },
                    snapshot: Snapshot::parse(&text).expect("snapshot"),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn survives_the_way_through_text(
            seen in prop::option::of(mark()), horizon in mark(), event_id in any::<i64>(),
        ) {
            let cursor = Cursor { seen, horizon, event_id };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn garbage_is_refused_not_panicked_over(text in "[0-9:,./x-]{0,40}") {
            let _ = Cursor::parse(&text);
            let _ = Snapshot::parse(&text);
        }
    }

    #[test]
    fn malformed_snapshots() {
        for bad in [
            "",
            "1",
            "1:2",
            "0:1:",
            "2:1:",
            "1:2:2",
            "1:9:3,3",
            "1:9:4,3",
            "1:9:,",
            "1:9::",
            "+1:9:",
            "1:99999999999999999999:",
        ] {
            assert!(Snapshot::parse(bad).is_err(), "{bad}");
        }
        for good in ["1:1:", "1:9:1,3,8", "5:9:"] {
            assert!(Snapshot::parse(good).is_ok(), "{good}");
        }
    }
}
