//! Rate limits, and what a crash leaves of quotas: on a server that preloads the library. One test
//! at a time; some of these restart the server.

use api_tokens_tests::*;
use postgres::Client;
use std::sync::atomic::{AtomicU32, Ordering};

const HOURLY: &str = ", rate_limit => 3, rate_window => '1 hour'";

#[test]
fn of_so_many_calls_per_window_by_32_clients_exactly_so_many_pass() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", rate_limit => 500, rate_window => '100 days'");
    let passed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut sql = db.connect();
                for _ in 0..50 {
                    let passes = spend(&mut sql, &made.token, 1).starts_with("ok");
                    passed.fetch_add(passes.into(), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 500);
    assert_eq!(spend(&mut sql, &made.token, 1), "rate_limited 0");
}

#[test]
fn remaining_and_retry_after_are_told() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, HOURLY);
    assert_eq!(spend(&mut sql, &made.token, 0), "ok 3");
    assert_eq!(spend(&mut sql, &made.token, 2), "ok 1");
    assert_eq!(spend(&mut sql, &made.token, 2), "rate_limited 1");
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 0");
    assert_eq!(spend(&mut sql, &made.token, 0), "ok 0", "asking is free");
    // One call runs out in 20 minutes. When to come again is told the same at any time, to a
    // millisecond.
    let again = "SELECT reason, extract(epoch FROM retry_after)::float8, extract(epoch FROM clock_timestamp() + retry_after)::float8
        FROM api_token_validate($1, cost => $2)";
    let first = sql.query_one(again, &[&made.token, &1]).expect("refused");
    assert_eq!(first.get::<_, &str>(0), "rate_limited");
    let wait: f64 = first.get(1);
    assert!(wait > 1190.0 && wait <= 1200.0, "{wait}");
    for _ in 0..20 {
        let later = sql.query_one(again, &[&made.token, &1]).expect("refused");
        assert!((later.get::<_, f64>(2) - first.get::<_, f64>(2)).abs() < 0.001);
    }
    let two = sql.query_one(again, &[&made.token, &2]).expect("refused");
    assert!((two.get::<_, f64>(1) - wait - 1200.0).abs() < 5.0);
    let never = sql.query_one(again, &[&made.token, &4]).expect("refused");
    assert_eq!(never.get::<_, Option<f64>>(1), None, "more than the limit never passes");
}

#[test]
fn whoever_waits_as_long_as_told_passes() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", rate_limit => 1, rate_window => '300 ms'");
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 0");
    let refused = "SELECT retry_after FROM api_token_validate($1) WHERE reason = 'rate_limited'";
    let wait = text(&mut sql, refused, &[&made.token]);
    run(&mut sql, "SELECT pg_sleep_for($1::text::interval)", &[&wait]);
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 0");
}

