//! With the library preloaded: uses are kept in shared memory, exact at once for every backend,
//! and written to the table together. Run one at a time; some of these restart the server.

use api_tokens_tests::*;
use std::time::Duration;

#[test]
fn idleness_is_exact_at_once_in_every_backend_and_nothing_is_written() {
    let _turn = alone();
    let db = Database::new();
    let (mut one, mut two) = (db.connect(), db.connect());
    let made = create(&mut one, ", max_idle => '1 hour'");
    age(&mut one, &made, "last_used_at = now() - interval '59 min'");
    one.batch_execute("BEGIN READ ONLY").expect("begin");
    assert_eq!(verdict(&mut one, &made.token), "ok");
    one.batch_execute("ROLLBACK").expect("rollback");
    // As if a day had passed for the row: only the map knows of the use.
    age(&mut two, &made, "last_used_at = now() - interval '1 day'");
    assert_eq!(verdict(&mut two, &made.token), "ok");
    let listed = "SELECT status || ' ' || (last_used_at > now() - interval '1 min') FROM api_token_get($1::text::uuid)";
    assert_eq!(text(&mut two, listed, &[&made.id]), "active true");
    assert_eq!(number(&mut two, "SELECT api_token_cleanup('0')", &[]), 0, "it is alive");
    assert!(refresh(&mut two, &made.token, "").is_ok());
    assert_eq!(stat(&mut two, "touches_written"), 0);
}

#[test]
fn uses_reach_the_table_exactly_and_nothing_else_changes() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", 'n', '{\"k\": 1}', '{a}'");
    age(&mut sql, &made, "last_used_at = now() - interval '1 h'");
    let rest = "SELECT to_jsonb(t) - 'last_used_at' - 'use_count' FROM api_tokens.tokens t";
    let before = text(&mut sql, rest, &[]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut sql = db.connect();
                for _ in 0..250 {
                    assert_eq!(verdict(&mut sql, &made.token), "ok");
                }
            });
        }
    });
    flushed(&mut sql, &made, 1000);
    assert_eq!(text(&mut sql, rest, &[]), before);
    assert!(truth(
        &mut sql,
        "SELECT last_used_at > now() - interval '1 min' FROM api_tokens.tokens",
        &[]
    ));
    // Only forward: a row that was used later than the map knows keeps its time.
    age(&mut sql, &made, "last_used_at = '2900-01-01'");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    flushed(&mut sql, &made, 1001);
    assert!(truth(&mut sql, "SELECT last_used_at = '2900-01-01' FROM api_tokens.tokens", &[]));
}

#[test]
fn a_row_that_is_held_is_written_by_a_later_flush() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut holder) = (db.connect(), db.connect());
    let (held, free) = (create(&mut sql, ""), create(&mut sql, ""));
    let hold =
        format!("BEGIN; SELECT FROM api_tokens.tokens WHERE token_id = '{}' FOR UPDATE", held.id);
    holder.batch_execute(&hold).expect("hold");
    assert_eq!(verdict(&mut sql, &held.token), "ok");
    assert_eq!(verdict(&mut sql, &free.token), "ok");
    flushed(&mut sql, &free, 1);
    assert_eq!(use_count(&mut sql, &held), 0);
    holder.batch_execute("COMMIT").expect("release");
    flushed(&mut sql, &held, 1);
}

#[test]
fn a_failing_flush_loses_nothing_and_is_told() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    let failures = stat(&mut sql, "flush_failures");
    sql.batch_execute("ALTER INDEX api_tokens.tokens_pkey RENAME TO hidden").expect("break");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    eventually("the failure is counted", || stat(&mut sql, "flush_failures") > failures);
    assert_eq!(text(&mut sql, "SELECT last_error FROM api_token_stats()", &[]), "XX000");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    sql.batch_execute("ALTER INDEX api_tokens.hidden RENAME TO tokens_pkey").expect("mend");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    eventually("all are written", || {
        verdict(&mut sql, "another use asks for a worker if there is none");
        use_count(&mut sql, &made) == 3
    });
}

#[test]
fn a_database_that_is_read_only_by_default_is_flushed_too() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    sql.batch_execute(&format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        db.name
    ))
    .expect("alter");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    flushed(&mut sql, &made, 1);
}

#[test]
fn a_flush_that_waits_for_a_lock_gives_up_and_holds_up_no_shutdown() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut holder) = (db.connect(), db.connect());
    let made = create(&mut sql, "");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    let failures = stat(&mut sql, "flush_failures");
    holder
        .batch_execute("BEGIN; LOCK TABLE api_tokens.tokens IN ACCESS EXCLUSIVE MODE")
        .expect("lock");
    eventually("it has given up", || stat(&mut sql, "flush_failures") > failures);
    holder.batch_execute("PREPARE TRANSACTION 'held'").expect("prepare");
    drop((sql, holder));
    restart("fast", "-c api_tokens.flush_interval=1");
    db.connect().batch_execute("ROLLBACK PREPARED 'held'").expect("rollback");
}

