//! Promise 2: a raw token is at rest nowhere.

use api_tokens_tests::*;
use std::path::{Path, PathBuf};

/// All files below a folder that can be read; temporary ones may vanish meanwhile.
fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, into),
            Ok(kind) if kind.is_file() => into.push(path),
            _ => {}
        }
    }
}

fn files_with(needle: &[u8]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(&cluster_dir(), &mut all);
    assert!(all.len() > 500, "the cluster's files can be read");
    all.retain(|path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    });
    all
}

#[test]
fn neither_heap_nor_wal_nor_log_holds_a_token() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute(
        "LISTEN api_tokens; SET log_statement = 'all'; SET log_parameter_max_length = 0",
    )
    .expect("set");
    let namespace = format!("namespace-{}", db.name);
    let row = sql
        .query_one("SELECT token FROM api_token_create($1, max_idle => '1 h')", &[&namespace])
        .expect("create");
    let first: String = row.get(0);
    assert_eq!(verdict(&mut sql, &first), "ok");
    assert!(truth(&mut sql, "SELECT api_token_touch($1)", &[&first]));
    let second = refresh(&mut sql, &first, ", '1 h'").expect("refresh").token;
    assert!(refresh(&mut sql, &first, "").is_err(), "reuse");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&second]);
    run(&mut sql, "SELECT count(*) FROM api_token_list($1, true)", &[&namespace]);
    failure(&mut sql, "SELECT api_token_validate($1, '{a b}')", &[&second]);
    failure(&mut sql, "SELECT api_token_refresh($1, '-1 s')", &[&second]);
    sql.batch_execute("CHECKPOINT").expect("checkpoint");
    let told = notifications(&mut sql).join("\n");
    for token in [&first, &second] {
        let secret = &token[3..];
        assert!(!told.contains(secret));
        assert_eq!(files_with(secret.as_bytes()), [] as [PathBuf; 0]);
    }
    // The search itself works: the namespace is in heap and WAL.
    let found = files_with(namespace.as_bytes());
    let in_folder = |name: &str| found.iter().any(|path| path.to_string_lossy().contains(name));
    assert!(in_folder("/base/") && in_folder("/pg_wal/"), "{found:?}");
}

#[test]
fn neither_heap_nor_wal_nor_log_holds_a_value_of_the_vault() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute(
        "LISTEN api_tokens; SET log_statement = 'all'; SET log_parameter_max_length = 0;
        SET log_min_duration_statement = 0; SET log_error_verbosity = 'verbose'",
    )
    .expect("set");
    // Made here, so that this source does not hold it; long enough to be moved out of the row.
    let marker = format!("marker-of-{}-", db.name);
    let value = marker.repeat(400);
    let store = "SELECT api_vault_store('acme', $1, $2)";
    run(&mut sql, store, &[&"short", &marker]);
    run(&mut sql, store, &[&"long", &value]);
    run(&mut sql, "SELECT api_vault_get('acme', 'long')", &[]);
    run(&mut sql, "SELECT api_vault_rollback('acme', 'short', 1)", &[]);
    sql.batch_execute("CALL api_vault_rotate_dek('acme')").expect("rotate");
    run(&mut sql, "SELECT * FROM api_vault_verify()", &[]);
    let conflict = "SELECT api_vault_store('acme', 'short', $1, 99)";
    failure(&mut sql, conflict, &[&marker]);
    failure(&mut sql, store, &[&"", &marker]);
    sql.batch_execute("SET api_tokens.vault_max_value_bytes = 4").expect("set");
    failure(&mut sql, store, &[&"short", &marker]);
    let wrong = "SELECT api_vault_decrypt_value(encrypted_value, iv, 'wrong') FROM api_vault_encrypt_value('', $1)";
    failure(&mut sql, wrong, &[&marker]);
    let events = column(&mut sql, "SELECT e FROM api_token_events() e", &[]).join("\n");
    assert!(!events.contains(&marker) && !notifications(&mut sql).join("\n").contains(&marker));
    sql.batch_execute("VACUUM").expect("vacuum");
    sql.batch_execute("CHECKPOINT").expect("checkpoint");
    assert_eq!(files_with(marker.as_bytes()), [] as [PathBuf; 0]);
}

#[test]
fn a_refused_call_is_logged_without_its_statement_and_context() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute("SET log_parameter_max_length_on_error = -1").expect("set");
    let made = create(&mut sql, "");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&made.token]);
    let token = &made.token;
    for call in [
        format!("SELECT api_token_require('{token}')"),
        format!("SELECT api_token_require('{token}', '{{a b}}')"),
        format!("SELECT api_token_validate('{token}', '{{a b}}')"),
        format!("SELECT api_token_refresh('{token}', '-1 s')"),
        format!("DO $$ BEGIN EXECUTE format('SELECT api_token_require(%L)', '{token}'); END $$"),
    ] {
        assert!(sql.batch_execute(&call).is_err(), "{call}");
    }
    failure(&mut sql, "SELECT api_token_require($1)", &[token]);
    failure(&mut sql, "SELECT 1 / 0 AS shown", &[]);
    let log = std::fs::read_to_string(cluster_dir().join("server.log")).expect("log");
    assert!(
        log.contains(&made.id) && log.contains("AS shown"),
        "the log has errors and statements"
    );
    assert!(!log.contains(&token[3..]));
}
