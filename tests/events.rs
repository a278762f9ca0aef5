//! Events and NOTIFY: in the same transaction, none skipped, none twice.

use api_tokens_tests::*;
use postgres::Client;

/// A consumer that remembers its cursor, reading `page` events at a time until there are none.
struct Consumer {
    cursor: Option<String>,
    page: i32,
}

impl Consumer {
    fn new(page: i32) -> Self {
        Self { cursor: None, page }
    }

    fn catch_up(&mut self, sql: &mut Client) -> Vec<i64> {
        let mut ids = Vec::new();
        loop {
            let read = "SELECT cursor, event_id FROM api_token_events($1, max_rows => $2)";
            let rows = sql.query(read, &[&self.cursor, &self.page]).expect("read events");
            let Some(last) = rows.last() else { return ids };
            self.cursor = Some(last.get(0));
            ids.extend(rows.iter().map(|row| row.get::<_, i64>(1)));
        }
    }
}

#[test]
fn every_change_leaves_one_event() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    run(
        &mut sql,
        "SELECT api_token_update($1::text::uuid, '{\"name\": \"x\", \"scopes\": [\"a\"]}')",
        &[&made.id],
    );
    run(&mut sql, "SELECT api_token_set_enabled($1::text::uuid, false)", &[&made.id]);
    run(&mut sql, "SELECT api_token_set_enabled($1::text::uuid, true)", &[&made.id]);
    let new = refresh(&mut sql, &made.token, "").expect("refresh");
    run(&mut sql, "SELECT api_token_invalidate_by_id($1::text::uuid)", &[&new.id]);
    run(&mut sql, "SELECT api_token_import('acme', sha256('x'), 'x...')", &[]);
    run(&mut sql, "SELECT api_token_invalidate('x')", &[]);
    run(&mut sql, "SELECT api_token_create('acme')", &[]);
    run(&mut sql, "SELECT api_token_invalidate_all('acme')", &[]);
    run(&mut sql, "SELECT api_token_cleanup('0')", &[]);
    let all = "SELECT concat_ws(' ', method, namespace, count, detail - 'replaced_by') FROM api_token_events()
        ORDER BY event_id";
    assert_eq!(
        column(&mut sql, all, &[]),
        [
            "create acme",
            "update acme {\"changed\": [\"name\", \"scopes\"]}",
            "disable acme",
            "enable acme",
            "refresh acme {}",
            "invalidate_by_id acme",
            "import acme",
            "invalidate acme",
            "create acme",
            "invalidate_all acme 1",
            "cleanup 4",
        ]
    );
    let heir = "SELECT detail ->> 'replaced_by' = $1 AND token_id::text = $2 AND actor = 'postgres'
        FROM api_token_events() WHERE method = 'refresh'";
    assert!(truth(&mut sql, heir, &[&new.id, &made.id]));
}

#[test]
fn invalidating_changes_are_notified_after_commit_and_only_then() {
    let db = Database::new();
    let mut sql = db.connect();
    let mut listener = db.connect();
    listener.batch_execute("LISTEN api_tokens").expect("listen");
    let made = create(&mut sql, "");
    assert!(notifications(&mut listener).is_empty(), "a new token invalidates nothing");
    sql.batch_execute("BEGIN").expect("begin");
    let new = refresh(&mut sql, &made.token, "").expect("refresh");
    assert!(notifications(&mut listener).is_empty(), "not before the commit");
    sql.batch_execute("ROLLBACK").expect("rollback");
    assert!(notifications(&mut listener).is_empty(), "nothing happened");
    assert_eq!(verdict(&mut sql, &new.token), "invalid");

    let new = refresh(&mut sql, &made.token, "").expect("refresh");
    let event = "SELECT event_id FROM api_token_events() WHERE method = 'refresh'";
    let event = text(&mut sql, event, &[]);
    assert_eq!(
        notifications(&mut listener),
        [format!(
            r#"{{"method":"refresh","event_id":{event},"namespace":"acme","token_id":"{}","replaced_by":"{}"}}"#,
            made.id, new.id
        )]
    );
    run(&mut sql, "SELECT api_token_invalidate_all('acme')", &[]);
    let told = notifications(&mut listener);
    assert!(told.len() == 1 && told[0].ends_with(r#""namespace":"acme","count":1}"#), "{told:?}");
    run(&mut sql, "SELECT api_token_invalidate_all('acme')", &[]);
    assert!(notifications(&mut listener).is_empty(), "nothing changed");
}

#[test]
fn the_channel_can_be_named_and_switched_off() {
    let db = Database::new();
    let mut sql = db.connect();
    let mut listener = db.connect();
    listener.batch_execute("LISTEN api_tokens; LISTEN revocations").expect("listen");
    let made = [(); 3].map(|()| create(&mut sql, ""));
    sql.batch_execute("SET api_tokens.notify_channel = 'revocations'").expect("set");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&made[0].token]);
    assert_eq!(notifications(&mut listener).len(), 1);
    sql.batch_execute("SET api_tokens.notify_channel = ''").expect("set");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&made[1].token]);
    assert!(notifications(&mut listener).is_empty());
    let recorded = "SELECT count(*) FROM api_token_events() WHERE method = 'invalidate'";
    assert_eq!(number(&mut sql, recorded, &[]), 2);
}

