//! Uses per hour: one row per token and hour, written by the flush. On a server that preloads the
//! library; see preloaded.rs.

use api_tokens_tests::*;
use postgres::Client;
use std::time::Duration;

/// Uses the token and waits until `total` uses of it are told of.
fn used(sql: &mut Client, token: &Created, times: usize, total: i64) {
    for _ in 0..times {
        assert_eq!(verdict(sql, &token.token), "ok");
    }
    let told = "SELECT coalesce(sum(uses), 0) FROM api_token_usage($1::text::uuid)";
    eventually(&format!("{total} uses are told of"), || number(sql, told, &[&token.id]) == total);
}

/// Lets an hour pass for everything.
fn an_hour_passes(sql: &mut Client) {
    sql.batch_execute(
        "UPDATE api_tokens.usage_hours SET hour = hour - interval '1 hour';
        UPDATE api_tokens.tokens SET last_used_at = last_used_at - interval '1 hour'",
    )
    .expect("age");
}

/// Hours ago, and uses in that hour.
const SHOW: &str =
    "extract(epoch FROM date_trunc('hour', now(), 'UTC') - hour)::bigint / 3600 || ': ' || uses";

fn of_token(sql: &mut Client, token: &Created) -> Vec<String> {
    column(sql, &format!("SELECT {SHOW} FROM api_token_usage($1::text::uuid)"), &[&token.id])
}

fn of_namespace(sql: &mut Client, namespace: &str) -> Vec<String> {
    column(sql, &format!("SELECT {SHOW} FROM api_token_usage(namespace => $1)"), &[&namespace])
}

fn rows(sql: &mut Client) -> i64 {
    number(sql, "SELECT count(*) FROM api_tokens.usage_hours", &[])
}

/// These tests know which hour it is, so none may begin meanwhile.
fn early_in_an_hour() {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let left = 3600 - now % 3600;
    if left < 60 {
        std::thread::sleep(Duration::from_secs(left + 1));
    }
}

#[test]
fn uses_of_all_backends_count_to_their_hour_with_one_row() {
    let _turn = alone();
    early_in_an_hour();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    assert!(of_token(&mut sql, &made).is_empty());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut sql = db.connect();
                for _ in 0..100 {
                    assert_eq!(verdict(&mut sql, &made.token), "ok");
                }
            });
        }
    });
    used(&mut sql, &made, 0, 400);
    for flush in 1..=3 {
        used(&mut sql, &made, 5, 400 + 5 * flush);
    }
    assert_eq!(of_token(&mut sql, &made), ["0: 415"]);
    assert_eq!(rows(&mut sql), 1);
}

#[test]
fn each_hour_has_its_uses_and_a_namespace_those_of_its_tokens() {
    let _turn = alone();
    early_in_an_hour();
    let db = Database::new();
    let mut sql = db.connect();
    let (one, other) = (create(&mut sql, ""), create(&mut sql, ""));
    let foreign = text(&mut sql, "SELECT token FROM api_token_create('foreign')", &[]);
    used(&mut sql, &one, 3, 3);
    an_hour_passes(&mut sql);
    used(&mut sql, &one, 2, 5);
    used(&mut sql, &other, 7, 7);
    an_hour_passes(&mut sql);
    // Nothing is used in this one.
    an_hour_passes(&mut sql);
    used(&mut sql, &one, 1, 6);
    assert_eq!(verdict(&mut sql, &foreign), "ok");
    eventually("it is told of", || of_namespace(&mut sql, "foreign") == ["0: 1"]);
    assert_eq!(of_token(&mut sql, &one), ["3: 3", "2: 2", "0: 1"]);
    assert_eq!(of_token(&mut sql, &other), ["2: 7"]);
    assert_eq!(of_namespace(&mut sql, "acme"), ["3: 3", "2: 9", "0: 1"]);
    // An heir has its own; the namespace has both.
    let heir = refresh(&mut sql, &one.token, "").expect("refresh");
    used(&mut sql, &heir, 4, 4);
    assert_eq!(of_token(&mut sql, &heir), ["0: 4"]);
    assert_eq!(of_token(&mut sql, &one), ["3: 3", "2: 2", "0: 1"]);
    assert_eq!(of_namespace(&mut sql, "acme"), ["3: 3", "2: 9", "0: 5"]);
    // A last use that was set back does not begin its hour anew.
    age(&mut sql, &heir, "last_used_at = last_used_at - interval '1 hour'");
    used(&mut sql, &heir, 1, 5);
    assert_eq!(of_token(&mut sql, &heir), ["0: 5"]);
}

