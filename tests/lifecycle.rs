//! A token's life as a backend developer sees it: issued, checked, listed, changed, revoked.

use api_tokens_tests::*;

#[test]
fn a_created_token_is_shown_once_and_validates() {
    let db = Database::new();
    let mut sql = db.connect();
    let row = sql
        .query_one(
            "SELECT token, token_prefix, token_id::text FROM api_token_create('acme', 'ci',
                '{\"plan\": \"pro\"}', '{orders:read}', prefix => 'acme_live')",
            &[],
        )
        .expect("create");
    let (token, shown, id): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    assert!(token.starts_with("acme_live_") && token.len() == "acme_live_".len() + 38, "{shown}");
    assert_eq!(shown, format!("{}...{}", &token[..14], &token[token.len() - 4..]));
    assert!(truth(&mut sql, "SELECT api_token_looks_valid($1)", &[&token]));

    let verdict = sql
        .query_one(
            "SELECT ok, reason, token_id::text, namespace, name, metadata::text, scopes::text,
                expires_at::text, remaining::text, retry_after::text FROM api_token_validate($1)",
            &[&token],
        )
        .expect("validate");
    assert!(verdict.get::<_, bool>(0));
    let rest: Vec<Option<String>> = (1..10).map(|at| verdict.get(at)).collect();
    let given = |text: &str| Some(text.to_owned());
    assert_eq!(
        rest,
        [
            None,
            Some(id),
            given("acme"),
            given("ci"),
            given(r#"{"plan": "pro"}"#),
            given("{orders:read}"),
            None,
            None,
            None
        ]
    );
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_token_validate($1)", &[&token]), 1);
}

#[test]
fn ids_are_uuid_v7_and_tokens_never_repeat() {
    let db = Database::new();
    let mut sql = db.connect();
    let rows = sql
        .query(
            "SELECT c.token, c.token_id::text FROM generate_series(1, 500) i,
                LATERAL (SELECT * FROM api_token_create('n' || i)) c",
            &[],
        )
        .expect("create 500");
    let ids: Vec<String> = rows.iter().map(|row| row.get(1)).collect();
    assert!(ids.iter().all(|id| id.as_bytes()[14] == b'7'));
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "ids sort by creation");
    let tokens: std::collections::HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(tokens.len(), 500);
}

#[test]
fn validate_by_hash_gives_the_same_row() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", scopes => '{a}', metadata => '{\"k\": 1}'");
    let same = "SELECT row(a.*)::text = row(b.*)::text
        FROM api_token_validate($1::text) a, api_token_validate_hash(sha256($1::text::bytea)) b";
    assert!(truth(&mut sql, same, &[&made.token]));
    let unknown = "SELECT reason FROM api_token_validate_hash(sha256('no such token'))";
    assert_eq!(text(&mut sql, unknown, &[]), "invalid");
}

#[test]
fn many_are_validated_in_one_call_in_their_order() {
    let db = Database::new();
    let mut sql = db.connect();
    let (good, gone) = (create(&mut sql, ", scopes => '{a}'"), create(&mut sql, ""));
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&gone.token]);
    let tokens = [
        Some(good.token.as_str()),
        None,
        Some("garbage"),
        Some(&gone.token),
        Some(&good.token),
        Some(""),
    ];
    let many = "SELECT coalesce(reason, 'ok') || coalesce(' ' || token_id::text, '')
        FROM api_token_validate_many($1) WITH ORDINALITY ORDER BY ordinality";
    let said = column(&mut sql, many, &[&&tokens[..]]);
    let (ok, revoked) = (format!("ok {}", good.id), format!("revoked {}", gone.id));
    assert_eq!(said, [&ok, "invalid", "invalid", &revoked, &ok, "invalid"]);
    let same = "SELECT row(a.*)::text = row(b.*)::text FROM api_token_validate($1, '{b}') a,
        api_token_validate_many(ARRAY[$1], '{b}') b";
    assert!(truth(&mut sql, same, &[&good.token]));
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_token_validate_many('{}')", &[]), 0);
}

