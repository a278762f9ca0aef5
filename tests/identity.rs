//! Whom a transaction acts as: for how long, across savepoints, functions and failures.

use api_tokens_tests::*;
use postgres::{Client, SimpleQueryMessage};

const WHO: &str = "SELECT api_token_current_name()";

fn named(sql: &mut Client, name: &str) -> Created {
    create(sql, &format!(", '{name}'"))
}

/// `ok`, or the reason why not.
fn authenticate(sql: &mut Client, token: &str) -> String {
    let answer = "SELECT CASE WHEN ok THEN 'ok' ELSE reason END FROM api_token_authenticate($1)";
    text(sql, answer, &[&token])
}

/// In one message: what is asked in several begins with a transaction of its own, which would hide what
/// an earlier one has left.
fn who(sql: &mut Client) -> Option<String> {
    let answer = sql.simple_query(WHO).expect(WHO);
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    });
    row.expect("a row")
}

#[test]
fn the_readers_tell_what_the_token_has() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", 'ci', '{\"plan\": \"pro\", \"seats\": 5.50}', '{orders:*,b}'");
    execute(&mut sql, "BEGIN");
    let row = sql.query_one(
        "SELECT ok, token_id::text, scopes FROM api_token_authenticate($1)",
        &[&made.token],
    );
    let row = row.expect("authenticate");
    assert_eq!((row.get::<_, bool>(0), row.get::<_, String>(1)), (true, made.id.clone()));
    let all = "SELECT concat_ws(' ', api_token_current_id(), api_token_current_namespace(),
        api_token_current_name(), api_token_current_metadata(), api_token_current_scopes())";
    let expected =
        format!("{} acme ci {{\"plan\": \"pro\", \"seats\": 5.50}} {{orders:*,b}}", made.id);
    assert_eq!(text(&mut sql, all, &[]), expected);
    for (scope, held) in
        [("orders:read", true), ("orders:*", true), ("b", true), ("c", false), ("b:c", false)]
    {
        assert_eq!(truth(&mut sql, "SELECT api_token_has_scope($1)", &[&scope]), held, "{scope}");
    }
    assert!(!truth(&mut sql, "SELECT api_token_has_scope(NULL)", &[]));
    execute(&mut sql, "COMMIT");
    for reader in ["id", "namespace", "name", "metadata", "scopes"] {
        assert_eq!(maybe(&mut sql, &format!("SELECT api_token_current_{reader}()"), &[]), None);
    }
    assert!(!truth(&mut sql, "SELECT api_token_has_scope('b')", &[]));
    assert_eq!(failure(&mut sql, "SELECT api_token_has_scope('a b')", &[]).code().code(), "22023");
}

#[test]
fn metadata_of_any_size_comes_back_whole() {
    let db = Database::new();
    let mut sql = db.connect();
    let metadata =
        "(SELECT jsonb_object_agg(i, sha256(i::text::bytea)) FROM generate_series(1, 20000) i)";
    let made = create(&mut sql, &format!(", metadata => {metadata}"));
    execute(&mut sql, "BEGIN");
    assert_eq!(authenticate(&mut sql, &made.token), "ok");
    let same = format!("SELECT api_token_current_metadata() = {metadata}");
    assert!(truth(&mut sql, &same, &[]));
}

#[test]
fn it_ends_with_the_transaction_however_that_ends() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = named(&mut sql, "a");
    for end in
        ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "PREPARE TRANSACTION 'p'"]
    {
        execute(&mut sql, "BEGIN; CREATE TABLE IF NOT EXISTS t (i int); INSERT INTO t VALUES (1)");
        assert_eq!(authenticate(&mut sql, &made.token), "ok");
        assert_eq!(who(&mut sql).as_deref(), Some("a"));
        execute(&mut sql, end);
        assert_eq!(who(&mut sql), None, "{end}");
        execute(
            &mut sql,
            if end.starts_with("PREPARE") { "COMMIT PREPARED 'p'" } else { "ROLLBACK" },
        );
        assert_eq!(who(&mut sql), None, "{end}");
    }
    execute(&mut sql, "BEGIN");
    authenticate(&mut sql, &made.token);
    failure(&mut sql, "SELECT 1 / 0", &[]);
    execute(&mut sql, "ROLLBACK");
    assert_eq!(who(&mut sql), None, "after an error");
    authenticate(&mut sql, &made.token);
    assert_eq!(who(&mut sql), None, "a statement by itself is a transaction");
    execute(&mut sql, "DISCARD ALL");
    assert_eq!(who(&mut sql), None);
    // A transaction of one message, where DISCARD ALL would be refused.
    let both = format!("SELECT api_token_authenticate('{}'); DISCARD ALL", made.token);
    assert!(sql.batch_execute(&both).is_err());
    assert_eq!(who(&mut sql), None);
}

