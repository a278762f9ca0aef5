//! Tokens and keys of convex-api-tokens 0.3.2 move in, and go on as they were. The export in
//! `tests/vectors/convex-export` was made by that component's own functions; what they said of each
//! token and value is in its `expected.json`.

use api_tokens_tests::*;
use postgres::Client;
use std::path::{Path, PathBuf};
use std::process::Command;

const SECRET: &str = "API_TOKENS_ENCRYPTION_KEY";

fn export() -> PathBuf {
    root().join("tests/vectors/convex-export")
}

/// A database with the export's expectations in it, where a role with no more than it needs migrates.
struct Migration {
    db: Database,
    role: String,
    export: PathBuf,
}

impl Migration {
    fn new() -> Self {
        let mut db = Database::new();
        let role = db.role("migrator", &["manage", "vault"]);
        let mut sql = db.connect();
        let own = format!("CREATE SCHEMA AUTHORIZATION {role}; CREATE TABLE expected (it jsonb)");
        sql.batch_execute(&own).expect("schema");
        let expected = std::fs::read_to_string(export().join("expected.json")).expect("expected");
        run(&mut sql, "INSERT INTO expected VALUES ($1::text::jsonb)", &[&expected]);
        Self { db, role, export: export().join("_components/apiTokens") }
    }

    /// Exit code 0, and all that the script printed.
    fn run(&self, options: &[&str], secret: Option<&str>) -> (bool, String) {
        let mut command = Command::new("node");
        command.arg("examples/migrate/convex.mjs").args(options).arg(&self.export);
        command.current_dir(root()).env_remove(SECRET);
        command.env("PGHOST", host()).env("PGUSER", &self.role).env("PGDATABASE", &self.db.name);
        if let Some(secret) = secret {
            command.env(SECRET, secret);
        }
        let output = command.output().expect("node");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).expect("utf-8"))
    }

    fn passes(&self, options: &[&str], secret: Option<&str>) -> String {
        let (passed, said) = self.run(options, secret);
        assert!(passed, "{said}");
        said
    }

    /// What the script said; nothing was changed.
    fn fails(&self, options: &[&str], secret: Option<&str>) -> String {
        let mut sql = self.db.connect();
        let before = state(&mut sql);
        let (passed, said) = self.run(options, secret);
        assert!(!passed, "{said}");
        assert!(said.starts_with("nothing was changed: "), "{said}");
        assert_eq!(state(&mut sql), before);
        said
    }

    /// Where a copy of the export would be.
    fn copy(&self) -> PathBuf {
        std::env::temp_dir().join(&self.db.name)
    }

    /// A copy of the export, to be changed.
    fn copy_export(&mut self) -> PathBuf {
        let copy = self.copy();
        for table in ["tokens", "encryptedKeys"] {
            std::fs::create_dir_all(copy.join(table)).expect("folder");
            let file = Path::new(table).join("documents.jsonl");
            std::fs::copy(self.export.join(&file), copy.join(&file)).expect("copy");
        }
        self.export.clone_from(&copy);
        copy
    }
}

impl Drop for Migration {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.copy());
    }
}

fn secret(sql: &mut Client) -> String {
    text(sql, "SELECT it ->> 'encryptionKey' FROM expected", &[])
}

/// Everything that a migration could change, as one digest.
fn state(sql: &mut Client) -> String {
    text(
        sql,
        "SELECT md5(concat(
            (SELECT string_agg(t::text, ',' ORDER BY t.token_id) FROM api_tokens.tokens t),
            (SELECT string_agg(t::text, ',' ORDER BY t.event_id) FROM api_tokens.events t),
            (SELECT string_agg(t::text, ',' ORDER BY t::text) FROM api_tokens.vault_secrets t),
            (SELECT string_agg(t::text, ',' ORDER BY t::text) FROM api_tokens.vault_versions t)))",
        &[],
    )
}

