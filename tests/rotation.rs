//! Refresh: what the heir keeps, how the old token ends, and who notices reuse.

use api_tokens_tests::*;

#[test]
fn the_heir_keeps_everything_but_the_token() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(
        &mut sql,
        ", name => 'ci', metadata => '{\"k\": 1}', scopes => '{a:*}', prefix => 'acme_live',
        expires_at => '2900-01-01 UTC', max_idle => '3 days', allowed_ips => '{10.0.0.0/8}'",
    );
    let new = refresh(&mut sql, &old.token, "").expect("refresh");
    assert_ne!(new.token, old.token);
    assert!(new.token.starts_with("acme_live_"));
    let kept = "SELECT row(name, namespace, metadata, scopes, expires_at, max_idle, allowed_ips, enabled)::text
        FROM api_token_get($1::text::uuid)";
    assert_eq!(text(&mut sql, kept, &[&new.id]), text(&mut sql, kept, &[&old.id]));
    let line = "SELECT row(family_id::text = $2, generation)::text FROM api_tokens.tokens WHERE token_id::text = $1";
    assert_eq!(text(&mut sql, line, &[&new.id, &old.id]), "(t,1)");
    let ended =
        "SELECT row(revoked, replaced_by::text = $2)::text FROM api_token_get($1::text::uuid)";
    assert_eq!(text(&mut sql, ended, &[&old.id, &new.id]), "(t,t)");
    assert_eq!(verdict(&mut sql, &old.token), "revoked");
    let from_inside = "SELECT ok FROM api_token_validate($1, client_ip => '10.0.0.1')";
    assert!(truth(&mut sql, from_inside, &[&new.token]));
}

#[test]
fn a_given_expiry_replaces_the_old_one() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, ", expires_at => '2900-01-01 UTC'");
    let new = refresh(&mut sql, &old.token, ", expires_at => '2800-01-01 UTC'").expect("refresh");
    let expiry = "SELECT expires_at FROM api_token_get($1::text::uuid)";
    assert_eq!(text(&mut sql, expiry, &[&new.id]), "2800-01-01 00:00:00+00");
}

#[test]
fn what_validate_refuses_is_neither_touched_nor_refreshed() {
    let db = Database::new();
    let mut sql = db.connect();
    for (change, reason) in [
        ("revoked_at = now()", "revoked"),
        ("enabled = false", "disabled"),
        ("expires_at = now()", "expired"),
        ("max_idle = '1 s', last_used_at = now() - interval '2 s'", "idle_timeout"),
    ] {
        let made = create(&mut sql, "");
        age(&mut sql, &made, change);
        let before = "SELECT t::text FROM api_tokens.tokens t WHERE token_id::text = $1";
        let row = text(&mut sql, before, &[&made.id]);
        assert!(!truth(&mut sql, "SELECT api_token_touch($1)", &[&made.token]), "{reason}");
        assert_eq!(refresh(&mut sql, &made.token, "").map(|new| new.id), Err(reason.to_owned()));
        let by_id = "SELECT reason FROM api_token_refresh_by_id($1::text::uuid)";
        assert_eq!(text(&mut sql, by_id, &[&made.id]), reason);
        assert_eq!(verdict(&mut sql, &made.token), reason);
        assert_eq!(text(&mut sql, before, &[&made.id]), row, "{reason}: nothing written");
    }
    assert_eq!(refresh(&mut sql, "sk_unknown", "").map(|new| new.id), Err("invalid".to_owned()));
    let unknown = "SELECT reason FROM api_token_refresh_by_id(gen_random_uuid())";
    assert_eq!(text(&mut sql, unknown, &[]), "invalid");
}

#[test]
fn grace_keeps_the_old_token_until_it_ends() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, "");
    let new = refresh(&mut sql, &old.token, ", '400 ms'").expect("refresh");
    assert_eq!(
        (verdict(&mut sql, &old.token), verdict(&mut sql, &new.token)),
        ("ok".into(), "ok".into())
    );
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(verdict(&mut sql, &old.token), "revoked");
    assert_eq!(verdict(&mut sql, &new.token), "ok");
}

#[test]
fn grace_never_outlives_the_old_expiry() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, ", expires_at => '2800-01-01 UTC'");
    refresh(&mut sql, &old.token, ", '999 years', '2900-01-01 UTC'").expect("refresh");
    let end = "SELECT revoked_at FROM api_token_get($1::text::uuid)";
    assert_eq!(text(&mut sql, end, &[&old.id]), "2800-01-01 00:00:00+00");
}

#[test]
fn a_check_in_grace_tells_when_the_grace_ends() {
    let db = Database::new();
    let mut sql = db.connect();
    let told = "SELECT v.expires_at = g.revoked_at
        FROM api_token_validate($1) v, api_token_get(v.token_id) g";
    for expires_at in ["", ", expires_at => '2800-01-01 UTC'"] {
        let old = create(&mut sql, expires_at);
        refresh(&mut sql, &old.token, ", '1 hour'").expect("refresh");
        assert!(truth(&mut sql, told, &[&old.token]), "a cache must not keep it beyond");
    }
}

#[test]
fn only_the_last_generation_is_in_grace() {
    let db = Database::new();
    let mut sql = db.connect();
    let first = create(&mut sql, "");
    let second = refresh(&mut sql, &first.token, ", '1 hour'").expect("refresh");
    assert_eq!(verdict(&mut sql, &first.token), "ok");
    let third = refresh(&mut sql, &second.token, ", '1 hour'").expect("refresh");
    assert_eq!(verdict(&mut sql, &first.token), "revoked");
    let told = "SELECT method || ' ' || (detail ->> 'cause') FROM api_token_events() WHERE token_id::text = $1
        ORDER BY event_id DESC LIMIT 1";
    assert_eq!(text(&mut sql, told, &[&first.id]), "invalidate_by_id refresh", "caches hear of it");
    assert_eq!(verdict(&mut sql, &second.token), "ok");
    assert_eq!(verdict(&mut sql, &third.token), "ok");
}

