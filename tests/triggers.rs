//! Tokens in triggers: owners that go, writes that need a scope, and who did it.

use api_tokens_tests::*;
use postgres::Client;

fn owned(sql: &mut Client, namespace: &str) -> String {
    text(sql, "SELECT token FROM api_token_create($1)", &[&namespace])
}

/// A table of users whose tokens are in the namespace that `column` names.
fn users(sql: &mut Client, column: &str, kind: &str) {
    sql.batch_execute(&format!(
        "CREATE TABLE users (id {kind} PRIMARY KEY, name text, tenant text);
        CREATE TRIGGER revoke_tokens AFTER UPDATE OR DELETE ON users FOR EACH ROW
            EXECUTE FUNCTION api_token_invalidate_owner('{column}')"
    ))
    .expect("users");
}

#[test]
fn a_deleted_owner_takes_its_tokens_along() {
    let db = Database::new();
    let mut sql = db.connect();
    users(&mut sql, "id", "bigint");
    run(&mut sql, "INSERT INTO users VALUES (41, 'a'), (42, 'b')", &[]);
    let (goes, stays) = (owned(&mut sql, "42"), owned(&mut sql, "41"));
    run(&mut sql, "LISTEN api_tokens", &[]);
    run(&mut sql, "UPDATE users SET name = 'c'", &[]);
    assert_eq!(verdict(&mut sql, &goes), "ok", "another column changed");
    run(&mut sql, "DELETE FROM users WHERE id = 42", &[]);
    assert_eq!([verdict(&mut sql, &goes), verdict(&mut sql, &stays)], ["revoked", "ok"]);
    let told = notifications(&mut sql);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("\"method\":\"invalidate_all\"") && told[0].contains("\"42\""),
        "{told:?}"
    );
    // The user without tokens goes too, and nobody is told.
    run(&mut sql, "INSERT INTO users VALUES (43)", &[]);
    run(&mut sql, "DELETE FROM users WHERE id = 43", &[]);
    assert!(notifications(&mut sql).is_empty());
}

#[test]
fn an_owner_that_changes_loses_the_old_tokens_with_the_transaction() {
    let db = Database::new();
    let mut sql = db.connect();
    users(&mut sql, "tenant", "int");
    run(&mut sql, "INSERT INTO users VALUES (1, 'a', 'old'), (2, 'b', NULL), (3, 'c', '')", &[]);
    let token = owned(&mut sql, "old");
    sql.batch_execute("BEGIN; UPDATE users SET tenant = 'new' WHERE id = 1").expect("update");
    assert_eq!(verdict(&mut sql, &token), "revoked");
    sql.batch_execute("ROLLBACK").expect("rollback");
    assert_eq!(verdict(&mut sql, &token), "ok");
    let unrelated = owned(&mut sql, "2");
    // What names no namespace revokes nothing, least of all everything, and is not in the way.
    run(&mut sql, "UPDATE users SET tenant = 'x' WHERE id > 1", &[]);
    sql.batch_execute(
        "UPDATE users SET tenant = repeat('y', 600) WHERE id = 2; DELETE FROM users WHERE id > 1",
    )
    .expect("delete");
    assert_eq!([verdict(&mut sql, &token), verdict(&mut sql, &unrelated)], ["ok", "ok"]);
    run(&mut sql, "UPDATE users SET tenant = NULL WHERE id = 1", &[]);
    assert_eq!(verdict(&mut sql, &token), "revoked");
}

#[test]
fn whoever_may_delete_the_owner_needs_no_right_on_tokens() {
    let mut db = Database::new();
    let role = db.role("clerk", &[]);
    let mut admin = db.connect();
    admin
        .batch_execute(&format!(
            "CREATE TABLE users (tenant text, big text);
            CREATE TRIGGER t AFTER DELETE ON users FOR EACH ROW
                EXECUTE FUNCTION api_token_invalidate_owner('tenant');
            INSERT INTO users VALUES ('acme', repeat('x', 1000000));
            GRANT SELECT, DELETE ON users TO {role}"
        ))
        .expect("users");
    let made = create(&mut admin, "");
    let mut clerk = db.connect_as(&role);
    run(&mut clerk, "DELETE FROM users", &[]);
    assert_eq!(number(&mut admin, "SELECT count(*) FROM users", &[]), 0);
    assert_eq!(verdict(&mut admin, &made.token), "revoked");
    let actor = "SELECT actor FROM api_token_events() WHERE method = 'invalidate_all'";
    assert_eq!(text(&mut admin, actor, &[]), role);
}

