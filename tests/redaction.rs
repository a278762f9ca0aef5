//! What of secrets the server's log holds, in all its formats and with everything logged: nothing. On
//! a server that preloads the library; it is restarted with other settings.

use api_tokens_tests::*;
use postgres::Client;
use std::path::PathBuf;

const EVERYTHING: &str = "SET log_statement = 'all'; SET log_min_duration_statement = 0; SET log_duration = on;
    SET log_parameter_max_length = -1; SET log_parameter_max_length_on_error = -1;
    SET log_error_verbosity = 'verbose'; SET log_min_messages = 'debug1'; SET log_parser_stats = off";

/// Has all plans logged with all that is in them, also of statements in functions; false where the server
/// does not come with that module.
fn explain_everything(sql: &mut Client) -> bool {
    if let Err(error) = sql.batch_execute("LOAD 'auto_explain'") {
        assert!(number(sql, "SELECT current_setting('server_version_num')", &[]) >= 160_000);
        eprintln!("not tested here: {error}");
        return false;
    }
    let all = "SET auto_explain.log_min_duration = 0; SET auto_explain.log_verbose = on;
        SET auto_explain.log_analyze = on; SET auto_explain.log_nested_statements = on";
    sql.batch_execute(all).expect("set");
    true
}

/// The folder that the logging collector writes to, in three formats.
fn log_dir() -> PathBuf {
    cluster_dir().join("data/redaction")
}

fn with_collector<R>(work: impl FnOnce() -> R) -> R {
    let _ = std::fs::remove_dir_all(log_dir());
    restart(
        "fast",
        "-c logging_collector=on -c log_destination=stderr,csvlog,jsonlog -c log_directory=redaction",
    );
    let result = work();
    restart("fast", "");
    result
}

/// The logs so far, by the end of their names.
fn logs() -> [(&'static str, String); 3] {
    ["log", "csv", "json"].map(|kind| {
        let mut all = String::new();
        for entry in std::fs::read_dir(log_dir()).expect("logs").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == kind) {
                all += &String::from_utf8_lossy(&std::fs::read(entry.path()).expect("log"));
            }
        }
        (kind, all)
    })
}

/// Everything that is written to the log before this is there.
fn settle(sql: &mut Client, mark: &str) {
    run(sql, &format!("SELECT 1 AS {mark}"), &[]);
    eventually("the logs are written", || logs().iter().all(|(_, log)| log.contains(mark)));
}