#[test]
fn a_refused_refresh_leaves_the_parents_grace_alone() {
    let db = Database::new();
    let mut sql = db.connect();
    let first = create(&mut sql, "");
    let second = refresh(&mut sql, &first.token, ", '1 hour'").expect("refresh");
    age(&mut sql, &second, "enabled = false");
    assert_eq!(refresh(&mut sql, &second.token, "").map(|new| new.id), Err("disabled".to_owned()));
    assert_eq!(verdict(&mut sql, &first.token), "ok");
}

#[test]
fn an_imported_end_is_not_put_off_by_a_refresh() {
    let db = Database::new();
    let mut sql = db.connect();
    let import = "SELECT api_token_import('acme', sha256('s'), 's...', revoked_at => now() + interval '1 h')";
    run(&mut sql, import, &[]);
    assert_eq!(verdict(&mut sql, "s"), "ok");
    assert_eq!(refresh(&mut sql, "s", ", '2 h'").map(|new| new.id), Err("revoked".to_owned()));
}

#[test]
fn invalidating_a_token_in_grace_ends_it_now() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, "");
    let new = refresh(&mut sql, &old.token, ", '1 hour'").expect("refresh");
    assert!(truth(&mut sql, "SELECT api_token_invalidate($1)", &[&old.token]));
    assert_eq!(verdict(&mut sql, &old.token), "revoked");
    assert_eq!(verdict(&mut sql, &new.token), "ok");
    let brought_forward =
        "SELECT revoked_at <= clock_timestamp() FROM api_token_get($1::text::uuid)";
    assert!(truth(&mut sql, brought_forward, &[&old.id]));
}

#[test]
fn a_final_revocation_does_not_depend_on_the_clock() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&made.token]);
    // As a standby whose clock is an hour behind would see it.
    age(&mut sql, &made, "revoked_at = now() + interval '1 hour'");
    assert_eq!(verdict(&mut sql, &made.token), "revoked");
}

#[test]
fn reuse_is_refused_recorded_and_told() {
    let db = Database::new();
    let mut sql = db.connect();
    let mut listener = db.connect();
    listener.batch_execute("LISTEN api_tokens").expect("listen");
    let old = create(&mut sql, "");
    let new = refresh(&mut sql, &old.token, "").expect("refresh");
    assert_eq!(refresh(&mut sql, &old.token, "").map(|new| new.id), Err("revoked".to_owned()));
    assert_eq!(verdict(&mut sql, &new.token), "ok", "audit only");
    let told = notifications(&mut listener);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with(r#"{"method":"reuse_detected","event_id":"#), "{told:?}");
    let by_id = "SELECT reason FROM api_token_refresh_by_id($1::text::uuid)";
    assert_eq!(text(&mut sql, by_id, &[&old.id]), "revoked");
    let recorded = "SELECT count(*) FROM api_token_events() WHERE method = 'reuse_detected'";
    assert_eq!(number(&mut sql, recorded, &[]), 1, "an id is no secret: no reuse");
}

#[test]
fn reuse_can_revoke_the_family_in_a_transaction_that_commits() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute("SET api_tokens.on_reuse = 'revoke_family'").expect("set");
    let first = create(&mut sql, "");
    let second = refresh(&mut sql, &first.token, "").expect("refresh");
    let third = refresh(&mut sql, &second.token, ", '1 hour'").expect("refresh");
    let stranger = create(&mut sql, "");
    assert_eq!(refresh(&mut sql, &first.token, "").map(|new| new.id), Err("revoked".to_owned()));
    assert_eq!(verdict(&mut sql, &second.token), "revoked", "was in grace");
    assert_eq!(verdict(&mut sql, &third.token), "revoked");
    assert_eq!(verdict(&mut sql, &stranger.token), "ok");
    let count = "SELECT count FROM api_token_events() WHERE method = 'reuse_detected'";
    assert_eq!(number(&mut sql, count, &[]), 2);
    let named =
        "SELECT token_id FROM api_token_events() WHERE detail ->> 'cause' = 'reuse_detected'";
    let mut named = column(&mut sql, named, &[]);
    named.sort();
    assert_eq!(named, [second.id, third.id], "caches hear of each");
}

#[test]
fn of_many_concurrent_refreshes_one_wins() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, "");
    let outcomes: Vec<Result<String, String>> = std::thread::scope(|scope| {
        let refreshing: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| refresh(&mut db.connect(), &old.token, "").map(|new| new.token))
            })
            .collect();
        refreshing.into_iter().map(|thread| thread.join().expect("thread")).collect()
    });
    let heirs: Vec<&String> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(heirs.len(), 1);
    assert!(
        outcomes
            .iter()
            .flat_map(|outcome| outcome.as_ref().err())
            .all(|reason| reason == "revoked")
    );
    assert_eq!(verdict(&mut sql, heirs[0]), "ok");
    let family = "SELECT count(*) FROM api_tokens.tokens WHERE family_id::text = $1";
    assert_eq!(number(&mut sql, family, &[&old.id]), 2);
}

#[test]
fn a_rolled_back_refresh_leaves_the_old_token_alive() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, "");
    sql.batch_execute("BEGIN").expect("begin");
    let new = refresh(&mut sql, &old.token, "").expect("refresh");
    sql.batch_execute("ROLLBACK").expect("rollback");
    assert_eq!(verdict(&mut sql, &old.token), "ok");
    assert_eq!(verdict(&mut sql, &new.token), "invalid");
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
