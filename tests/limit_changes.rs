//! Quotas while something changes: their settings, the generation, the transactions that use them.

use api_tokens_tests::*;
use postgres::Client;

fn pause(sql: &mut Client, seconds: f64) {
    run(sql, &format!("SELECT pg_sleep({seconds})"), &[]);
}

#[test]
fn a_refill_and_a_rollback_give_nothing_back_twice() {
    let db = Database::new();
    let (mut one, mut two) = (db.connect(), db.connect());
    let made = create(&mut one, ", max_uses => 10, refill_amount => 10, refill_every => '2 s'");
    one.batch_execute("BEGIN").expect("begin");
    assert_eq!(spend(&mut one, &made.token, 10), "ok 0");
    pause(&mut two, 2.1);
    assert_eq!(spend(&mut two, &made.token, 10), "ok 0", "refilled");
    one.batch_execute("ROLLBACK").expect("rollback");
    assert_eq!(spend(&mut two, &made.token, 10), "usage_exceeded 0");
}

#[test]
fn what_was_refilled_is_kept_when_a_quota_is_taken_away_and_set_again() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 10, refill_amount => 10, refill_every => '1 s'");
    assert_eq!(spend(&mut sql, &made.token, 10), "ok 0");
    pause(&mut sql, 1.1);
    update(&mut sql, &made, r#"{"max_uses": null, "refill_amount": null, "refill_every": null}"#);
    update(&mut sql, &made, r#"{"max_uses": 10, "refill_amount": 10, "refill_every": "30 days"}"#);
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 9");
}

#[test]
fn a_new_limit_holds_for_the_token_in_grace_too() {
    let db = Database::new();
    let mut sql = db.connect();
    let old = create(&mut sql, ", max_uses => 100, max_idle => '1 day'");
    let heir = refresh(&mut sql, &old.token, ", grace => '1 hour'").expect("an heir");
    update(&mut sql, &heir, r#"{"max_uses": 2, "name": "heir"}"#);
    assert_eq!(spend(&mut sql, &old.token, 50), "usage_exceeded 2");
    assert_eq!(spend(&mut sql, &old.token, 1), "ok 1");
    assert_eq!(spend(&mut sql, &heir.token, 1), "ok 0");
    assert_eq!(spend(&mut sql, &old.token, 1), "usage_exceeded 0");
    let name = "SELECT coalesce(name, '-') FROM api_token_get($1::text::uuid)";
    assert_eq!(text(&mut sql, name, &[&old.id]), "-", "the rest is the heir's own");

    update(&mut sql, &heir, r#"{"max_uses": null}"#);
    let soon = text(&mut sql, "SELECT (clock_timestamp() + interval '3 s')::text", &[]);
    update(&mut sql, &heir, &format!(r#"{{"max_expires_at": "{soon}"}}"#));
    pause(&mut sql, 3.1);
    assert_eq!(verdict(&mut sql, &heir.token), "expired");
    assert_eq!(verdict(&mut sql, &old.token), "expired");
    let told = "SELECT count(DISTINCT token_id) FROM api_token_events() WHERE method = 'update'";
    assert_eq!(number(&mut sql, told, &[]), 2, "caches hear of both");
}

#[test]
fn a_session_that_saw_no_quota_hears_of_the_first() {
    let db = Database::new();
    let (mut early, mut sql) = (db.connect(), db.connect());
    run(&mut early, "SELECT api_token_cleanup()", &[]);
    let made = create(&mut sql, ", max_uses => 100");
    sql.batch_execute("BEGIN").expect("begin");
    spend(&mut sql, &made.token, 5);
    sql.batch_execute("ROLLBACK").expect("rollback");
    run(&mut early, "SELECT api_token_cleanup()", &[]);
    assert_eq!(number(&mut sql, "SELECT spent FROM api_tokens.quotas", &[]), 0);
}
