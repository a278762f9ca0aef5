//! What a call takes it gives back: the most memory a backend ever had does not grow with the number of calls,
//! neither Postgres' nor Rust's.

use api_tokens_tests::*;
use postgres::Client;

/// The most memory of its own that the session's backend ever had, in kB, by its operating system: without the
/// shared memory that it has come across.
fn peak(sql: &mut Client) -> i64 {
    let of = |field| {
        let line = "SELECT substring(pg_read_file('/proc/self/status', 0, 10000) FROM $1 || ':\\s+(\\d+)')::bigint";
        line.replace("$1", &format!("'{field}'"))
    };
    number(sql, &of("VmHWM"), &[]) - number(sql, &of("RssShmem"), &[])
}

/// By how much the peak of a new session grows from a tenth of so many calls to all of them, in one
/// statement, which is where memory of the statement would pile up.
fn growth(db: &Database, calls: impl Fn(u64) -> String, times: u64) -> i64 {
    let mut sql = db.connect();
    // The series itself is kept in memory, up to this; and what costs much is compiled, which takes 56 MB.
    sql.batch_execute("SET work_mem = '64kB'; SET jit = off").expect("set");
    run(&mut sql, &calls(times / 10), &[]);
    let before = peak(&mut sql);
    run(&mut sql, &calls(times), &[]);
    peak(&mut sql) - before
}

#[test]
fn what_piles_up_is_seen() {
    let db = Database::new();
    let piles = |times| {
        format!(
            "SELECT array_length(array_agg(repeat('x', 90)), 1) FROM generate_series(1, {times})"
        )
    };
    let grown = growth(&db, piles, 50_000);
    assert!(grown > 4_000, "{grown} kB");
}

/// API_TOKENS_TEST_CALLS is how often each is called, as far as that makes sense in one transaction.
#[test]
fn memory_stays_flat_over_many_calls() {
    let db = Database::new();
    let mut admin = db.connect();
    let made = create(
        &mut admin,
        ", 'n', '{\"a\": [1, 2]}', '{a,b:*}', allowed_ips => '{10.0.0.0/8}', max_uses => 1000000000",
    );
    let bare = create(&mut admin, "");
    let is_preloaded = "SELECT current_setting('shared_preload_libraries') ~ 'api_tokens'";
    let limit = match truth(&mut admin, is_preloaded, &[]) {
        true => ", rate_limit => 1000, rate_window => '1 s'",
        false => "",
    };
    let limited = create(&mut admin, limit);
    run(&mut admin, "SELECT api_vault_store('acme', 'k', repeat('value', 2000))", &[]);
    let seats = r#"{"properties": {"a": {"type": "array"}}}"#;
    run(&mut admin, "SELECT api_token_set_metadata_schema('acme', $1::text::jsonb)", &[&seats]);
    let (token, id, bare) = (&made.token, &made.id, &bare.token);
    let many = vec![bare.as_str(); 20].join(",");
    // A sub-select that does not depend on the row would be run once; hence `i` in its arguments, and this for
    // what has none.
    admin
        .batch_execute(
            "CREATE FUNCTION api_verified() RETURNS bigint LANGUAGE plpgsql AS $$
            BEGIN RETURN (SELECT sum(count) FROM api_vault_verify()); END $$",
        )
        .expect("function");
    let counted = |call: String| format!("(SELECT count(f) FROM {call} f)");
    const ALL: u64 = u64::MAX;
    for (expression, times, most) in [
        (format!("api_token_validate('{bare}')"), 100_000, ALL),
        (format!("api_token_validate('{token}', ARRAY['a', 'b:' || i], '10.1.2.3')"), 50_000, ALL),
        (format!("api_token_validate('{token}', '{{c}}', '10.1.2.3')"), 50_000, ALL),
        (format!("api_token_validate('{}')", limited.token), 50_000, ALL),
        ("api_token_validate('sk_' || i)".to_owned(), 100_000, ALL),
        (format!("api_token_validate_hash(sha256('{bare}'))"), 50_000, ALL),
        (
            counted(format!(
                "api_token_validate_many(string_to_array('{many}' || left('', i), ','))"
            )),
            5_000,
            ALL,
        ),
        (format!("api_token_authenticate('{token}', NULL, '10.1.2.3')"), 50_000, ALL),
        (format!("api_token_require('{bare}'), api_token_has_scope('b:' || i)"), 50_000, ALL),
        (format!("api_token_touch('{bare}')"), 50_000, ALL),
        ("api_vault_get('acme', 'k')".to_owned(), 50_000, ALL),
        ("api_token_scope_covers('{a,b:*}', 'b:' || i)".to_owned(), 100_000, ALL),
        ("api_token_from_header('Bearer ' || i)".to_owned(), 100_000, ALL),
        (counted(format!("api_token_get(('{id}' || left('', i))::uuid)")), 20_000, ALL),
        (counted("api_token_list('acme', true, 1000 + i * 0)".to_owned()), 5_000, ALL),
        // Each sees what those before have left of the row, and what it notifies is kept until the commit.
        (
            format!(
                "(SELECT name FROM api_token_update('{id}', jsonb_build_object('name', i::text, 'metadata', '{{}}'::jsonb)))"
            ),
            300,
            1_000,
        ),
        // A value that lies out of line, and events of all that was done before.
        ("api_verified()".to_owned(), 1_000, 10_000),
        (counted("api_token_events(max_rows => 100 + i * 0)".to_owned()), 300, 10_000),
        ("api_vault_store('acme', 'k' || i, 'v')".to_owned(), 1_000, ALL),
        ("api_token_create('acme', metadata => '{\"a\": [1]}')".to_owned(), 3_000, ALL),
    ] {
        let calls = |times| {
            format!("SELECT count(row({expression})::text) FROM generate_series(1, {times}) i")
        };
        let times = number_or("API_TOKENS_TEST_CALLS", times).min(most);
        let grown = growth(&db, calls, times);
        let name = &expression[expression.find("api_").expect("one of ours")..];
        let what = name.split('(').next().unwrap_or_default();
        eprintln!("{what}: {grown} kB more after {times} calls than after a tenth of them");
        assert!(grown < 1_000, "{expression}: {grown} kB more after {times} calls");
    }
}

