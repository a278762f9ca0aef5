//! The vault: storing, reading, versions, rights, and what its doctor says.

use api_tokens_tests::*;
use postgres::Client;

#[test]
fn a_value_comes_back_as_it_was_stored() {
    let db = Database::new();
    let mut sql = db.connect();
    for value in ["sk_live_1", "", "välue 🔑", &"x".repeat(65_536)] {
        vault_store(&mut sql, "stripe", value);
        assert_eq!(vault_get(&mut sql, "stripe").as_deref(), Some(value));
        let mut other = db.connect();
        assert_eq!(vault_get(&mut other, "stripe").as_deref(), Some(value), "another session");
    }
    assert_eq!(vault_get(&mut sql, "openai"), None);
    assert_eq!(maybe(&mut sql, VAULT_GET, &[&"other", &"stripe"]), None);
}

#[test]
fn versions_count_on_and_old_ones_can_be_read() {
    let db = Database::new();
    let mut sql = db.connect();
    for number in 1..=12 {
        assert_eq!(vault_store(&mut sql, "stripe", &format!("value {number}")), number);
    }
    let versions = "SELECT version || ' ' || is_current FROM api_vault_versions('acme', 'stripe')";
    let found = column(&mut sql, versions, &[]);
    assert_eq!((found.len(), found[0].as_str(), found[9].as_str()), (10, "12 true", "3 false"));
    assert_eq!(text(&mut sql, "SELECT api_vault_get('acme', 'stripe', 3)", &[]), "value 3");
    assert_eq!(error_code(&mut sql, "SELECT api_vault_get('acme', 'stripe', 2)"), "P0002");
    assert_eq!(number(&mut sql, "SELECT api_vault_rollback('acme', 'stripe', 5)", &[]), 13);
    assert_eq!(vault_get(&mut sql, "stripe").as_deref(), Some("value 5"));
    assert_eq!(error_code(&mut sql, "SELECT api_vault_rollback('acme', 'stripe', 1)"), "P0002");
    sql.batch_execute("SET api_tokens.vault_keep_versions = 2").expect("set");
    vault_store(&mut sql, "stripe", "value 14");
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
    vault_store(&mut sql, "k", "one");
    vault_store(&mut sql, "k", "two");
    assert!(truth(&mut sql, "SELECT api_vault_delete('acme', 'k')", &[]));
    assert!(!truth(&mut sql, "SELECT api_vault_delete('acme', 'k')", &[]));
    assert!(!truth(&mut sql, "SELECT api_vault_delete('acme', 'unknown')", &[]));
    assert_eq!(vault_get(&mut sql, "k"), None);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_vault_list('acme')", &[]), 0);
    let deleted = "SELECT key_name FROM api_vault_list('acme', true) WHERE deleted_at IS NOT NULL";
    assert_eq!(text(&mut sql, deleted, &[]), "k");
    assert!(truth(&mut sql, "SELECT api_vault_undelete('acme', 'k')", &[]));
    assert!(!truth(&mut sql, "SELECT api_vault_undelete('acme', 'k')", &[]));
    assert_eq!(vault_get(&mut sql, "k").as_deref(), Some("two"));

    assert_eq!(number(&mut sql, "SELECT api_vault_destroy('acme', 'k', 2)", &[]), 1);
    assert_eq!(vault_get(&mut sql, "k"), None, "an older version does not take its place");
    assert_eq!(text(&mut sql, "SELECT api_vault_get('acme', 'k', 1)", &[]), "one");
    assert_eq!(number(&mut sql, "SELECT api_vault_destroy('acme', 'k')", &[]), 1);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_vault_list('acme')", &[]), 0);
    assert_eq!(number(&mut sql, "SELECT api_vault_destroy('acme', 'k')", &[]), 0);
    assert!(!truth(&mut sql, "SELECT api_vault_undelete('acme', 'k')", &[]));
    assert_eq!(vault_store(&mut sql, "k", "three"), 3, "no number is used twice");
}

