//! Quotas: so many uses, exactly, however many use the token at once and however their
//! transactions end. What a crash leaves of them is in `rates.rs`, on a server that may be crashed.

use api_tokens_tests::*;
use postgres::Client;
use std::sync::atomic::{AtomicU32, Ordering};

fn left(sql: &mut Client, token: &str) -> i64 {
    number(sql, "SELECT remaining FROM api_token_validate($1, cost => 0)", &[&token])
}

fn do_all(sql: &mut Client, statements: &str) {
    sql.batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

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
                        do_all(&mut sql, "BEGIN");
                    }
                    let answer = spend(&mut sql, &made.token, 1);
                    if gives_back {
                        do_all(&mut sql, "ROLLBACK");
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
fn a_cost_that_does_not_fit_is_refused_whole_and_asking_is_free() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 5");
    assert_eq!(spend(&mut sql, &made.token, 0), "ok 5");
    assert_eq!(spend(&mut sql, &made.token, 3), "ok 2");
    assert_eq!(spend(&mut sql, &made.token, 3), "usage_exceeded 2");
    assert_eq!(spend(&mut sql, &made.token, 2), "ok 0");
    assert_eq!(spend(&mut sql, &made.token, 1), "usage_exceeded 0");
    assert_eq!(spend(&mut sql, &made.token, 0), "ok 0");
    let plain = create(&mut sql, "");
    assert_eq!(spend(&mut sql, &plain.token, 1000), "ok", "without a quota nothing is counted");
}

#[test]
fn what_is_refused_for_something_else_costs_nothing() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 2, scopes => '{a}', allowed_ips => '{10.0.0.0/8}'");
    for (arguments, reason) in [
        ("", "ip_not_allowed"),
        (", client_ip => '192.0.2.1'", "ip_not_allowed"),
        (", '{b}', '10.0.0.1'", "insufficient_scope"),
    ] {
        let check = format!("SELECT reason FROM api_token_validate($1{arguments})");
        assert_eq!(text(&mut sql, &check, &[&made.token]), reason);
    }
    let ask = "SELECT remaining FROM api_token_validate($1, '{a}', '::ffff:10.0.0.1', $2)";
    assert_eq!(sql.query_one(ask, &[&made.token, &0]).expect("ask").get::<_, i64>(0), 2);
    assert_eq!(sql.query_one(ask, &[&made.token, &1]).expect("use").get::<_, i64>(0), 1);
    run(&mut sql, "SELECT api_token_set_enabled($1::text::uuid, false)", &[&made.id]);
    let disabled = "SELECT concat(reason, remaining) FROM api_token_validate($1)";
    assert_eq!(text(&mut sql, disabled, &[&made.token]), "disabled");
}

#[test]
fn a_rollback_gives_the_use_back_and_a_commit_does_not() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let made = create(&mut sql, ", max_uses => 10");
    let token = &made.token;
    do_all(&mut sql, "BEGIN");
    assert_eq!(spend(&mut sql, token, 4), "ok 6");
    assert_eq!(left(&mut other, token), 6, "it counts before it is committed");
    assert_eq!(spend(&mut other, token, 7), "usage_exceeded 6");
    do_all(&mut sql, "ROLLBACK");
    assert_eq!(left(&mut other, token), 10);
    do_all(&mut sql, "BEGIN");
    spend(&mut sql, token, 1);
    do_all(&mut sql, "SAVEPOINT a");
    spend(&mut sql, token, 2);
    assert_eq!(left(&mut other, token), 7);
    do_all(&mut sql, "ROLLBACK TO a; SAVEPOINT b");
    assert_eq!(left(&mut other, token), 9, "a savepoint gives its own back");
    spend(&mut sql, token, 3);
    do_all(&mut sql, "RELEASE b; COMMIT");
    assert_eq!(left(&mut other, token), 6);
    do_all(&mut sql, "BEGIN");
    spend(&mut sql, token, 1);
    failure(&mut sql, "SELECT 1 / 0", &[]);
    do_all(&mut sql, "COMMIT");
    assert_eq!(left(&mut other, token), 6, "an error gives it back");
    do_all(&mut sql, "BEGIN");
    spend(&mut sql, token, 2);
    do_all(&mut sql, "PREPARE TRANSACTION 'spent'");
    assert_eq!(left(&mut other, token), 4);
    do_all(&mut other, "ROLLBACK PREPARED 'spent'");
    assert_eq!(left(&mut other, token), 6);
    do_all(&mut sql, "BEGIN");
    spend(&mut sql, token, 2);
    do_all(&mut sql, "PREPARE TRANSACTION 'spent'");
    do_all(&mut other, "COMMIT PREPARED 'spent'");
    assert_eq!(left(&mut other, token), 4);
}

