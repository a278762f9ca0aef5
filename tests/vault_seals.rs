//! The vault's boxes and data keys: what becomes of a box that is not where it was, of a namespace that
//! is shredded, and of both while everybody writes. The keys outside of the database are in
//! `vault_keys.rs`.

use api_tokens_tests::*;

#[test]
fn a_reader_finds_a_value_that_is_being_replaced() {
    let db = Database::new();
    let mut sql = db.connect();
    vault_store(&mut sql, "k", "0");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut sql = db.connect();
            sql.batch_execute("SET api_tokens.vault_keep_versions = 1").expect("set");
            for number in 0..400 {
                vault_store(&mut sql, "k", &number.to_string());
            }
        });
        let rotation = scope.spawn(|| {
            let mut sql = db.connect();
            for _ in 0..40 {
                sql.batch_execute("CALL api_vault_rotate_dek('acme')").expect("rotate");
            }
        });
        while !(writer.is_finished() && rotation.is_finished()) {
            assert!(vault_get(&mut sql, "k").is_some());
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
                    vault_store(&mut sql, "k", &format!("{thread}/{number}"));
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

/// What reading says after somebody with access to the table has had a hand in it.
fn after(tampering: &str) -> (String, String) {
    let db = Database::new();
    let mut sql = db.connect();
    vault_store(&mut sql, "a", "value of a");
    vault_store(&mut sql, "a", "newer of a");
    vault_store(&mut sql, "b", "value of b");
    run(&mut sql, "SELECT api_vault_store('other', 'a', 'value of other')", &[]);
    sql.batch_execute(tampering).expect(tampering);
    let mut reader = db.connect();
    let error = failure(&mut reader, VAULT_GET, &[&"acme", &"a"]);
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
    vault_store(&mut sql, "a", "one");
    vault_store(&mut sql, "b", "two");
    run(&mut sql, "SELECT api_vault_store('other', 'a', 'stays')", &[]);
    sql.batch_execute("CREATE TABLE copy AS SELECT * FROM api_tokens.vault_versions; CREATE TABLE names AS SELECT * FROM api_tokens.vault_secrets")
        .expect("a backup");
    assert_eq!(vault_get(&mut reader, "a").as_deref(), Some("one"), "keeps the data key");
    assert_eq!(error_code(&mut sql, "SELECT api_vault_shred('acme', 'ACME')"), "22023");
    reader
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .expect("an old snapshot");
    assert_eq!(number(&mut sql, "SELECT api_vault_shred('acme', 'acme')", &[]), 2);
    assert_eq!(vault_get(&mut reader, "a"), None);
    reader.batch_execute("COMMIT").expect("commit");
    sql.batch_execute(
        "INSERT INTO api_tokens.vault_versions SELECT * FROM copy WHERE namespace = 'acme';
        INSERT INTO api_tokens.vault_secrets SELECT * FROM names WHERE namespace = 'acme'",
    )
    .expect("restored");
    for sql in [&mut reader, &mut sql] {
        let error = failure(sql, VAULT_GET, &[&"acme", &"a"]);
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
    vault_store(&mut sql, "a", "last");
    assert_eq!(vault_get(&mut sql, "a").as_deref(), Some("last"));
}

#[test]
fn an_old_snapshot_destroys_no_key_in_use() {
    let db = Database::new();
    let (mut old, mut sql) = (db.connect(), db.connect());
    vault_store(&mut sql, "a", "one");
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").expect("begin");
    vault_store(&mut sql, "b", "two");
    assert_eq!(error_code(&mut old, "SELECT api_vault_shred('acme', 'acme')"), "40001");
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
    assert_eq!(vault_get(&mut sql, "c").as_deref(), Some("three"));
    assert_eq!(number(&mut sql, step, &[]), 1);
    assert_eq!(number(&mut sql, step, &[]), 0, "nothing is left, and the old key is gone");
    assert_eq!(maybe(&mut sql, step, &[]), None);
    for (name, value) in [("a", "one"), ("b", "two"), ("c", "three")] {
        assert_eq!(vault_get(&mut db.connect(), name).as_deref(), Some(value));
    }
}
