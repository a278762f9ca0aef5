//! Bad input: a clear error that names the argument and repeats no value, and nothing changed.

use api_tokens_tests::*;

/// Appears in every bad value here, and must appear in no message.
const CANARY: &str = "Zq9CANARY";

struct Bad {
    call: &'static str,
    code: &'static str,
    names: &'static str,
}

const fn bad(call: &'static str, code: &'static str, names: &'static str) -> Bad {
    Bad { call, code, names }
}

#[test]
fn every_bad_argument_is_named_and_changes_nothing() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_idle => '1 hour'");
    run(&mut sql, "SELECT api_token_import('acme', sha256('known'), 'know...')", &[]);
    let before = state(&mut sql);
    let update = |changes: &str| format!("SELECT api_token_update('{}', '{changes}')", made.id);
    for bad in CALLS {
        check(&mut sql, bad.call, bad.code, bad.names, &before);
    }
    for (changes, code, names) in UPDATES {
        check(&mut sql, &update(changes), code, names, &before);
    }
}

const CALLS: &[Bad] = &[
    bad("SELECT api_token_create(NULL)", "22004", "\"namespace\""),
    bad("SELECT api_token_create('')", "22023", "\"namespace\""),
    bad("SELECT api_token_create(repeat('Zq9CANARY', 57))", "22023", "\"namespace\""),
    bad("SELECT api_token_create('a', repeat('Zq9CANARY', 29))", "22023", "\"name\""),
    bad("SELECT api_token_create('a', prefix => NULL)", "22004", "\"prefix\""),
    bad("SELECT api_token_create('a', prefix => '')", "22023", "\"prefix\""),
    bad("SELECT api_token_create('a', prefix => 'Zq9CANARY')", "22023", "\"prefix\""),
    bad("SELECT api_token_create('a', prefix => 'a_')", "22023", "\"prefix\""),
    bad(
        "SELECT api_token_create('a', expires_at => now() - interval '1 s')",
        "22023",
        "\"expires_at\"",
    ),
    bad("SELECT api_token_create('a', expires_at => '-infinity')", "22023", "\"expires_at\""),
    bad("SELECT api_token_create('a', max_expires_at => now())", "22023", "\"max_expires_at\""),
    bad("SELECT api_token_create('a', max_idle => '0')", "22023", "\"max_idle\""),
    bad("SELECT api_token_create('a', max_idle => '-1 day')", "22023", "\"max_idle\""),
    bad("SELECT api_token_create('a', max_idle => '1 month -31 days')", "22023", "\"max_idle\""),
    bad("SELECT api_token_create('a', scopes => '{Zq9CANARY b}')", "22023", "\"scopes\""),
    bad("SELECT api_token_create('a', scopes => '{a*}')", "22023", "\"scopes\""),
    bad("SELECT api_token_create('a', scopes => '{a,NULL}')", "22004", "\"scopes\""),
    bad(
        "SELECT api_token_create('a', scopes => array_fill('a'::text, '{257}'))",
        "54000",
        "\"scopes\"",
    ),
    bad(
        "SELECT api_token_create('a', scopes => ARRAY[repeat('Zq9CANARY', 29)])",
        "22023",
        "\"scopes\"",
    ),
    bad("SELECT api_token_create('a', allowed_ips => '{}')", "22023", "\"allowed_ips\""),
    bad("SELECT api_token_create('a', allowed_ips => '{NULL}')", "22023", "\"allowed_ips\""),
    bad(
        "SELECT api_token_create('a', allowed_ips => array_fill('10.0.0.0/8'::cidr, '{257}'))",
        "54000",
        "\"allowed_ips\"",
    ),
    bad("SELECT api_token_validate_many(NULL)", "22004", "\"tokens\""),
    bad("SELECT api_token_validate_many('{x}', '{Zq9CANARY b}')", "22023", "\"required_scopes\""),
    bad("SELECT api_token_stats()", "55000", "not preloaded"),
    bad("SELECT api_token_create('a', enabled => NULL)", "22004", "\"enabled\""),
    bad("SELECT api_token_create('a', max_uses => 0)", "22023", "\"max_uses\""),
    bad("SELECT api_token_create('a', refill_amount => 5)", "22023", "\"refill_every\""),
    bad("SELECT api_token_create('a', refill_every => '1 d')", "22023", "\"refill_amount\""),
    bad(
        "SELECT api_token_create('a', refill_every => '1 d', refill_amount => 1)",
        "22023",
        "\"max_uses\"",
    ),
    bad(
        "SELECT api_token_create('a', max_uses => 1, refill_every => '0', refill_amount => 1)",
        "22023",
        "\"refill_every\"",
    ),
    bad("SELECT api_token_create('a', rate_limit => 5)", "22023", "\"rate_window\""),
    bad("SELECT api_token_create('a', rate_window => '1 s')", "22023", "\"rate_limit\""),
    bad(
        "SELECT api_token_create('a', rate_window => '1 s', rate_limit => 0)",
        "22023",
        "\"rate_limit\"",
    ),
    bad(
        "SELECT api_token_create('a', rate_window => '2 years', rate_limit => 1)",
        "22023",
        "\"rate_window\"",
    ),
    bad(
        "SELECT api_token_create('a', rate_window => '1 s', rate_limit => 1)",
        "55000",
        "not preloaded",
    ),
    bad("SELECT api_token_set_namespace_limit('a', 1, '1 s')", "55000", "not preloaded"),
    bad("SELECT api_token_set_namespace_limit(NULL, 1, '1 s')", "22004", "\"namespace\""),
    bad("SELECT api_token_set_namespace_limit('a', 1, NULL)", "22023", "\"rate_window\""),
    bad("SELECT api_token_import(NULL, sha256('x'), 'x...')", "22004", "\"namespace\""),
    bad("SELECT api_token_import('a', NULL, 'x...')", "22004", "\"token_hash\""),
    bad("SELECT api_token_import('a', 'Zq9CANARY', 'x...')", "22023", "\"token_hash\""),
    bad("SELECT api_token_import('a', sha256('x') || '\\x00', 'x...')", "22023", "\"token_hash\""),
    bad("SELECT api_token_import('a', sha256(''), 'x...')", "22023", "\"token_hash\""),
    bad(
        "SELECT api_token_import('a', sha256('Zq9CANARY'), 'Zq9CANARY')",
        "22023",
        "\"token_prefix\"",
    ),
    bad("SELECT api_token_import('a', sha256('x'), NULL)", "22004", "\"token_prefix\""),
    bad(
        "SELECT api_token_import('a', sha256('x'), repeat('Zq9CANARY', 8))",
        "22023",
        "\"token_prefix\"",
    ),
    bad("SELECT api_token_import('a', sha256('known'), 'know...')", "23505", "already known"),
    bad(
        "SELECT api_token_import('a', sha256('x'), 'x...', created_at => now() + interval '1 h')",
        "22023",
        "\"created_at\"",
    ),
    bad(
        "SELECT api_token_import('a', sha256('x'), 'x...', last_used_at => 'infinity')",
        "22023",
        "\"last_used_at\"",
    ),
    bad("SELECT api_token_validate_hash('\\x00')", "22023", "\"token_hash\""),
    bad("SELECT api_token_validate('x', '{Zq9CANARY b}')", "22023", "\"required_scopes\""),
    bad("SELECT api_token_validate('x', '{NULL}')", "22004", "\"required_scopes\""),
    bad("SELECT api_token_validate('x', cost => -1)", "22023", "\"cost\""),
    bad("SELECT api_token_validate('x', cost => NULL)", "22004", "\"cost\""),
    bad("SELECT api_token_refresh('Zq9CANARY', '-1 s')", "22023", "\"grace\""),
    bad("SELECT api_token_refresh('Zq9CANARY', NULL)", "22004", "\"grace\""),
    bad("SELECT api_token_refresh('Zq9CANARY', '0', now())", "22023", "\"expires_at\""),
    bad("SELECT api_token_refresh_by_id(gen_random_uuid(), '-1 s')", "22023", "\"grace\""),
    bad("SELECT api_token_invalidate_all('')", "22023", "\"namespace\""),
    bad("SELECT api_token_list(NULL)", "22004", "\"namespace\""),
    bad("SELECT api_token_list('')", "22023", "\"namespace\""),
    bad("SELECT api_token_list('a', max_rows => -1)", "22023", "\"max_rows\""),
    bad("SELECT api_token_set_enabled(gen_random_uuid(), NULL)", "22004", "\"enabled\""),
    bad("SELECT api_token_update(NULL, '{}')", "22004", "\"token_id\""),
    bad("SELECT api_token_update(gen_random_uuid(), NULL)", "22004", "\"changes\""),
    bad("SELECT api_token_update(gen_random_uuid(), '{}')", "P0002", "no token"),
    bad("SELECT api_token_cleanup('-1 s')", "22023", "\"older_than\""),
    bad("SELECT api_token_cleanup(NULL)", "22004", "\"older_than\""),
    bad("SELECT api_token_cleanup('0', -1)", "22023", "\"max_rows\""),
    bad("SELECT api_token_events('Zq9CANARY')", "22023", "\"after_cursor\""),
    bad("SELECT api_token_events('1///1.1/2:1:/0')", "22023", "\"after_cursor\""),
    bad("SELECT api_token_events(namespace => '')", "22023", "\"namespace\""),
    bad("SELECT api_token_events(namespace => repeat('Zq9CANARY', 57))", "22023", "\"namespace\""),
    bad("SELECT api_token_events(max_rows => -1)", "22023", "\"max_rows\""),
    bad("SELECT api_token_events(max_rows => NULL)", "22004", "\"max_rows\""),
    bad("SELECT api_tokens_grant(NULL, 'validate')", "22004", "\"role\""),
    bad("SELECT api_tokens_grant(0::regrole, 'validate')", "22023", "\"role\""),
    bad("SELECT api_tokens_grant('postgres', NULL)", "22004", "\"level\""),
    bad("SELECT api_tokens_grant('postgres', 'Zq9CANARY')", "22023", "\"level\""),
];