#[test]
fn many_subtransactions_of_one_transaction_are_counted_exactly() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let made = create(&mut sql, ", max_uses => 1000");
    do_all(
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
    do_all(&mut sql, "COMMIT");
    assert_eq!(left(&mut other, &made.token), 900);
    do_all(&mut sql, "BEGIN");
    run(&mut sql, "SELECT use_often($1, 100)", &[&made.token]);
    do_all(&mut sql, "ROLLBACK");
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
        do_all(client, "SET lock_timeout = 1; BEGIN");
        assert!(spend(client, &made.token, 1).starts_with("ok"));
    }
    do_all(&mut sql, "SET lock_timeout = 1");
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
        do_all(&mut open[16], "ROLLBACK");
        assert_eq!(waiting.join().expect("it goes on"), "ok 967");
    });
    for client in &mut open {
        do_all(client, "ROLLBACK");
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
        do_all(client, "BEGIN");
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
        do_all(&mut open[0], "ROLLBACK");
        assert_eq!(waiting.join().expect("it goes on"), "revoked");
        assert_eq!(many.join().expect("it goes on"), ["revoked", "invalid", "revoked"]);
    });
}

#[test]
fn a_quota_belongs_to_the_family() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, ", max_uses => 10");
    spend(&mut sql, &old.token, 3);
    let new = refresh(&mut sql, &old.token, ", '1 hour'").expect("refresh");
    assert_eq!(spend(&mut sql, &new.token, 2), "ok 5");
    assert_eq!(spend(&mut sql, &old.token, 1), "ok 4", "in grace, of the same");
    let newer = refresh(&mut sql, &new.token, "").expect("refresh");
    assert_eq!(left(&mut sql, &newer.token), 4);
}

