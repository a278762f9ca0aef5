//! Who may call what. Rights are part of the contract.

use api_tokens_tests::*;

const DENIED: &str = "42501";

fn is_denied(sql: &mut postgres::Client, call: &str) -> bool {
    match sql.simple_query(call) {
        Ok(_) => false,
        Err(error) => error.code().is_some_and(|code| code.code() == DENIED),
    }
}

/// One call of each function; errors other than a missing right are fine.
const CALLS: &[(&str, &str)] = &[
    ("validate", "SELECT api_token_validate('x')"),
    ("validate", "SELECT api_token_validate_hash(sha256('x'))"),
    ("validate", "SELECT api_token_validate_many('{x}')"),
    ("validate", "SELECT api_token_touch('x')"),
    ("validate", "SELECT api_token_authenticate('x')"),
    ("validate", "SELECT api_token_require('x')"),
    ("validate", "SELECT api_token_deauthenticate()"),
    ("validate", "SELECT api_token_pre_request()"),
    ("validate", "SELECT api_token_events()"),
    ("validate", "SELECT api_token_events_end()"),
    ("manage", "SELECT api_token_create('acme')"),
    ("manage", "SELECT api_token_import('acme', sha256('x'), 'x...')"),
    ("manage", "SELECT api_token_refresh('x')"),
    ("manage", "SELECT api_token_refresh_by_id(gen_random_uuid())"),
    ("manage", "SELECT api_token_invalidate('x')"),
    ("manage", "SELECT api_token_invalidate_by_id(gen_random_uuid())"),
    ("manage", "SELECT api_token_invalidate_all('acme')"),
    (
        "manage",
        "CREATE TEMP TABLE t (c text); CREATE TRIGGER t AFTER DELETE ON t FOR EACH ROW
            EXECUTE FUNCTION api_token_invalidate_owner('c'); DROP TABLE t",
    ),
    ("manage", "SELECT api_token_list('acme')"),
    ("manage", "SELECT api_token_get(gen_random_uuid())"),
    ("manage", "SELECT api_token_update(gen_random_uuid(), '{}')"),
    ("manage", "SELECT api_token_set_enabled(gen_random_uuid(), true)"),
    ("manage", "SELECT api_token_set_namespace_limit('acme', NULL, NULL)"),
    ("manage", "SELECT api_token_set_metadata_schema('acme', NULL)"),
    ("manage", "SELECT api_token_cleanup()"),
    ("manage", "SELECT api_token_stats()"),
    ("manage", "SELECT api_token_usage(NULL, 'acme')"),
    ("vault", "SELECT api_vault_store('acme', 'k', 'v')"),
    ("vault", "SELECT api_vault_get('acme', 'k')"),
    ("vault", "SELECT api_vault_list('acme')"),
    ("vault", "SELECT api_vault_versions('acme', 'k')"),
    ("vault", "SELECT api_vault_rollback('acme', 'k', 1)"),
    ("vault", "SELECT api_vault_delete('acme', 'k')"),
    ("vault", "SELECT api_vault_undelete('acme', 'k')"),
    ("vault", "SELECT api_vault_destroy('acme', 'k')"),
    ("vault", "SELECT api_vault_shred('acme', 'acme')"),
    ("vault", "SELECT api_vault_store_encrypted('acme', 'k', 'x', 'x')"),
    ("vault", "SELECT api_vault_get_encrypted('acme', 'k')"),
    ("vault", "SELECT api_vault_encrypt_value('x', 'y')"),
    ("vault", "SELECT api_vault_decrypt_value('x', 'y', 'z')"),
    ("admin", "CALL api_vault_rekey()"),
    ("admin", "SELECT api_vault_rekey_step()"),
    ("admin", "CALL api_vault_rotate_dek('acme')"),
    ("admin", "SELECT api_vault_rotate_dek_begin('acme')"),
    ("admin", "SELECT api_vault_rotate_dek_step('acme')"),
    ("admin", "SELECT api_vault_key_status()"),
    ("admin", "SELECT api_vault_verify()"),
    ("admin", "SELECT api_tokens_doctor()"),
    ("admin", "SELECT api_tokens_grant('pg_monitor', 'nonsense')"),
    ("admin", "SELECT api_tokens_revoke('pg_monitor', 'nonsense')"),
    ("nobody", "SELECT api_tokens.update_token(gen_random_uuid(), '{}')"),
    ("nobody", "SELECT api_tokens.checked_namespace('x')"),
    ("nobody", "SELECT api_tokens.live_last_use(gen_random_uuid(), now())"),
    ("nobody", "SELECT api_tokens.vault_key_problem()"),
    ("nobody", "SELECT api_tokens.checked_key_name('x')"),
    ("nobody", "SELECT api_tokens.presented_token('{}')"),
    ("nobody", "SELECT * FROM api_tokens.tokens"),
    ("nobody", "SELECT * FROM api_tokens.vault_deks"),
    ("nobody", "SELECT * FROM api_tokens.vault_secrets"),
    ("nobody", "SELECT * FROM api_tokens.vault_versions"),
    ("nobody", "SELECT * FROM api_tokens.token_info"),
    ("nobody", "SELECT * FROM api_tokens.events"),
    ("nobody", "INSERT INTO api_tokens.events DEFAULT VALUES"),
    ("nobody", "SELECT nextval('api_tokens.events_event_id_seq')"),
    ("nobody", "SELECT * FROM api_tokens.quotas"),
    ("nobody", "SELECT * FROM api_tokens.namespace_limits"),
    ("nobody", "SELECT * FROM api_tokens.usage_hours"),
    ("nobody", "SELECT api_tokens.check_usage_of(NULL, 'x')"),
    ("nobody", "SELECT * FROM api_tokens.metadata_schemas"),
    ("anyone", "SELECT api_token_scope_covers('{x}', 'x')"),
    ("anyone", "SELECT api_token_looks_valid('x')"),
    ("anyone", "SELECT api_token_from_header('Bearer x')"),
    ("anyone", "SELECT api_token_require_current()"),
    ("anyone", "SELECT api_token_current_id()"),
    ("anyone", "SELECT api_token_current_namespace()"),
    ("anyone", "SELECT api_token_current_name()"),
    ("anyone", "SELECT api_token_current_metadata()"),
    ("anyone", "SELECT api_token_current_scopes()"),
    ("anyone", "SELECT api_token_has_scope('x')"),
];

