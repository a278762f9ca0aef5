//! Recording a use: right for the idle timeout, coalesced, and never felt by the caller.

use api_tokens_tests::*;
use postgres::Client;

fn last_used(sql: &mut Client, token: &Created) -> String {
    text(sql, "SELECT last_used_at FROM api_tokens.tokens WHERE token_id::text = $1", &[&token.id])
}

/// Was the token's use recorded by `check`?
fn is_recorded(sql: &mut Client, token: &Created, check: impl FnOnce()) -> bool {
    let before = last_used(sql, token);
    check();
    last_used(sql, token) != before
}

#[test]
fn a_use_is_written_once_per_interval() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    let mut observer = db.connect();
    assert!(!is_recorded(&mut observer, &made, || assert_eq!(
        verdict(&mut sql, &made.token),
        "ok"
    )));
    age(&mut sql, &made, "last_used_at = now() - interval '61 s'");
    assert!(is_recorded(&mut observer, &made, || assert_eq!(verdict(&mut sql, &made.token), "ok")));
    assert!(!is_recorded(&mut observer, &made, || assert_eq!(
        verdict(&mut sql, &made.token),
        "ok"
    )));
}

#[test]
fn with_max_idle_a_twentieth_of_it_is_enough() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_idle => '1000 s'");
    let mut observer = db.connect();
    age(&mut sql, &made, "last_used_at = clock_timestamp() - interval '30 s'");
    assert!(!is_recorded(&mut observer, &made, || assert_eq!(
        verdict(&mut sql, &made.token),
        "ok"
    )));
    age(&mut sql, &made, "last_used_at = clock_timestamp() - interval '51 s'");
    assert!(is_recorded(&mut observer, &made, || assert_eq!(verdict(&mut sql, &made.token), "ok")));
}

#[test]
fn a_use_is_written_in_place() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    age(&mut sql, &made, "last_used_at = now() - interval '1 h'");
    let version =
        "SELECT row(ctid, xmin, xmax)::text FROM api_tokens.tokens WHERE token_id::text = $1";
    let before = text(&mut sql, version, &[&made.id]);
    let mut observer = db.connect();
    assert!(is_recorded(&mut observer, &made, || {
        sql.batch_execute("BEGIN").expect("begin");
        assert_eq!(verdict(&mut sql, &made.token), "ok");
        let xid = "SELECT pg_current_xact_id_if_assigned()";
        assert_eq!(maybe(&mut sql, xid, &[]), None, "no transaction id");
        sql.batch_execute("ROLLBACK").expect("rollback");
    }));
    assert_eq!(text(&mut sql, version, &[&made.id]), before, "no new version");
}

#[test]
fn a_refused_check_is_no_use() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", scopes => '{a}'");
    age(&mut sql, &made, "last_used_at = now() - interval '1 h'");
    let mut observer = db.connect();
    let ask = "SELECT ok FROM api_token_validate($1, '{b}')";
    assert!(!is_recorded(&mut observer, &made, || assert!(!truth(&mut sql, ask, &[&made.token]))));
}

#[test]
fn touch_resets_idleness() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_idle => '1 h'");
    let mut observer = db.connect();
    assert!(is_recorded(&mut observer, &made, || {
        assert!(truth(&mut sql, "SELECT api_token_touch($1)", &[&made.token]));
    }));
}

#[test]
fn every_isolation_level_records_a_use() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    let mut observer = db.connect();
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        age(&mut observer, &made, "last_used_at = now() - interval '1 h'");
        assert!(is_recorded(&mut observer, &made, || {
            sql.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).expect(level);
            assert_eq!(verdict(&mut sql, &made.token), "ok");
            sql.batch_execute("COMMIT").expect("commit");
        }));
    }
}

#[test]
fn where_nothing_can_be_written_the_check_still_works_and_touch_says_so() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    age(&mut sql, &made, "last_used_at = now() - interval '1 h'");
    let mut observer = db.connect();
    assert!(!is_recorded(&mut observer, &made, || {
        sql.batch_execute("BEGIN READ ONLY").expect("begin");
        assert_eq!(verdict(&mut sql, &made.token), "ok");
        assert!(!truth(&mut sql, "SELECT api_token_touch($1)", &[&made.token]));
        sql.batch_execute("COMMIT").expect("commit");
    }));
}

#[test]
fn a_session_that_has_checked_a_token_holds_up_nobody() {
    let db = Database::new();
    let (mut checker, mut revoker) = (db.connect(), db.connect());
    let (one, two) = (create(&mut revoker, ""), create(&mut revoker, ""));
    for token in [&one, &two] {
        age(&mut revoker, token, "last_used_at = now() - interval '1 h'");
    }
    checker.batch_execute("BEGIN").expect("begin");
    assert_eq!(verdict(&mut checker, &one.token), "ok");
    assert_eq!(verdict(&mut checker, &two.token), "ok");
    revoker.batch_execute("SET lock_timeout = '1s'").expect("set");
    run(&mut revoker, "SELECT api_token_invalidate($1)", &[&one.token]);
    assert_eq!(number(&mut revoker, "SELECT api_token_invalidate_all('acme')", &[]), 1);
    assert_eq!(verdict(&mut checker, &two.token), "revoked");
    checker.batch_execute("COMMIT").expect("commit");
}

