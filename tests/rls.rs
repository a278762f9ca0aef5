//! Row security by the token: a role that owns nothing sees its tenant's rows, and cannot become
//! another one.

use api_tokens_tests::*;
use postgres::Client;

/// Two tenants with a row each, and a role that may read and write the table and check tokens.
struct Shop {
    db: Database,
    admin: Client,
    app: Client,
    role: String,
    ours: Created,
    theirs: Created,
}

fn shop() -> Shop {
    let mut db = Database::new();
    let role = db.role("app", &["validate"]);
    let mut admin = db.connect();
    admin
        .batch_execute(&format!(
            "CREATE TABLE orders (id int PRIMARY KEY, namespace text NOT NULL, item text);
            INSERT INTO orders VALUES (1, 'acme', 'anvil'), (2, 'other', 'rope');
            ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
            CREATE POLICY tenant ON orders
                USING (namespace = (SELECT api_token_current_namespace()))
                WITH CHECK (namespace = (SELECT api_token_current_namespace())
                    AND (SELECT api_token_has_scope('orders:write')));
            GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO {role}"
        ))
        .expect("shop");
    let ours = create(&mut admin, ", 'ours', scopes => '{orders:*}'");
    let row = admin.query_one(
        "SELECT token, token_id::text FROM api_token_create('other', 'theirs', scopes => '{orders:read}')",
        &[],
    );
    let row = row.expect("create");
    let theirs = Created { token: row.get(0), id: row.get(1) };
    let app = db.connect_as(&role);
    Shop { db, admin, app, role, ours, theirs }
}

fn begin_as(sql: &mut Client, token: &str) {
    sql.batch_execute("ROLLBACK; BEGIN").expect("begin");
    run(sql, "SELECT api_token_require($1)", &[&token]);
}

fn items(sql: &mut Client) -> Vec<String> {
    column(sql, "SELECT item FROM orders ORDER BY id", &[])
}

#[test]
fn each_tenant_sees_its_rows_and_nobody_sees_none() {
    let Shop { mut app, ours, theirs, db: _db, .. } = shop();
    assert!(items(&mut app).is_empty());
    begin_as(&mut app, &ours.token);
    assert_eq!(items(&mut app), ["anvil"]);
    begin_as(&mut app, &theirs.token);
    assert_eq!(items(&mut app), ["rope"]);
    app.batch_execute("COMMIT").expect("commit");
    assert!(items(&mut app).is_empty());
    // Also where the plan was made for another tenant.
    let prepared = app.prepare("SELECT item FROM orders").expect("prepare");
    for (token, item) in
        [(&ours.token, "anvil"), (&theirs.token, "rope")].into_iter().cycle().take(12)
    {
        begin_as(&mut app, token);
        let row = app.query_one(&prepared, &[]).expect("one row");
        assert_eq!(row.get::<_, &str>(0), item);
    }
}

#[test]
fn scopes_decide_about_writing() {
    let Shop { mut app, ours, theirs, db: _db, .. } = shop();
    begin_as(&mut app, &ours.token);
    run(&mut app, "INSERT INTO orders VALUES (3, 'acme', 'rocket')", &[]);
    assert_eq!(items(&mut app), ["anvil", "rocket"]);
    let foreign = failure(&mut app, "INSERT INTO orders VALUES (4, 'other', 'x')", &[]);
    assert_eq!(foreign.code().code(), "42501");
    begin_as(&mut app, &theirs.token);
    let no_scope = failure(&mut app, "UPDATE orders SET item = 'y'", &[]);
    assert_eq!(no_scope.code().code(), "42501");
}