#[test]
fn names_of_any_plain_type_name_an_owner() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute("CREATE TYPE kind AS ENUM ('acme'); CREATE DOMAIN short AS varchar(9)")
        .expect("types");
    for kind in ["text", "varchar(20)", "char(20)", "name", "kind", "short"] {
        let made = create(&mut sql, "");
        users(&mut sql, "id", kind);
        run(&mut sql, "INSERT INTO users VALUES ('acme')", &[]);
        run(&mut sql, "DELETE FROM users", &[]);
        assert_eq!(verdict(&mut sql, &made.token), "revoked", "{kind}");
        sql.batch_execute("DROP TABLE users").expect("drop");
    }
    let id = "01a20c79-21db-7cc4-bfc8-603ed8a2fa15";
    let token = owned(&mut sql, id);
    users(&mut sql, "id", "uuid");
    sql.batch_execute(&format!("INSERT INTO users VALUES ('{id}'); DELETE FROM users"))
        .expect("delete");
    assert_eq!(verdict(&mut sql, &token), "revoked");
}

#[test]
fn a_trigger_that_is_set_up_wrong_says_how() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute("CREATE TABLE t (a text, b text, d date, n numeric)").expect("table");
    let function = "EXECUTE FUNCTION api_token_invalidate_owner";
    let cases = [
        ("AFTER DELETE ON t FOR EACH ROW", "()", "22023"),
        ("AFTER DELETE ON t FOR EACH ROW", "('c')", "22023"),
        ("AFTER DELETE ON t FOR EACH ROW", "('ctid')", "22023"),
        ("AFTER DELETE ON t FOR EACH ROW", "('a', 'b')", "22023"),
        // How it is written depends on settings, or it has several ways to be.
        ("AFTER DELETE ON t FOR EACH ROW", "('d')", "22023"),
        ("AFTER DELETE ON t FOR EACH ROW", "('n')", "22023"),
        // Before it, the row is not yet what it will be.
        ("BEFORE DELETE ON t FOR EACH ROW", "('a')", "39P01"),
        ("AFTER DELETE ON t", "('a')", "39P01"),
        ("AFTER TRUNCATE ON t", "('a')", "39P01"),
        ("BEFORE INSERT ON t FOR EACH ROW", "('a')", "39P01"),
    ];
    for (when, arguments, code) in cases {
        sql.batch_execute("INSERT INTO t VALUES ('acme')").expect("row");
        sql.batch_execute(&format!("CREATE TRIGGER wrong {when} {function}{arguments}"))
            .expect(when);
        let fire = match when {
            when if when.contains("INSERT") => "INSERT INTO t VALUES ('x')",
            when if when.contains("TRUNCATE") => "TRUNCATE t",
            _ => "DELETE FROM t",
        };
        assert_eq!(failure(&mut sql, fire, &[]).code().code(), code, "{when} {arguments}");
        sql.batch_execute("DROP TRIGGER wrong ON t").expect("drop");
    }
    let direct = failure(&mut sql, "SELECT api_token_invalidate_owner()", &[]);
    assert_eq!(direct.code().code(), "39P01");
}

const PAGE: &str = "docs/triggers.md";

/// The page's table of orders with its guard and audit, and a role that may write.
fn orders(db: &mut Database) -> (Client, Client) {
    let role = db.role("app", &["validate"]);
    let mut admin = db.connect();
    let table = block_of(PAGE, "CREATE TABLE orders").replace("TO app", &format!("TO {role}"));
    let table = &table[table.find("CREATE TABLE").expect("a table")..];
    for block in [table, &block_of(PAGE, "orders_guard"), &block_of(PAGE, "orders_audit")] {
        admin.batch_execute(block).expect(block);
    }
    let app = db.connect_as(&role);
    (admin, app)
}

