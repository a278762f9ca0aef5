//! Quotas under transactions: so many uses, exactly, however many use the token at once and however
//! their transactions end. What a crash leaves of them is in `rates.rs`, on a server that may be
//! crashed.

use api_tokens_tests::*;
use postgres::Client;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn of_so_many_uses_by_32_clients_exactly_so_many_succeed() {
    const USES: u32 = 500;
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, &format!(", max_uses => {USES}"));
    let (succeeded, sum) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for client in 0..32 {
            let (made, db, succeeded, sum) = (&made, &db, &succeeded, &sum);
            scope.spawn(move || {
                let mut sql = db.connect();
                for round in 0.. {
                    // Some in transactions that are rolled back: those give their use back.
                    let gives_back = (client + round) % 5 == 0;
                    if gives_back {
                        execute(&mut sql, "BEGIN");
                    }
                    let answer = spend(&mut sql, &made.token, 1);
                    if gives_back {
                        execute(&mut sql, "ROLLBACK");
                    }
                    match answer.split_once(' ').expect("with what remains") {
                        ("ok", remaining) if !gives_back => {
                            succeeded.fetch_add(1, Ordering::Relaxed);
                            sum.fetch_add(remaining.parse().expect("a number"), Ordering::Relaxed);
                        }
                        ("ok", _) => {}
                        ("usage_exceeded", "0") if gives_back || round < 3 => {}
                        ("usage_exceeded", "0") => break,
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    // Those that saw a use which was then given back ended early: the rest is still there.
    while spend(&mut sql, &made.token, 1).starts_with("ok") {
        succeeded.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(succeeded.into_inner(), USES);
    assert_eq!(spend(&mut sql, &made.token, 1), "usage_exceeded 0");
}

#[test]
fn a_rollback_gives_the_use_back_and_a_commit_does_not() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let made = create(&mut sql, ", max_uses => 10");
    let token = &made.token;
    execute(&mut sql, "BEGIN");
    assert_eq!(spend(&mut sql, token, 4), "ok 6");
    assert_eq!(left(&mut other, token), 6, "it counts before it is committed");
    assert_eq!(spend(&mut other, token, 7), "usage_exceeded 6");
    execute(&mut sql, "ROLLBACK");
    assert_eq!(left(&mut other, token), 10);
    execute(&mut sql, "BEGIN");
    spend(&mut sql, token, 1);
    execute(&mut sql, "SAVEPOINT a");
    spend(&mut sql, token, 2);
    assert_eq!(left(&mut other, token), 7);
    execute(&mut sql, "ROLLBACK TO a; SAVEPOINT b");
    assert_eq!(left(&mut other, token), 9, "a savepoint gives its own back");
    spend(&mut sql, token, 3);
    execute(&mut sql, "RELEASE b; COMMIT");
    assert_eq!(left(&mut other, token), 6);
    execute(&mut sql, "BEGIN");
    spend(&mut sql, token, 1);
    failure(&mut sql, "SELECT 1 / 0", &[]);
    execute(&mut sql, "COMMIT");
    assert_eq!(left(&mut other, token), 6, "an error gives it back");
    execute(&mut sql, "BEGIN");
    spend(&mut sql, token, 2);
    execute(&mut sql, "PREPARE TRANSACTION 'spent'");
    assert_eq!(left(&mut other, token), 4);
    execute(&mut other, "ROLLBACK PREPARED 'spent'");
    assert_eq!(left(&mut other, token), 6);
    execute(&mut sql, "BEGIN");
    spend(&mut sql, token, 2);
    execute(&mut sql, "PREPARE TRANSACTION 'spent'");
    execute(&mut other, "COMMIT PREPARED 'spent'");
    assert_eq!(left(&mut other, token), 4);
}

#[test]
fn many_subtransactions_of_one_transaction_are_counted_exactly() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let made = create(&mut sql, ", max_uses => 1000");
    execute(
        &mut sql,
        "CREATE FUNCTION use_often(token text, times int) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            FOR i IN 1 .. times LOOP
                BEGIN PERFORM api_token_require(token); EXCEPTION WHEN division_by_zero THEN NULL; END;
            END LOOP;
        END $$; BEGIN",
    );
    run(&mut sql, "SELECT use_often($1, 100)", &[&made.token]);
    assert_eq!(left(&mut sql, &made.token), 900);
    execute(&mut sql, "COMMIT");
    assert_eq!(left(&mut other, &made.token), 900);
    execute(&mut sql, "BEGIN");
    run(&mut sql, "SELECT use_often($1, 100)", &[&made.token]);
    execute(&mut sql, "ROLLBACK");
    assert_eq!(left(&mut other, &made.token), 900);
}

#[test]
fn open_transactions_are_not_waited_for_but_where_there_are_too_many() {
    const AT_ONCE: usize = 32;
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 1000");
    let mut open: Vec<Client> = (0..AT_ONCE).map(|_| db.connect()).collect();
    for client in &mut open {
        execute(client, "SET lock_timeout = 1; BEGIN");
        assert!(spend(client, &made.token, 1).starts_with("ok"));
    }
    execute(&mut sql, "SET lock_timeout = 1");
    let one_more = failure(&mut sql, "SELECT api_token_validate($1)", &[&made.token]);
    assert_eq!(one_more.code().code(), "55P03", "it waited");
    assert_eq!(left(&mut sql, &made.token), 968, "asking waits for nobody");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| spend(&mut db.connect(), &made.token, 1));
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Extension'";
        while number(&mut sql, waits, &[]) == 0 {
            std::thread::yield_now();
        }
        // The others go on with their own while it waits.
        assert_eq!(spend(&mut open[5], &made.token, 1), "ok 967");
        // It waits for any of them, neither for the oldest nor for the newest.
        execute(&mut open[16], "ROLLBACK");
        assert_eq!(waiting.join().expect("it goes on"), "ok 967");
    });
    for client in &mut open {
        execute(client, "ROLLBACK");
    }
    assert_eq!(left(&mut sql, &made.token), 999);
}