#[test]
fn a_lock_held_by_another_is_not_waited_for() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    age(&mut sql, &made, "last_used_at = now() - interval '1 h'");
    let mut holder = db.connect();
    sql.batch_execute("SET lock_timeout = '1s'").expect("set");
    for hold in [
        "SELECT FROM api_tokens.tokens FOR UPDATE",
        "SELECT FROM api_tokens.tokens FOR KEY SHARE",
        "UPDATE api_tokens.tokens SET name = 'changing'",
        "LOCK TABLE api_tokens.tokens IN SHARE MODE",
    ] {
        holder.batch_execute(&format!("BEGIN; {hold}")).expect(hold);
        assert_eq!(verdict(&mut sql, &made.token), "ok", "{hold}");
        let is_row_held = !hold.starts_with("LOCK TABLE");
        let touched = truth(&mut sql, "SELECT api_token_touch($1)", &[&made.token]);
        assert_eq!(touched, !is_row_held, "{hold}");
        holder.batch_execute("ROLLBACK").expect("rollback");
    }
}

#[test]
fn a_row_that_was_held_is_touched_again_however_the_holder_ended() {
    let db = Database::new();
    let (mut sql, mut holder) = (db.connect(), db.connect());
    let made = create(&mut sql, "");
    let row = format!("api_tokens.tokens WHERE token_id = '{}'", made.id);
    let lock = format!("SELECT FROM {row} FOR NO KEY UPDATE");
    let update = format!("UPDATE {}", row.replace("WHERE", "SET name = 'x' WHERE"));
    for (what, end) in [
        (lock.clone(), "COMMIT"),
        (lock.clone(), "ROLLBACK"),
        (update.clone(), "COMMIT"),
        (update.clone(), "ROLLBACK"),
        // A multixact of a lock and an update that was rolled back.
        (format!("{lock}; SAVEPOINT s; {update}; ROLLBACK TO s"), "COMMIT"),
        (
            format!("SELECT FROM {row} FOR KEY SHARE; SAVEPOINT s; {update}; ROLLBACK TO s"),
            "COMMIT",
        ),
    ] {
        age(&mut sql, &made, "last_used_at = now() - interval '1 h'");
        holder.batch_execute(&format!("BEGIN; {what}")).expect("hold");
        holder.batch_execute(end).expect("end");
        assert!(truth(&mut sql, "SELECT api_token_touch($1)", &[&made.token]), "{what}; {end}");
    }
}

#[test]
fn of_many_touches_at_once_each_says_it_is_done() {
    let db = Database::new();
    let made = create(&mut db.connect(), "");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut sql = db.connect();
                let all = "SELECT bool_and(api_token_touch(left($1, 100 + i))) FROM generate_series(1, 500) i";
                assert!(truth(&mut sql, all, &[&made.token]));
            });
        }
    });
}

#[test]
fn open_transactions_that_touch_in_opposite_order_do_not_deadlock() {
    let db = Database::new();
    let (mut one, mut two) = (db.connect(), db.connect());
    let (a, b) = (create(&mut one, ""), create(&mut one, ""));
    age(&mut one, &a, "last_used_at = now() - interval '1 h'");
    age(&mut one, &b, "last_used_at = now() - interval '1 h'");
    for (session, token) in [(0, &a), (1, &b), (0, &b), (1, &a)] {
        let sql = if session == 0 { &mut one } else { &mut two };
        sql.batch_execute("SET lock_timeout = '1s'; BEGIN").expect("begin");
        assert_eq!(verdict(sql, &token.token), "ok");
    }
    one.batch_execute("COMMIT").expect("commit");
    two.batch_execute("COMMIT").expect("commit");
}

#[test]
fn a_row_changed_since_the_snapshot_is_not_seen_twice() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    let mut changer = db.connect();
    sql.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").expect("begin");
    age(&mut changer, &made, "last_used_at = now() - interval '1 h'");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    let versions = "SELECT count(*) FROM api_tokens.tokens WHERE token_id::text = $1";
    assert_eq!(number(&mut sql, versions, &[&made.id]), 1, "not seen twice");
    sql.batch_execute("COMMIT").expect("commit");
    assert_eq!(number(&mut changer, versions, &[&made.id]), 1);
}