/// Rows that must not be there.
fn none(sql: &mut Client, what: &str) {
    assert_eq!(column(sql, what, &[]), Vec::<String>::new());
}

const EXPECTED_TOKENS: &str = "SELECT e.* FROM expected, jsonb_to_recordset(it -> 'tokens')
    AS e(label text, token text, convex_id text, verdict text, namespace jsonb, name text, metadata jsonb,
        created_ms float8, last_used_ms float8)";

const TOKEN: &str = "SELECT e ->> 'token' FROM expected, jsonb_array_elements(it -> 'tokens') e WHERE e ->> 'label' = $1";

#[test]
fn every_token_is_judged_as_the_component_judged_it() {
    judges_as_the_component(&Migration::new());
}

/// An older form of the export writes the values that JSON has not as plain texts.
#[test]
fn so_it_is_from_an_export_in_the_older_form() {
    let mut migration = Migration::new();
    let file = migration.copy_export().join("tokens/documents.jsonl");
    let mut tokens = std::fs::read_to_string(&file).expect("tokens");
    for (encoded, plain) in [
        (r#"{"$float":"AAAAAAAA8H8="}"#, "Infinity"),
        (r#"{"$float":"AAAAAAAA8P8="}"#, "-Infinity"),
        (r#"{"$integer":"AQAAAAAAIAA="}"#, "9007199254740993"),
        (r#"{"$integer":"TQAAAAAAAAA="}"#, "77"),
        (r#"{"$integer":"//////////8="}"#, "-1"),
    ] {
        assert!(tokens.contains(encoded), "{plain}");
        tokens = tokens.replace(encoded, &format!("{plain:?}"));
    }
    assert!(!tokens.contains('$'));
    std::fs::write(&file, tokens).expect("write");
    judges_as_the_component(&migration);
}

fn judges_as_the_component(migration: &Migration) {
    let mut sql = migration.db.connect();
    let secret = secret(&mut sql);
    let said = migration.passes(&["--keep-sealed"], Some(&secret));
    assert!(said.contains("tokens: 21 moved"), "{said}");

    // All of it, of the accepted and the refused: what the component's own table held.
    none(
        &mut sql,
        &format!(
            "SELECT concat_ws(' ', label, g) FROM ({EXPECTED_TOKENS}) e
            LEFT JOIN {role}.convex_tokens c USING (convex_id) LEFT JOIN api_tokens.tokens g USING (token_id)
            WHERE verdict <> 'invalid' AND (g.token_id IS NULL
                OR g.token_hash <> sha256(convert_to(e.token, 'UTF8'))
                OR g.namespace <> CASE jsonb_typeof(e.namespace) WHEN 'string' THEN e.namespace #>> '{{}}'
                    ELSE replace(e.namespace::text, ' ', '') END
                OR g.name IS DISTINCT FROM e.name
                OR coalesce(g.metadata, 'null') IS DISTINCT FROM coalesce(e.metadata, 'null')
                OR g.created_at <> to_timestamp(e.created_ms / 1000)
                OR g.last_used_at <> to_timestamp(e.last_used_ms / 1000))",
            role = migration.role
        ),
    );
    none(
        &mut sql,
        &format!(
            "SELECT concat_ws(' ', label, verdict, ok, reason) FROM ({EXPECTED_TOKENS}) e,
                LATERAL api_token_validate(e.token, cost => 0) v
            WHERE CASE WHEN v.ok THEN 'ok' ELSE v.reason END IS DISTINCT FROM verdict"
        ),
    );
    // Whole numbers are whole, so that a record of integers can be made of them.
    let seats = "SELECT m.seats FROM expected, jsonb_path_query(it, '$.tokens[*] ? (@.label == \"plain\")') e,
        LATERAL api_token_validate(e ->> 'token') v, jsonb_to_record(v.metadata) AS m(seats integer)";
    assert_eq!(number(&mut sql, seats, &[]), 5);
    // A rotated token was revoked when its heir was made, and the display text is the component's.
    let heirs = "SELECT count(*) FROM api_tokens.tokens old JOIN api_tokens.tokens heir
            ON heir.created_at = old.revoked_at
        WHERE old.name = 'rotated' AND heir.name = 'rotated' AND old.token_prefix ~ '^sk_[0-9a-f]{4}\\.{3}[0-9a-f]{4}$'";
    assert_eq!(number(&mut sql, heirs, &[]), 2);
    // The link to the heir is not carried, so a rotated token is no sign of reuse.
    let rotated = text(&mut sql, TOKEN, &[&"rotated"]);
    assert_eq!(refresh(&mut sql, &rotated, "").err().as_deref(), Some("revoked"));
    let reuse = "SELECT count(*) FROM api_token_events() WHERE method = 'reuse_detected'";
    assert_eq!(number(&mut sql, reuse, &[]), 0);
    assert!(!truth(&mut sql, "SELECT api_token_looks_valid($1)", &[&rotated]));
    // Tokens go on as any other.
    let heir = text(&mut sql, TOKEN, &[&"heir"]);
    let made = refresh(&mut sql, &heir, "").expect("refreshed");
    assert_eq!(
        (verdict(&mut sql, &heir).as_str(), verdict(&mut sql, &made.token).as_str()),
        ("revoked", "ok")
    );
}

#[test]
fn every_key_opens_and_what_another_secret_sealed_is_kept() {
    let migration = Migration::new();
    let mut sql = migration.db.connect();
    let secret = secret(&mut sql);
    let said = migration.passes(&["--keep-sealed"], Some(&secret));
    assert!(said.contains("keys: 4 sealed anew, 1 kept"), "{said}");
    none(
        &mut sql,
        "SELECT e ->> 'keyName' FROM expected, jsonb_array_elements(it -> 'values') e
        WHERE api_vault_get(e ->> 'namespace', e ->> 'keyName') IS DISTINCT FROM e ->> 'value'",
    );
    let kept =
        "SELECT api_vault_decrypt_value(encrypted_value, iv, k ->> 'passphrase') = k ->> 'value'
        FROM expected, LATERAL (SELECT it -> 'kept') e(k),
            LATERAL api_vault_get_encrypted(k ->> 'namespace', k ->> 'keyName')";
    assert!(truth(&mut sql, kept, &[]));
    let all = "SELECT string_agg(concat_ws(' ', object, result, count), ', ' ORDER BY object) FROM api_vault_verify()";
    assert_eq!(text(&mut sql, all, &[]), "data key ok 2, value ok 4");
}

#[test]
fn a_second_run_changes_nothing() {
    let migration = Migration::new();
    let mut sql = migration.db.connect();
    let secret = secret(&mut sql);
    migration.passes(&["--keep-sealed"], Some(&secret));
    // What was changed here since stays, too.
    run(&mut sql, "SELECT api_vault_store('customer-1', 'stripe', 'stored since')", &[]);
    run(&mut sql, "SELECT api_token_invalidate_all('Ünïcode 客户 🔑')", &[]);
    let before = state(&mut sql);
    let said = migration.passes(&["--keep-sealed"], Some(&secret));
    assert_eq!(
        said,
        "tokens: 0 moved, 21 there before, 0 of them revoked since\n\
        keys: 0 sealed anew, 0 kept as they were sealed, 5 there before\n"
    );
    assert_eq!(state(&mut sql), before);
}

#[test]
fn a_later_export_brings_new_tokens_and_revocations() {
    let mut migration = Migration::new();
    let mut sql = migration.db.connect();
    let secret = secret(&mut sql);
    let copy = migration.copy_export().join("tokens/documents.jsonl");
    let later = std::fs::read_to_string(&copy).expect("tokens");
    let (plain, others) = later.split_once('\n').expect("lines");
    std::fs::write(&copy, others).expect("write");
    migration.passes(&["--keep-sealed"], Some(&secret));
    let revoked = others.replacen("\"revoked\":false", "\"revoked\":true", 1);
    std::fs::write(&copy, format!("{plain}\n{revoked}")).expect("write");
    let said = migration.passes(&["--keep-sealed"], Some(&secret));
    assert!(said.contains("tokens: 1 moved, 20 there before, 1 of them revoked since"), "{said}");
    for (of, expected) in [("plain", "ok"), ("bare", "revoked")] {
        let token = text(&mut sql, TOKEN, &[&of]);
        assert_eq!(verdict(&mut sql, &token), expected, "{of}");
    }
}

#[test]
fn what_cannot_be_moved_whole_is_not_moved_at_all() {
    let mut migration = Migration::new();
    let mut sql = migration.db.connect();
    let secret = secret(&mut sql);
    // The client's own passphrase is not the app's.
    let said = migration.fails(&[], Some(&secret));
    assert!(said.contains("encryptedKeys, line 5: the value does not decrypt"), "{said}");
    let said = migration.fails(&[], Some("not the secret"));
    assert!(said.contains("encryptedKeys, line 1: the value does not decrypt"), "{said}");
    let said = migration.fails(&[], None);
    assert!(said.contains("set API_TOKENS_ENCRYPTION_KEY"), "{said}");

    let copy = migration.copy_export();
    let file = copy.join("tokens/documents.jsonl");
    let tokens = std::fs::read_to_string(&file).expect("tokens");
    let fails_with = |changed: String, expected: &str| {
        std::fs::write(&file, changed).expect("write");
        let said = migration.fails(&["--keep-sealed"], Some(&secret));
        assert!(said.contains(expected), "{said}");
    };
    // 42 and "42" are two customers there, and would be one here.
    fails_with(
        tokens.replacen("\"namespace\":\"customer-1\"", "\"namespace\":\"42\"", 1),
        "another namespace than that of tokens, line 1",
    );
    fails_with(tokens.replacen('{', "", 1), "tokens, line 1: no document");
    fails_with(tokens.replacen("tokenHash\":\"", "tokenHash\":\"x", 1), "line 1: tokenHash is no");
    let long = format!("\"name\":\"{}\"", "n".repeat(257));
    fails_with(tokens.replacen("\"name\":\"leaked\"", &long, 1), "name");
    let twice =
        format!("{tokens}{}", tokens.lines().next().expect("one").replacen("10000tokens", "x", 1));
    fails_with(twice, "line 22: ");
}

#[test]
fn no_secret_is_printed_or_logged() {
    let migration = Migration::new();
    let mut sql = migration.db.connect();
    let secret = secret(&mut sql);
    // The worst that can be set for errors: with what was sent.
    let verbose =
        format!("ALTER ROLE {} SET log_parameter_max_length_on_error = -1", migration.role);
    sql.batch_execute(&verbose).expect("set");
    let mut said = migration.fails(&[], Some(&secret));
    said += &migration.fails(&[], Some("a wrong secret"));
    said += &migration.passes(&["--keep-sealed"], Some(&secret));
    said += &migration.passes(&["--keep-sealed"], Some(&secret));
    let log = std::fs::read(cluster_dir().join("server.log")).expect("log");
    said += &String::from_utf8_lossy(&log);
    let secrets = "SELECT e ->> 'token' FROM expected, jsonb_array_elements(it -> 'tokens') e
        UNION ALL SELECT encode(sha256(convert_to(e ->> 'token', 'UTF8')), 'hex')
        FROM expected, jsonb_array_elements(it -> 'tokens') e
        UNION ALL SELECT e ->> 'value' FROM expected, jsonb_array_elements(it -> 'values') e WHERE e ->> 'value' <> ''
        UNION ALL SELECT it ->> 'encryptionKey' FROM expected
        UNION ALL SELECT 'a wrong secret'";
    for secret in column(&mut sql, secrets, &[]) {
        assert!(!said.contains(&secret), "{secret}");
    }
}