#[test]
fn stats_count_what_happened() {
    let _turn = alone();
    let db = Database::new();
    restart("fast", "-c api_tokens.flush_interval=1");
    let mut sql = db.connect();
    let made = create(&mut sql, ", scopes => '{a}'");
    for _ in 0..3 {
        assert_eq!(verdict(&mut sql, &made.token), "ok");
    }
    assert_eq!(verdict(&mut sql, "unknown"), "invalid");
    run(&mut sql, "SELECT api_token_validate($1, '{b}')", &[&made.token]);
    run(&mut sql, "SELECT api_token_validate_many(ARRAY[$1, NULL])", &[&made.token]);
    let counted =
        "SELECT row(calls, accepted, refused -> 'invalid', refused -> 'insufficient_scope',
        touches_coalesced, map_used)::text FROM api_token_stats()";
    assert_eq!(text(&mut sql, counted, &[]), "(7,4,2,1,4,1)");
    flushed(&mut sql, &made, 4);
    eventually("the flush is counted", || stat(&mut sql, "rows_flushed") >= 1);
    assert!(truth(
        &mut sql,
        "SELECT flushes > 0 AND last_flush_at <= clock_timestamp() FROM api_token_stats()",
        &[]
    ));
}

#[test]
fn a_standby_is_exact_too_and_writes_once_it_is_promoted() {
    let _turn = alone();
    let db = Database::new();
    let mut primary = db.connect();
    let made = create(&mut primary, ", max_idle => '1 hour'");
    age(&mut primary, &made, "last_used_at = now() - interval '59 min'");
    let standby = Standby::start();
    let mut replica = standby.connect(&db.name);
    assert_eq!(verdict(&mut replica, &made.token), "ok");
    assert!(truth(&mut replica, "SELECT api_token_touch($1)", &[&made.token]));
    let live = "SELECT last_used_at > now() - interval '1 min' FROM api_token_get($1::text::uuid)";
    assert!(truth(&mut replica, live, &[&made.id]));
    assert_eq!(use_count(&mut replica, &made), 0);
    run(&mut replica, "SELECT pg_promote()", &[]);
    flushed(&mut replica, &made, 2);
}

#[test]
fn a_cancelled_flush_counts_nothing_twice() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute(
        "CREATE TABLE made AS SELECT c.token FROM generate_series(1, 2000) i, LATERAL api_token_create('n' || i) c",
    )
    .expect("tokens");
    let all = "SELECT count(v.ok) FROM made, LATERAL api_token_validate(made.token) v";
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'api_tokens flush'";
    let mut uses = 0;
    for round in 0..40 {
        uses += number(&mut sql, all, &[]);
        std::thread::sleep(Duration::from_millis(20 + round * 3));
        run(&mut sql, cancel, &[]);
    }
    let total = "SELECT sum(use_count) FROM api_tokens.tokens";
    eventually("all uses are in the table", || number(&mut sql, total, &[]) >= uses);
    assert_eq!(number(&mut sql, total, &[]), uses);
}

#[test]
fn a_role_set_for_the_database_does_not_stop_the_flush() {
    let _turn = alone();
    let mut db = Database::new();
    let role = db.role("poor", &["validate"]);
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    sql.batch_execute(&format!("ALTER DATABASE {} SET role = '{role}'", db.name)).expect("alter");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    flushed(&mut sql, &made, 1);
}

/// Whoever is ended by it gives back nothing of what it was handed to write. There since Postgres 17.
#[test]
fn a_transaction_timeout_of_the_database_does_not_end_the_flush() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let has_it = "SELECT count(*) FROM pg_settings WHERE name = 'transaction_timeout'";
    if number(&mut sql, has_it, &[]) == 0 {
        return;
    }
    let made = create(&mut sql, "");
    let set = format!("ALTER DATABASE {} SET transaction_timeout = '200 ms'", db.name);
    sql.batch_execute(&set).expect("alter");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    other.batch_execute("BEGIN; LOCK TABLE api_tokens.tokens").expect("lock");
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the flush waits for the table", || number(&mut sql, waiting, &[]) == 1);
    std::thread::sleep(Duration::from_millis(500));
    other.batch_execute("ROLLBACK").expect("let go");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    flushed(&mut sql, &made, 2);
}