#[test]
fn an_update_takes_effect_at_once_and_keeps_what_was_called() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let made = create(&mut sql, HOURLY);
    assert_eq!(spend(&mut other, &made.token, 3), "ok 0");
    update(&mut sql, &made, r#"{"name": "n"}"#);
    assert_eq!(spend(&mut other, &made.token, 1), "rate_limited 0");
    update(&mut sql, &made, r#"{"rate_limit": 10}"#);
    assert_eq!(spend(&mut other, &made.token, 1), "ok 6");
    update(&mut sql, &made, r#"{"rate_window": "2 hours"}"#);
    assert_eq!(spend(&mut other, &made.token, 0), "ok 6", "four were called");
    update(&mut sql, &made, r#"{"rate_limit": 2}"#);
    assert_eq!(spend(&mut other, &made.token, 1), "rate_limited 0");
    update(&mut sql, &made, r#"{"rate_limit": null, "rate_window": null}"#);
    assert_eq!(spend(&mut other, &made.token, 1), "ok");
}

#[test]
fn a_rate_belongs_to_the_family() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, HOURLY);
    spend(&mut sql, &old.token, 2);
    let new = refresh(&mut sql, &old.token, ", '1 hour'").expect("refresh");
    assert_eq!(spend(&mut sql, &new.token, 1), "ok 0");
    assert_eq!(spend(&mut sql, &old.token, 1), "rate_limited 0");
    let another = create(&mut sql, HOURLY);
    assert_eq!(spend(&mut sql, &another.token, 1), "ok 2");
}

#[test]
fn a_namespace_is_limited_together_with_its_tokens_own_limits() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let (one, two) = (create(&mut sql, HOURLY), create(&mut sql, ""));
    let foreign = text(&mut sql, "SELECT token FROM api_token_create('other')", &[]);
    assert_eq!(spend(&mut other, &two.token, 1), "ok");
    run(&mut sql, "SELECT api_token_set_namespace_limit('acme', 5, '1 day')", &[]);
    assert_eq!(spend(&mut other, &two.token, 2), "ok 3", "at once, in every session");
    assert_eq!(spend(&mut other, &one.token, 1), "ok 2", "the least of both");
    assert_eq!(spend(&mut other, &two.token, 2), "ok 0");
    assert_eq!(spend(&mut other, &foreign, 1), "ok");
    // What the namespace refuses costs the token's own limit nothing, and the other way round.
    assert_eq!(spend(&mut other, &one.token, 1), "rate_limited 0");
    run(&mut sql, "SELECT api_token_set_namespace_limit('acme', 100, '1 day')", &[]);
    assert_eq!(spend(&mut other, &one.token, 2), "ok 0");
    assert_eq!(spend(&mut other, &two.token, 0), "ok 93");
    assert_eq!(spend(&mut other, &one.token, 1), "rate_limited 0");
    assert_eq!(spend(&mut other, &two.token, 0), "ok 93");
    run(&mut sql, "SELECT api_token_set_namespace_limit('acme', NULL, NULL)", &[]);
    assert_eq!(spend(&mut other, &two.token, 1000), "ok");
    let events = "SELECT count(*) FROM api_token_events() WHERE method = 'set_namespace_limit' AND namespace = 'acme'";
    assert_eq!(number(&mut sql, events, &[]), 3);
}

#[test]
fn retry_after_is_that_of_the_limit_that_gives_way_last() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", rate_limit => 1, rate_window => '1 hour'");
    run(&mut sql, "SELECT api_token_set_namespace_limit('acme', 1, '10 days')", &[]);
    spend(&mut sql, &made.token, 1);
    let days = "SELECT extract(epoch FROM retry_after) / 86400 > 9 FROM api_token_validate($1)";
    assert!(truth(&mut sql, days, &[&made.token]));
    // Caches must hear of it: an answer of theirs is not charged.
    run(&mut sql, "LISTEN api_tokens", &[]);
    run(&mut sql, "SELECT api_token_set_namespace_limit('acme', 2, '10 days')", &[]);
    let told = notifications(&mut sql);
    assert!(told.len() == 1 && told[0].contains("\"namespace\":\"acme\""), "{told:?}");
}

#[test]
fn a_limit_that_is_rolled_back_was_never_set() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let made = create(&mut sql, "");
    sql.batch_execute("BEGIN; SELECT api_token_set_namespace_limit('acme', 1, '1 day')")
        .expect("set");
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 0", "it holds here");
    assert_eq!(spend(&mut other, &made.token, 1), "ok");
    sql.batch_execute("ROLLBACK").expect("rollback");
    assert_eq!(spend(&mut sql, &made.token, 1), "ok");
}

#[test]
fn all_limits_are_looked_at_before_any_is_charged() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 4, rate_limit => 3, rate_window => '1 day'");
    assert_eq!(spend(&mut sql, &made.token, 2), "ok 1");
    assert_eq!(
        spend(&mut sql, &made.token, 3),
        "usage_exceeded 1",
        "the first reason, the least left"
    );
    assert_eq!(spend(&mut sql, &made.token, 2), "rate_limited 1");
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 0", "neither had cost anything");
    update(&mut sql, &made, r#"{"rate_limit": null, "rate_window": null}"#);
    assert_eq!(spend(&mut sql, &made.token, 0), "ok 1");
    // Refused for something else.
    let scoped = create(&mut sql, HOURLY);
    let refused = "SELECT reason FROM api_token_validate($1, '{a}')";
    assert_eq!(text(&mut sql, refused, &[&scoped.token]), "insufficient_scope");
    assert_eq!(spend(&mut sql, &scoped.token, 0), "ok 3");
    // A rate is of calls, not of what became of them: a rollback does not give it back.
    sql.batch_execute("BEGIN").expect("begin");
    spend(&mut sql, &scoped.token, 1);
    sql.batch_execute("ROLLBACK").expect("rollback");
    assert_eq!(spend(&mut sql, &scoped.token, 0), "ok 2");
    // Nor does it need to be written down.
    sql.batch_execute("BEGIN READ ONLY").expect("begin");
    assert_eq!(spend(&mut sql, &scoped.token, 1), "ok 1");
    sql.batch_execute("ROLLBACK").expect("rollback");
}

