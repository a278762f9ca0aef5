//! Whatever takes long because there is much of it can be cancelled on the way: `statement_timeout` ends each
//! function that loops over tokens, events or values, well before it would have ended by itself.

use api_tokens_tests::*;
use postgres::Client;
use std::time::{Duration, Instant};

/// Runs it in a transaction that is rolled back, with such a timeout (0 is none); says how long it took, and
/// whether it came to its end.
fn timed(sql: &mut Client, before: &str, call: &str, timeout: u128) -> (Duration, bool) {
    sql.batch_execute(&format!("BEGIN; {before}; SET LOCAL statement_timeout = {timeout}"))
        .expect("begin");
    let begun = Instant::now();
    let result = sql.query(call, &[]);
    let took = begun.elapsed();
    if let Err(error) = &result {
        let code = error.code().map(|code| code.code());
        assert_eq!(code, Some("57014"), "{call}: {error:?}");
    }
    sql.batch_execute("ROLLBACK").expect("rollback");
    (took, result.is_ok())
}

/// Told to stop after a part of what it takes, it does not go on for a fifth of it. The machine has other
/// things to do too, so it has some attempts.
fn stops_on_the_way(sql: &mut Client, before: &str, call: &str) {
    for tenths in [1, 6] {
        let mut attempts = Vec::new();
        let stopped = (0..20).any(|_| {
            let (whole, _) = timed(sql, before, call, 0);
            let timeout = (whole * tenths / 10).as_millis().max(1);
            let (took, ended) = timed(sql, before, call, timeout);
            attempts.push((whole, took, ended));
            !ended && took < whole * (tenths + 2) / 10 + Duration::from_millis(5)
        });
        assert!(stopped, "{call}: told to stop after {tenths} tenths: {attempts:?}");
    }
}

/// Much of everything, made without our functions where that is faster.
fn filled() -> Database {
    let db = Database::new();
    let mut sql = db.connect();
    let times = number_or("API_TOKENS_TEST_ROWS", 10_000);
    sql.batch_execute(&format!(
        "INSERT INTO api_tokens.tokens (token_id, family_id, created_at, last_used_at, token_hash, namespace, token_prefix)
        SELECT id, id, now(), now(), sha256(i::text::bytea), 'acme', 'sk_x...'
        FROM (SELECT i, gen_random_uuid() AS id FROM generate_series(1, {times}) i) made;
        INSERT INTO api_tokens.events (at, method, namespace, token_id, actor, xid, cluster, timeline, detail)
        SELECT now(), 'create', 'acme', gen_random_uuid(), 'x', '3', system_identifier, 1, '{{}}'
        FROM generate_series(1, {times}), pg_control_system();
        CREATE TABLE hashes AS SELECT sha256(('x' || i)::bytea) AS hash FROM generate_series(1, {times} / 3) i;
        CREATE TABLE many AS SELECT array_agg(i::text) AS tokens FROM generate_series(1, least({times}, 100000)) i;
        DO $$ BEGIN
            PERFORM api_vault_store('own' || i, 'k', 'v') FROM generate_series(1, {times} / 5) i;
            PERFORM api_vault_store('acme', 'k' || i, 'v') FROM generate_series(1, {times}) i;
        END $$;
        ANALYZE"
    ))
    .expect("filled");
    db
}