#[test]
fn a_touch_keeps_every_other_column() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(
        &mut sql,
        ", 'n', '{\"k\": [1, 2]}', '{a,b:*}', '2900-01-01', '1 y',
        allowed_ips => '{0.0.0.0/0}', max_expires_at => '2950-01-01'",
    );
    age(&mut sql, &made, "last_used_at = now() - interval '1 h'");
    let rest = "SELECT to_jsonb(t) - 'last_used_at' FROM api_tokens.tokens t";
    let before = text(&mut sql, rest, &[]);
    let ask = "SELECT ok FROM api_token_validate($1, client_ip => '192.0.2.1')";
    let mut observer = db.connect();
    assert!(is_recorded(&mut observer, &made, || assert!(truth(&mut sql, ask, &[&made.token]))));
    assert_eq!(text(&mut sql, rest, &[]), before);
}

#[test]
fn touched_pages_stay_sound() {
    let db = Database::new();
    let mut sql = db.connect();
    // Toasted metadata on some, and rows without room to spare.
    sql.batch_execute(
        "INSERT INTO api_tokens.tokens (token_id, family_id, created_at, last_used_at, token_hash,
            namespace, token_prefix, max_idle, metadata)
        SELECT id, id, now(), now() - interval '1 h', sha256(('t' || i)::bytea), 'acme', 'x...',
            '1 day', CASE WHEN i % 50 = 0 THEN (SELECT jsonb_object_agg(j, md5(j::text)) FROM generate_series(1, 500) j)
                ELSE jsonb_build_object('i', i) END
        FROM (SELECT i, gen_random_uuid() id FROM generate_series(1, 3000) i) t",
    )
    .expect("fill");
    let all_ok = "SELECT count(*) FILTER (WHERE v.ok AND v.metadata IS NOT NULL)
        FROM generate_series(1, 3000) i, LATERAL api_token_validate('t' || i) v";
    let rest = "SELECT md5(string_agg((to_jsonb(t) - 'last_used_at')::text, '' ORDER BY token_id))
        FROM api_tokens.tokens t";
    let before = text(&mut sql, rest, &[]);
    for _ in 0..3 {
        assert_eq!(number(&mut sql, all_ok, &[]), 3000);
        let stale =
            "SELECT count(*) FROM api_tokens.tokens WHERE last_used_at < now() - interval '1 min'";
        assert_eq!(number(&mut sql, stale, &[]), 0);
        sql.batch_execute(
            "UPDATE api_tokens.tokens SET last_used_at = last_used_at - interval '2 h'",
        )
        .expect("age");
    }
    assert_eq!(text(&mut sql, rest, &[]), before);
    if !has_other_extension(&mut sql, "amcheck") {
        return;
    }
    sql.batch_execute(
        "SELECT bt_index_check(c.oid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = 'api_tokens.tokens'::regclass;
        SELECT 1 / (count(*) = 0)::int FROM verify_heapam('api_tokens.tokens')",
    )
    .expect("indexes and heap agree");
}

#[test]
fn sessions_that_touch_the_same_page_disturb_no_change_of_it() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute(&format!("ALTER DATABASE {} SET api_tokens.touch_interval = 0", db.name))
        .expect("alter");
    let tokens: Vec<Created> = (0..20).map(|_| create(&mut sql, ", 'n 0'")).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut sql = db.connect();
                for _ in 0..100 {
                    for token in &tokens {
                        assert_eq!(verdict(&mut sql, &token.token), "ok");
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut sql = db.connect();
            for round in 1..=50 {
                for token in &tokens {
                    let rename = "SELECT api_token_update($1::text::uuid, jsonb_build_object('name', $2::text))";
                    run(&mut sql, rename, &[&token.id, &format!("n {round}")]);
                }
            }
        });
    });
    let names = column(&mut sql, "SELECT DISTINCT name FROM api_tokens.tokens", &[]);
    assert_eq!(names, ["n 50"], "no update was lost");
    if !has_other_extension(&mut sql, "amcheck") {
        return;
    }
    sql.batch_execute("SELECT 1 / (count(*) = 0)::int FROM verify_heapam('api_tokens.tokens')")
        .expect("sound");
}

/// Another kind of table has its rows elsewhere than a page, or otherwise there.
#[test]
fn what_is_overwritten_in_place_is_a_heap_whatever_tables_are_by_default() {
    let db = Database::empty();
    let mut sql = db.connect();
    sql.batch_execute(
        "CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;
        SET default_table_access_method = other;
        CREATE EXTENSION api_tokens",
    )
    .expect("install");
    let kinds = "SELECT DISTINCT a.amname::text FROM pg_class c JOIN pg_am a ON a.oid = c.relam
        WHERE c.oid IN ('api_tokens.tokens'::regclass, 'api_tokens.quotas'::regclass)";
    assert_eq!(column(&mut sql, kinds, &[]), ["heap"]);
}