#[test]
fn an_update_keeps_what_was_spent() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 10");
    spend(&mut sql, &made.token, 8);
    let mut update = |changes: &str| {
        let shown = "SELECT concat_ws('/', max_uses, refill_amount, refill_every) FROM api_token_update($1::text::uuid, $2::text::jsonb)";
        text(&mut sql, shown, &[&made.id, &changes])
    };
    assert_eq!(update(r#"{"name": "n"}"#), "10");
    assert_eq!(update(r#"{"max_uses": 20}"#), "20");
    let mut other = db.connect();
    assert_eq!(left(&mut other, &made.token), 12, "at once, in every session");
    assert_eq!(update(r#"{"max_uses": 5}"#), "5");
    assert_eq!(spend(&mut other, &made.token, 1), "usage_exceeded 0");
    assert_eq!(update(r#"{"max_uses": null}"#), "");
    assert_eq!(spend(&mut other, &made.token, 1), "ok");
    assert_eq!(
        update(r#"{"max_uses": 9, "refill_amount": 2, "refill_every": "1 day"}"#),
        "9/2/1 day"
    );
    assert_eq!(left(&mut other, &made.token), 1, "and what was spent is not forgotten");
    // Of a token that never had one.
    let plain = create(&mut other, "");
    run(&mut other, "SELECT api_token_update($1::text::uuid, '{\"max_uses\": 2}')", &[&plain.id]);
    assert_eq!(spend(&mut other, &plain.token, 1), "ok 1");
    for bad in [
        r#"{"refill_amount": null}"#,
        r#"{"max_uses": null}"#,
        r#"{"max_uses": 0}"#,
        r#"{"refill_every": "0"}"#,
        r#"{"max_uses": -1}"#,
        r#"{"refill_amount": "2"}"#,
    ] {
        let refused = failure(
            &mut other,
            "SELECT api_token_update($1::text::uuid, $2::text::jsonb)",
            &[&made.id, &bad],
        );
        assert_eq!(refused.code().code(), "22023", "{bad}: {}", refused.message());
    }
}

#[test]
fn a_refill_gives_back_so_many_that_often_up_to_the_most() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 5, refill_amount => 2, refill_every => '1 hour'");
    assert_eq!(spend(&mut sql, &made.token, 5), "ok 0");
    let refused =
        "SELECT reason, remaining, extract(epoch FROM retry_after)::float8, retry_after <= '1 h'
        FROM api_token_validate($1, cost => $2)";
    let row = sql.query_one(refused, &[&made.token, &1]).expect("refused");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("usage_exceeded", 0));
    assert!(row.get::<_, f64>(2) > 3500.0 && row.get::<_, bool>(3), "{row:?}");
    let row = sql.query_one(refused, &[&made.token, &3]).expect("refused");
    assert!(row.get::<_, f64>(2) > 7100.0, "two refills");
    let row = sql.query_one(refused, &[&made.token, &6]).expect("refused");
    assert_eq!(row.get::<_, Option<f64>>(2), None, "never");
    let pass = |sql: &mut Client, time: &str| {
        let sooner =
            format!("UPDATE api_tokens.quotas SET refilled_at = refilled_at - interval '{time}'");
        run(sql, &sooner, &[]);
    };
    pass(&mut sql, "59 min");
    assert_eq!(left(&mut sql, &made.token), 0);
    pass(&mut sql, "1 min");
    assert_eq!(left(&mut sql, &made.token), 2);
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 1");
    pass(&mut sql, "1 h");
    assert_eq!(left(&mut sql, &made.token), 3);
    pass(&mut sql, "1 year");
    assert_eq!(left(&mut sql, &made.token), 5);
    let without = create(&mut sql, ", max_uses => 1");
    spend(&mut sql, &without.token, 1);
    let never = "SELECT retry_after FROM api_token_validate($1)";
    assert_eq!(maybe(&mut sql, never, &[&without.token]), None);
}

#[test]
fn a_refill_that_is_new_begins_now() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 5");
    spend(&mut sql, &made.token, 5);
    run(&mut sql, "UPDATE api_tokens.quotas SET refilled_at = now() - interval '1 year'", &[]);
    let refilled = r#"SELECT api_token_update($1::text::uuid, '{"refill_amount": 2, "refill_every": "1 day"}')"#;
    run(&mut sql, refilled, &[&made.id]);
    assert_eq!(left(&mut sql, &made.token), 0);
}

#[test]
fn where_nothing_can_be_written_nothing_can_be_used() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 2");
    do_all(&mut sql, "BEGIN READ ONLY");
    assert_eq!(spend(&mut sql, &made.token, 1), "read_only 2");
    assert_eq!(spend(&mut sql, &made.token, 3), "usage_exceeded 2");
    assert_eq!(spend(&mut sql, &made.token, 0), "ok 2");
    do_all(&mut sql, "ROLLBACK");
    assert_eq!(left(&mut sql, &made.token), 2);
}

#[test]
fn many_tokens_and_identities_are_charged_too() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 6");
    let many = "SELECT concat(ok, remaining) FROM api_token_validate_many(ARRAY[$1, $1, 'x', $1], cost => 2)";
    assert_eq!(column(&mut sql, many, &[&made.token]), ["t4", "t2", "f", "t0"]);
    let made = create(&mut sql, ", max_uses => 2");
    do_all(&mut sql, "BEGIN");
    run(&mut sql, "SELECT api_token_require($1)", &[&made.token]);
    run(&mut sql, "SELECT api_token_require_current()", &[]);
    assert_eq!(
        number(&mut sql, "SELECT remaining FROM api_token_authenticate($1)", &[&made.token]),
        0
    );
    let refused = failure(&mut sql, "SELECT api_token_require($1)", &[&made.token]);
    assert_eq!(refused.message(), "Unauthorized: usage_exceeded");
    do_all(&mut sql, "ROLLBACK");
    assert_eq!(left(&mut sql, &made.token), 2);
    let by_hash = "SELECT remaining FROM api_token_validate_hash(sha256($1::text::bytea))";
    assert_eq!(number(&mut sql, by_hash, &[&made.token]), 1);
}

#[test]
fn an_account_of_another_cluster_counts_what_was_reserved() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let made = create(&mut sql, ", max_uses => 10");
    do_all(&mut sql, "BEGIN");
    spend(&mut sql, &made.token, 3);
    // As a dump of this moment would bring it to another cluster.
    let saved = text(&mut other, "SELECT reservations FROM api_tokens.quotas", &[]);
    do_all(&mut sql, "ROLLBACK");
    let restore =
        "UPDATE api_tokens.quotas SET reservations = $1::text::bytea, cluster = cluster - 1";
    run(&mut other, restore, &[&saved]);
    assert_eq!(left(&mut other, &made.token), 7, "nothing is known of its transaction");
    assert_eq!(spend(&mut other, &made.token, 1), "ok 6");
}

#[test]
fn cleanup_takes_the_account_with_the_last_of_the_family() {
    let db = Database::new();
    let mut sql = db.connect();
    let (old, lonely) =
        (create(&mut sql, ", max_uses => 10"), create(&mut sql, ", max_uses => 10"));
    let new = refresh(&mut sql, &old.token, "").expect("refresh");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&lonely.token]);
    assert_eq!(number(&mut sql, "SELECT api_token_cleanup('0')", &[]), 2);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_tokens.quotas", &[]), 1);
    assert_eq!(spend(&mut sql, &new.token, 1), "ok 9");
    // An account that is missing gives nothing away.
    run(&mut sql, "DELETE FROM api_tokens.quotas", &[]);
    assert_eq!(spend(&mut sql, &new.token, 1), "usage_exceeded 0");
}