#[test]
fn reasons_come_in_the_order_of_the_contract() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(
        &mut sql,
        ", scopes => '{a:*}', max_idle => '1 hour', allowed_ips => '{10.0.0.0/8}',
        expires_at => now() + interval '1 hour'",
    );
    let ask = "SELECT coalesce(reason, 'ok') FROM api_token_validate($1, '{b}', '192.0.2.1')";
    let mut expect = |change: &str, reason: &str| {
        age(&mut sql, &made, change);
        assert_eq!(text(&mut sql, ask, &[&made.token]), reason, "{change}");
    };
    expect(
        "revoked_at = now(), enabled = false, expires_at = now() - interval '1 s',
            last_used_at = now() - interval '2 h'",
        "revoked",
    );
    expect("revoked_at = NULL", "disabled");
    expect("enabled = true", "expired");
    expect("expires_at = NULL", "idle_timeout");
    expect("last_used_at = now()", "ip_not_allowed");
    expect("allowed_ips = '{192.0.2.0/24}'", "insufficient_scope");
    expect("scopes = '{b}'", "ok");
}

#[test]
fn a_refused_token_is_named_but_what_it_grants_is_not_told() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", name => 'ci', scopes => '{a}', metadata => '{\"k\": 1}'");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&made.token]);
    let row =
        "SELECT row(ok, reason, token_id = $2::text::uuid, namespace, name, metadata, scopes)::text
        FROM api_token_validate($1)";
    assert_eq!(text(&mut sql, row, &[&made.token, &made.id]), "(f,revoked,t,acme,ci,,)");
}

#[test]
fn scopes_and_addresses_are_checked() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", scopes => '{orders:read,admin:*}'");
    for (needed, ok) in [
        ("{}", true),
        ("{orders:read}", true),
        ("{orders:read,admin:users:delete}", true),
        ("{orders}", false),
        ("{orders:write}", false),
        ("{admin}", false),
        ("{orders:read,other}", false),
    ] {
        let ask = "SELECT ok FROM api_token_validate($1, $2::text::text[])";
        assert_eq!(truth(&mut sql, ask, &[&made.token, &needed]), ok, "{needed}");
    }
    let bound = create(&mut sql, ", allowed_ips => '{10.0.0.0/8,2001:db8::/32}'");
    for (from, ok) in [
        (Some("10.200.0.1"), true),
        (Some("::ffff:10.1.2.3"), true),
        (Some("2001:db8:ffff::1"), true),
        (Some("11.0.0.1"), false),
        (Some("2001:db9::1"), false),
        (None, false),
    ] {
        let ask = "SELECT ok FROM api_token_validate($1, client_ip => $2::text::inet)";
        assert_eq!(truth(&mut sql, ask, &[&bound.token, &from]), ok, "{from:?}");
    }
}

#[test]
fn time_is_the_wall_clock_not_the_start_of_the_transaction() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", expires_at => clock_timestamp() + interval '300 ms'");
    let mut open = sql.transaction().expect("begin");
    let ask = "SELECT coalesce(reason, 'ok') FROM api_token_validate($1)";
    let first: String = open.query_one(ask, &[&made.token]).expect("validate").get(0);
    open.batch_execute("SELECT pg_sleep(0.4)").expect("sleep");
    let later: String = open.query_one(ask, &[&made.token]).expect("validate").get(0);
    assert_eq!((first.as_str(), later.as_str()), ("ok", "expired"));
}

#[test]
fn revocation_is_idempotent_and_told_once() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    let invalidate = "SELECT api_token_invalidate($1)";
    assert!(truth(&mut sql, invalidate, &[&made.token]));
    let revoked_at = "SELECT revoked_at FROM api_token_get($1::text::uuid)";
    let first = text(&mut sql, revoked_at, &[&made.id]);
    assert!(truth(&mut sql, invalidate, &[&made.token]));
    assert!(truth(&mut sql, "SELECT api_token_invalidate_by_id($1::text::uuid)", &[&made.id]));
    assert_eq!(text(&mut sql, revoked_at, &[&made.id]), first);
    assert!(!truth(&mut sql, invalidate, &[&"sk_unknown"]));
    assert!(!truth(&mut sql, "SELECT api_token_invalidate_by_id(gen_random_uuid())", &[]));
    let told = "SELECT count(*) FROM api_token_events() WHERE method LIKE 'invalidate%'";
    assert_eq!(number(&mut sql, told, &[]), 1);
    assert_eq!(verdict(&mut sql, &made.token), "revoked");
}

