//! The vault: storing, reading, versions, and what becomes of a box that is not where it was.

use api_tokens_tests::*;
use postgres::Client;

const STORE: &str = "SELECT api_vault_store($1, $2, $3)";
const GET: &str = "SELECT api_vault_get($1, $2)";

fn store(sql: &mut Client, name: &str, value: &str) -> i64 {
    number(sql, STORE, &[&"acme", &name, &value])
}

fn get(sql: &mut Client, name: &str) -> Option<String> {
    maybe(sql, GET, &[&"acme", &name])
}

fn code(sql: &mut Client, statement: &str) -> String {
    failure(sql, statement, &[]).code().code().to_owned()
}

#[test]
fn a_value_comes_back_as_it_was_stored() {
    let db = Database::new();
    let mut sql = db.connect();
    for value in ["sk_live_1", "", "välue 🔑", &"x".repeat(65_536)] {
        store(&mut sql, "stripe", value);
        assert_eq!(get(&mut sql, "stripe").as_deref(), Some(value));
        let mut other = db.connect();
        assert_eq!(get(&mut other, "stripe").as_deref(), Some(value), "another session");
    }
    assert_eq!(get(&mut sql, "openai"), None);
    assert_eq!(maybe(&mut sql, GET, &[&"other", &"stripe"]), None);
}

#[test]
fn versions_count_on_and_old_ones_can_be_read() {
    let db = Database::new();
    let mut sql = db.connect();
    for number in 1..=12 {
        assert_eq!(store(&mut sql, "stripe", &format!("value {number}")), number);
    }
    let versions = "SELECT version || ' ' || is_current FROM api_vault_versions('acme', 'stripe')";
    let found = column(&mut sql, versions, &[]);
    assert_eq!((found.len(), found[0].as_str(), found[9].as_str()), (10, "12 true", "3 false"));
    assert_eq!(text(&mut sql, "SELECT api_vault_get('acme', 'stripe', 3)", &[]), "value 3");
    assert_eq!(code(&mut sql, "SELECT api_vault_get('acme', 'stripe', 2)"), "P0002");
    assert_eq!(number(&mut sql, "SELECT api_vault_rollback('acme', 'stripe', 5)", &[]), 13);
    assert_eq!(get(&mut sql, "stripe").as_deref(), Some("value 5"));
    assert_eq!(code(&mut sql, "SELECT api_vault_rollback('acme', 'stripe', 1)"), "P0002");
    sql.batch_execute("SET api_tokens.vault_keep_versions = 2").expect("set");
    store(&mut sql, "stripe", "value 14");
    assert_eq!(column(&mut sql, versions, &[]), ["14 true", "13 false"]);
}

#[test]
fn an_expected_version_must_hold() {
    let db = Database::new();
    let mut sql = db.connect();
    let store = |sql: &mut Client, expected: i32| {
        let statement = format!("SELECT api_vault_store('acme', 'k', 'v', {expected})");
        sql.query(&statement, &[]).map_err(|error| {
            let error = error.as_db_error().expect("of the server").clone();
            (error.code().code().to_owned(), error.detail().unwrap_or_default().to_owned())
        })
    };
    let conflict = |actual| Err(("40001".to_owned(), format!("It is {actual} (0 is none).")));
    assert_eq!(store(&mut sql, 1).map(|_| ()), conflict(0));
    assert!(store(&mut sql, 0).is_ok());
    assert_eq!(store(&mut sql, 0).map(|_| ()), conflict(1));
    assert!(store(&mut sql, 1).is_ok());
    assert_eq!(store(&mut sql, 1).map(|_| ()), conflict(2));
    run(&mut sql, "SELECT api_vault_delete('acme', 'k')", &[]);
    assert_eq!(store(&mut sql, 2).map(|_| ()), conflict(0));
    assert!(store(&mut sql, 0).is_ok());
    assert_eq!(number(&mut sql, "SELECT version FROM api_vault_list('acme')", &[]), 3);
}