#[test]
fn whoever_has_waited_looks_at_the_token_again() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 1000");
    let mut open: Vec<Client> = (0..32).map(|_| db.connect()).collect();
    for client in &mut open {
        execute(client, "BEGIN");
        spend(client, &made.token, 1);
    }
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| spend(&mut db.connect(), &made.token, 1));
        let many = scope.spawn(|| {
            let all = "SELECT reason FROM api_token_validate_many(ARRAY[$1, 'x', $1])";
            column(&mut db.connect(), all, &[&made.token])
        });
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Extension'";
        while number(&mut sql, waits, &[]) < 2 {
            std::thread::yield_now();
        }
        run(&mut sql, "SELECT api_token_invalidate($1)", &[&made.token]);
        execute(&mut open[0], "ROLLBACK");
        assert_eq!(waiting.join().expect("it goes on"), "revoked");
        assert_eq!(many.join().expect("it goes on"), ["revoked", "invalid", "revoked"]);
    });
}

#[test]
fn where_nothing_can_be_written_nothing_can_be_used() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 2");
    execute(&mut sql, "BEGIN READ ONLY");
    assert_eq!(spend(&mut sql, &made.token, 1), "read_only 2");
    assert_eq!(spend(&mut sql, &made.token, 3), "usage_exceeded 2");
    assert_eq!(spend(&mut sql, &made.token, 0), "ok 2");
    execute(&mut sql, "ROLLBACK");
    assert_eq!(left(&mut sql, &made.token), 2);
}

#[test]
fn an_account_of_another_cluster_counts_what_was_reserved() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let made = create(&mut sql, ", max_uses => 10");
    execute(&mut sql, "BEGIN");
    spend(&mut sql, &made.token, 3);
    // As a dump of this moment would bring it to another cluster.
    let saved = text(&mut other, "SELECT reservations FROM api_tokens.quotas", &[]);
    execute(&mut sql, "ROLLBACK");
    let restore =
        "UPDATE api_tokens.quotas SET reservations = $1::text::bytea, cluster = cluster - 1";
    run(&mut other, restore, &[&saved]);
    assert_eq!(left(&mut other, &made.token), 7, "nothing is known of its transaction");
    assert_eq!(spend(&mut other, &made.token, 1), "ok 6");
}

#[test]
fn sessions_with_a_savepoint_per_use_do_not_wait_for_each_other() {
    const CLIENTS: usize = 16;
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 1000000");
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut sql = db.connect();
                execute(&mut sql, "SET lock_timeout = '1 ms'");
                for _ in 0..5 {
                    execute(&mut sql, "BEGIN");
                    for savepoint in 0..10 {
                        execute(&mut sql, &format!("SAVEPOINT s{savepoint}"));
                        assert!(spend(&mut sql, &made.token, 1).starts_with("ok"));
                        execute(&mut sql, &format!("RELEASE s{savepoint}"));
                    }
                    execute(&mut sql, "COMMIT");
                }
            });
        }
    });
    assert_eq!(left(&mut sql, &made.token), 1_000_000 - (CLIENTS * 50) as i64);
}

#[test]
fn a_refused_use_takes_no_transaction_id_and_writes_nothing() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 1");
    spend(&mut sql, &made.token, 1);
    execute(&mut sql, "BEGIN");
    assert_eq!(spend(&mut sql, &made.token, 1), "usage_exceeded 0");
    let id = "SELECT pg_current_xact_id_if_assigned()";
    assert_eq!(maybe(&mut sql, id, &[]), None);
    execute(&mut sql, "ROLLBACK");
}

#[test]
fn what_was_rolled_back_is_settled_by_cleanup_before_anybody_forgets() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 10");
    execute(&mut sql, "BEGIN");
    spend(&mut sql, &made.token, 7);
    execute(&mut sql, "ROLLBACK");
    let spent = "SELECT spent FROM api_tokens.quotas";
    assert_eq!(number(&mut sql, spent, &[]), 7, "nobody has looked");
    run(&mut sql, "SELECT api_token_cleanup()", &[]);
    assert_eq!(number(&mut sql, spent, &[]), 0);
    // Nothing is known of a transaction that is not there yet, or is forgotten: what it used stays used.
    execute(&mut sql, "BEGIN");
    spend(&mut sql, &made.token, 7);
    execute(&mut sql, "COMMIT");
    let unknown = "UPDATE api_tokens.quotas SET reservations = '\\x0000000000010000'::bytea || substr(reservations, 9)";
    run(&mut sql, unknown, &[]);
    assert_eq!(left(&mut sql, &made.token), 3);
    run(&mut sql, "SELECT api_token_cleanup()", &[]);
    assert_eq!(left(&mut sql, &made.token), 3);
}