#[test]
fn the_pages_guard_lets_nobody_write_without_scope() {
    let mut db = Database::new();
    let (mut admin, mut app) = orders(&mut db);
    let app_role = text(&mut app, "SELECT current_user", &[]);
    let writer = create(&mut admin, ", scopes => '{orders:*}'");
    let reader = create(&mut admin, ", scopes => '{orders:read}'");
    let insert = "INSERT INTO orders (namespace, item) VALUES ('acme', 'anvil')";
    for sql in [&mut app, &mut admin] {
        assert_eq!(failure(sql, insert, &[]).message(), "Unauthorized: invalid");
    }
    let write_as = |app: &mut Client, token: &Created, statement: &str| {
        app.batch_execute("ROLLBACK; BEGIN").expect("begin");
        run(app, "SELECT api_token_require($1)", &[&token.token]);
        app.batch_execute(statement).map_err(|error| {
            error.as_db_error().expect("an error of the server").message().to_owned()
        })
    };
    let refused = Err("Unauthorized: insufficient_scope".to_owned());
    for statement in [insert, "UPDATE orders SET item = 'x'", "DELETE FROM orders WHERE false"] {
        assert_eq!(write_as(&mut app, &reader, statement), refused, "{statement}");
        assert_eq!(write_as(&mut app, &writer, statement), Ok(()), "{statement}");
    }
    // The scope of a function that a caller put before ours does not count.
    app.batch_execute("ROLLBACK; SET search_path = pg_temp, public").expect("search_path");
    app.batch_execute("CREATE FUNCTION pg_temp.api_token_require_current(text[]) RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'")
        .expect("plant");
    assert_eq!(write_as(&mut app, &reader, insert), refused);
    // Nor does one beside ours that the call would fit better, were its argument not typed.
    admin
        .batch_execute(
            "CREATE FUNCTION public.api_token_require_current(text) RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'",
        )
        .expect("plant");
    let mut app = db.connect_as(&app_role);
    assert_eq!(write_as(&mut app, &reader, insert), refused);
    assert!(write_as(&mut app, &writer, "TRUNCATE orders").is_err());
    // Revoked between the authentication and the write.
    app.batch_execute("ROLLBACK; BEGIN").expect("begin");
    run(&mut app, "SELECT api_token_require($1)", &[&writer.token]);
    run(&mut admin, "SELECT api_token_invalidate($1)", &[&writer.token]);
    assert_eq!(failure(&mut app, insert, &[]).message(), "Unauthorized: revoked");
}

#[test]
fn the_pages_audit_names_the_token() {
    let mut db = Database::new();
    let (mut admin, mut app) = orders(&mut db);
    let made = create(&mut admin, ", scopes => '{orders:*}'");
    app.batch_execute("BEGIN").expect("begin");
    run(&mut app, "SELECT api_token_require($1)", &[&made.token]);
    app.batch_execute(
        "INSERT INTO orders (item) VALUES ('anvil'); UPDATE orders SET item = 'rope'; DELETE FROM orders; COMMIT",
    )
    .expect("write");
    let trail = "SELECT concat_ws(' ', token_id, operation, old ->> 'item', new ->> 'item', new ->> 'namespace')
        FROM orders_audit ORDER BY at";
    let expected = ["INSERT anvil acme", "UPDATE anvil rope acme", "DELETE rope"];
    let expected: Vec<String> = expected.iter().map(|what| format!("{} {what}", made.id)).collect();
    assert_eq!(column(&mut admin, trail, &[]), expected);
    assert_eq!(failure(&mut app, "SELECT * FROM orders_audit", &[]).code().code(), "42501");
    // Nor can it be made to tell of what did not happen, by a table of one's own.
    let forged = "CREATE TEMP TABLE mine (id int); CREATE TRIGGER t AFTER INSERT ON mine
        FOR EACH ROW EXECUTE FUNCTION public.orders_audit()";
    assert!(app.batch_execute(forged).is_err());
}

#[test]
fn the_pages_customers_take_their_tokens_along() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute(&block_of(PAGE, "CREATE TABLE customers")).expect("customers");
    run(&mut sql, "INSERT INTO customers VALUES ('acme')", &[]);
    let made = create(&mut sql, "");
    run(&mut sql, "DELETE FROM customers", &[]);
    assert_eq!(verdict(&mut sql, &made.token), "revoked");
}