#[test]
fn deleted_can_be_undone_and_destroyed_cannot() {
    let db = Database::new();
    let mut sql = db.connect();
    store(&mut sql, "k", "one");
    store(&mut sql, "k", "two");
    assert!(truth(&mut sql, "SELECT api_vault_delete('acme', 'k')", &[]));
    assert!(!truth(&mut sql, "SELECT api_vault_delete('acme', 'k')", &[]));
    assert!(!truth(&mut sql, "SELECT api_vault_delete('acme', 'unknown')", &[]));
    assert_eq!(get(&mut sql, "k"), None);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_vault_list('acme')", &[]), 0);
    let deleted = "SELECT key_name FROM api_vault_list('acme', true) WHERE deleted_at IS NOT NULL";
    assert_eq!(text(&mut sql, deleted, &[]), "k");
    assert!(truth(&mut sql, "SELECT api_vault_undelete('acme', 'k')", &[]));
    assert!(!truth(&mut sql, "SELECT api_vault_undelete('acme', 'k')", &[]));
    assert_eq!(get(&mut sql, "k").as_deref(), Some("two"));

    assert_eq!(number(&mut sql, "SELECT api_vault_destroy('acme', 'k', 2)", &[]), 1);
    assert_eq!(get(&mut sql, "k"), None, "an older version does not take its place");
    assert_eq!(text(&mut sql, "SELECT api_vault_get('acme', 'k', 1)", &[]), "one");
    assert_eq!(number(&mut sql, "SELECT api_vault_destroy('acme', 'k')", &[]), 1);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_vault_list('acme')", &[]), 0);
    assert_eq!(number(&mut sql, "SELECT api_vault_destroy('acme', 'k')", &[]), 0);
    assert!(!truth(&mut sql, "SELECT api_vault_undelete('acme', 'k')", &[]));
    assert_eq!(store(&mut sql, "k", "three"), 3, "no number is used twice");
}

#[test]
fn an_expired_value_is_not_shown() {
    let db = Database::new();
    let mut sql = db.connect();
    let until = "SELECT api_vault_store('acme', 'k', 'v', metadata => '{\"a\": 1}', expires_at => now() + interval '1 h')";
    run(&mut sql, until, &[]);
    assert_eq!(get(&mut sql, "k").as_deref(), Some("v"));
    assert_eq!(text(&mut sql, "SELECT metadata FROM api_vault_list('acme')", &[]), "{\"a\": 1}");
    sql.batch_execute("UPDATE api_tokens.vault_secrets SET expires_at = now() - interval '1 s'")
        .expect("age");
    assert_eq!(get(&mut sql, "k"), None);
    assert_eq!(maybe(&mut sql, "SELECT api_vault_get('acme', 'k', 1)", &[]), None);
    store(&mut sql, "k", "new");
    assert_eq!(get(&mut sql, "k").as_deref(), Some("new"), "without an end");
}

#[test]
fn rolling_back_keeps_what_is_known_of_the_value() {
    let db = Database::new();
    let mut sql = db.connect();
    store(&mut sql, "k", "one");
    let about = "SELECT api_vault_store('acme', 'k', 'two', metadata => '{\"a\": 1}', expires_at => 'infinity')";
    run(&mut sql, about, &[]);
    run(&mut sql, "SELECT api_vault_rollback('acme', 'k', 1)", &[]);
    let kept = "SELECT concat_ws(' ', metadata, expires_at) FROM api_vault_list('acme')";
    assert_eq!(text(&mut sql, kept, &[]), "{\"a\": 1} infinity");
    sql.batch_execute("UPDATE api_tokens.vault_secrets SET expires_at = now() - interval '1 s'")
        .expect("age");
    run(&mut sql, "SELECT api_vault_rollback('acme', 'k', 2)", &[]);
    assert_eq!(get(&mut sql, "k").as_deref(), Some("two"), "an end that has passed does not stay");

    let client = "SELECT api_vault_store_encrypted('acme', 'c', encrypted_value, iv) FROM api_vault_encrypt_value($1, 's')";
    run(&mut sql, client, &[&"first"]);
    run(&mut sql, client, &[&"second"]);
    assert_eq!(number(&mut sql, "SELECT api_vault_rollback('acme', 'c', 1)", &[]), 3);
    let opened = "SELECT api_vault_decrypt_value(encrypted_value, iv, 's') FROM api_vault_get_encrypted('acme', 'c')";
    assert_eq!(text(&mut sql, opened, &[]), "first");
    run(&mut sql, "SELECT api_vault_delete('acme', 'c')", &[]);
    let deleted = "SELECT iv FROM api_vault_get_encrypted('acme', 'c')";
    assert_eq!(maybe(&mut sql, deleted, &[]), None);
}

