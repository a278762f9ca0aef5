//! Promise 1: a revoked token is never accepted after the revoking commit returned, whatever the
//! isolation level, and changes in such transactions are made whole or refused with 40001.

use api_tokens_tests::*;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

#[test]
fn every_isolation_level_sees_the_revocation_at_once() {
    let db = Database::new();
    let (mut sql, mut revoker) = (db.connect(), db.connect());
    for level in LEVELS {
        let made = create(&mut revoker, "");
        sql.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).expect("begin");
        assert_eq!(verdict(&mut sql, &made.token), "ok", "{level}");
        run(&mut revoker, "SELECT api_token_invalidate($1)", &[&made.token]);
        assert_eq!(verdict(&mut sql, &made.token), "revoked", "{level}");
        let later = create(&mut revoker, "");
        assert_eq!(verdict(&mut sql, &later.token), "ok", "{level}: newer than the snapshot");
        sql.batch_execute("COMMIT").expect("commit");
    }
}

#[test]
fn prepared_statements_cursors_functions_and_triggers_see_it_too() {
    let db = Database::new();
    let (mut sql, mut revoker) = (db.connect(), db.connect());
    let made = create(&mut revoker, "");
    sql.batch_execute(
        "CREATE FUNCTION stable_check(t text) RETURNS boolean STABLE LANGUAGE sql
            AS 'SELECT ok FROM public.api_token_validate(t)';
        CREATE TABLE log (said text);
        CREATE FUNCTION check_insert() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN NEW.said := (SELECT coalesce(reason, 'ok') FROM api_token_validate(NEW.said)); RETURN NEW; END $$;
        CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION check_insert()",
    )
    .expect("prepare");
    let statement = sql.prepare("SELECT ok FROM api_token_validate($1)").expect("prepare");
    sql.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("begin");
    assert!(sql.query_one(&statement, &[&made.token]).expect("ok").get::<_, bool>(0));
    assert!(truth(&mut sql, "SELECT stable_check($1)", &[&made.token]));
    run(&mut revoker, "SELECT api_token_invalidate($1)", &[&made.token]);
    assert!(!sql.query_one(&statement, &[&made.token]).expect("ok").get::<_, bool>(0));
    assert!(!truth(&mut sql, "SELECT stable_check($1)", &[&made.token]));
    run(&mut sql, "INSERT INTO log VALUES ($1)", &[&made.token]);
    assert_eq!(text(&mut sql, "SELECT said FROM log", &[]), "revoked");
    sql.batch_execute("COMMIT").expect("commit");
}

#[test]
fn a_transaction_sees_its_own_changes() {
    let db = Database::new();
    let mut sql = db.connect();
    for level in LEVELS {
        sql.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).expect("begin");
        let made = create(&mut sql, "");
        assert_eq!(verdict(&mut sql, &made.token), "ok");
        sql.batch_execute("SAVEPOINT s").expect("savepoint");
        let new = refresh(&mut sql, &made.token, "").expect("refresh");
        assert_eq!(
            (verdict(&mut sql, &made.token), verdict(&mut sql, &new.token)),
            ("revoked".into(), "ok".into())
        );
        sql.batch_execute("ROLLBACK TO s").expect("rollback to");
        assert_eq!(
            (verdict(&mut sql, &made.token), verdict(&mut sql, &new.token)),
            ("ok".into(), "invalid".into())
        );
        sql.batch_execute("COMMIT").expect("commit");
    }
}

#[test]
fn a_change_of_what_the_snapshot_does_not_show_is_refused_as_a_conflict() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for change in [
            "SELECT api_token_invalidate($1)",
            "SELECT api_token_refresh($1)",
            "SELECT api_token_set_enabled(token_id, false) FROM api_token_validate($1)",
        ] {
            let changed = create(&mut other, "");
            sql.batch_execute(&format!(
                "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class"
            ))
            .expect("begin");
            let newer = create(&mut other, "");
            age(&mut other, &changed, "name = 'changed'");
            for token in [&newer, &changed] {
                sql.batch_execute("SAVEPOINT s").expect("savepoint");
                let error = failure(&mut sql, change, &[&token.token]);
                assert_eq!(error.code().code(), "40001", "{level} {change}: {}", error.message());
                sql.batch_execute("ROLLBACK TO s").expect("rollback to");
                assert_eq!(verdict(&mut sql, &token.token), "ok");
            }
            sql.batch_execute("ROLLBACK").expect("rollback");
        }
    }
}

