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
