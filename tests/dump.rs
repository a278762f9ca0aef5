//! A dump goes into an empty cluster, in each format, and everything works there.

use api_tokens_tests::*;

struct Original {
    db: Database,
    tokens: [(Created, &'static str); 5],
    metered: Created,
    owner: String,
    checker: String,
}

fn original() -> Original {
    let mut db = Database::new();
    let mut sql = db.connect();
    let live = create(&mut sql, ", 'live', '{\"seats\": 3}', scopes => '{orders:*}'");
    let revoked = create(&mut sql, "");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&revoked.token]);
    let off = create(&mut sql, "");
    run(&mut sql, "SELECT api_token_set_enabled($1::text::uuid, false)", &[&off.id]);
    let replaced = create(&mut sql, "");
    let heir = refresh(&mut sql, &replaced.token, "").expect("an heir");
    let metered = create(&mut sql, ", max_uses => 10");
    run(&mut sql, "SELECT api_token_validate($1, cost => 3)", &[&metered.token]);
    // What is under way when the dump is made counts as spent, so it is over.
    run(&mut sql, "SELECT api_token_cleanup()", &[]);
    let seats = r#"{"properties": {"seats": {"type": "integer"}}}"#;
    run(&mut sql, "SELECT api_token_set_metadata_schema('acme', $1::text::jsonb)", &[&seats]);
    run(
        &mut sql,
        "SELECT api_vault_store('acme', 'stripe', v) FROM (VALUES ('one'), ('two')) t (v)",
        &[],
    );
    run(
        &mut sql,
        "SELECT api_vault_store_encrypted('acme', 'theirs', encrypted_value, iv)
        FROM api_vault_encrypt_value('ours', 'a passphrase')",
        &[],
    );
    let owner = db.role("owner", &["manage", "vault"]);
    let checker = db.role("checker", &["validate"]);
    let tokens = [
        (live, "ok"),
        (revoked, "revoked"),
        (off, "disabled"),
        (replaced, "revoked"),
        (heir, "ok"),
    ];
    Original { db, tokens, metered, owner, checker }
}

const COUNTS: &str = "SELECT concat_ws(' ', (SELECT count(*) FROM api_tokens.tokens), (SELECT count(*) FROM api_tokens.events),
    (SELECT count(*) FROM api_tokens.quotas), (SELECT count(*) FROM api_tokens.metadata_schemas))";

/// All that is told of tokens and of the vault, but for the last uses.
const TOLD: &str = "
    SELECT t::text FROM api_token_list('acme', true) t
    UNION ALL SELECT v::text FROM api_vault_versions('acme', 'stripe') v ORDER BY 1";

fn works(restored: &OtherCluster, database: &str, original: &Original) {
    let mut before = original.db.connect();
    let mut sql = restored.connect("postgres", database);
    assert_eq!(
        text(&mut sql, COUNTS, &[]),
        text(&mut before, COUNTS, &[]),
        "nothing lost or doubled"
    );
    assert_eq!(column(&mut sql, TOLD, &[]), column(&mut before, TOLD, &[]));
    for (token, expected) in &original.tokens {
        assert_eq!(verdict(&mut sql, &token.token), *expected);
    }
    let left = "SELECT remaining FROM api_token_validate($1, cost => 7)";
    assert_eq!(number(&mut sql, left, &[&original.metered.token]), 0, "what was spent is spent");
    assert_eq!(verdict(&mut sql, &original.metered.token), "usage_exceeded");
    assert_eq!(text(&mut sql, "SELECT api_vault_get('acme', 'stripe')", &[]), "two");
    assert_eq!(text(&mut sql, "SELECT api_vault_get('acme', 'stripe', 1)", &[]), "one");
    let theirs = "SELECT api_vault_decrypt_value(encrypted_value, iv, 'a passphrase')
        FROM api_vault_get_encrypted('acme', 'theirs')";
    assert_eq!(text(&mut sql, theirs, &[]), "ours");
    let fails =
        failure(&mut sql, "SELECT api_token_create('acme', metadata => '{\"seats\": \"x\"}')", &[]);
    assert_eq!(fails.code().code(), "22023");

    let methods = "SELECT method FROM api_token_events()";
    let told = column(&mut sql, methods, &[]);
    assert_eq!(told, column(&mut before, methods, &[]), "each event once, in their order");
    let new = create(&mut sql, "");
    assert_eq!(column(&mut sql, methods, &[]).len(), told.len() + 1, "and new ones behind them");
    let value = "SELECT api_vault_store('acme', 'stripe', 'three')";
    assert_eq!(number(&mut sql, value, &[]), 3, "versions are not used again");

    // Rights came along with the functions.
    let mut owner = restored.connect(&original.owner, database);
    assert!(truth(&mut owner, "SELECT api_token_invalidate($1)", &[&new.token]));
    assert_eq!(text(&mut owner, "SELECT api_vault_get('acme', 'stripe')", &[]), "three");
    let mut checker = restored.connect(&original.checker, database);
    assert_eq!(verdict(&mut checker, &new.token), "revoked");
    let denied = failure(&mut checker, "SELECT api_vault_get('acme', 'stripe')", &[]);
    assert_eq!(denied.code().code(), "42501");
    assert_eq!(failure(&mut checker, "SELECT FROM api_tokens.tokens", &[]).code().code(), "42501");
}

#[test]
fn a_dump_goes_into_an_empty_cluster() {
    let original = original();
    let restored = OtherCluster::start(&cluster_dir().join("vault.keys"));
    let (host, name) = (host(), &original.db.name);
    let here = ["-h", &host, "-U", "postgres"];
    let port = OtherCluster::PORT.to_string();
    let there = ["-h", &host, "-p", &port, "-U", "postgres"];
    let done = |program: &str, at: &[&str], arguments: &[&str]| {
        assert!(as_server(program, &[at, arguments].concat()), "{program} {arguments:?}");
    };
    let roles = restored.path("roles");
    done("pg_dumpall", &here, &["--roles-only", "-f", &roles]);
    // The superuser is there already.
    done("psql", &there, &["-q", "-f", &roles]);
    for (format, options) in [("p", &[] as &[&str]), ("c", &["-j", "1"]), ("d", &["-j", "2"])] {
        let (file, database) = (restored.path(format), format!("restored_{format}"));
        done("pg_dump", &here, &["-F", format, "-f", &file, name]);
        done("createdb", &there, &["-T", "template0", &database]);
        if format == "p" {
            done("psql", &there, &["-q", "-v", "ON_ERROR_STOP=1", "-d", &database, "-f", &file]);
        } else {
            let restore = [options, &["--exit-on-error", "-d", &database, &file]].concat();
            done("pg_restore", &there, &restore);
        }
        works(&restored, &database, &original);
    }
}
