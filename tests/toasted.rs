//! Arguments as they lie in tables: compressed, out of line, both; and as PL/pgSQL keeps arrays. What is
//! kept or returned of them does not depend on where they came from.

use api_tokens_tests::*;
use postgres::Client;

/// How a column's long values are stored: whether compressed, and whether out of line.
const STORAGES: [(&str, bool, bool); 3] =
    [("EXTERNAL", false, true), ("MAIN", true, false), ("EXTENDED", true, true)];

/// Text of about so many bytes that compresses to a third.
fn compressible(bytes: u32) -> String {
    format!(
        "(SELECT string_agg(repeat(md5(i::text), 3), '') FROM generate_series(1, {bytes} / 96) i)"
    )
}

/// A row `given` of one long value of this type, stored so.
fn give(
    sql: &mut Client,
    kind: &str,
    value: &str,
    (storage, compressed, out_of_line): (&str, bool, bool),
) {
    sql.batch_execute(&format!(
        "DROP TABLE IF EXISTS given;
        CREATE TABLE given (v {kind});
        ALTER TABLE given ALTER v SET STORAGE {storage};
        INSERT INTO given SELECT {value}"
    ))
    .expect("given");
    let toast = text(
        sql,
        "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'given'::regclass",
        &[],
    );
    let form = format!(
        "SELECT (pg_column_compression(v) IS NOT NULL) || ' ' || EXISTS (SELECT FROM {toast}) FROM given"
    );
    assert_eq!(text(sql, &form, &[]), format!("{compressed} {out_of_line}"), "{kind} {storage}");
}

#[test]
fn a_long_token_is_recognised_however_it_is_stored() {
    let db = Database::new();
    let mut sql = db.connect();
    let long = compressible(7_900);
    for storage in STORAGES {
        give(&mut sql, "text", &long, storage);
        let import = "SELECT api_token_import('acme', sha256(v::bytea), left(v, 4) || '...', scopes => '{a}') FROM given";
        run(&mut sql, import, &[]);
        for accepted in [
            "SELECT ok FROM given, api_token_validate(v)",
            "SELECT ok FROM given, api_token_validate(v, '{a}')",
            "SELECT ok FROM given, api_token_authenticate(v)",
            "SELECT token_id IS NOT NULL FROM given, api_token_require(v)",
            "SELECT ok FROM given, api_token_validate_many(ARRAY[v])",
            "SELECT api_token_touch(v) FROM given",
            "SELECT api_token_from_header('Bearer ' || v) = v FROM given",
            "SELECT ok FROM given, api_token_refresh(v, '1 h')",
            "SELECT api_token_invalidate(v) FROM given",
        ] {
            assert!(truth(&mut sql, accepted, &[]), "{storage:?}: {accepted}");
        }
        let ended = "SELECT reason FROM given, api_token_validate(v)";
        assert_eq!(text(&mut sql, ended, &[]), "revoked");
        run(&mut sql, "SELECT api_token_cleanup('0')", &[]);
    }
}

#[test]
fn metadata_stays_what_it_was_when_its_source_is_gone() {
    let db = Database::new();
    let mut sql = db.connect();
    let long = format!(
        "jsonb_build_object('metadata', jsonb_build_object('long', {}))",
        compressible(30_000)
    );
    for storage in STORAGES {
        // Compressed it must fit a page, or it goes out of line all the same.
        let long = if storage.0 == "MAIN" { long.replace("30000", "15000") } else { long.clone() };
        give(&mut sql, "jsonb", &long, storage);
        sql.batch_execute(
            "DROP TABLE IF EXISTS made, expected;
            CREATE TABLE expected AS SELECT v -> 'metadata' AS inner_one, v::text AS whole FROM given;
            CREATE TABLE made AS SELECT c.* FROM given, api_token_create('acme', metadata => v) c;
            SELECT api_vault_store('acme', 'k', 'v', metadata => v) FROM given;
            SELECT api_token_import('acme', sha256('x'), 'x...', metadata => v) FROM given;
            DROP TABLE given",
        )
        .expect("stored");
        for given_back in [
            "api_token_validate(token)",
            "api_token_authenticate(token)",
            "api_token_validate_many(ARRAY['y', token])",
            "api_token_validate_hash(sha256('x'))",
            "api_token_get(token_id)",
            "api_vault_list('acme')",
        ] {
            let same = format!(
                "SELECT whole = (SELECT string_agg(metadata::text, '') FROM {given_back}) FROM expected, made"
            );
            assert!(truth(&mut sql, &same, &[]), "{storage:?}: {given_back}");
        }
        sql.batch_execute("BEGIN").expect("begin");
        run(&mut sql, "SELECT api_token_require(token) FROM made", &[]);
        run(&mut sql, "DELETE FROM api_tokens.tokens", &[]);
        let current = "SELECT api_token_current_metadata()::text = whole FROM expected";
        assert!(truth(&mut sql, current, &[]), "{storage:?}");
        sql.batch_execute("ROLLBACK").expect("rollback");
        // The changes of an update too.
        give(&mut sql, "jsonb", &long, storage);
        run(&mut sql, "SELECT u FROM given, made, api_token_update(token_id, v) u", &[]);
        sql.batch_execute("DROP TABLE given").expect("drop");
        let changed = "SELECT metadata = inner_one FROM expected, made, api_token_validate(token)";
        assert!(truth(&mut sql, changed, &[]), "{storage:?}");
        run(
            &mut sql,
            "SELECT count(*) FROM (SELECT api_token_invalidate_all()) i, LATERAL (SELECT api_token_cleanup('0')) c",
            &[],
        );
    }
}