#[test]
fn an_event_of_a_transaction_that_commits_late_is_not_skipped() {
    let db = Database::new();
    let (mut early, mut late, mut reader) = (db.connect(), db.connect(), db.connect());
    let mut consumer = Consumer::new(100);
    create(&mut early, "");
    assert_eq!(consumer.catch_up(&mut reader).len(), 1);

    late.batch_execute("BEGIN").expect("begin");
    create(&mut late, "");
    create(&mut early, "");
    // The late one drew its id first and is not visible; the other is told at once.
    assert_eq!(consumer.catch_up(&mut reader), [3]);
    assert_eq!(consumer.catch_up(&mut reader), [0_i64; 0]);
    create(&mut early, "");
    assert_eq!(consumer.catch_up(&mut reader), [4]);
    late.batch_execute("COMMIT").expect("commit");
    create(&mut early, "");
    assert_eq!(consumer.catch_up(&mut reader), [2, 5]);
    assert_eq!(consumer.catch_up(&mut reader), [0_i64; 0]);
}

#[test]
fn an_event_of_a_savepoint_belongs_to_its_transaction() {
    let db = Database::new();
    let (mut early, mut late, mut reader) = (db.connect(), db.connect(), db.connect());
    let mut consumer = Consumer::new(100);
    late.batch_execute("BEGIN; SAVEPOINT s").expect("begin");
    create(&mut late, "");
    late.batch_execute("RELEASE s").expect("release");
    create(&mut early, "");
    assert_eq!(consumer.catch_up(&mut reader), [2]);
    late.batch_execute("COMMIT").expect("commit");
    assert_eq!(consumer.catch_up(&mut reader), [1]);
}

#[test]
fn pages_of_one_are_as_good_as_one_page() {
    let db = Database::new();
    let (mut sql, mut late, mut reader) = (db.connect(), db.connect(), db.connect());
    let mut one_by_one = Consumer::new(1);
    let mut in_threes = Consumer::new(3);
    let mut got = [Vec::new(), Vec::new()];
    for round in 0..4 {
        late.batch_execute("BEGIN").expect("begin");
        create(&mut late, "");
        for _ in 0..3 {
            create(&mut sql, "");
        }
        if round % 2 == 0 {
            got[0].extend(one_by_one.catch_up(&mut reader));
        }
        got[1].extend(in_threes.catch_up(&mut reader));
        late.batch_execute("COMMIT").expect("commit");
    }
    got[0].extend(one_by_one.catch_up(&mut reader));
    got[1].extend(in_threes.catch_up(&mut reader));
    for mut ids in got {
        ids.sort_unstable();
        assert_eq!(ids, (1..=16).collect::<Vec<i64>>());
    }
}

#[test]
fn paging_is_not_disturbed_by_what_arrives_meanwhile() {
    let db = Database::new();
    let (mut sql, mut late, mut reader) = (db.connect(), db.connect(), db.connect());
    late.batch_execute("BEGIN").expect("begin");
    create(&mut late, "");
    for _ in 0..4 {
        create(&mut sql, "");
    }
    let read = "SELECT cursor, event_id FROM api_token_events($1, max_rows => 2)";
    let mut cursor: Option<String> = None;
    let mut got: Vec<i64> = Vec::new();
    for step in 0..6 {
        let rows = reader.query(read, &[&cursor]).expect("read");
        got.extend(rows.iter().map(|row| row.get::<_, i64>(1)));
        cursor = rows.last().map(|row| row.get(0)).or(cursor);
        if step == 0 {
            late.batch_execute("COMMIT").expect("commit");
            create(&mut sql, "");
        }
    }
    assert_eq!(got, [2, 3, 4, 5, 1, 6]);
}

#[test]
fn own_uncommitted_events_are_not_given_out() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let mut consumer = Consumer::new(10);
    sql.batch_execute("BEGIN").expect("begin");
    create(&mut sql, "");
    // A younger transaction that has ended puts ours inside the snapshot's bounds.
    create(&mut other, "");
    assert!(consumer.catch_up(&mut sql).is_empty());
    sql.batch_execute("COMMIT").expect("commit");
    assert_eq!(consumer.catch_up(&mut sql), [1, 2]);
}