#[test]
fn a_read_only_transaction_checks_and_changes_nothing() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    sql.batch_execute("SET default_transaction_read_only = on").expect("set");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_token_list('acme')", &[]), 1);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_token_events()", &[]), 1);
    for change in [
        "SELECT api_token_create('acme')",
        "SELECT api_token_import('acme', sha256('x'), 'x...')",
        "SELECT api_token_refresh('x')",
        "SELECT api_token_invalidate('x')",
        "SELECT api_token_invalidate_by_id(gen_random_uuid())",
        "SELECT api_token_invalidate_all()",
        "SELECT api_token_update(gen_random_uuid(), '{\"name\": \"x\"}')",
        "SELECT api_token_set_enabled(gen_random_uuid(), true)",
        "SELECT api_token_cleanup()",
        "SELECT api_tokens_grant('pg_monitor', 'validate')",
    ] {
        assert_eq!(failure(&mut sql, change, &[]).code().code(), "25006", "{change}");
    }
}

#[test]
fn an_open_transaction_survives_a_reindex_and_a_reinstallation() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let made = create(&mut other, "");
    sql.batch_execute("PREPARE c AS SELECT 1 / ok::int FROM public.api_token_validate($1)")
        .expect("prepare");
    // In the simple protocol: a portal would hold a snapshot, and the REINDEX would wait for it.
    let check = format!("EXECUTE c('{}')", made.token);
    sql.batch_execute("BEGIN").expect("begin");
    sql.batch_execute(&check).expect("ok");
    other
        .batch_execute("REINDEX INDEX CONCURRENTLY api_tokens.tokens_token_hash_key")
        .expect("reindex");
    sql.batch_execute(&check).expect("ok");
    sql.batch_execute("COMMIT").expect("commit");
    sql.batch_execute("BEGIN; DROP EXTENSION api_tokens; CREATE EXTENSION api_tokens")
        .expect("reinstall");
    assert_eq!(verdict(&mut sql, &made.token), "invalid");
    sql.batch_execute("ROLLBACK").expect("rollback");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
}

#[test]
fn a_check_ends_though_the_catalog_seems_to_change_all_the_time() {
    let db = Database::new();
    let mut sql = db.connect();
    // Only a server with assertions can be told so; see scripts/cassert.sh.
    if !truth(&mut sql, "SELECT current_setting('debug_assertions')::boolean", &[]) {
        return;
    }
    let made = create(&mut sql, "");
    sql.batch_execute("SET debug_discard_caches = 1; SET statement_timeout = '1min'").expect("set");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&made.token]);
    assert_eq!(verdict(&mut sql, &made.token), "revoked");
}

#[test]
fn a_check_takes_no_transaction_id() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    sql.batch_execute("BEGIN").expect("begin");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    assert_eq!(verdict(&mut sql, "unknown"), "invalid");
    assert_eq!(maybe(&mut sql, "SELECT pg_current_xact_id_if_assigned()", &[]), None);
    sql.batch_execute("COMMIT").expect("commit");
}

#[test]
fn parallel_plans_do_not_break_a_check() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    sql.batch_execute(
        "CREATE TABLE big AS SELECT i FROM generate_series(1, 50000) i; ANALYZE big;
        SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
        SET max_parallel_workers_per_gather = 4",
    )
    .expect("prepare");
    let ask = "SELECT count(*) FROM big WHERE (SELECT ok FROM api_token_validate($1))";
    assert_eq!(number(&mut sql, ask, &[&made.token]), 50000);
    let looks = "SELECT count(*) FROM big WHERE NOT api_token_looks_valid(i::text)";
    assert_eq!(number(&mut sql, looks, &[]), 50000);
}

#[test]
fn invalidate_all_does_not_miss_what_its_snapshot_does_not_show() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        sql.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class"))
            .expect("begin");
        let newer = create(&mut other, "");
        let error = failure(&mut sql, "SELECT api_token_invalidate_all('acme')", &[]);
        assert_eq!(error.code().code(), "40001", "{level}");
        sql.batch_execute("ROLLBACK").expect("rollback");
        sql.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).expect("begin");
        assert_eq!(number(&mut sql, "SELECT api_token_invalidate_all('acme')", &[]), 1);
        sql.batch_execute("COMMIT").expect("commit");
        assert_eq!(verdict(&mut sql, &newer.token), "revoked");
    }
}

#[test]
fn invalidate_all_takes_the_heir_of_a_refresh_under_way() {
    let db = Database::new();
    let (mut refresher, mut observer) = (db.connect(), db.connect());
    let old = create(&mut refresher, "");
    refresher.batch_execute("BEGIN").expect("begin");
    let new = refresh(&mut refresher, &old.token, ", '1 h'").expect("refresh");
    std::thread::scope(|scope| {
        let revoking = scope
            .spawn(|| number(&mut db.connect(), "SELECT api_token_invalidate_all('acme')", &[]));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND wait_event_type = 'Lock'";
        while number(&mut observer, waiting, &[]) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        refresher.batch_execute("COMMIT").expect("commit");
        assert_eq!(revoking.join().expect("revoke"), 2);
    });
    assert_eq!(verdict(&mut observer, &old.token), "revoked");
    assert_eq!(verdict(&mut observer, &new.token), "revoked");
}