#[test]
fn invalidate_all_takes_a_namespace_and_bounds() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, "");
    age(&mut sql, &old, "created_at = '2020-01-01'");
    let new = create(&mut sql, "");
    run(&mut sql, "SELECT api_token_create('other')", &[]);
    let bounded = "SELECT api_token_invalidate_all('acme', before => '2020-01-01')";
    assert_eq!(number(&mut sql, bounded, &[]), 0, "the bound is exclusive");
    let bounded =
        "SELECT api_token_invalidate_all('acme', before => '2020-01-02', after => '2019-12-31')";
    assert_eq!(number(&mut sql, bounded, &[]), 1);
    assert_eq!(verdict(&mut sql, &old.token), "revoked");
    assert_eq!(verdict(&mut sql, &new.token), "ok");
    assert_eq!(number(&mut sql, "SELECT api_token_invalidate_all('acme')", &[]), 1);
    assert_eq!(number(&mut sql, "SELECT api_token_invalidate_all('acme')", &[]), 0);
    assert_eq!(
        number(&mut sql, "SELECT api_token_invalidate_all()", &[]),
        1,
        "the other namespace"
    );
}

#[test]
fn listing_is_newest_first_and_pages_by_id() {
    let db = Database::new();
    let mut sql = db.connect();
    let made: Vec<Created> = (0..7).map(|_| create(&mut sql, "")).collect();
    run(&mut sql, "SELECT api_token_create('other')", &[]);
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&made[3].token]);
    let mut expected: Vec<String> = made.iter().rev().map(|token| token.id.clone()).collect();
    let all = column(&mut sql, "SELECT token_id FROM api_token_list('acme', true)", &[]);
    assert_eq!(all, expected);
    expected.remove(3);
    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = "SELECT token_id FROM api_token_list('acme', max_rows => 4, after_id => $1::text::uuid)";
        let page = column(&mut sql, page, &[&after]);
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        paged.extend(page);
    }
    assert_eq!(paged, expected, "the revoked one is left out");
}

#[test]
fn status_is_what_validate_would_say() {
    let db = Database::new();
    let mut sql = db.connect();
    for (change, status) in [
        ("enabled = true", "active"),
        ("revoked_at = now()", "revoked"),
        ("revoked_at = now() + interval '1 h', in_grace = true", "active"),
        ("revoked_at = now() + interval '1 h'", "revoked"),
        ("enabled = false", "disabled"),
        ("expires_at = now()", "expired"),
        ("max_idle = '1 s', last_used_at = now() - interval '2 s'", "idle_timeout"),
    ] {
        let made = create(&mut sql, "");
        age(&mut sql, &made, change);
        let listed = "SELECT row(status, revoked)::text FROM api_token_get($1::text::uuid)";
        let revoked = if status == "revoked" { "t" } else { "f" };
        assert_eq!(
            text(&mut sql, listed, &[&made.id]),
            format!("({status},{revoked})"),
            "{change}"
        );
        let expected = if status == "active" { "ok" } else { status };
        assert_eq!(verdict(&mut sql, &made.token), expected, "{change}");
    }
    let none = "SELECT count(*) FROM api_token_get(gen_random_uuid())";
    assert_eq!(number(&mut sql, none, &[]), 0);
}

#[test]
fn update_changes_what_is_named_and_null_clears() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(
        &mut sql,
        ", name => 'a', metadata => '{\"k\": 1}', scopes => '{a}', max_idle => '1 h'",
    );
    let update =
        "SELECT row(name, metadata, scopes, max_idle, expires_at, allowed_ips, enabled)::text
        FROM api_token_update($1::text::uuid, $2::text::jsonb)";
    let mut apply = |changes: &str| text(&mut sql, update, &[&made.id, &changes]);
    assert_eq!(apply("{}"), r#"(a,"{""k"": 1}",{a},01:00:00,,,t)"#);
    assert_eq!(
        apply(
            r#"{"name": "b", "metadata": {"n": 12345678901234567890.123}, "scopes": ["x:*", "y"],
            "max_idle": "2 days", "allowed_ips": ["10.0.0.0/8"], "enabled": false}"#
        ),
        r#"(b,"{""n"": 12345678901234567890.123}","{x:*,y}","2 days",,{10.0.0.0/8},f)"#
    );
    assert_eq!(
        apply(
            r#"{"name": null, "metadata": null, "scopes": null, "max_idle": null,
            "allowed_ips": null, "enabled": true, "expires_at": "2999-01-01 UTC"}"#
        ),
        r#"(,,{},,"2999-01-01 00:00:00+00",,t)"#
    );
    assert_eq!(verdict(&mut sql, &made.token), "ok");
}