#[test]
fn a_reader_finds_a_value_that_is_being_replaced() {
    let db = Database::new();
    let mut sql = db.connect();
    store(&mut sql, "k", "0");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut sql = db.connect();
            sql.batch_execute("SET api_tokens.vault_keep_versions = 1").expect("set");
            for number in 0..400 {
                store(&mut sql, "k", &number.to_string());
            }
        });
        let rotation = scope.spawn(|| {
            let mut sql = db.connect();
            for _ in 0..40 {
                sql.batch_execute("CALL api_vault_rotate_dek('acme')").expect("rotate");
            }
        });
        while !(writer.is_finished() && rotation.is_finished()) {
            assert!(get(&mut sql, "k").is_some());
        }
    });
}

#[test]
fn concurrent_stores_all_land() {
    let db = Database::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let db = &db;
            scope.spawn(move || {
                let mut sql = db.connect();
                sql.batch_execute("SET api_tokens.vault_keep_versions = 1000").expect("set");
                for number in 0..25 {
                    store(&mut sql, "k", &format!("{thread}/{number}"));
                }
            });
        }
    });
    let mut sql = db.connect();
    let all = "SELECT api_vault_get('acme', 'k', version) FROM api_vault_versions('acme', 'k')";
    let mut values = column(&mut sql, all, &[]);
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 100);
    assert_eq!(number(&mut sql, "SELECT version FROM api_vault_list('acme')", &[]), 100);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_tokens.vault_deks", &[]), 1);
}

#[test]
fn an_error_leaves_nothing_half_done() {
    let db = Database::new();
    let mut sql = db.connect();
    store(&mut sql, "k", "one");
    sql.batch_execute("BEGIN").expect("begin");
    store(&mut sql, "k", "two");
    run(&mut sql, "SELECT api_vault_store('new', 'k', 'v')", &[]);
    sql.batch_execute("ROLLBACK").expect("rollback");
    assert_eq!(get(&mut sql, "k").as_deref(), Some("one"));
    let rows = "SELECT (SELECT count(*) FROM api_tokens.vault_deks) || ' ' ||
        (SELECT count(*) FROM api_tokens.vault_secrets) || ' ' || (SELECT count(*) FROM api_tokens.vault_versions)";
    assert_eq!(text(&mut sql, rows, &[]), "1 1 1");
    run(&mut sql, "SELECT api_vault_store('new', 'k', 'v')", &[]);
    assert_eq!(text(&mut sql, "SELECT api_vault_get('new', 'k')", &[]), "v");
}

#[test]
fn what_a_client_encrypted_stays_as_it_is() {
    let db = Database::new();
    let mut sql = db.connect();
    let row = sql
        .query_one(
            "SELECT encrypted_value, iv FROM api_vault_encrypt_value('plain', 'secret')",
            &[],
        )
        .expect("encrypt");
    let (value, iv): (String, String) = (row.get(0), row.get(1));
    let kept = "SELECT api_vault_store_encrypted('acme', 'k', $1, $2)";
    assert_eq!(number(&mut sql, kept, &[&value, &iv]), 1);
    let back = "SELECT encrypted_value || ' ' || iv FROM api_vault_get_encrypted('acme', 'k')";
    assert_eq!(text(&mut sql, back, &[]), format!("{value} {iv}"));
    let opened = "SELECT api_vault_decrypt_value(encrypted_value, iv, 'secret') FROM api_vault_get_encrypted('acme', 'k')";
    assert_eq!(text(&mut sql, opened, &[]), "plain");
    let refused = failure(&mut sql, "SELECT api_vault_get('acme', 'k')", &[]);
    assert_eq!(
        (refused.code().code(), refused.hint()),
        ("22023", Some("Use api_vault_get_encrypted()."))
    );
    store(&mut sql, "k", "sealed");
    let refused = failure(&mut sql, "SELECT api_vault_get_encrypted('acme', 'k')", &[]);
    assert_eq!((refused.code().code(), refused.hint()), ("22023", Some("Use api_vault_get().")));
    let wrong = "SELECT api_vault_decrypt_value($1, $2, 'wrong')";
    assert_eq!(failure(&mut sql, wrong, &[&value, &iv]).code().code(), "22023");
    assert_eq!(
        maybe(&mut sql, "SELECT iv FROM api_vault_get_encrypted('acme', 'none')", &[]),
        None
    );
}