#[test]
fn every_loop_over_data_can_be_interrupted() {
    let db = filled();
    let mut sql = db.connect();
    // As if another key had wrapped all data keys, so that all are to be wrapped anew.
    let by_another = "UPDATE api_tokens.vault_deks SET kek_id = decode(repeat('00', 16), 'hex')";
    let dead = "UPDATE api_tokens.tokens SET revoked_at = now() - interval '1 year'";
    let owned = "CREATE TABLE owners AS SELECT 'acme'::text AS name;
        CREATE TRIGGER gone AFTER DELETE ON owners FOR EACH ROW EXECUTE FUNCTION api_token_invalidate_owner('name')";
    for (before, call) in [
        ("", "SELECT count(ok) FROM many, api_token_validate_many(tokens)"),
        ("", "SELECT count(*) FROM api_token_list('acme')"),
        ("", "SELECT count(*) FROM api_token_events(max_rows => 2147483647)"),
        ("", "SELECT api_token_invalidate_all('acme')"),
        ("", "SELECT api_token_invalidate_all()"),
        (owned, "DELETE FROM owners"),
        (dead, "SELECT api_token_cleanup('0')"),
        ("", "SELECT count(api_token_import('acme', hash, 'x...')) FROM hashes"),
        ("", "SELECT * FROM api_vault_verify()"),
        ("", "SELECT count(*) FROM api_vault_list('acme')"),
        (by_another, "SELECT api_vault_rekey_step(1000000)"),
        (
            "SELECT api_vault_rotate_dek_begin('acme')",
            "SELECT api_vault_rotate_dek_step('acme', 1000000)",
        ),
        ("", "SELECT api_vault_shred('acme', 'acme')"),
    ] {
        stops_on_the_way(&mut sql, before, call);
    }
}

/// The procedures begin a transaction for each batch: what was done before stays, and is gone on with.
#[test]
fn a_procedure_that_was_interrupted_goes_on_where_it_was() {
    let db = Database::new();
    let mut sql = db.connect();
    let values =
        "SELECT count(api_vault_store('acme', 'k' || i, 'v')) FROM generate_series(1, 2000) i";
    run(&mut sql, values, &[]);
    sql.batch_execute("SET statement_timeout = 10").expect("set");
    for _ in 0..20 {
        let error = failure(&mut sql, "CALL api_vault_rotate_dek('acme', 5)", &[]);
        assert_eq!(error.code().code(), "57014");
    }
    sql.batch_execute("RESET statement_timeout").expect("reset");
    sql.batch_execute("CALL api_vault_rotate_dek('acme')").expect("rotate");
    let all =
        "SELECT string_agg(object || ' ' || result || ' ' || count, ', ') FROM api_vault_verify()";
    assert_eq!(text(&mut sql, all, &[]), "data key ok 1, value ok 2000");
}

/// Nobody ends these waits but the timeout.
#[test]
fn every_wait_can_be_interrupted() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let (held, metered) = (create(&mut sql, ""), create(&mut sql, ", max_uses => 10"));
    run(&mut sql, "SELECT api_vault_store('acme', 'k', 'v')", &[]);
    let mut holds = other.transaction().expect("begin");
    for hold in [
        "SELECT FROM api_tokens.tokens FOR UPDATE",
        "SELECT FROM api_tokens.quotas FOR UPDATE",
        "SELECT FROM api_tokens.vault_secrets FOR UPDATE",
        "SELECT FROM api_tokens.vault_deks FOR UPDATE",
        "SELECT api_token_import('acme', sha256('x'), 'x...')",
    ] {
        holds.query(hold, &[]).expect(hold);
    }
    sql.batch_execute("SET statement_timeout = 100").expect("set");
    for call in [
        format!("SELECT api_token_invalidate('{}')", held.token),
        format!("SELECT api_token_refresh('{}')", held.token),
        format!("SELECT api_token_update('{}', '{{\"name\": \"n\"}}')", held.id),
        format!("SELECT api_token_set_enabled('{}', false)", held.id),
        "SELECT api_token_invalidate_all('acme')".to_owned(),
        format!("SELECT api_token_validate('{}')", metered.token),
        format!("SELECT api_token_validate_many('{{x,{}}}')", metered.token),
        format!("SELECT api_token_authenticate('{}')", metered.token),
        "SELECT api_token_import('acme', sha256('x'), 'x...')".to_owned(),
        "SELECT api_vault_store('acme', 'k', 'w')".to_owned(),
        "SELECT api_vault_delete('acme', 'k')".to_owned(),
        "SELECT api_vault_shred('acme', 'acme')".to_owned(),
    ] {
        let error = failure(&mut sql, &call, &[]);
        assert_eq!(error.code().code(), "57014", "{call}");
    }
}
