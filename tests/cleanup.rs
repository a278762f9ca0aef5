//! Cleanup deletes the long dead, oldest first, and never a live token.

use api_tokens_tests::*;

fn left(sql: &mut postgres::Client) -> Vec<String> {
    column(sql, "SELECT name FROM api_tokens.tokens ORDER BY name", &[])
}

#[test]
fn age_is_counted_from_the_moment_of_death() {
    let db = Database::new();
    let mut sql = db.connect();
    for (name, change) in [
        ("revoked lately", "revoked_at = now() - interval '9 d'"),
        ("revoked long ago", "revoked_at = now() - interval '11 d'"),
        ("expired lately", "expires_at = now() - interval '9 d'"),
        ("expired long ago", "expires_at = now() - interval '11 d'"),
        (
            "expired long ago, revoked lately",
            "expires_at = now() - interval '11 d', revoked_at = now()",
        ),
        ("idle lately", "max_idle = '1 d', last_used_at = now() - interval '10.5 d'"),
        ("idle long ago", "max_idle = '1 d', last_used_at = now() - interval '11.5 d'"),
        ("alive and old", "last_used_at = created_at"),
        ("disabled", "enabled = false"),
        ("in grace", "revoked_at = now() + interval '1 d', in_grace = true"),
    ] {
        let made = create(&mut sql, &format!(", '{name}'"));
        age(&mut sql, &made, "created_at = now() - interval '1 year', last_used_at = now()");
        age(&mut sql, &made, change);
    }
    assert_eq!(number(&mut sql, "SELECT api_token_cleanup('10 days')", &[]), 4);
    assert_eq!(
        left(&mut sql),
        [
            "alive and old",
            "disabled",
            "expired lately",
            "idle lately",
            "in grace",
            "revoked lately"
        ]
    );
    assert_eq!(number(&mut sql, "SELECT api_token_cleanup('0')", &[]), 3);
    assert_eq!(left(&mut sql), ["alive and old", "disabled", "in grace"]);
    assert_eq!(number(&mut sql, "SELECT api_token_cleanup('0')", &[]), 0);
    let told = "SELECT count FROM api_token_events() WHERE method = 'cleanup' ORDER BY event_id";
    assert_eq!(column(&mut sql, told, &[]), ["4", "3"]);
}

#[test]
fn batches_take_the_oldest_first() {
    let db = Database::new();
    let mut sql = db.connect();
    for day in [3, 1, 5, 2, 4] {
        let made = create(&mut sql, &format!(", '{day}'"));
        let change = if day % 2 == 0 {
            format!("max_idle = '1 h', last_used_at = now() - interval '{day} d'")
        } else {
            format!("revoked_at = now() - interval '{day} d'")
        };
        age(&mut sql, &made, &change);
    }
    let batch = "SELECT api_token_cleanup('0', 2)";
    assert_eq!(number(&mut sql, "SELECT api_token_cleanup('0', 0)", &[]), 0);
    assert_eq!(number(&mut sql, batch, &[]), 2);
    assert_eq!(left(&mut sql), ["1", "2", "3"]);
    assert_eq!(number(&mut sql, batch, &[]), 2);
    assert_eq!(left(&mut sql), ["1"]);
    assert_eq!(number(&mut sql, batch, &[]), 1);
}

#[test]
fn what_others_hold_is_skipped_not_waited_for() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = [(); 3].map(|()| create(&mut sql, ""));
    for token in &made {
        age(&mut sql, token, "revoked_at = now() - interval '1 d'");
    }
    let mut holder = db.connect();
    holder
        .batch_execute(&format!(
            "BEGIN; SELECT FROM api_tokens.tokens WHERE token_id = '{}' FOR UPDATE",
            made[0].id
        ))
        .expect("hold");
    sql.batch_execute("SET lock_timeout = '2s'").expect("set");
    assert_eq!(
        number(&mut sql, "SELECT api_token_cleanup('0', 2)", &[]),
        2,
        "the held one costs no place"
    );
    holder.batch_execute("COMMIT").expect("release");
    assert_eq!(number(&mut sql, "SELECT api_token_cleanup('0')", &[]), 1);
}

#[test]
fn old_events_go_too() {
    let db = Database::new();
    let mut sql = db.connect();
    create(&mut sql, "");
    create(&mut sql, "");
    sql.batch_execute(
        "UPDATE api_tokens.events SET at = now() - interval '91 days' WHERE event_id = 1",
    )
    .expect("age");
    run(&mut sql, "SELECT api_token_cleanup()", &[]);
    assert_eq!(column(&mut sql, "SELECT event_id FROM api_token_events()", &[]), ["2"]);
    sql.batch_execute("SET api_tokens.event_retention = 0").expect("set");
    run(&mut sql, "SELECT api_token_cleanup()", &[]);
    assert!(column(&mut sql, "SELECT event_id FROM api_token_events()", &[]).is_empty());
}

#[test]
fn a_date_of_death_is_found_by_index() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute(
        "INSERT INTO api_tokens.tokens (token_id, family_id, created_at, last_used_at, token_hash,
            namespace, token_prefix, revoked_at)
        SELECT id, id, now(), now(), sha256(i::text::bytea), 'acme', 'x...',
            CASE WHEN i % 1000 = 0 THEN now() - interval '60 d' END
        FROM (SELECT i, gen_random_uuid() id FROM generate_series(1, 20000) i) t;
        ANALYZE api_tokens.tokens",
    )
    .expect("fill");
    let scans =
        "SELECT seq_scan FROM pg_stat_all_tables WHERE relid = 'api_tokens.tokens'::regclass";
    sql.batch_execute("SELECT pg_stat_force_next_flush()").expect("flush");
    let before = number(&mut sql, scans, &[]);
    assert_eq!(number(&mut sql, "SELECT api_token_cleanup()", &[]), 20);
    sql.batch_execute("SELECT pg_stat_force_next_flush()").expect("flush");
    assert_eq!(number(&mut sql, scans, &[]), before, "no sequential scan");
}

#[test]
fn what_hangs_on_tokens_goes_in_batches_too() {
    let db = Database::new();
    let mut sql = db.connect();
    run(
        &mut sql,
        "INSERT INTO api_tokens.usage_hours (token_id, hour, uses_before)
        SELECT gen_random_uuid(), now() - interval '31 days', 0 FROM generate_series(1, 5)",
        &[],
    );
    for _ in 0..3 {
        create(&mut sql, ", max_uses => 10");
    }
    run(&mut sql, "DELETE FROM api_tokens.tokens", &[]);
    let left = "SELECT (SELECT count(*) FROM api_tokens.usage_hours) * 10
        + (SELECT count(*) FROM api_tokens.quotas)";
    for (max_rows, expected) in [("2", 31), ("1", 20), ("NULL", 0)] {
        run(&mut sql, &format!("SELECT api_token_cleanup('0', {max_rows})"), &[]);
        assert_eq!(number(&mut sql, left, &[]), expected, "{max_rows}");
    }
}