#[test]
fn key_derivation_can_be_cancelled() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute("SET statement_timeout = '200 ms'").expect("set");
    let long =
        "SELECT count(api_vault_encrypt_value('p', i::text)) FROM generate_series(1, 1000) i";
    assert_eq!(code(&mut sql, long), "57014");
}

/// What reading says after somebody with access to the table has had a hand in it.
fn after(tampering: &str) -> (String, String) {
    let db = Database::new();
    let mut sql = db.connect();
    store(&mut sql, "a", "value of a");
    store(&mut sql, "a", "newer of a");
    store(&mut sql, "b", "value of b");
    run(&mut sql, "SELECT api_vault_store('other', 'a', 'value of other')", &[]);
    sql.batch_execute(tampering).expect(tampering);
    let mut reader = db.connect();
    let error = failure(&mut reader, GET, &[&"acme", &"a"]);
    let shown = format!("{error:?}");
    assert!(!shown.contains("value of") && !shown.contains("newer of"), "{shown}");
    let verified =
        "SELECT string_agg(object || ' ' || result || ' ' || count, ', ' ORDER BY object, result)
        FROM api_vault_verify() WHERE result <> 'ok'";
    (format!("{} {}", error.code().code(), error.message()), text(&mut reader, verified, &[]))
}