#[test]
fn a_commit_inside_a_procedure_ends_it() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = named(&mut sql, "a");
    execute(
        &mut sql,
        "CREATE TABLE seen (step int, who text);
        CREATE PROCEDURE p(token text) LANGUAGE plpgsql AS $$ BEGIN
            PERFORM api_token_require(token);
            INSERT INTO seen VALUES (1, api_token_current_name());
            COMMIT;
            INSERT INTO seen VALUES (2, api_token_current_name());
        END $$",
    );
    run(&mut sql, "CALL p($1)", &[&made.token]);
    let seen = "SELECT concat(step, coalesce(who, '-')) FROM seen ORDER BY step";
    assert_eq!(column(&mut sql, seen, &[]), ["1a", "2-"]);
}

#[test]
fn it_follows_savepoints() {
    let db = Database::new();
    let mut sql = db.connect();
    let (a, b) = (named(&mut sql, "a"), named(&mut sql, "b"));
    execute(&mut sql, "BEGIN; SAVEPOINT s0");
    authenticate(&mut sql, &a.token);
    execute(&mut sql, "SAVEPOINT s1");
    authenticate(&mut sql, &b.token);
    assert_eq!(who(&mut sql).as_deref(), Some("b"));
    execute(&mut sql, "ROLLBACK TO s1");
    assert_eq!(who(&mut sql).as_deref(), Some("a"));
    execute(&mut sql, "SELECT api_token_deauthenticate()");
    assert_eq!(who(&mut sql), None);
    execute(&mut sql, "ROLLBACK TO s1");
    assert_eq!(who(&mut sql).as_deref(), Some("a"));
    authenticate(&mut sql, &b.token);
    execute(&mut sql, "SAVEPOINT s2; RELEASE s1");
    assert_eq!(who(&mut sql).as_deref(), Some("b"), "a released one stays");
    execute(&mut sql, "ROLLBACK TO s0");
    assert_eq!(who(&mut sql), None, "what was before the first");
    execute(&mut sql, "COMMIT");
}

#[test]
fn an_exception_that_is_caught_undoes_it() {
    let db = Database::new();
    let mut sql = db.connect();
    let (a, b) = (named(&mut sql, "a"), named(&mut sql, "b"));
    execute(
        &mut sql,
        "CREATE FUNCTION try(token text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
            BEGIN
                PERFORM api_token_require(token);
                PERFORM 1 / 0;
            EXCEPTION WHEN others THEN RETURN SQLERRM; END;
        END $$",
    );
    execute(&mut sql, "BEGIN");
    authenticate(&mut sql, &a.token);
    assert_eq!(text(&mut sql, "SELECT try($1)", &[&b.token]), "division by zero");
    assert_eq!(who(&mut sql).as_deref(), Some("a"));
    assert_eq!(text(&mut sql, "SELECT try('x')", &[]), "Unauthorized: invalid");
    assert_eq!(who(&mut sql).as_deref(), Some("a"));
}