#[test]
fn a_standby_limits_on_its_own_and_spends_nothing() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let (rated, counted) = (create(&mut sql, HOURLY), create(&mut sql, ", max_uses => 2"));
    spend(&mut sql, &rated.token, 3);
    spend(&mut sql, &counted.token, 1);
    let standby = Standby::start();
    let mut replica = standby.connect(&db.name);
    assert_eq!(spend(&mut replica, &rated.token, 3), "ok 0");
    assert_eq!(spend(&mut replica, &rated.token, 1), "rate_limited 0");
    assert_eq!(spend(&mut replica, &counted.token, 1), "read_only 1");
    assert_eq!(spend(&mut replica, &counted.token, 0), "ok 1");
    run(&mut replica, "SELECT pg_promote()", &[]);
    assert_eq!(spend(&mut replica, &counted.token, 1), "ok 0");
    assert_eq!(spend(&mut replica, &counted.token, 1), "usage_exceeded 0");
}

#[test]
fn stats_tell_of_limits() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, HOURLY);
    let used = "SELECT rate_map_used FROM api_token_stats()";
    let before = number(&mut sql, used, &[]);
    spend(&mut sql, &made.token, 3);
    spend(&mut sql, &made.token, 1);
    assert_eq!(number(&mut sql, used, &[]), before + 1);
    let stats = "SELECT rate_map_capacity >= 65536 AND (refused ->> 'rate_limited')::int > 0 FROM api_token_stats()";
    assert!(truth(&mut sql, stats, &[]));
}

#[test]
fn a_crash_gives_back_no_committed_use() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 10");
    sql.batch_execute("CHECKPOINT").expect("checkpoint");
    assert_eq!(spend(&mut sql, &made.token, 2), "ok 8");
    let mut open = db.connect();
    open.batch_execute("BEGIN").expect("begin");
    assert_eq!(spend(&mut open, &made.token, 4), "ok 4");
    // Nothing that a later commit would have to write for it.
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 3");
    restart("immediate", "");
    let mut sql = db.connect();
    assert_eq!(spend(&mut sql, &made.token, 0), "ok 7", "what was not committed is given back");
    assert_eq!(spend(&mut sql, &made.token, 7), "ok 0");
    restart("immediate", "");
    assert_eq!(spend(&mut db.connect(), &made.token, 1), "usage_exceeded 0");
}

#[test]
fn without_preloading_a_limited_token_fails_closed() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, HOURLY);
    let free = create(&mut sql, "");
    run(&mut sql, "SELECT api_token_set_namespace_limit('limited', 5, '1 day')", &[]);
    let of_limited = text(&mut sql, "SELECT token FROM api_token_create('limited')", &[]);
    restart("fast", "-c shared_preload_libraries=''");
    let mut sql = db.connect();
    let check = "SELECT api_token_validate($1)";
    for token in [&made.token, &of_limited] {
        let refused = failure(&mut sql, check, &[token]);
        assert_eq!(refused.code().code(), "55000");
        assert!(refused.hint().is_some_and(|hint| hint.contains("shared_preload_libraries")));
        failure(&mut sql, "SELECT api_token_validate_many(ARRAY[$1])", &[token]);
        failure(&mut sql, "SELECT api_token_require($1)", &[token]);
    }
    assert_eq!(spend(&mut sql, &free.token, 1), "ok");
    let revoked = "SELECT api_token_invalidate($1)";
    run(&mut sql, revoked, &[&made.token]);
    assert_eq!(verdict(&mut sql, &made.token), "revoked", "what is refused anyhow needs no limit");
    restart("fast", "");
}

#[test]
fn the_blocks_of_the_docs_that_need_preloading_run() {
    let _turn = alone();
    for (page, count) in [("limits", 1), ("operations", 1), ("recipes", 1)] {
        let db = Database::new();
        let path = root().join(format!("docs/{page}.md"));
        let blocks = blocks(&std::fs::read_to_string(path).expect(page), "```sql preloaded");
        assert_eq!(blocks.len(), count, "{page}");
        for (_, block) in blocks {
            psql(&db.name, &block);
        }
    }
}