#[test]
fn concurrent_writers_and_readers_lose_and_repeat_nothing() {
    let db = Database::new();
    let done = std::sync::atomic::AtomicBool::new(false);
    let got = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let mut sql = db.connect();
                scope.spawn(move || {
                    for round in 0..40 {
                        sql.batch_execute("BEGIN").expect("begin");
                        for _ in 0..=(round + writer) % 3 {
                            create(&mut sql, "");
                        }
                        let end = if round % 7 == 6 { "ROLLBACK" } else { "COMMIT" };
                        sql.batch_execute(end).expect("end");
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut sql = db.connect();
            let mut consumer = Consumer::new(5);
            let mut got = Vec::new();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                got.extend(consumer.catch_up(&mut sql));
            }
            got.extend(consumer.catch_up(&mut sql));
            got
        });
        writers.into_iter().for_each(|writer| writer.join().expect("writer"));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().expect("reader")
    });
    let mut sql = db.connect();
    let all = column(&mut sql, "SELECT event_id FROM api_tokens.events ORDER BY event_id", &[]);
    let mut sorted: Vec<String> = got.iter().map(i64::to_string).collect();
    sorted.sort_by_key(|id| id.parse::<i64>().expect("id"));
    assert_eq!(sorted, all);
}

#[test]
fn events_can_be_filtered_by_namespace() {
    let db = Database::new();
    let mut sql = db.connect();
    create(&mut sql, "");
    run(&mut sql, "SELECT api_token_create('other')", &[]);
    let other = "SELECT namespace FROM api_token_events(namespace => 'other')";
    assert_eq!(column(&mut sql, other, &[]), ["other"]);
}

#[test]
fn restored_events_are_read_once_in_the_new_cluster() {
    let db = Database::new();
    let mut sql = db.connect();
    create(&mut sql, "");
    // As pg_restore leaves them: written elsewhere, by transactions far ahead of ours.
    sql.batch_execute(
        "UPDATE api_tokens.events SET cluster = 42, xid = '900000000'::xid8;
        INSERT INTO api_tokens.events (at, method, actor, xid, cluster, timeline)
        SELECT now(), 'create', 'elsewhere', '900000001'::xid8, 42, 1",
    )
    .expect("pretend");
    let mut consumer = Consumer::new(1);
    assert_eq!(consumer.catch_up(&mut sql), [1, 2]);
    create(&mut sql, "");
    assert_eq!(consumer.catch_up(&mut sql), [3]);
    // A reader who comes with a cursor from there goes on where it stood.
    let from_there = "SELECT event_id FROM api_token_events('1///42.1/900000001:900000001:/1')";
    assert_eq!(column(&mut sql, from_there, &[]), ["2", "3"]);
}

#[test]
fn from_the_end_on_only_what_comes_is_shown_and_all_of_it() {
    let db = Database::new();
    let (mut sql, mut late) = (db.connect(), db.connect());
    create(&mut sql, "");
    late.batch_execute("BEGIN").expect("begin");
    create(&mut late, ", 'late'");
    let end = text(&mut sql, "SELECT api_token_events_end()", &[]);
    let after = "SELECT event_id, method, cursor FROM api_token_events($1)";
    assert!(sql.query(after, &[&end]).expect("events").is_empty());
    let made = create(&mut sql, "");
    late.batch_execute("COMMIT").expect("commit");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&made.token]);
    let rows = sql.query(after, &[&end]).expect("events");
    let methods: Vec<&str> = rows.iter().map(|row| row.get(1)).collect();
    assert_eq!(methods, ["create", "create", "invalidate"], "the one that began before, too");
    let cursor: String = rows[2].get(2);
    assert!(sql.query(after, &[&cursor]).expect("events").is_empty());
    // Of a transaction that has written itself, what it wrote is still to come for others.
    sql.batch_execute("BEGIN").expect("begin");
    create(&mut sql, "");
    let end = text(&mut sql, "SELECT api_token_events_end()", &[]);
    sql.batch_execute("COMMIT").expect("commit");
    // Others may be under way meanwhile; then the end is before theirs, and some come again.
    let rows = sql.query(after, &[&end]).expect("events");
    assert_eq!(rows.last().expect("its own").get::<_, &str>(1), "create");
}

#[test]
fn a_cursor_can_be_taken_where_a_page_of_the_log_ends() {
    let db = Database::new();
    let mut sql = db.connect();
    // A message that fills the page: the next record then begins behind the header of another.
    let fill = "SELECT pg_logical_emit_message(false, '', repeat('x', (16384 - 78 - (pg_current_wal_insert_lsn() - '0/0') % 8192)::int))";
    let is_filled = "SELECT (pg_current_wal_insert_lsn() - '0/0') % 8192 = 24";
    let mut filled = 0;
    for _ in 0..200 {
        run(&mut sql, fill, &[]);
        filled += i32::from(truth(&mut sql, is_filled, &[]));
        run(&mut sql, "SELECT api_token_events_end()", &[]);
    }
    assert!(filled > 0);
}