#[test]
fn functions_see_the_same_whoever_they_run_as() {
    let mut db = Database::new();
    let role = db.role("app", &["validate"]);
    let mut admin = db.connect();
    let made = named(&mut admin, "a");
    execute(
        &mut admin,
        "CREATE FUNCTION invoker() RETURNS text LANGUAGE sql AS 'SELECT public.api_token_current_name()';
        CREATE FUNCTION definer() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
            AS 'BEGIN RETURN public.invoker(); END';
        CREATE FUNCTION switch(token text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
            AS 'BEGIN PERFORM public.api_token_require(token); RETURN public.definer(); END'",
    );
    let mut sql = db.connect_as(&role);
    execute(&mut sql, "BEGIN");
    authenticate(&mut sql, &made.token);
    assert_eq!(text(&mut sql, "SELECT invoker() || definer()", &[]), "aa");
    execute(&mut sql, "SELECT api_token_deauthenticate()");
    assert_eq!(text(&mut sql, "SELECT switch($1)", &[&made.token]), "a");
    assert_eq!(who(&mut sql).as_deref(), Some("a"), "it is the transaction's, not the function's");
    execute(&mut sql, "SET LOCAL ROLE NONE");
    assert_eq!(who(&mut sql).as_deref(), Some("a"));
}

#[test]
fn a_refusal_leaves_nobody() {
    let db = Database::new();
    let mut sql = db.connect();
    let (a, b) = (named(&mut sql, "a"), named(&mut sql, "b"));
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&b.token]);
    execute(&mut sql, "BEGIN");
    for (refused, reason) in [(b.token.as_str(), "revoked"), ("garbage", "invalid")] {
        authenticate(&mut sql, &a.token);
        assert_eq!(authenticate(&mut sql, refused), reason);
        assert_eq!(who(&mut sql), None, "whoever overlooks the answer acts as nobody");
    }
    authenticate(&mut sql, &a.token);
    let scope = "SELECT reason FROM api_token_authenticate($1, '{x}')";
    assert_eq!(text(&mut sql, scope, &[&a.token]), "insufficient_scope");
    assert_eq!(who(&mut sql), None);
}

#[test]
fn a_revocation_meanwhile_is_seen_by_whoever_asks_again() {
    let db = Database::new();
    let (mut sql, mut admin) = (db.connect(), db.connect());
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let made = named(&mut admin, "a");
        execute(&mut sql, &format!("BEGIN ISOLATION LEVEL {level}"));
        assert_eq!(authenticate(&mut sql, &made.token), "ok");
        assert_eq!(text(&mut sql, "SELECT api_token_require_current()", &[]), made.id);
        run(&mut admin, "SELECT api_token_invalidate($1)", &[&made.token]);
        execute(&mut sql, "SAVEPOINT s");
        let refused = failure(&mut sql, "SELECT api_token_require_current()", &[]);
        assert_eq!(refused.message(), "Unauthorized: revoked", "{level}");
        execute(&mut sql, "ROLLBACK TO s");
        let refused = failure(&mut sql, "SELECT api_token_require($1)", &[&made.token]);
        assert_eq!(refused.message(), "Unauthorized: revoked", "{level}");
        execute(&mut sql, "ROLLBACK TO s");
        assert_eq!(authenticate(&mut sql, &made.token), "revoked", "{level}");
        execute(&mut sql, "COMMIT");
    }
}

#[test]
fn require_raises_28000_with_the_reason_and_no_secret() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", scopes => '{a}', allowed_ips => '{10.0.0.0/8}'");
    let ok = "SELECT namespace FROM api_token_require($1, '{a}', '10.1.2.3')";
    assert_eq!(text(&mut sql, ok, &[&made.token]), "acme");
    let refusals = [
        ("SELECT api_token_require($1, '{b}', '10.1.2.3')", "insufficient_scope"),
        ("SELECT api_token_require($1, '{a}', '192.0.2.1')", "ip_not_allowed"),
        ("SELECT api_token_require(reverse($1), '{a}', '10.1.2.3')", "invalid"),
        ("SELECT api_token_require(left($1, 0))", "invalid"),
    ];
    for (call, reason) in refusals {
        let refused = failure(&mut sql, call, &[&made.token]);
        assert_eq!(refused.code().code(), "28000");
        assert_eq!(refused.message(), format!("Unauthorized: {reason}"));
        assert!(!format!("{refused:?}").contains(&made.token[3..]), "{call}");
        let is_known = reason != "invalid";
        assert_eq!(refused.detail().is_some_and(|detail| detail.contains(&made.id)), is_known);
    }
    assert_eq!(
        failure(&mut sql, "SELECT api_token_require(NULL)", &[]).message(),
        "Unauthorized: invalid"
    );
    let bad_call = failure(&mut sql, "SELECT api_token_require($1, '{a b}')", &[&made.token]);
    assert_eq!(bad_call.code().code(), "22023");
}