const UPDATES: &[(&str, &str, &str)] = &[
    ("[\"Zq9CANARY\"]", "22023", "\"changes\""),
    ("\"Zq9CANARY\"", "22023", "\"changes\""),
    ("{\"Zq9CANARY\": 1}", "22023", "\"changes\""),
    ("{\"namespace\": \"Zq9CANARY\"}", "22023", "\"changes\""),
    ("{\"name\": \"ok\", \"revoked_at\": null}", "22023", "\"changes\""),
    ("{\"name\": {\"Zq9CANARY\": 1}}", "22023", "\"name\""),
    ("{\"scopes\": \"Zq9CANARY\"}", "22023", "\"scopes\""),
    ("{\"scopes\": [\"Zq9CANARY b\"]}", "22023", "\"scopes\""),
    ("{\"scopes\": [null]}", "22023", "\"scopes\""),
    ("{\"enabled\": null}", "22023", "\"enabled\""),
    ("{\"expires_at\": \"Zq9CANARY\"}", "22023", "\"expires_at\""),
    ("{\"expires_at\": \"2001-01-01\"}", "22023", "\"expires_at\""),
    ("{\"name\": \"ok\", \"expires_at\": 1}", "22023", "\"expires_at\""),
    ("{\"max_expires_at\": \"2001-01-01\"}", "22023", "\"max_expires_at\""),
    ("{\"max_idle\": \"Zq9CANARY\"}", "22023", "\"max_idle\""),
    ("{\"max_idle\": \"0\"}", "22023", "\"max_idle\""),
    ("{\"allowed_ips\": [\"Zq9CANARY\"]}", "22023", "\"allowed_ips\""),
    ("{\"allowed_ips\": [\"10.0.0.1/8\"]}", "22023", "\"allowed_ips\""),
    ("{\"allowed_ips\": []}", "22023", "\"allowed_ips\""),
    ("{\"max_uses\": 0}", "22023", "\"max_uses\""),
    ("{\"max_uses\": \"Zq9CANARY\"}", "22023", "\"max_uses\""),
    ("{\"refill_every\": \"Zq9CANARY\"}", "22023", "\"refill_every\""),
    ("{\"rate_limit\": 5}", "22023", "\"rate_window\""),
    ("{\"rate_limit\": 5, \"rate_window\": \"1 s\"}", "55000", "not preloaded"),
];

