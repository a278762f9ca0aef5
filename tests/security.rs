//! What SECURITY.md says and no other test shows; and that the tests it names are there.

use api_tokens_tests::*;

#[test]
fn every_file_that_the_page_names_is_there() {
    let page = std::fs::read_to_string(root().join("SECURITY.md")).expect("the page");
    let named =
        page.split('`').skip(1).step_by(2).filter(|code| {
            ["tests/", "src/", "fuzz/"].iter().any(|folder| code.starts_with(folder))
        });
    let named: Vec<&str> = named.collect();
    assert!(named.len() > 30, "{named:?}");
    for file in named {
        assert!(root().join(file).exists(), "{file}");
    }
}

#[test]
fn no_level_comes_with_a_right_on_a_table() {
    let mut db = Database::new();
    let roles = [
        db.role("none", &[]),
        db.role("validate", &["validate"]),
        db.role("manage", &["manage"]),
        db.role("vault", &["vault"]),
        db.role("admin", &["admin"]),
    ];
    let mut sql = db.connect();
    let reached = "SELECT concat_ws(' ', r.rolname, c.relname, p) FROM pg_roles r, pg_class c,
            unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p
        WHERE r.rolname = ANY ($1) AND c.relnamespace = 'api_tokens'::regnamespace AND c.relkind IN ('r', 'v')
            AND (has_table_privilege(r.oid, c.oid, p) OR has_schema_privilege(r.oid, c.relnamespace, 'USAGE, CREATE'))";
    assert_eq!(column(&mut sql, reached, &[&&roles[..]]), Vec::<String>::new());
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'api_tokens'::regnamespace AND relkind = 'r'";
    assert!(number(&mut sql, tables, &[]) >= 9);
}

#[test]
fn a_hash_is_no_token_but_can_be_asked_about() {
    let mut db = Database::new();
    let role = db.role("app", &["validate"]);
    let mut admin = db.connect();
    let made = create(&mut admin, ", scopes => '{a}'");
    let hash = text(&mut admin, "SELECT encode(token_hash, 'hex') FROM api_tokens.tokens", &[]);
    let shown = text(&mut admin, "SELECT token_prefix FROM api_tokens.tokens", &[]);
    let mut sql = db.connect_as(&role);
    for stolen in [hash.clone(), format!("\\x{hash}"), format!("sk_{hash}"), shown, made.id] {
        assert_eq!(verdict(&mut sql, &stolen), "invalid");
        let acts = "SELECT ok FROM api_token_authenticate($1)";
        assert!(!truth(&mut sql, acts, &[&stolen]));
    }
    let asked = "SELECT concat_ws(' ', ok, scopes, api_token_current_id()) FROM api_token_validate_hash(decode($1, 'hex'))";
    assert_eq!(text(&mut sql, asked, &[&hash]), "t {a}", "and nobody is acted as");
}

#[test]
fn whoever_manages_can_be_anybody_and_whoever_has_the_vault_reads_all_of_it() {
    let mut db = Database::new();
    let (manager, keeper) = (db.role("manager", &["manage"]), db.role("keeper", &["vault"]));
    let mut admin = db.connect();
    let made = create(&mut admin, ", scopes => '{a}'");
    run(&mut admin, "SELECT api_vault_store('acme', 'k', 'v')", &[]);
    run(&mut admin, "SELECT api_vault_store('other', 'k', 'w')", &[]);

    let mut sql = db.connect_as(&manager);
    let rotate = "SELECT token FROM api_token_refresh_by_id($1::text::uuid)";
    let heir = text(&mut sql, rotate, &[&made.id]);
    assert_eq!(verdict(&mut admin, &heir), "ok");
    // What there is of a token is not the token.
    let row = text(&mut sql, "SELECT g FROM api_token_get($1::text::uuid) g", &[&made.id]);
    assert!(!row.contains(&made.token[7..]));

    let mut sql = db.connect_as(&keeper);
    let all = "SELECT concat(api_vault_get('acme', 'k'), api_vault_get('other', 'k'))";
    assert_eq!(text(&mut sql, all, &[]), "vw");
}
