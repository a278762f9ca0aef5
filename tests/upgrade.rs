//! An older version, brought to this one, is what a fresh install is; and until then this library
//! works with the older version's SQL.

use api_tokens_tests::*;
use postgres::Client;
use std::collections::BTreeSet;

fn older_versions(sql: &mut Client) -> Vec<String> {
    let older = "SELECT version FROM pg_available_extension_versions v JOIN pg_available_extensions e USING (name)
        WHERE name = 'api_tokens' AND version <> default_version ORDER BY 1";
    let versions = column(sql, older, &[]);
    assert!(!versions.is_empty(), "the scripts of released versions are installed too");
    versions
}

fn install(sql: &mut Client, version: &str) {
    run(sql, &format!("CREATE EXTENSION api_tokens VERSION '{version}'"), &[]);
}

const UPDATE: &str = "ALTER EXTENSION api_tokens UPDATE";

/// All that belongs to the extension, as `pg_upgrade` would carry it over: objects, columns in their
/// order, rights and comments, one statement each.
fn objects(database: &str) -> BTreeSet<String> {
    let path = cluster_dir().join(format!("{database}.dump"));
    let file = path.to_str().expect("utf-8");
    let host = host();
    let dump = ["-h", &host, "-U", "postgres", "--binary-upgrade", "-s", "-f", file, database];
    assert!(as_server("pg_dump", &dump));
    let text = std::fs::read_to_string(&path).expect("a dump");
    let _ = std::fs::remove_file(&path);
    // Oids and file numbers differ from one database to the next, and so does the key that newer
    // versions of psql ask for.
    let own = |line: &&str| {
        !line.contains("binary_upgrade_set_next")
            && !line.starts_with("--")
            && !line.starts_with("\\")
    };
    let text: Vec<&str> = text.lines().filter(own).collect();
    let statements = text.join("\n").replace(database, "the_database");
    let statements = statements.split(";\n").map(|one| one.trim().to_owned());
    let left_out = |one: &String| {
        one.is_empty() || one.contains("frozenxid") || one.contains("create_empty_extension")
    };
    let mut objects: BTreeSet<String> = statements.filter(|one| !left_out(one)).collect();
    // What is dumped with its rows, which stands there by oid.
    let dumped = "SELECT t::text || ' where ' || c FROM pg_extension, unnest(extconfig::regclass[], extcondition) x (t, c)
        WHERE extname = 'api_tokens'";
    objects.extend(column(&mut connect_to(&host, "postgres", database), dumped, &[]));
    objects
}

#[test]
fn an_upgrade_gives_what_a_fresh_install_gives() {
    let fresh = Database::new();
    let expected = objects(&fresh.name);
    assert!(expected.iter().any(|one| one.contains("api_token_validate")), "it shows something");
    for version in older_versions(&mut fresh.connect()) {
        let db = Database::empty();
        let mut sql = db.connect();
        install(&mut sql, &version);
        run(&mut sql, UPDATE, &[]);
        let upgraded = objects(&db.name);
        let missing: Vec<_> = expected.difference(&upgraded).collect();
        let extra: Vec<_> = upgraded.difference(&expected).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{version}: missing {missing:#?}, extra {extra:#?}"
        );
    }
}

#[test]
fn what_an_older_version_holds_works_before_and_after_the_update() {
    let fresh = Database::new();
    for version in older_versions(&mut fresh.connect()) {
        let db = Database::empty();
        let mut sql = db.connect();
        install(&mut sql, &version);
        // A session that has looked at everything once, and goes on through the update.
        let mut busy = db.connect();
        let live = create(&mut sql, ", scopes => '{a}', max_uses => 3");
        let revoked = create(&mut sql, "");
        run(&mut sql, "SELECT api_token_invalidate($1)", &[&revoked.token]);
        run(&mut sql, "SELECT api_vault_store('acme', 'stripe', 'whsec')", &[]);
        let events = "SELECT string_agg(method, ' ') FROM api_token_events()";
        let before = text(&mut busy, events, &[]);
        for client in [&mut sql, &mut busy] {
            assert_eq!(verdict(client, &live.token), "ok", "{version}");
        }
        run(&mut sql, UPDATE, &[]);
        assert_eq!(text(&mut sql, events, &[]), before, "{version}");
        assert_eq!(verdict(&mut busy, &live.token), "ok", "{version}");
        assert_eq!(verdict(&mut busy, &live.token), "usage_exceeded", "{version}: uses are kept");
        assert_eq!(verdict(&mut busy, &revoked.token), "revoked", "{version}");
        assert_eq!(text(&mut busy, "SELECT api_vault_get('acme', 'stripe')", &[]), "whsec");
        assert!(refresh(&mut busy, &live.token, "").is_ok(), "{version}");
    }
}