#[test]
fn a_box_that_was_moved_or_changed_does_not_open() {
    let moved = "XX001 a sealed value lies in a place it was not sealed for";
    let damaged = "XX001 a sealed value is damaged";
    let set = |column: &str, from: &str| {
        format!("UPDATE api_tokens.vault_versions v SET {column} = s.{column} FROM api_tokens.vault_versions s
            WHERE v.namespace = 'acme' AND v.key_name = 'a' AND v.version = 2 AND {from}")
    };
    for (tampering, error, verified) in [
        (set("sealed", "s.key_name = 'b'"), moved, "value wrong context 1"),
        (set("sealed", "s.namespace = 'acme' AND s.key_name = 'a' AND s.version = 1"), moved, "value wrong context 1"),
        (set("sealed", "s.namespace = 'other'"), moved, "value wrong context 1"),
        (
            "UPDATE api_tokens.vault_versions SET sealed = set_byte(sealed, 80, get_byte(sealed, 80) # 1) WHERE version = 2".to_owned(),
            damaged, "value damaged 1",
        ),
        (
            "UPDATE api_tokens.vault_versions SET sealed = substr(sealed, 1, 80) WHERE version = 2".to_owned(),
            damaged, "value damaged 1",
        ),
        (
            "UPDATE api_tokens.vault_versions SET sealed = '' WHERE version = 2".to_owned(),
            damaged, "value damaged 1",
        ),
        (
            "UPDATE api_tokens.vault_deks SET wrapped = set_byte(wrapped, 100, get_byte(wrapped, 100) # 1) WHERE namespace = 'acme'".to_owned(),
            damaged, "data key damaged 1, value damaged 3",
        ),
        (
            "UPDATE api_tokens.vault_deks d SET wrapped = s.wrapped FROM api_tokens.vault_deks s
            WHERE d.namespace = 'acme' AND s.namespace = 'other'".to_owned(),
            moved, "data key wrong context 1, value wrong context 3",
        ),
        (
            "DELETE FROM api_tokens.vault_deks WHERE namespace = 'acme'".to_owned(),
            damaged, "value key missing 3",
        ),
    ] {
        assert_eq!(after(&tampering), (error.to_owned(), verified.to_owned()), "{tampering}");
    }
}

#[test]
fn a_shredded_namespace_is_gone_for_all() {
    let db = Database::new();
    let (mut sql, mut reader) = (db.connect(), db.connect());
    store(&mut sql, "a", "one");
    store(&mut sql, "b", "two");
    run(&mut sql, "SELECT api_vault_store('other', 'a', 'stays')", &[]);
    sql.batch_execute("CREATE TABLE copy AS SELECT * FROM api_tokens.vault_versions; CREATE TABLE names AS SELECT * FROM api_tokens.vault_secrets")
        .expect("a backup");
    assert_eq!(get(&mut reader, "a").as_deref(), Some("one"), "keeps the data key");
    assert_eq!(code(&mut sql, "SELECT api_vault_shred('acme', 'ACME')"), "22023");
    reader
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .expect("an old snapshot");
    assert_eq!(number(&mut sql, "SELECT api_vault_shred('acme', 'acme')", &[]), 2);
    assert_eq!(get(&mut reader, "a"), None);
    reader.batch_execute("COMMIT").expect("commit");
    sql.batch_execute(
        "INSERT INTO api_tokens.vault_versions SELECT * FROM copy WHERE namespace = 'acme';
        INSERT INTO api_tokens.vault_secrets SELECT * FROM names WHERE namespace = 'acme'",
    )
    .expect("restored");
    for sql in [&mut reader, &mut sql] {
        let error = failure(sql, GET, &[&"acme", &"a"]);
        assert_eq!(error.code().code(), "XX001");
        assert!(error.detail().is_some_and(|detail| detail.contains("is not there")));
    }
    assert_eq!(text(&mut sql, "SELECT api_vault_get('other', 'a')", &[]), "stays");
}

#[test]
fn everything_at_once_neither_blocks_nor_breaks() {
    const CALLS: [&str; 8] = [
        "SELECT api_vault_store('acme', 'a', 'value of a')",
        "SELECT api_vault_store('acme', 'b', 'value of b')",
        "SELECT api_vault_get('acme', 'a')",
        "SELECT api_vault_delete('acme', 'b'), api_vault_undelete('acme', 'b')",
        "SELECT api_vault_destroy('acme', 'a')",
        "SELECT api_vault_shred('acme', 'acme')",
        "CALL api_vault_rotate_dek('acme', 1)",
        "CALL api_vault_rekey()",
    ];
    let db = Database::new();
    std::thread::scope(|scope| {
        for call in CALLS {
            let db = &db;
            scope.spawn(move || {
                let mut sql = db.connect();
                for _ in 0..60 {
                    sql.query(call, &[]).unwrap_or_else(|error| panic!("{call}: {error:?}"));
                }
            });
        }
    });
    let mut sql = db.connect();
    let bad = "SELECT count(*) FROM api_vault_verify() WHERE result <> 'ok'";
    assert_eq!(number(&mut sql, bad, &[]), 0);
    store(&mut sql, "a", "last");
    assert_eq!(get(&mut sql, "a").as_deref(), Some("last"));
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let db = Database::new();
    let mut sql = db.connect();
    let good = "SELECT check_name FROM api_tokens_doctor() WHERE status = 'ok' AND remedy IS NULL";
    let bad = "SELECT check_name FROM api_tokens_doctor() WHERE status = 'warning' AND remedy <> '' ORDER BY 1";
    sql.batch_execute("SET log_parameter_max_length = 0").expect("set");
    let found = column(&mut sql, good, &[]);
    for check in [
        "log_statement",
        "log_parameter_max_length",
        "vault keys",
        "cleanup",
        "creators in the schema",
    ] {
        assert!(found.contains(&check.to_owned()), "{check}: {found:?}");
    }
    let made = create(&mut sql, "");
    age(&mut sql, &made, "revoked_at = now() - interval '100 days'");
    sql.batch_execute(
        "GRANT CREATE ON SCHEMA public TO PUBLIC; SET log_statement = 'all'; SET log_min_duration_statement = 100; SET log_parameter_max_length = -1;
        SET log_parameter_max_length_on_error = 100; SET auto_explain.log_min_duration = 5",
    )
    .expect("set");
    let is_checked = text(&mut sql, "SELECT current_setting('data_checksums')", &[]) == "on";
    let expected = [
        "auto_explain.log_min_duration",
        "cleanup",
        "creators in the schema",
        "data_checksums",
        "log_min_duration_statement",
        "log_min_error_statement",
        "log_parameter_max_length",
        "log_parameter_max_length_on_error",
        "log_statement",
        "shared_preload_libraries",
    ];
    let expected: Vec<&str> =
        expected.into_iter().filter(|check| !is_checked || *check != "data_checksums").collect();
    assert_eq!(column(&mut sql, bad, &[]), expected);
}

#[test]
fn an_old_snapshot_destroys_no_key_in_use() {
    let db = Database::new();
    let (mut old, mut sql) = (db.connect(), db.connect());
    store(&mut sql, "a", "one");
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").expect("begin");
    store(&mut sql, "b", "two");
    assert_eq!(code(&mut old, "SELECT api_vault_shred('acme', 'acme')"), "40001");
    old.batch_execute("ROLLBACK").expect("rollback");

    // Somebody is storing with the key that is about to be replaced.
    let mut slow = db.connect();
    slow.batch_execute("BEGIN; SELECT api_vault_store('acme', 'c', 'three')").expect("store");
    assert!(truth(&mut sql, "SELECT api_vault_rotate_dek_begin('acme')", &[]));
    assert_eq!(number(&mut sql, "SELECT api_vault_rotate_dek_step('acme')", &[]), 2);
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").expect("begin");
    slow.batch_execute("COMMIT").expect("commit");
    let step = "SELECT api_vault_rotate_dek_step('acme', wait => true)";
    assert_eq!(number(&mut old, step, &[]), 0, "out of its sight");
    old.batch_execute("COMMIT").expect("commit");
    assert_eq!(get(&mut sql, "c").as_deref(), Some("three"));
    assert_eq!(number(&mut sql, step, &[]), 1);
    assert_eq!(number(&mut sql, step, &[]), 0, "nothing is left, and the old key is gone");
    assert_eq!(maybe(&mut sql, step, &[]), None);
    for (name, value) in [("a", "one"), ("b", "two"), ("c", "three")] {
        assert_eq!(get(&mut db.connect(), name).as_deref(), Some(value));
    }
}

#[test]
fn rights_are_those_of_the_level() {
    let mut db = Database::new();
    let (user, admin, nobody) = (
        db.role("user", &["vault"]),
        db.role("admin", &["admin"]),
        db.role("nobody", &["manage", "validate"]),
    );
    let mut sql = db.connect_as(&user);
    store(&mut sql, "k", "v");
    assert_eq!(get(&mut sql, "k").as_deref(), Some("v"));
    for closed in [
        "SELECT * FROM api_tokens.vault_versions",
        "SELECT api_vault_rekey_step()",
        "CALL api_vault_rekey()",
        "SELECT * FROM api_vault_verify()",
        "SELECT * FROM api_tokens_doctor()",
        "SET api_tokens.vault_key_file = '/etc/passwd'",
        "SHOW api_tokens.vault_key_file",
        "SELECT api_token_create('acme')",
    ] {
        assert!(matches!(code(&mut sql, closed).as_str(), "42501" | "55P02"), "{closed}");
    }
    let mut nobody = db.connect_as(&nobody);
    for closed in [
        "SELECT api_vault_get('acme', 'k')",
        "SELECT api_vault_store('acme', 'k', 'v')",
        "SELECT * FROM api_vault_list('acme')",
        "SELECT api_vault_shred('acme', 'acme')",
        "SELECT * FROM api_vault_encrypt_value('a', 'b')",
    ] {
        assert_eq!(code(&mut nobody, closed), "42501", "{closed}");
    }
    let mut admin = db.connect_as(&admin);
    admin.batch_execute("CALL api_vault_rekey()").expect("rekey");
    admin.batch_execute("CALL api_vault_rotate_dek('acme')").expect("rotate");
    let open = "SELECT result || ' ' || count FROM api_vault_verify() WHERE object = 'value'";
    assert_eq!(text(&mut admin, open, &[]), "ok 1");
}

#[test]
fn changes_leave_events_without_values() {
    let db = Database::new();
    let mut sql = db.connect();
    store(&mut sql, "k", "the value");
    run(&mut sql, "SELECT api_vault_delete('acme', 'k')", &[]);
    sql.batch_execute("CALL api_vault_rotate_dek('acme')").expect("rotate");
    run(&mut sql, "SELECT api_vault_shred('acme', 'acme')", &[]);
    let events = "SELECT concat_ws(' ', method, namespace, count, detail) FROM api_token_events()";
    let expected = [
        "vault_store acme {\"version\": 1, \"key_name\": \"k\"}",
        "vault_delete acme {\"version\": 1, \"key_name\": \"k\"}",
        "vault_rekey acme 1",
        "vault_shred acme 1",
    ];
    assert_eq!(column(&mut sql, events, &[]), expected);
}

#[test]
fn bad_calls_are_refused_and_quoted_nowhere() {
    let db = Database::new();
    let mut sql = db.connect();
    let marker = "NOT-TO-BE-QUOTED";
    sql.batch_execute("SET api_tokens.vault_max_value_bytes = 20").expect("set");
    for (call, expected) in [
        ("api_vault_store(NULL, 'k', '{m}')", "22004"),
        ("api_vault_store('a', NULL, '{m}')", "22004"),
        ("api_vault_store('a', 'k', NULL)", "22004"),
        ("api_vault_store('', 'k', '{m}')", "22023"),
        ("api_vault_store('a', '', '{m}')", "22023"),
        ("api_vault_store(repeat('a', 513), 'k', '{m}')", "22023"),
        ("api_vault_store('a', repeat('a', 257), '{m}')", "22023"),
        ("api_vault_store('a', 'k', '{m} and more than 20')", "54000"),
        ("api_vault_store('a', 'k', '{m}', expected_version => -1)", "22023"),
        ("api_vault_store('a', 'k', '{m}', expires_at => now())", "22023"),
        ("api_vault_get(NULL, 'k')", "22004"),
        ("api_vault_get('a', NULL)", "22004"),
        ("api_vault_rollback('a', 'k', NULL)", "22004"),
        ("api_vault_rollback('a', 'k', 1)", "P0002"),
        ("api_vault_shred('a', NULL)", "22004"),
        ("api_vault_list('')", "22023"),
        ("api_vault_versions('a', '')", "22023"),
        ("api_vault_versions('a', NULL)", "22004"),
        ("api_vault_store_encrypted('a', 'k', NULL, '{m}')", "22004"),
        ("api_vault_store_encrypted('a', 'k', '{m}', NULL)", "22004"),
        ("api_vault_store_encrypted('a', 'k', '{m}', 'AAAAAAAAAAAAAAAA')", "22023"),
        (
            "api_vault_store_encrypted('a', 'k', encode(repeat('a', 16)::bytea, 'base64'), '{m}')",
            "22023",
        ),
        ("api_vault_encrypt_value(NULL, '{m}')", "22004"),
        ("api_vault_encrypt_value('{m}', NULL)", "22004"),
        ("api_vault_decrypt_value('{m}', 'AAAAAAAAAAAAAAAA', 's')", "22023"),
        ("api_vault_rekey_step(0)", "22023"),
        ("api_vault_rekey_step(NULL)", "22004"),
        ("api_vault_rotate_dek_begin(NULL)", "22004"),
    ] {
        let error = failure(&mut sql, &format!("SELECT {}", call.replace("{m}", marker)), &[]);
        assert_eq!(error.code().code(), expected, "{call}");
        let shown = [Some(error.message()), error.detail(), error.hint(), error.where_()];
        assert!(!shown.into_iter().flatten().any(|text| text.contains(marker)), "{call}");
    }
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_tokens.vault_secrets", &[]), 0);
}