#[test]
fn an_expired_value_is_not_shown() {
    let db = Database::new();
    let mut sql = db.connect();
    let until = "SELECT api_vault_store('acme', 'k', 'v', metadata => '{\"a\": 1}', expires_at => now() + interval '1 h')";
    run(&mut sql, until, &[]);
    assert_eq!(vault_get(&mut sql, "k").as_deref(), Some("v"));
    assert_eq!(text(&mut sql, "SELECT metadata FROM api_vault_list('acme')", &[]), "{\"a\": 1}");
    sql.batch_execute("UPDATE api_tokens.vault_secrets SET expires_at = now() - interval '1 s'")
        .expect("age");
    assert_eq!(vault_get(&mut sql, "k"), None);
    assert_eq!(maybe(&mut sql, "SELECT api_vault_get('acme', 'k', 1)", &[]), None);
    vault_store(&mut sql, "k", "new");
    assert_eq!(vault_get(&mut sql, "k").as_deref(), Some("new"), "without an end");
}

#[test]
fn rolling_back_keeps_what_is_known_of_the_value() {
    let db = Database::new();
    let mut sql = db.connect();
    vault_store(&mut sql, "k", "one");
    let about = "SELECT api_vault_store('acme', 'k', 'two', metadata => '{\"a\": 1}', expires_at => 'infinity')";
    run(&mut sql, about, &[]);
    run(&mut sql, "SELECT api_vault_rollback('acme', 'k', 1)", &[]);
    let kept = "SELECT concat_ws(' ', metadata, expires_at) FROM api_vault_list('acme')";
    assert_eq!(text(&mut sql, kept, &[]), "{\"a\": 1} infinity");
    sql.batch_execute("UPDATE api_tokens.vault_secrets SET expires_at = now() - interval '1 s'")
        .expect("age");
    run(&mut sql, "SELECT api_vault_rollback('acme', 'k', 2)", &[]);
    assert_eq!(
        vault_get(&mut sql, "k").as_deref(),
        Some("two"),
        "an end that has passed does not stay"
    );

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
fn an_error_leaves_nothing_half_done() {
    let db = Database::new();
    let mut sql = db.connect();
    vault_store(&mut sql, "k", "one");
    sql.batch_execute("BEGIN").expect("begin");
    vault_store(&mut sql, "k", "two");
    run(&mut sql, "SELECT api_vault_store('new', 'k', 'v')", &[]);
    sql.batch_execute("ROLLBACK").expect("rollback");
    assert_eq!(vault_get(&mut sql, "k").as_deref(), Some("one"));
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
    vault_store(&mut sql, "k", "sealed");
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
    assert_eq!(error_code(&mut sql, long), "57014");
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
fn rights_are_those_of_the_level() {
    let mut db = Database::new();
    let (user, admin, nobody) = (
        db.role("user", &["vault"]),
        db.role("admin", &["admin"]),
        db.role("nobody", &["manage", "validate"]),
    );
    let mut sql = db.connect_as(&user);
    vault_store(&mut sql, "k", "v");
    assert_eq!(vault_get(&mut sql, "k").as_deref(), Some("v"));
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
        assert!(matches!(error_code(&mut sql, closed).as_str(), "42501" | "55P02"), "{closed}");
    }
    let mut nobody = db.connect_as(&nobody);
    for closed in [
        "SELECT api_vault_get('acme', 'k')",
        "SELECT api_vault_store('acme', 'k', 'v')",
        "SELECT * FROM api_vault_list('acme')",
        "SELECT api_vault_shred('acme', 'acme')",
        "SELECT * FROM api_vault_encrypt_value('a', 'b')",
    ] {
        assert_eq!(error_code(&mut nobody, closed), "42501", "{closed}");
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
    vault_store(&mut sql, "k", "the value");
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