#[test]
fn require_current_demands_an_identity_with_scopes() {
    let db = Database::new();
    let (mut sql, mut admin) = (db.connect(), db.connect());
    let none = failure(&mut sql, "SELECT api_token_require_current()", &[]);
    assert_eq!((none.code().code(), none.message()), ("28000", "Unauthorized: invalid"));
    assert!(none.hint().is_some_and(|hint| hint.contains("api_token_authenticate")));
    let made = create(&mut sql, ", scopes => '{a}', max_idle => '1 h'");
    execute(&mut sql, "BEGIN");
    authenticate(&mut sql, &made.token);
    assert_eq!(text(&mut sql, "SELECT api_token_require_current('{a}')", &[]), made.id);
    execute(&mut sql, "SAVEPOINT s");
    let scope = failure(&mut sql, "SELECT api_token_require_current('{a,b}')", &[]);
    assert_eq!(scope.message(), "Unauthorized: insufficient_scope");
    execute(&mut sql, "ROLLBACK TO s");
    // A scope that is taken away meanwhile is gone at once, one that is given is there.
    run(
        &mut admin,
        "SELECT api_token_update($1::text::uuid, '{\"scopes\": [\"b\"]}')",
        &[&made.id],
    );
    assert_eq!(text(&mut sql, "SELECT api_token_require_current('{b}')", &[]), made.id);
    let lost = failure(&mut sql, "SELECT api_token_require_current('{a}')", &[]);
    assert_eq!(lost.message(), "Unauthorized: insufficient_scope");
    execute(&mut sql, "ROLLBACK TO s");
    age(&mut admin, &made, "last_used_at = now() - interval '2 h'");
    let idle = failure(&mut sql, "SELECT api_token_require_current()", &[]);
    assert_eq!(idle.message(), "Unauthorized: idle_timeout");
    execute(&mut sql, "ROLLBACK TO s");
    run(&mut admin, "DELETE FROM api_tokens.tokens", &[]);
    let gone = failure(&mut sql, "SELECT api_token_require_current()", &[]);
    assert_eq!(gone.message(), "Unauthorized: invalid");
}

#[test]
fn it_works_where_nothing_can_be_written() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = named(&mut sql, "a");
    execute(&mut sql, "BEGIN READ ONLY");
    assert_eq!(authenticate(&mut sql, &made.token), "ok");
    assert_eq!(who(&mut sql).as_deref(), Some("a"));
    run(&mut sql, "SELECT api_token_require_current()", &[]);
}

#[test]
fn the_last_of_many_in_one_transaction_counts() {
    let db = Database::new();
    let mut sql = db.connect();
    let (a, b) = (named(&mut sql, "a"), named(&mut sql, "b"));
    execute(&mut sql, "BEGIN");
    let many = "SELECT count(*) FROM generate_series(1, 10000) i,
        LATERAL api_token_authenticate(CASE WHEN i % 2 = 0 THEN $1 ELSE $2 END)";
    assert_eq!(number(&mut sql, many, &[&b.token, &a.token]), 10000);
    assert_eq!(who(&mut sql).as_deref(), Some("b"));
    // A deferred trigger runs at COMMIT, and still as this token.
    execute(
        &mut sql,
        "CREATE TABLE log (who text); CREATE TABLE t (i int);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO log VALUES (api_token_current_name()); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION note();
        INSERT INTO t VALUES (1); COMMIT",
    );
    assert_eq!(text(&mut sql, "SELECT who FROM log", &[]), "b");
}

#[test]
fn scope_covers_says_what_a_token_would_have() {
    let db = Database::new();
    let mut sql = db.connect();
    for (held, needed, covers) in [
        ("{a:b}", "a:b", true),
        ("{a:*}", "a:b", true),
        ("{a:*}", "a:b:c", true),
        ("{a:*}", "a", false),
        ("{*}", "a:b", true),
        ("{b,a}", "a", true),
        ("{}", "a", false),
        ("{a:b}", "a:*", false),
        ("{ab:*}", "abc:d", false),
    ] {
        let call = "SELECT api_token_scope_covers($1::text::text[], $2)";
        assert_eq!(truth(&mut sql, call, &[&held, &needed]), covers, "{held} {needed}");
    }
    assert!(!truth(&mut sql, "SELECT api_token_scope_covers(NULL, 'a')", &[]));
    assert!(!truth(&mut sql, "SELECT api_token_scope_covers('{a}', NULL)", &[]));
    for bad in ["'{a}', 'a b'", "'{a b}', 'a'", "'{NULL}', 'a'"] {
        let call = format!("SELECT api_token_scope_covers({bad})");
        assert!(["22023", "22004"].contains(&failure(&mut sql, &call, &[]).code().code()), "{bad}");
    }
}