#[test]
fn each_level_opens_its_functions_and_no_others() {
    let mut db = Database::new();
    for levels in [&[][..], &["validate"], &["manage"], &["vault"], &["admin"]] {
        let role = db.role(&format!("r{}", levels.join("")), levels);
        let mut sql = db.connect_as(&role);
        for (needed, call) in CALLS {
            let open = *needed == "anyone"
                || levels.contains(needed)
                || (levels == ["admin"] && *needed != "nobody");
            assert_eq!(!is_denied(&mut sql, call), open, "{levels:?}: {call}");
        }
    }
}

/// Of whoever installs: many a host has such, for the roles of its API.
#[test]
fn default_privileges_open_nothing() {
    let mut db = Database::empty();
    let role = db.role("api", &[]);
    let mut admin = db.connect();
    for what in ["ALL ON FUNCTIONS", "ALL ON TABLES", "ALL ON SEQUENCES", "ALL ON SCHEMAS"] {
        let to_all = format!("ALTER DEFAULT PRIVILEGES GRANT {what} TO PUBLIC, {role}");
        admin.batch_execute(&to_all).expect("default privileges");
    }
    let to_one =
        format!("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO {role}");
    admin.batch_execute(&to_one).expect("default privileges");
    admin.batch_execute("CREATE EXTENSION api_tokens").expect("install");
    let mut sql = db.connect_as(&role);
    for (needed, call) in CALLS {
        assert_eq!(!is_denied(&mut sql, call), *needed == "anyone", "{call}");
    }
    let others = "SELECT DISTINCT a.grantee::regrole::text || ' ' || c.relname
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace = 'api_tokens'::regnamespace AND a.grantee <> c.relowner";
    assert_eq!(column(&mut admin, others, &[]), [""; 0]);
}

#[test]
fn no_function_is_forgotten_here() {
    let db = Database::new();
    let mut sql = db.connect();
    let functions = "SELECT DISTINCT p.proname FROM pg_proc p JOIN pg_depend d
        ON d.objid = p.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid
        WHERE e.extname = 'api_tokens' AND p.pronamespace <> 'api_tokens'::regnamespace";
    for function in column(&mut sql, functions, &[]) {
        let call = format!("{function}(");
        assert!(CALLS.iter().any(|(_, sql)| sql.contains(&call)), "{function} is not tested");
    }
}

#[test]
fn a_level_can_be_taken_away_without_touching_another() {
    let mut db = Database::new();
    let role = db.role("r", &["validate", "manage"]);
    let mut admin = db.connect();
    let mut sql = db.connect_as(&role);
    run(&mut admin, &format!("SELECT api_tokens_revoke('{role}', 'manage')"), &[]);
    assert!(is_denied(&mut sql, "SELECT api_token_list('acme')"));
    assert!(!is_denied(&mut sql, "SELECT api_token_validate('x')"));
    assert!(!is_denied(&mut sql, "SELECT api_token_events()"));
    run(&mut admin, &format!("SELECT api_tokens_revoke('{role}', 'admin')"), &[]);
    assert!(is_denied(&mut sql, "SELECT api_token_validate('x')"));
}

#[test]
fn a_managing_role_without_any_table_right_can_do_its_work() {
    let mut db = Database::new();
    let role = db.role("r", &["validate", "manage"]);
    let mut sql = db.connect_as(&role);
    let made = create(&mut sql, ", max_idle => '1 hour'");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    let new = refresh(&mut sql, &made.token, ", '1 hour'").expect("refresh");
    run(&mut sql, "SELECT api_token_update($1::text::uuid, '{\"name\": \"x\"}')", &[&new.id]);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_token_list('acme')", &[]), 2);
    assert_eq!(number(&mut sql, "SELECT api_token_invalidate_all('acme')", &[]), 2);
    assert_eq!(number(&mut sql, "SELECT api_token_cleanup('0')", &[]), 2);
    let actors = column(&mut sql, "SELECT DISTINCT actor FROM api_token_events()", &[]);
    assert_eq!(actors, [role]);
}