#[test]
fn it_cannot_be_forged() {
    let Shop { mut app, mut admin, role, ours, theirs, db: _db } = shop();
    // With all that it may create, in schemas that come before ours.
    admin
        .batch_execute(&format!(
            "CREATE SCHEMA evil AUTHORIZATION {role}; GRANT CREATE ON SCHEMA public TO {role}"
        ))
        .expect("schema");
    app.batch_execute(
        "CREATE FUNCTION evil.api_token_current_namespace() RETURNS text LANGUAGE sql AS $$ SELECT 'other' $$;
        CREATE FUNCTION evil.api_token_has_scope(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION pg_temp.api_token_current_namespace() RETURNS text LANGUAGE sql AS $$ SELECT 'other' $$;
        CREATE FUNCTION evil.yes(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
        CREATE TEMP TABLE tokens (token_id uuid, namespace text);
        SET search_path = pg_temp, evil, pg_catalog, public",
    )
    .expect("set the trap");
    begin_as(&mut app, &ours.token);
    assert_eq!(column(&mut app, "SELECT item FROM public.orders", &[]), ["anvil"]);
    app.batch_execute("COMMIT; RESET search_path").expect("commit");
    for setting in ["api_tokens.namespace", "api_tokens.current_namespace", "api_tokens.token_id"] {
        failure(&mut app, "SELECT set_config($1, 'other', false)", &[&setting]);
        failure(&mut app, &format!("SET {setting} = 'other'"), &[]);
    }
    run(
        &mut app,
        "SELECT set_config('request.headers', '{\"x-namespace\": \"other\"}', false)",
        &[],
    );
    assert!(items(&mut app).is_empty());
    begin_as(&mut app, &ours.token);
    for attempt in [
        "SET row_security = off; SELECT * FROM orders".to_owned(),
        "SET SESSION AUTHORIZATION postgres".to_owned(),
        "SET ROLE postgres".to_owned(),
        "ALTER TABLE orders DISABLE ROW LEVEL SECURITY".to_owned(),
        "UPDATE api_tokens.tokens SET namespace = 'acme'".to_owned(),
        "SELECT api_tokens.update_token(api_token_current_id(), '{}')".to_owned(),
        "SELECT api_token_update(api_token_current_id(), '{\"scopes\": [\"*\"]}')".to_owned(),
        "CREATE OR REPLACE FUNCTION public.api_token_current_namespace() RETURNS text LANGUAGE sql AS $$ SELECT 'other' $$".to_owned(),
        "CREATE FUNCTION evil.f() RETURNS text LANGUAGE c AS '$libdir/api_tokens', 'api_token_current_namespace_wrapper'".to_owned(),
        format!("SELECT api_token_require('{}')", theirs.id),
        format!("SELECT api_token_require(encode(sha256('{}'), 'hex'))", theirs.token),
        format!("SELECT api_token_require(replace('{}', 'sk_', 'SK_'))", theirs.token),
    ] {
        app.batch_execute("SAVEPOINT s").expect("savepoint");
        assert!(app.batch_execute(&attempt).is_err(), "{attempt}");
        app.batch_execute("ROLLBACK TO s").expect("rollback");
        assert_eq!(items(&mut app), ["anvil"], "{attempt}");
    }
}

#[test]
fn parallel_plans_give_the_same_rows() {
    let Shop { mut app, mut admin, ours, theirs, db: _db, .. } = shop();
    admin
        .batch_execute(
            "INSERT INTO orders SELECT i, CASE WHEN i % 4 = 0 THEN 'acme' ELSE 'other' END, 'bulk'
                FROM generate_series(10, 200009) i; ANALYZE orders",
        )
        .expect("load");
    app.batch_execute(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
        SET max_parallel_workers_per_gather = 2",
    )
    .expect("set");
    let counts = "SELECT count(*) FROM orders";
    for (token, rows) in [(&ours.token, 50_001), (&theirs.token, 150_001)] {
        begin_as(&mut app, token);
        let explained: Vec<String> = app
            .query(&format!("EXPLAIN {counts}"), &[])
            .expect("explain")
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(explained.iter().any(|line| line.contains("Parallel Seq Scan")), "{explained:?}");
        assert_eq!(number(&mut app, counts, &[]), rows);
        // Written without the sub-select the reader runs in the leader only, and is right too.
        let direct = "SELECT count(*) FROM orders WHERE namespace = api_token_current_namespace()
            AND api_token_has_scope('orders:read')";
        assert_eq!(number(&mut app, direct, &[]), rows);
    }
}

#[test]
fn a_view_and_a_join_keep_to_the_tenant() {
    let Shop { mut app, mut admin, role, ours, db: _db, .. } = shop();
    admin
        .batch_execute(&format!(
            "CREATE VIEW everything AS SELECT o.item, p.item AS other FROM orders o LEFT JOIN orders p ON p.id <> o.id
                WHERE o.namespace = api_token_current_namespace();
            ALTER VIEW everything OWNER TO {role}"
        ))
        .expect("view");
    begin_as(&mut app, &ours.token);
    let rows = "SELECT concat_ws(' ', item, other) FROM everything";
    assert_eq!(column(&mut app, rows, &[]), ["anvil"]);
}
