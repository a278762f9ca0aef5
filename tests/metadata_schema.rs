//! JSON Schemas of metadata: enforced wherever metadata is written, in every session at once.

use api_tokens_tests::*;
use postgres::Client;

const SEATS: &str =
    r#"{"type": "object", "required": ["seats"], "properties": {"seats": {"type": "integer"}}}"#;
const CANARY: &str = "sk-canary-4711";

fn set(sql: &mut Client, pattern: &str, schema: Option<&str>) {
    run(sql, "SELECT api_token_set_metadata_schema($1, $2::text::jsonb)", &[&pattern, &schema]);
}

/// The error's detail; the value is nowhere in the error.
fn refused(sql: &mut Client, statement: &str) -> String {
    let error = failure(sql, statement, &[]);
    assert_eq!(error.code().code(), "22023", "{error:?}");
    assert!(error.message().contains("\"metadata\" does not fit"), "{error:?}");
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    error.detail().unwrap_or_default().to_owned()
}

#[test]
fn create_import_and_update_of_another_session_are_checked_at_once() {
    let db = Database::new();
    let (mut sql, mut admin) = (db.connect(), db.connect());
    let old = create(&mut sql, ", metadata => '{\"seats\": \"few\"}'");
    sql.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").expect("begin");
    set(&mut admin, "acme", Some(SEATS));
    let wrong = format!("'{{\"seats\": \"{CANARY}\"}}'");
    let call = format!("SELECT api_token_create('acme', metadata => {wrong})");
    let place = "At \"/seats\": \"type\" is not satisfied.";
    assert_eq!(refused(&mut sql, &call), place, "a transaction that began before");
    sql.batch_execute("ROLLBACK").expect("rollback");
    assert_eq!(refused(&mut sql, &call), place);
    let import =
        format!("SELECT api_token_import('acme', sha256('x'), 'x...', metadata => {wrong})");
    assert_eq!(refused(&mut sql, &import), place);
    let update = |changes: &str| format!("SELECT api_token_update('{}', '{changes}')", old.id);
    let changes = format!("{{\"metadata\": {{\"seats\": \"{CANARY}\"}}}}");
    assert_eq!(refused(&mut sql, &update(&changes)), place);
    let missing = "At \"/seats\": \"required\" is not satisfied.";
    assert_eq!(refused(&mut sql, &update("{\"metadata\": null}")), missing);
    assert_eq!(refused(&mut sql, "SELECT api_token_create('acme')"), missing);
    run(&mut sql, &update("{\"name\": \"x\"}"), &[]);
    refresh(&mut sql, &old.token, "").expect("what is there is copied unchecked");
    create(&mut sql, ", metadata => '{\"seats\": 5}'");
    run(&mut sql, "SELECT api_token_create('other')", &[]);
    set(&mut admin, "acme", None);
    run(&mut sql, &call, &[]);
}

#[test]
fn the_most_specific_pattern_applies_and_a_rollback_undoes_it() {
    let db = Database::new();
    let (mut sql, mut admin) = (db.connect(), db.connect());
    set(&mut admin, "*", Some(SEATS));
    set(&mut admin, "acme*", Some("{}"));
    create(&mut sql, "");
    refused(&mut sql, "SELECT api_token_create('other')");
    admin.batch_execute("BEGIN").expect("begin");
    set(&mut admin, "acme", Some(SEATS));
    refused(&mut admin, "SELECT api_token_create('acme')");
    admin.batch_execute("ROLLBACK").expect("rollback");
    create(&mut admin, "");
    create(&mut sql, "");
    set(&mut admin, "acme", Some(SEATS));
    refused(&mut sql, "SELECT api_token_create('acme')");
    run(&mut sql, "SELECT api_token_create('acme-2')", &[]);
}

