//! A hot standby checks tokens, and knows of a revocation as soon as it has replayed it.

use api_tokens_tests::*;

/// Waits until the replica has all that the primary has logged so far.
fn replay(primary: &mut postgres::Client, replica: &mut postgres::Client) {
    let here = text(primary, "SELECT pg_current_wal_insert_lsn()", &[]);
    primary.batch_execute("SELECT pg_switch_wal()").expect("flush");
    let replayed = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    while !truth(replica, replayed, &[&here]) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn an_event_prepared_before_a_promotion_is_not_skipped_after_it() {
    let db = Database::new();
    let mut primary = db.connect();
    let made = create(&mut primary, "");
    // Before the rest: on a standby no event is shown that is younger than a transaction under way,
    // and the other test must not see ours.
    let standby = Standby::start();
    // A transaction that notifies cannot be prepared.
    primary.batch_execute("SET api_tokens.notify_channel = ''; BEGIN").expect("begin");
    run(&mut primary, "SELECT api_token_invalidate($1)", &[&made.token]);
    primary.batch_execute("PREPARE TRANSACTION 'late'").expect("prepare");
    let mut replica = standby.connect(&db.name);
    replay(&mut primary, &mut replica);
    run(&mut replica, "SELECT pg_promote()", &[]);
    primary.batch_execute("ROLLBACK PREPARED 'late'").expect("the old primary is given up");

    create(&mut replica, "");
    let read = "SELECT cursor, method FROM api_token_events($1)";
    let rows = replica.query(read, &[&None::<String>]).expect("events");
    let cursor: String = rows.last().expect("events").get(0);
    assert_eq!(verdict(&mut replica, &made.token), "ok");
    replica.batch_execute("COMMIT PREPARED 'late'").expect("commit");
    assert_eq!(verdict(&mut replica, &made.token), "revoked");
    let methods = "SELECT method FROM api_token_events($1)";
    assert_eq!(column(&mut replica, methods, &[&cursor]), ["invalidate"]);
}

#[test]
fn a_standby_that_compares_pages_finds_no_damage() {
    let db = Database::new();
    let mut primary = db.connect();
    let made = create(&mut primary, ", max_uses => 9");
    let standby = Standby::start();
    let mut replica = standby.connect(&db.name);
    primary.batch_execute("SET wal_consistency_checking = 'all'").expect("set");
    // The first change of a page since the checkpoint is logged whole; the check that follows sees to
    // hint bits that are not logged, and then changes the page.
    age(&mut primary, &made, "last_used_at = now() - interval '1 h'");
    assert_eq!(verdict(&mut primary, &made.token), "ok");
    replay(&mut primary, &mut replica);
    let touched = "SELECT last_used_at > now() - interval '1 min' FROM api_tokens.tokens";
    assert!(truth(&mut replica, touched, &[]));
}

#[test]
fn a_standby_checks_and_follows() {
    let db = Database::new();
    let mut primary = db.connect();
    let made = create(&mut primary, ", max_idle => '1 hour'");
    age(&mut primary, &made, "last_used_at = now() - interval '10 min'");
    let standby = Standby::start();
    let mut replica = standby.connect(&db.name);
    assert_eq!(verdict(&mut replica, &made.token), "ok");
    assert!(!truth(&mut replica, "SELECT api_token_touch($1)", &[&made.token]), "cannot write");
    assert_eq!(number(&mut replica, "SELECT count(*) FROM api_token_list('acme')", &[]), 1);
    replica.batch_execute("BEGIN").expect("begin");
    run(&mut replica, "SELECT api_token_require($1)", &[&made.token]);
    assert_eq!(text(&mut replica, "SELECT api_token_current_namespace()", &[]), "acme");
    replica.batch_execute("COMMIT").expect("commit");
    let refused = failure(&mut replica, "SELECT api_token_invalidate($1)", &[&made.token]);
    assert_eq!(refused.code().code(), "25006");

    let read = "SELECT cursor, event_id FROM api_token_events($1)";
    let cursor: String = replica.query_one(read, &[&None::<String>]).expect("events").get(0);
    let mut late = db.connect();
    late.batch_execute("BEGIN").expect("begin");
    create(&mut late, "");

    // A transaction on the standby whose snapshot is older than the revocation.
    replica.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("begin");
    assert_eq!(verdict(&mut replica, &made.token), "ok");
    run(&mut primary, "SELECT api_token_invalidate($1)", &[&made.token]);
    replay(&mut primary, &mut replica);
    assert_eq!(verdict(&mut replica, &made.token), "revoked");
    replica.batch_execute("COMMIT").expect("commit");

    // There, what a late transaction holds back comes once it has ended.
    let ids = |replica: &mut postgres::Client| -> Vec<i64> {
        let rows = replica.query(read, &[&cursor]).expect("events");
        rows.iter().map(|row| row.get(1)).collect()
    };
    assert_eq!(ids(&mut replica), [0_i64; 0]);
    late.batch_execute("COMMIT").expect("commit");
    replay(&mut primary, &mut replica);
    assert_eq!(ids(&mut replica), [2, 3]);

    // What is written in place on the primary arrives.
    let other = create(&mut primary, "");
    age(&mut primary, &other, "last_used_at = now() - interval '1 h'");
    assert_eq!(verdict(&mut primary, &other.token), "ok");
    replay(&mut primary, &mut replica);
    let used = "SELECT last_used_at FROM api_tokens.tokens WHERE token_id::text = $1";
    let there = text(&mut replica, used, &[&other.id]);
    assert_eq!(there, text(&mut primary, used, &[&other.id]));

    // Promoted, it is another history: a reader of the old primary's events goes on there, and
    // misses nothing though the transactions' ids are used again.
    let cursor: String = {
        for _ in 0..3 {
            create(&mut primary, "");
        }
        let rows = primary.query(read, &[&None::<String>]).expect("events");
        rows.last().expect("events").get(0)
    };
    run(&mut replica, "SELECT pg_promote()", &[]);
    let after = create(&mut replica, "");
    run(&mut replica, "SELECT api_token_invalidate($1)", &[&after.token]);
    let rows = replica.query(read, &[&cursor]).expect("events");
    let methods = "SELECT method FROM api_token_events($1) WHERE token_id::text = $2";
    let seen = column(&mut replica, methods, &[&cursor, &after.id]);
    assert_eq!(seen, ["create", "invalidate"], "of {}", rows.len());
}

#[test]
fn a_standby_opens_the_vault() {
    let db = Database::new();
    let mut primary = db.connect();
    run(&mut primary, "SELECT api_vault_store('acme', 'k', 'value')", &[]);
    let standby = Standby::start();
    let mut replica = standby.connect(&db.name);
    replay(&mut primary, &mut replica);
    assert_eq!(text(&mut replica, "SELECT api_vault_get('acme', 'k')", &[]), "value");
    let verified = "SELECT object || ' ' || result || ' ' || count FROM api_vault_verify()";
    assert_eq!(column(&mut replica, verified, &[]), ["data key ok 1", "value ok 1"]);
    assert_eq!(
        text(&mut replica, "SELECT role || ' ' || deks FROM api_vault_key_status()", &[]),
        "primary 1"
    );
    let refused = failure(&mut replica, "SELECT api_vault_store('acme', 'k', 'v')", &[]);
    assert_eq!(refused.code().code(), "25006");
}