#[test]
fn no_log_holds_a_token_or_a_value() {
    let _turn = alone();
    let db = Database::new();
    with_collector(|| {
        let mut sql = db.connect();
        let made = create(&mut sql, "");
        let token = &made.token;
        let shown =
            text(&mut sql, "SELECT token_prefix FROM api_token_get($1::text::uuid)", &[&made.id]);
        sql.batch_execute(EVERYTHING).expect("set");
        let explains = explain_everything(&mut sql);
        let secret = "value-of-the-vault-71";
        for statement in [
            format!("SELECT '{token}'"),
            format!("SELECT api_token_validate('{token}')"),
            format!("SELECT * FROM public . api_token_require ( '{token}' )"),
            format!("SELECT api_vault_store('acme', 'k', '{secret}')"),
            "SELECT api_vault_get('acme', 'k')".to_owned(),
            format!("PREPARE keep AS SELECT api_vault_store('acme', 'k', $1)"),
            format!("EXECUTE keep('{secret}')"),
            format!("DO $$ BEGIN PERFORM api_vault_store('acme', 'k', '{secret}'); END $$"),
            format!("DO $$ BEGIN RAISE WARNING 'about {token}'; END $$"),
            format!("CREATE TABLE seen AS SELECT '{token}'::text AS t, 1 AS n"),
        ] {
            sql.batch_execute(&statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
        for (call, parameters) in [
            ("SELECT api_token_validate($1)", token.as_str()),
            ("SELECT api_vault_store('acme', 'k', $1)", secret),
            ("SELECT $1::text", token.as_str()),
        ] {
            run(&mut sql, call, &[&parameters]);
        }
        for failing in [
            format!("SELECT '{token}'::int"),
            format!("SELECT 1 / 0, '{token}'"),
            format!("SELECT api_vault_store('acme', '', '{secret}')"),
            format!("SELECT 1 / (SELECT 0 FROM api_vault_store('acme', 'k', '{secret}'))"),
            format!("SELECT no_such_column, api_vault_get('{secret}', '{secret}')"),
            format!("SELECT api_token_require('{token}x')"),
            format!("DO $$ BEGIN EXECUTE 'SELECT 1/0, ''{token}'''; END $$"),
            format!(
                "DO $$ BEGIN EXECUTE 'SELECT 1/0 FROM api_vault_store(''acme'', ''k'', ''{secret}'')'; END $$"
            ),
            format!("INSERT INTO seen SELECT '{token}', 'x{token}'::int"),
            format!(
                "SELECT set_config('request.headers', '{{\"x-api-key\": \"imported-{secret}\"}}', true), 1 / 0"
            ),
        ] {
            assert!(sql.batch_execute(&failing).is_err(), "{failing}");
        }
        failure(&mut sql, "SELECT 1 / 0, $1::text", &[token]);
        failure(
            &mut sql,
            "SELECT 1 / (SELECT 0 FROM api_vault_store('acme', 'k', $1))",
            &[&secret],
        );
        if explains {
            for format in ["json", "yaml", "xml"] {
                sql.batch_execute(&format!("SET auto_explain.log_format = {format}")).expect("set");
                run(&mut sql, "SELECT $1::text", &[token]);
                run(&mut sql, "SELECT api_vault_store('acme', 'k', $1)", &[&secret]);
            }
        }
        assert!(sql.copy_out(&format!("COPY (SELECT '{token}', 1 / 0) TO STDOUT")).is_err());
        // A COPY that fails quotes the row in its context.
        let mut copy = sql.copy_in("COPY seen FROM STDIN").expect("copy");
        std::io::Write::write_all(&mut copy, format!("{token}\tnot a number {token}\n").as_bytes())
            .expect("row");
        assert!(copy.finish().is_err());
        settle(&mut sql, "the_end_of_it");
        for (kind, log) in logs() {
            let held = |needle: &str| {
                let line = log.lines().find(|line| line.contains(needle));
                line.map(str::to_owned)
            };
            assert_eq!(held(&token[7..]), None, "{kind}");
            assert_eq!(held(secret), None, "{kind}");
            for there in
                [shown.as_str(), "(hidden)", "division by zero", "COPY seen, line 1", "duration: "]
            {
                assert!(log.contains(there), "{kind}: {there}");
            }
            // A plan has the parameter in it.
            let plan = format!("Output: '{shown}'::text");
            assert!(!explains || log.contains(&plan), "{kind}: {plan}");
        }
    });
}

#[test]
fn it_can_be_switched_off_and_then_hides_nothing() {
    let _turn = alone();
    let mut db = Database::new();
    let role = db.role("app", &["validate"]);
    with_collector(|| {
        let mut sql = db.connect();
        let made = create(&mut sql, "");
        sql.batch_execute("SET api_tokens.redact_log = off; SET log_statement = 'all'")
            .expect("off");
        run(&mut sql, &format!("SELECT '{}'", made.token), &[]);
        settle(&mut sql, "all_is_told");
        for (kind, log) in logs() {
            assert!(log.contains(&made.token), "{kind}");
        }
        let mut app = db.connect_as(&role);
        let denied = failure(&mut app, "SET api_tokens.redact_log = off", &[]);
        assert_eq!(denied.code().code(), "42501");
    });
}

#[test]
fn what_is_no_secret_is_logged_as_it_is() {
    let _turn = alone();
    let db = Database::new();
    with_collector(|| {
        let mut sql = db.connect();
        sql.batch_execute(EVERYTHING).expect("set");
        let typo = "sk_0000000000000000000000000000000030OBQZ";
        run(&mut sql, &format!("SELECT '{typo}' AS a_typo, api_token_current_id()"), &[]);
        failure(&mut sql, "SELECT 1 / 0 AS quoted", &[]);
        settle(&mut sql, "nothing_is_lost");
        for (kind, log) in logs() {
            for there in [typo, "SELECT 1 / 0 AS quoted", "api_token_current_id"] {
                assert!(log.contains(there), "{kind}: {there}");
            }
        }
    });
}

#[test]
fn the_client_keeps_the_detail_that_the_log_loses() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute("CREATE TABLE once (k text PRIMARY KEY); INSERT INTO once VALUES ('a')")
        .expect("table");
    let twice = "INSERT INTO once SELECT 'a' FROM api_token_validate('x')";
    let detail = failure(&mut sql, twice, &[]).detail().map(str::to_owned);
    assert_eq!(detail.as_deref(), Some("Key (k)=(a) already exists."));
    let mut db = db;
    let role = db.role("app", &[]);
    let denied = failure(&mut db.connect_as(&role), "SELECT api_token_validate('x')", &[]);
    assert_eq!(denied.message(), "permission denied for function api_token_validate");
}

#[test]
fn statistics_of_statements_hold_no_value() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    if !has_other_extension(&mut sql, "pg_stat_statements") {
        return;
    }
    let literal = "SELECT api_vault_store('acme', 'k', 'marker-in-a-literal')";
    run(&mut sql, literal, &[]);
    run(&mut sql, "SELECT api_vault_store('acme', 'k', $1)", &[&"marker-in-a-parameter"]);
    let seen = "SELECT count(*) FILTER (WHERE query ~ 'vault_store') > 0 AND NOT bool_or(query ~ 'marker-in') FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert!(truth(&mut sql, seen, &[]));
}