#[test]
fn what_is_no_schema_is_refused() {
    let db = Database::new();
    let mut sql = db.connect();
    let set = "SELECT api_token_set_metadata_schema('acme', $1::text::jsonb)";
    for (schema, code, detail) in [
        (
            r#"{"properties": {"a": {"type": "sk-canary-4711"}}}"#,
            "22023",
            "At \"/properties/a/type\": not valid.",
        ),
        (
            r#"{"$ref": "https://example.com/sk-canary-4711"}"#,
            "22023",
            "At \"/$ref\": a reference that leads nowhere in the schema.",
        ),
        (&format!("[\"{}\"]", "x".repeat(70_000)), "54000", "It has 70004 bytes."),
    ] {
        let error = failure(&mut sql, set, &[&schema]);
        assert_eq!(error.code().code(), code, "{error:?}");
        assert!(error.message().contains("\"schema\""), "{error:?}");
        assert_eq!(error.detail(), Some(detail));
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    }
    let error = failure(&mut sql, "SELECT api_token_set_metadata_schema(NULL, '{}')", &[]);
    assert_eq!(error.code().code(), "22004");
    run(&mut sql, set, &[&"{}"]);
    let event = "SELECT concat_ws(' ', method, namespace, detail) FROM api_token_events()";
    let told = "set_metadata_schema acme {\"namespace_pattern\": \"acme\"}";
    assert_eq!(column(&mut sql, event, &[]), [told]);
}

#[test]
fn what_is_checked_is_what_is_stored() {
    let db = Database::new();
    let mut sql = db.connect();
    set(&mut sql, "acme", Some(SEATS));
    let magic = r#"{"$serde_json::private::RawValue": "{\"seats\": 3}"}"#;
    for call in [
        format!("SELECT api_token_create('acme', metadata => '{magic}')"),
        format!("SELECT api_token_import('acme', sha256('x'), 'x...', metadata => '{magic}')"),
        format!("SELECT api_token_set_metadata_schema('acme', '{magic}')"),
    ] {
        assert_eq!(failure(&mut sql, &call, &[]).code().code(), "22023", "{call}");
    }
}

#[test]
fn a_check_that_could_take_long_is_not_begun() {
    let db = Database::new();
    let mut sql = db.connect();
    set(&mut sql, "acme", Some(r#"{"items": {"enum": ["a", "b", "c", "d"]}}"#));
    let create = |values: u32| {
        format!(
            "SELECT api_token_create('acme', metadata => (SELECT jsonb_agg('a'::text) FROM generate_series(1, {values})))"
        )
    };
    run(&mut sql, &create(9_000), &[]);
    let error = failure(&mut sql, &create(20_000), &[]);
    assert_eq!(error.code().code(), "54000", "{error:?}");
    let nested = format!(
        "{}true{}",
        r#"{"oneOf":["#.repeat(24),
        r#"],"unevaluatedProperties":false}"#.repeat(24)
    );
    let error =
        failure(&mut sql, "SELECT api_token_set_metadata_schema('b', $1::text::jsonb)", &[&nested]);
    assert_eq!(error.code().code(), "54000", "{error:?}");
}

#[test]
fn taking_away_is_done_or_an_error_and_told_only_if_there_was_something() {
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let events =
        |sql: &mut Client| -> i64 { number(sql, "SELECT count(*) FROM api_tokens.events", &[]) };
    let clear = "SELECT api_token_set_metadata_schema('acme', NULL)";
    run(&mut sql, clear, &[]);
    run(&mut sql, "SELECT api_token_set_namespace_limit('acme', NULL, NULL)", &[]);
    assert_eq!(events(&mut sql), 0);
    sql.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").expect("begin");
    set(&mut other, "acme", Some(SEATS));
    let error = failure(&mut sql, clear, &[]);
    assert_eq!(
        error.code().code(),
        "40001",
        "it is not seen, so it cannot be taken away: {error:?}"
    );
    sql.batch_execute("ROLLBACK").expect("rollback");
    run(&mut sql, clear, &[]);
    assert_eq!(events(&mut sql), 2);
    create(&mut sql, "");
}

#[test]
fn there_are_so_many_schemas_and_no_more() {
    let db = Database::new();
    let mut sql = db.connect();
    run(
        &mut sql,
        "SELECT api_token_set_metadata_schema('n' || n, '{}') FROM generate_series(1, 256) n",
        &[],
    );
    let error = failure(&mut sql, "SELECT api_token_set_metadata_schema('one more', '{}')", &[]);
    assert_eq!(error.code().code(), "54000", "{error:?}");
    set(&mut sql, "n1", Some(SEATS));
}