#[test]
fn an_imported_token_has_the_whole_policy() {
    let db = Database::new();
    let mut sql = db.connect();
    run(
        &mut sql,
        "SELECT api_token_import('acme', sha256('legacy'), 'leg...', allowed_ips => '{10.0.0.0/8}', enabled => false,
            max_uses => 5, refill_amount => 1, refill_every => '1 d', max_expires_at => '2100-01-01 UTC')",
        &[],
    );
    let shown = "SELECT concat_ws(' ', status, allowed_ips, max_uses, refill_amount, refill_every, max_expires_at = expires_at)
        FROM api_token_list('acme', true)";
    assert_eq!(text(&mut sql, shown, &[]), "disabled {10.0.0.0/8} 5 1 1 day t");
    run(
        &mut sql,
        "SELECT api_token_set_enabled(token_id, true) FROM api_token_list('acme', true)",
        &[],
    );
    let used = "SELECT remaining FROM api_token_validate('legacy', client_ip => '10.0.0.1')";
    assert_eq!(number(&mut sql, used, &[]), 4);
}

#[test]
fn a_refresh_may_narrow_the_scopes_and_never_widen_them() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, ", scopes => '{orders:*,users:read}'");
    for wide in ["{users:*}", "{orders}", "{*}", "{orders:read,users:write}"] {
        let call = format!("SELECT api_token_refresh($1, scopes => '{wide}')");
        let refused = failure(&mut sql, &call, &[&old.token]);
        assert_eq!(refused.code().code(), "42501", "{wide}");
    }
    assert_eq!(verdict(&mut sql, &old.token), "ok", "nothing was done");
    let malformed =
        failure(&mut sql, "SELECT api_token_refresh($1, scopes => '{a b}')", &[&old.token]);
    assert_eq!(malformed.code().code(), "22023");
    let new =
        refresh(&mut sql, &old.token, ", scopes => '{orders:read,users:read}'").expect("refresh");
    let held = "SELECT scopes FROM api_token_validate($1)";
    assert_eq!(text(&mut sql, held, &[&new.token]), "{orders:read,users:read}");
    let by_id = "SELECT token FROM api_token_refresh_by_id($1::text::uuid, scopes => '{}')";
    let none = text(&mut sql, by_id, &[&new.id]);
    assert_eq!(text(&mut sql, held, &[&none]), "{}");
    // A dead token is refused with its reason, whatever it asks for.
    let dead = "SELECT reason FROM api_token_refresh($1, scopes => '{*}')";
    assert_eq!(text(&mut sql, dead, &[&old.token]), "revoked");
}