fn check(sql: &mut postgres::Client, call: &str, code: &str, names: &str, before: &str) {
    let error = failure(sql, call, &[]);
    assert_eq!(error.code().code(), code, "{call}: {}", error.message());
    let said = format!(
        "{} {} {} {}",
        error.message(),
        error.detail().unwrap_or_default(),
        error.hint().unwrap_or_default(),
        error.where_().unwrap_or_default()
    );
    assert!(error.message().contains(names), "{call}: {said}");
    assert!(!said.contains(CANARY), "{call}: {said}");
    assert_eq!(state(sql), before, "{call} changed something");
}

fn state(sql: &mut postgres::Client) -> String {
    text(
        sql,
        "SELECT (SELECT md5(string_agg(t::text, '' ORDER BY token_id)) FROM api_tokens.tokens t)
            || (SELECT count(*) FROM api_tokens.events)",
        &[],
    )
}

#[test]
fn a_bad_token_is_a_row_not_an_error() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    let megabyte = "x".repeat(1 << 20);
    let longer = format!("{} ", made.token);
    let upper = made.token.to_uppercase();
    for token in
        [None, Some(""), Some("garbage"), Some("ß∂ƒ"), Some(&megabyte), Some(&longer), Some(&upper)]
    {
        let row = "SELECT row(v.*)::text FROM api_token_validate($1) v";
        assert_eq!(text(&mut sql, row, &[&token]), "(f,invalid,,,,,,,,)");
        assert!(!truth(&mut sql, "SELECT api_token_touch($1)", &[&token]));
        assert!(!truth(&mut sql, "SELECT api_token_invalidate($1)", &[&token]));
        assert!(!truth(&mut sql, "SELECT api_token_looks_valid($1)", &[&token]));
        let refused = "SELECT row(r.*)::text FROM api_token_refresh($1) r";
        assert_eq!(text(&mut sql, refused, &[&token]), "(f,invalid,,,)");
    }
    let row = "SELECT row(v.*)::text FROM api_token_validate_hash(NULL) v";
    assert_eq!(text(&mut sql, row, &[]), "(f,invalid,,,,,,,,)");
    assert!(!truth(&mut sql, "SELECT api_token_invalidate_by_id(NULL)", &[]));
}