#[test]
fn cleanup_deletes_old_hours_and_those_of_tokens_it_deletes() {
    let _turn = alone();
    early_in_an_hour();
    let db = Database::new();
    let mut sql = db.connect();
    let (kept, gone) = (create(&mut sql, ""), create(&mut sql, ""));
    used(&mut sql, &kept, 2, 2);
    used(&mut sql, &gone, 1, 1);
    // Of 800 hours before, 81 began more than 30 days ago.
    let old = "INSERT INTO api_tokens.usage_hours
        SELECT token_id, hour - i * interval '1 hour', 0 FROM api_tokens.usage_hours, generate_series(1, 800) i
        WHERE token_id::text = $1";
    run(&mut sql, old, &[&kept.id]);
    assert_eq!(rows(&mut sql), 802);
    run(&mut sql, "SELECT api_token_cleanup(max_rows => 10)", &[]);
    assert_eq!(rows(&mut sql), 792, "no more than was said");
    run(&mut sql, "SELECT api_token_cleanup()", &[]);
    assert_eq!(rows(&mut sql), 721);
    run(&mut sql, "SELECT api_token_cleanup()", &[]);
    assert_eq!(rows(&mut sql), 721, "nothing else is old");
    let read = format!("SELECT {SHOW} FROM api_token_usage($1::text::uuid)");
    assert_eq!(column(&mut sql, &read, &[&kept.id]), ["0: 2"]);
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&gone.token]);
    assert_eq!(number(&mut sql, "SELECT api_token_cleanup('0')", &[]), 1, "tokens are counted");
    assert_eq!(rows(&mut sql), 720);
    assert!(of_token(&mut sql, &gone).is_empty());
}

#[test]
fn one_token_or_one_namespace_is_asked_for() {
    let _turn = alone();
    let mut db = Database::new();
    let role = db.role("r", &["manage"]);
    let mut sql = db.connect_as(&role);
    for (arguments, code) in [
        ("", "22004"),
        ("NULL, NULL", "22004"),
        ("NULL, ''", "22023"),
        ("gen_random_uuid(), 'acme'", "22023"),
    ] {
        let refused = failure(&mut sql, &format!("SELECT api_token_usage({arguments})"), &[]);
        assert_eq!(refused.code().code(), code, "{arguments}: {refused}");
    }
    for unknown in ["gen_random_uuid()", "NULL, 'nobody'"] {
        let call = format!("SELECT uses FROM api_token_usage({unknown})");
        assert!(column(&mut sql, &call, &[]).is_empty());
    }
    let made = create(&mut sql, "");
    let validator = db.role("v", &["validate"]);
    let mut other = db.connect_as(&validator);
    assert_eq!(verdict(&mut other, &made.token), "ok");
    let call = "SELECT api_token_usage(namespace => 'acme')";
    assert_eq!(failure(&mut other, call, &[]).code().code(), "42501");
    let told = "SELECT count(*) FROM api_token_usage(namespace => 'acme') WHERE uses = 1";
    eventually("the use is told of", || number(&mut sql, told, &[]) == 1);
}

#[test]
fn many_tokens_begin_an_hour_in_one_flush_whatever_the_database_is_set_to() {
    let _turn = alone();
    early_in_an_hour();
    let mut db = Database::new();
    let role = db.role("poor", &["validate"]);
    let mut sql = db.connect();
    sql.batch_execute(&format!(
        "ALTER DATABASE {0} SET role = '{role}'; ALTER DATABASE {0} SET default_transaction_read_only = on;
        CREATE TABLE made AS SELECT c.token FROM generate_series(1, 3000) i, LATERAL api_token_create('acme' || left('', i)) c",
        db.name
    ))
    .expect("tokens");
    let all = "SELECT count(v.ok) FROM made, LATERAL api_token_validate(made.token) v";
    assert_eq!(number(&mut sql, all, &[]), 3000);
    assert_eq!(number(&mut sql, all, &[]), 3000);
    eventually("all are told of", || of_namespace(&mut sql, "acme") == ["0: 6000"]);
    assert_eq!(rows(&mut sql), 3000);
}
