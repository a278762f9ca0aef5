//! Quotas: what a use costs, whose the uses are, when they come back, and what changes of a token do
//! to them. How many use one at once is in `quota_transactions.rs`.

use api_tokens_tests::*;
use postgres::Client;

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
fn many_tokens_and_identities_are_charged_too() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 6");
    let many = "SELECT concat(ok, remaining) FROM api_token_validate_many(ARRAY[$1, $1, 'x', $1], cost => 2)";
    assert_eq!(column(&mut sql, many, &[&made.token]), ["t4", "t2", "f", "t0"]);
    let made = create(&mut sql, ", max_uses => 2");
    execute(&mut sql, "BEGIN");
    run(&mut sql, "SELECT api_token_require($1)", &[&made.token]);
    run(&mut sql, "SELECT api_token_require_current()", &[]);
    assert_eq!(
        number(&mut sql, "SELECT remaining FROM api_token_authenticate($1)", &[&made.token]),
        0
    );
    let refused = failure(&mut sql, "SELECT api_token_require($1)", &[&made.token]);
    assert_eq!(refused.message(), "Unauthorized: usage_exceeded");
    execute(&mut sql, "ROLLBACK");
    assert_eq!(left(&mut sql, &made.token), 2);
    let by_hash = "SELECT remaining FROM api_token_validate_hash(sha256($1::text::bytea))";
    assert_eq!(number(&mut sql, by_hash, &[&made.token]), 1);
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
fn an_identity_costs_what_it_is_said_to_cost() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 10");
    for (call, remaining) in [("authenticate", 7), ("require", 4)] {
        let call = format!("SELECT remaining FROM api_token_{call}($1, cost => 3)");
        assert_eq!(number(&mut sql, &call, &[&made.token]), remaining);
    }
}