#[test]
fn an_error_leaves_nothing_behind() {
    let db = Database::new();
    let mut sql = db.connect();
    run(&mut sql, "SELECT api_vault_store('acme', 'k', 'value')", &[]);
    // Each ERROR is caught within the one statement, so that what leaks would pile up.
    run(
        &mut sql,
        "CREATE FUNCTION fails(call text, times integer) RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE caught bigint = 0;
        BEGIN
            FOR i IN 1..times LOOP
                BEGIN EXECUTE call; EXCEPTION WHEN OTHERS THEN caught = caught + 1; END;
            END LOOP;
            RETURN caught;
        END $$",
        &[],
    );
    for call in [
        "SELECT api_token_validate(NULL, ''{a b}'')",
        "SELECT api_token_require(''nothing'')",
        "SELECT api_token_create(''acme'', prefix => ''No'')",
        "SELECT api_token_update(gen_random_uuid(), ''{}'')",
        "SELECT api_vault_store(''acme'', ''k'', ''v'', expected_version => 77)",
        "SELECT 1 / (SELECT count(*) - count(*) FROM api_token_validate_many(''{a,b}''))",
        "SELECT 1 / (SELECT count(ok) - 1 FROM api_token_validate(''x''))",
    ] {
        let fails = |times: u64| format!("SELECT fails('{call}', {times})");
        let times = number_or("API_TOKENS_TEST_CALLS", 5_000).min(100_000);
        assert_eq!(number(&mut sql, &fails(times / 10), &[]), times as i64 / 10, "{call}");
        let before = peak(&mut sql);
        assert_eq!(number(&mut sql, &fails(times), &[]), times as i64, "{call}");
        let grown = peak(&mut sql) - before;
        assert!(grown < 1_000, "{call}: {grown} kB more after {times} calls");
    }
}