#[test]
fn a_hard_end_caps_every_expiry_and_stays() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_expires_at => '2900-01-01 UTC'");
    let expiry = "SELECT expires_at FROM api_token_get($1::text::uuid)";
    assert_eq!(text(&mut sql, expiry, &[&made.id]), "2900-01-01 00:00:00+00");
    let update = "SELECT expires_at FROM api_token_update($1::text::uuid, $2::text::jsonb)";
    for (changes, end) in [
        (r#"{"expires_at": "2950-01-01 UTC"}"#, "2900-01-01 00:00:00+00"),
        (r#"{"expires_at": "2800-01-01 UTC"}"#, "2800-01-01 00:00:00+00"),
        (r#"{"expires_at": null}"#, "2900-01-01 00:00:00+00"),
    ] {
        assert_eq!(text(&mut sql, update, &[&made.id, &changes]), end, "{changes}");
    }
    let moved = failure(&mut sql, update, &[&made.id, &r#"{"max_expires_at": "2950-01-01 UTC"}"#]);
    assert_eq!(moved.code().code(), "22023");
    let heir = refresh(&mut sql, &made.token, ", expires_at => '2950-01-01 UTC'").expect("refresh");
    assert_eq!(text(&mut sql, expiry, &[&heir.id]), "2900-01-01 00:00:00+00");
}

#[test]
fn disabling_can_be_undone() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    let set = "SELECT api_token_set_enabled($1::text::uuid, $2)";
    assert!(truth(&mut sql, set, &[&made.id, &false]));
    assert_eq!(verdict(&mut sql, &made.token), "disabled");
    assert!(truth(&mut sql, set, &[&made.id, &true]));
    assert!(truth(&mut sql, set, &[&made.id, &true]));
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    assert!(!truth(&mut sql, "SELECT api_token_set_enabled(gen_random_uuid(), true)", &[]));
    let told = "SELECT method FROM api_token_events() WHERE method LIKE '%able' ORDER BY event_id";
    assert_eq!(column(&mut sql, told, &[]), ["disable", "enable"]);
}

#[test]
fn imported_tokens_work_in_any_format() {
    let db = Database::new();
    let mut sql = db.connect();
    let foreign = format!("sk_{}", "0123456789abcdef".repeat(3));
    let import =
        "SELECT api_token_import('acme', sha256($1::text::bytea), 'sk_0123...cdef', 'moved',
        created_at => '2020-05-05 UTC', last_used_at => '2021-05-05 UTC')";
    let id = text(&mut sql, import, &[&foreign]);
    assert_eq!(verdict(&mut sql, &foreign), "ok");
    assert!(!truth(&mut sql, "SELECT api_token_looks_valid($1)", &[&foreign]));
    let kept = "SELECT created_at FROM api_token_get($1::text::uuid)";
    assert_eq!(text(&mut sql, kept, &[&id]), "2020-05-05 00:00:00+00");
    let native = create(&mut sql, "");
    let order = column(&mut sql, "SELECT token_id FROM api_token_list('acme')", &[]);
    assert_eq!(order, [native.id, id], "by the creation there, not by the import");
    let revoked =
        "SELECT api_token_import('acme', sha256('old'), 'old...', expires_at => '2020-01-01',
        revoked_at => '2019-01-01')";
    run(&mut sql, revoked, &[]);
    assert_eq!(verdict(&mut sql, "old"), "revoked");
}

#[test]
fn works_in_another_schema_and_after_reinstalling() {
    let db = Database::empty();
    let mut sql = db.connect();
    for round in 0..2 {
        sql.batch_execute(
            "CREATE SCHEMA ext; CREATE EXTENSION api_tokens SCHEMA ext; SET search_path = ext",
        )
        .expect("install");
        let made = create(&mut sql, "");
        assert_eq!(verdict(&mut sql, &made.token), "ok", "round {round}");
        refresh(&mut sql, &made.token, "").expect("refresh");
        sql.batch_execute("DROP EXTENSION api_tokens; DROP SCHEMA ext").expect("uninstall");
        let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'api_tokens'";
        assert_eq!(number(&mut sql, left, &[]), 0);
    }
}

#[test]
fn a_token_that_expires_at_infinity_does_not_expire() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", expires_at => 'infinity'");
    for shown in ["api_token_validate($1)", "api_token_list('acme')"] {
        let shown = format!("SELECT expires_at IS NULL FROM {shown} WHERE $1 <> ''");
        assert!(truth(&mut sql, &shown, &[&made.token]), "many a driver cannot read infinity");
    }
    assert_eq!(verdict(&mut sql, &made.token), "ok");
}