#[test]
fn a_hundred_megabyte_token_is_not_even_fetched() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute("CREATE TABLE t AS SELECT repeat('x', 100000000) AS v").expect("toast");
    let ask = "SELECT reason FROM t, api_token_validate(t.v)";
    assert_eq!(text(&mut sql, ask, &[]), "invalid");
}

#[test]
fn other_encodings_than_utf8_are_refused_at_once() {
    let db = Database::new();
    let mut admin = db.connect();
    let latin = format!("{}_latin", db.name);
    admin
        .batch_execute(&format!(
            "CREATE DATABASE {latin} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
        ))
        .expect("create database");
    let mut sql = connect_to(&host(), "postgres", &latin);
    let error = failure(&mut sql, "CREATE EXTENSION api_tokens", &[]);
    drop(sql);
    admin.batch_execute(&format!("DROP DATABASE {latin} WITH (FORCE)")).expect("drop");
    assert_eq!(error.code().code(), "0A000", "{}", error.message());
}

/// A gigabyte of array is a few bytes of NULLs: it is refused before anything is made of it.
#[test]
fn huge_arrays_are_refused_by_their_size() {
    let db = Database::new();
    let mut sql = db.connect();
    let huge = "array_fill(NULL::text, ARRAY[134217727])";
    for call in [
        format!("api_token_validate('x', required_scopes => {huge})"),
        format!("api_token_validate_many({huge})"),
        format!("api_token_create('acme', scopes => {huge})"),
        "api_token_create('acme', allowed_ips => array_fill(NULL::cidr, ARRAY[134217727]))"
            .to_owned(),
    ] {
        let error = failure(&mut sql, &format!("SELECT {call}"), &[]);
        assert_eq!(error.code().code(), "54000", "{call}");
        assert_eq!(error.detail(), Some("It has 134217727 elements."));
    }
    let most = "SELECT count(*) FROM api_token_validate_many(array_fill('x'::text, ARRAY[100000]))";
    assert_eq!(number(&mut sql, most, &[]), 100_000);
}