#[test]
fn values_of_the_vault_are_taken_however_they_are_stored() {
    let db = Database::new();
    let mut sql = db.connect();
    for storage in STORAGES {
        let bytes = if storage.0 == "MAIN" { 20_000 } else { 60_000 };
        give(&mut sql, "text", &compressible(bytes), storage);
        run(&mut sql, "SELECT api_vault_store('acme', 'k', v) FROM given", &[]);
        for same in [
            "SELECT api_vault_get('acme', 'k') = v FROM given",
            "SELECT api_vault_decrypt_value(encrypted_value, iv, v) = v FROM given, api_vault_encrypt_value(v, v)",
        ] {
            assert!(truth(&mut sql, same, &[]), "{storage:?}: {same}");
        }
        sql.batch_execute(
            "CREATE TABLE sealed AS SELECT e.* FROM given, api_vault_encrypt_value(v, 's') e;
            SELECT api_vault_store_encrypted('acme', 'e', encrypted_value, iv) FROM sealed",
        )
        .expect("store");
        let back = "SELECT e.encrypted_value = s.encrypted_value FROM sealed s, api_vault_get_encrypted('acme', 'e') e";
        assert!(truth(&mut sql, back, &[]), "{storage:?}");
        sql.batch_execute("DROP TABLE sealed").expect("drop");
    }
}

#[test]
fn arrays_are_read_however_they_are_stored() {
    let db = Database::new();
    let mut sql = db.connect();
    let scopes = "(SELECT array_agg('a:' || repeat(md5((i / 3)::text), 3) || i) FROM generate_series(1, 150) i)";
    let networks = "(SELECT array_agg(rtrim(regexp_replace(md5((i / 2)::text), '(.{4})', '\\1:', 'g'), ':')::cidr)
        FROM generate_series(1, 256) i)";
    // Each three times.
    let tokens = "(SELECT array_agg(token ORDER BY token) FROM generate_series(1, 100) i, api_token_create('acme', i::text),
        generate_series(1, 3) thrice)";
    for storage in STORAGES {
        give(&mut sql, "text[]", tokens, storage);
        let all = "SELECT count(*) FILTER (WHERE ok) FROM given, api_token_validate_many(v)";
        assert_eq!(number(&mut sql, all, &[]), 300, "{storage:?}");
        give(&mut sql, "text[]", scopes, storage);
        sql.batch_execute("DROP TABLE IF EXISTS one; CREATE TABLE one AS SELECT c.* FROM given, api_token_create('acme', scopes => v) c")
            .expect("create");
        for held in [
            "SELECT ok FROM given, one, api_token_validate(token, v)",
            "SELECT scopes = v FROM given, one, api_token_get(token_id)",
            "SELECT api_token_scope_covers(v, v[150]) FROM given",
            "SELECT ok FROM given, one, api_token_refresh(one.token, '1 h', scopes => v)",
        ] {
            assert!(truth(&mut sql, held, &[]), "{storage:?}: {held}");
        }
        give(&mut sql, "cidr[]", networks, storage);
        let allowed = "SELECT string_agg(reason, ' ') FROM given, api_token_create('acme', allowed_ips => v) c,
            unnest(ARRAY[host(v[7])::inet, '::1']) ip, api_token_validate(c.token, client_ip => ip)";
        let reasons = text(&mut sql, allowed, &[]);
        assert_eq!(reasons, "ip_not_allowed", "{storage:?}");
    }
}

/// PL/pgSQL keeps an array that it changes in a form of its own, and hands that on.
#[test]
fn arrays_of_pl_pgsql_are_read_too() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute(
        "DO $$
        DECLARE
            held text[] = '{}'; networks cidr[] = '{}'; tokens text[] = '{}'; made record;
        BEGIN
            FOR i IN 1..100 LOOP
                held[i] = 'a:' || i;
                networks[i] = ('10.0.' || i || '.0/24')::cidr;
            END LOOP;
            SELECT * INTO made FROM api_token_create('acme', scopes => held, allowed_ips => networks);
            FOR i IN 1..100 LOOP tokens[i] = made.token; END LOOP;
            ASSERT 100 = (SELECT count(*) FILTER (WHERE ok) FROM api_token_validate_many(tokens, held, '10.0.7.1'));
            ASSERT (SELECT ok FROM api_token_authenticate(made.token, held, '10.0.100.1'));
            ASSERT api_token_scope_covers(held, held[100]) AND api_token_has_scope(held[1]);
            ASSERT api_token_current_scopes() = held;
            held[101] = 'b';
            ASSERT (SELECT reason FROM api_token_validate(made.token, held, '10.0.7.1')) = 'insufficient_scope';
        END $$",
    )
    .expect("expanded arrays");
}