#[test]
fn scope_covers_says_what_a_token_would_have() {
    let db = Database::new();
    let mut sql = db.connect();
    for (held, needed, covers) in [
        ("{a:b}", "a:b", true),
        ("{a:*}", "a:b", true),
        ("{a:*}", "a:b:c", true),
        ("{a:*}", "a", false),
        ("{*}", "a:b", true),
        ("{b,a}", "a", true),
        ("{}", "a", false),
        ("{a:b}", "a:*", false),
        ("{ab:*}", "abc:d", false),
    ] {
        let call = "SELECT api_token_scope_covers($1::text::text[], $2)";
        assert_eq!(truth(&mut sql, call, &[&held, &needed]), covers, "{held} {needed}");
    }
    assert!(!truth(&mut sql, "SELECT api_token_scope_covers(NULL, 'a')", &[]));
    assert!(!truth(&mut sql, "SELECT api_token_scope_covers('{a}', NULL)", &[]));
    for bad in ["'{a}', 'a b'", "'{a b}', 'a'", "'{NULL}', 'a'"] {
        let call = format!("SELECT api_token_scope_covers({bad})");
        assert!(["22023", "22004"].contains(&failure(&mut sql, &call, &[]).code().code()), "{bad}");
    }
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
                do_all(&mut sql, "SET lock_timeout = '1 ms'");
                for _ in 0..5 {
                    do_all(&mut sql, "BEGIN");
                    for savepoint in 0..10 {
                        do_all(&mut sql, &format!("SAVEPOINT s{savepoint}"));
                        assert!(spend(&mut sql, &made.token, 1).starts_with("ok"));
                        do_all(&mut sql, &format!("RELEASE s{savepoint}"));
                    }
                    do_all(&mut sql, "COMMIT");
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
    do_all(&mut sql, "BEGIN");
    assert_eq!(spend(&mut sql, &made.token, 1), "usage_exceeded 0");
    let id = "SELECT pg_current_xact_id_if_assigned()";
    assert_eq!(maybe(&mut sql, id, &[]), None);
    do_all(&mut sql, "ROLLBACK");
}

#[test]
fn a_change_of_the_refill_counts_from_then_on() {
    let db = Database::new();
    let mut sql = db.connect();
    let made =
        create(&mut sql, ", max_uses => 100, refill_amount => 10, refill_every => '30 days'");
    spend(&mut sql, &made.token, 100);
    run(
        &mut sql,
        "UPDATE api_tokens.quotas SET refilled_at = refilled_at - interval '40 days'",
        &[],
    );
    let faster = "SELECT api_token_update($1::text::uuid, '{\"refill_every\": \"1 hour\"}')";
    run(&mut sql, faster, &[&made.id]);
    assert_eq!(
        left(&mut sql, &made.token),
        10,
        "by the rule so far, and nothing yet by the new one"
    );
}

#[test]
fn what_was_rolled_back_is_settled_by_cleanup_before_anybody_forgets() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 10");
    do_all(&mut sql, "BEGIN");
    spend(&mut sql, &made.token, 7);
    do_all(&mut sql, "ROLLBACK");
    let spent = "SELECT spent FROM api_tokens.quotas";
    assert_eq!(number(&mut sql, spent, &[]), 7, "nobody has looked");
    run(&mut sql, "SELECT api_token_cleanup()", &[]);
    assert_eq!(number(&mut sql, spent, &[]), 0);
    // Nothing is known of a transaction that is not there yet, or is forgotten: what it used stays used.
    do_all(&mut sql, "BEGIN");
    spend(&mut sql, &made.token, 7);
    do_all(&mut sql, "COMMIT");
    let unknown = "UPDATE api_tokens.quotas SET reservations = '\\x0000000000010000'::bytea || substr(reservations, 9)";
    run(&mut sql, unknown, &[]);
    assert_eq!(left(&mut sql, &made.token), 3);
    run(&mut sql, "SELECT api_token_cleanup()", &[]);
    assert_eq!(left(&mut sql, &made.token), 3);
}

#[test]
fn an_identity_costs_what_it_is_said_to_cost() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 10");
    for (call, remaining) in [("authenticate", 7), ("require", 4)] {
        let call = format!("SELECT remaining FROM api_token_{call}($1, cost => 3)");
        assert_eq!(number(&mut sql, &call, &[&made.token]), remaining);
    }
}
