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
            CREATE TRIGGER t BEFORE DELETE ON users FOR EACH ROW
                EXECUTE FUNCTION api_token_invalidate_owner('tenant');
            INSERT INTO users VALUES ('acme', repeat('x', 1000000));
            GRANT SELECT, DELETE ON users TO {role}"
        ))
        .expect("users");
    let made = create(&mut admin, "");
    let mut clerk = db.connect_as(&role);
    run(&mut clerk, "DELETE FROM users", &[]);
    assert_eq!(number(&mut admin, "SELECT count(*) FROM users", &[]), 0, "BEFORE lets it go on");
    assert_eq!(verdict(&mut admin, &made.token), "revoked");
    let actor = "SELECT actor FROM api_token_events() WHERE method = 'invalidate_all'";
    assert_eq!(text(&mut admin, actor, &[]), role);
}

#[test]
fn a_trigger_that_is_set_up_wrong_says_how() {
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute("CREATE TABLE t (a text, b text)").expect("table");
    let function = "EXECUTE FUNCTION api_token_invalidate_owner";
    let cases = [
        ("AFTER DELETE ON t FOR EACH ROW", "()", "22023"),
        ("AFTER DELETE ON t FOR EACH ROW", "('c')", "22023"),
        ("AFTER DELETE ON t FOR EACH ROW", "('ctid')", "22023"),
        ("AFTER DELETE ON t FOR EACH ROW", "('a', 'b')", "22023"),
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