#[test]
fn the_actor_is_the_role_that_was_set() {
    let mut db = Database::new();
    let role = db.role("web", &["manage"]);
    let mut sql = db.connect();
    sql.batch_execute(&format!("SET ROLE {role}")).expect("set role");
    create(&mut sql, "");
    sql.batch_execute("RESET ROLE").expect("reset role");
    assert_eq!(text(&mut sql, "SELECT actor FROM api_token_events()", &[]), role);
}

#[test]
fn with_validate_rights_only_the_invalidating_events_are_seen() {
    let mut db = Database::new();
    let role = db.role("r", &["validate"]);
    let mut admin = db.connect();
    let made = create(&mut admin, "");
    run(&mut admin, "SELECT api_token_invalidate($1)", &[&made.token]);
    let mut sql = db.connect_as(&role);
    let methods = "SELECT method FROM api_token_events() ORDER BY event_id";
    assert_eq!(column(&mut sql, methods, &[]), ["invalidate"]);
    assert_eq!(column(&mut admin, methods, &[]), ["create", "invalidate"]);
    assert_eq!(text(&mut sql, "SELECT current_user", &[]), role, "it is itself again");
    // Also after an error in between.
    failure(&mut sql, "SELECT api_token_events('x')", &[]);
    assert!(is_denied(&mut sql, "SELECT * FROM api_tokens.events"));
}

#[test]
fn objects_of_the_callers_search_path_are_not_used() {
    let mut db = Database::new();
    let role = db.role("evil", &["validate", "manage", "admin"]);
    let mut admin = db.connect();
    admin.batch_execute(&format!("CREATE SCHEMA evil AUTHORIZATION {role}")).expect("schema");
    let mut sql = db.connect_as(&role);
    sql.batch_execute(
        "CREATE FUNCTION evil.boom() RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN RAISE 'hijacked'; END $$;
        CREATE FUNCTION evil.eq(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
        CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.eq);
        CREATE FUNCTION evil.eqt(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eqt);
        CREATE FUNCTION evil.lt(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boom()';
        CREATE OPERATOR evil.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.lt);
        CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()';
        CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT evil.boom()';
        SET search_path = evil, pg_catalog, public",
    )
    .expect("set the trap");
    let made = create(&mut sql, "");
    let new = refresh(&mut sql, &made.token, ", '1 hour'").expect("refresh");
    let newer = refresh(&mut sql, &new.token, "").expect("refresh");
    run(&mut sql, "SELECT api_token_update($1::text::uuid, '{\"name\": \"x\"}')", &[&newer.id]);
    for call in [
        "SELECT api_token_list('acme')",
        "SELECT api_token_events()",
        "SELECT api_token_invalidate_all('acme')",
        "SELECT api_token_cleanup('0')",
        "SELECT api_tokens_grant('pg_monitor', 'validate')",
        "SELECT api_tokens_revoke('pg_monitor', 'validate')",
    ] {
        run(&mut sql, call, &[]);
    }
}

#[test]
fn a_function_of_our_name_in_our_schema_opens_nothing() {
    let mut db = Database::new();
    let role = db.role("r", &["validate"]);
    let mut admin = db.connect();
    create(&mut admin, "");
    admin.batch_execute(&format!("GRANT CREATE ON SCHEMA public TO {role}")).expect("grant");
    let mut sql = db.connect_as(&role);
    sql.batch_execute(
        "CREATE FUNCTION public.api_token_list() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    .expect("plant");
    assert!(column(&mut sql, "SELECT method FROM api_token_events()", &[]).is_empty());
    sql.batch_execute("REVOKE EXECUTE ON FUNCTION public.api_token_list() FROM PUBLIC")
        .expect("revoke");
    run(&mut admin, "SELECT api_tokens_grant('pg_monitor', 'manage')", &[]);
    let granted =
        "SELECT has_function_privilege('pg_monitor', 'public.api_token_list()', 'EXECUTE')";
    assert!(!truth(&mut admin, granted, &[]));
    run(&mut admin, "SELECT api_tokens_revoke('pg_monitor', 'manage')", &[]);
}

#[test]
fn settings_are_the_administrators() {
    let mut db = Database::new();
    let role = db.role("r", &["validate"]);
    let mut sql = db.connect_as(&role);
    verdict(&mut sql, "x");
    for setting in
        ["touch_interval = 0", "notify_channel = ''", "event_retention = 0", "on_reuse = 'audit'"]
    {
        assert!(is_denied(&mut sql, &format!("SET api_tokens.{setting}")), "{setting}");
    }
    let unknown = failure(&mut sql, "SET api_tokens.no_such_setting = 1", &[]);
    assert_eq!(unknown.code().code(), "42602", "the prefix is reserved");
}