/// Of each two limits, the one that refuses costs nothing of the other, and the reason is the first.
#[test]
fn a_call_refused_for_one_reason_costs_nothing_of_another() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let all = ", scopes => '{a}', allowed_ips => '{10.0.0.0/8}', max_uses => 5, rate_limit => 4, rate_window => '1 day'";
    run(&mut sql, "SELECT api_token_set_namespace_limit('acme', 3, '1 day')", &[]);
    let reasons = ["ip_not_allowed", "insufficient_scope", "usage_exceeded", "rate_limited"];
    let refuse = |sql: &mut Client, token: &Created, which: &[&str]| {
        let ip = if which.contains(&"ip_not_allowed") { "192.0.2.1" } else { "10.0.0.1" };
        let scope = if which.contains(&"insufficient_scope") { "b" } else { "a" };
        let cost = match which {
            which if which.contains(&"usage_exceeded") => 6,
            which if which.contains(&"rate_limited") => 4,
            _ => 1,
        };
        let call =
            format!("SELECT reason FROM api_token_validate($1, '{{{scope}}}', '{ip}', {cost})");
        text(sql, &call, &[&token.token])
    };
    for (first, reason) in reasons.iter().enumerate() {
        for other in &reasons[first..] {
            let made = create(&mut sql, all);
            assert_eq!(
                &refuse(&mut sql, &made, &[reason, other]),
                reason,
                "{reason} before {other}"
            );
            let ask = "SELECT remaining FROM api_token_validate($1, '{a}', '10.0.0.1', 0)";
            assert_eq!(
                number(&mut sql, ask, &[&made.token]),
                3,
                "{reason}, {other}: the namespace's three"
            );
            update(&mut sql, &made, r#"{"rate_limit": null, "rate_window": null}"#);
            let spent = "SELECT spent FROM api_tokens.quotas WHERE family_id::text = $1";
            assert_eq!(number(&mut sql, spent, &[&made.id]), 0, "{reason}, {other}");
        }
    }
    // And what is dead is refused first of all, whatever else there is.
    let made = create(&mut sql, all);
    run(&mut sql, "SELECT api_token_set_enabled($1::text::uuid, false)", &[&made.id]);
    assert_eq!(refuse(&mut sql, &made, &reasons), "disabled");
    age(&mut sql, &made, "expires_at = now()");
    assert_eq!(refuse(&mut sql, &made, &reasons), "disabled");
    run(&mut sql, "SELECT api_token_set_enabled($1::text::uuid, true)", &[&made.id]);
    assert_eq!(refuse(&mut sql, &made, &reasons), "expired");
}

#[test]
fn a_hard_end_is_moved_by_nothing() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_expires_at => '2100-01-01 UTC'");
    let ends = "SELECT max(expires_at) <= '2100-01-01 UTC' FROM api_token_list('acme', true)";
    let new = refresh(&mut sql, &made.token, ", '900 years', '2900-01-01 UTC'").expect("refresh");
    update(&mut sql, &new, r#"{"expires_at": "2900-01-01"}"#);
    assert!(truth(&mut sql, ends, &[]));
    let grace = "SELECT max(revoked_at) <= '2100-01-01 UTC' FROM api_token_list('acme', true)";
    assert!(truth(&mut sql, grace, &[]));
    let moved = r#"SELECT api_token_update($1::text::uuid, '{"max_expires_at": "2200-01-01"}')"#;
    assert_eq!(failure(&mut sql, moved, &[&new.id]).code().code(), "22023");
}

#[test]
fn what_has_run_out_does_not_come_back_with_a_lower_limit() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", rate_limit => 1000, rate_window => '0.2 s'");
    assert_eq!(spend(&mut sql, &made.token, 1000), "ok 0");
    run(&mut sql, "SELECT pg_sleep(0.25)", &[]);
    update(&mut sql, &made, r#"{"rate_limit": 10, "rate_window": "1 hour"}"#);
    assert_eq!(spend(&mut sql, &made.token, 0), "ok 10");
    // Lowered at once, all of it is used up, and no more than that.
    update(&mut sql, &made, r#"{"rate_limit": 1000, "rate_window": "1 hour"}"#);
    assert_eq!(spend(&mut sql, &made.token, 1000), "ok 0");
    update(&mut sql, &made, r#"{"rate_limit": 10, "rate_window": "1 hour"}"#);
    let wait =
        "SELECT retry_after <= '6 min' AND retry_after > '5 min' FROM api_token_validate($1)";
    assert!(truth(&mut sql, wait, &[&made.token]));
}

#[test]
fn a_new_rate_holds_for_the_token_in_grace_too() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, ", rate_limit => 1000, rate_window => '1 s'");
    let heir = refresh(&mut sql, &old.token, ", grace => '1 hour'").expect("an heir");
    update(&mut sql, &heir, r#"{"rate_limit": 2, "rate_window": "1 hour"}"#);
    assert_eq!(spend(&mut sql, &heir.token, 2), "ok 0");
    assert_eq!(spend(&mut sql, &old.token, 1), "rate_limited 0");
}

#[test]
fn read_only_tells_no_time_to_wait() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 10, rate_limit => 2, rate_window => '1 min'");
    spend(&mut sql, &made.token, 2);
    sql.batch_execute("BEGIN READ ONLY").expect("begin");
    let told = "SELECT reason || coalesce(retry_after::text, '') FROM api_token_validate($1)";
    assert_eq!(text(&mut sql, told, &[&made.token]), "read_only");
}
