//! Every argument of every function, as pg_proc has them, given what a C function must be written to take: NULL,
//! the ends of each type, arrays of all shapes, and values as long as they come (`make test-long`: a gigabyte).
//! Each call gives an answer or an error that says what is wrong: no internal error, and no end of the server.

use api_tokens_tests::*;
use postgres::Client;

/// What functions take in the database of these tests, by the names of their arguments.
const PLAIN: &[(&str, &str)] = &[
    ("token", "(SELECT token FROM made)"),
    ("tokens", "ARRAY[(SELECT token FROM made), 'x']"),
    ("token_id", "(SELECT token_id FROM made)"),
    ("token_hash", "sha256('another')"),
    ("token_prefix", "'anot...'"),
    ("namespace", "'acme'"),
    ("namespace_pattern", "'acm*'"),
    ("confirm", "'acme'"),
    ("key_name", "'k'"),
    ("name", "'n'"),
    ("prefix", "'sk'"),
    ("value", "'v'"),
    ("plaintext", "'v'"),
    ("secret", "'s'"),
    ("encrypted_value", "(SELECT encrypted_value FROM encrypted)"),
    ("iv", "(SELECT iv FROM encrypted)"),
    ("header", "'Bearer x'"),
    ("headers", "'{\"x-api-key\": \"x\"}'"),
    ("after_cursor", "api_token_events_end()"),
    ("level", "'validate'"),
    ("role", "'pg_monitor'"),
    ("scope", "'a'"),
    ("needed", "'a'"),
    ("held", "'{a,b:*}'"),
    ("scopes", "'{a}'"),
    ("required_scopes", "'{a}'"),
    ("allowed_ips", "'{10.0.0.0/8}'"),
    ("client_ip", "'10.1.2.3'"),
    ("changes", "'{\"name\": \"other\"}'"),
    ("metadata", "'{\"a\": 1}'"),
    ("schema", "'{\"type\": \"object\"}'"),
    ("after_id", "(SELECT token_id FROM made)"),
    ("expected_version", "1"),
    ("version", "1"),
    ("cost", "1"),
    ("batch", "10"),
    ("max_rows", "10"),
    ("max_uses", "10"),
    ("refill_amount", "5"),
    ("refill_every", "'1 day'"),
    ("rate_limit", "NULL"),
    ("rate_window", "NULL"),
    ("max_idle", "'1 day'"),
    ("older_than", "'1 day'"),
    ("grace", "'1 hour'"),
    ("enabled", "true"),
    ("in_grace", "false"),
    ("include_revoked", "true"),
    ("include_deleted", "true"),
    ("wait", "true"),
    ("before", "now()"),
    ("after", "now() - interval '1 day'"),
    ("now", "now()"),
    ("created_at", "now() - interval '1 day'"),
    ("last_used_at", "now() - interval '1 hour'"),
    ("revoked_at", "NULL"),
    ("expires_at", "now() + interval '1 day'"),
    ("max_expires_at", "now() + interval '2 days'"),
];

/// A function, or a procedure, and what it takes: names and types.
struct Routine {
    name: String,
    is_procedure: bool,
    arguments: Vec<(String, String)>,
}

impl Routine {
    fn all(sql: &mut Client) -> Vec<Self> {
        let all = "SELECT p.oid::regproc::text, p.prokind = 'p',
                ARRAY(SELECT p.proargnames[i] FROM generate_series(1, p.pronargs) i),
                ARRAY(SELECT format_type(p.proargtypes[i - 1], NULL) FROM generate_series(1, p.pronargs) i)
            FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
                JOIN pg_extension e ON e.oid = d.refobjid
            WHERE e.extname = 'api_tokens' AND p.prorettype <> 'trigger'::regtype ORDER BY 1";
        let rows = sql.query(all, &[]).expect("the functions");
        let routine = |row: &postgres::Row| {
            let (names, types): (Vec<String>, Vec<String>) = (row.get(2), row.get(3));
            let arguments = names.into_iter().zip(types).collect();
            Self { name: row.get(0), is_procedure: row.get(1), arguments }
        };
        rows.iter().map(routine).collect()
    }

    /// A call with plain arguments but for those that `other` has something else for.
    fn call(&self, other: impl Fn(&str) -> Option<String>) -> String {
        let argument = |(name, kind): &(String, String)| {
            let plain = || PLAIN.iter().find(|(known, _)| known == name);
            let value = other(name).unwrap_or_else(|| {
                plain().unwrap_or_else(|| panic!("a plain {name} of {}", self.name)).1.to_owned()
            });
            format!("{name} => ({value})::{kind}")
        };
        let arguments: Vec<String> = self.arguments.iter().map(argument).collect();
        let verb = if self.is_procedure { "CALL" } else { "SELECT * FROM" };
        format!("{verb} {}({})", self.name, arguments.join(", "))
    }
}

/// A database in which the plain calls find something, and a role that may call them.
fn prepared() -> (Database, String) {
    let mut db = Database::new();
    let role = db.role("granted", &["admin"]);
    let mut sql = db.connect();
    sql.batch_execute(&format!(
        "CREATE TABLE made AS SELECT * FROM api_token_create('acme', 'n', '{{\"a\": 1}}', '{{a,b:*}}',
            allowed_ips => '{{10.0.0.0/8}}', max_uses => 1000000);
        CREATE TABLE encrypted AS SELECT * FROM api_vault_encrypt_value('v', 's');
        GRANT SELECT ON made, encrypted TO {role};
        SELECT api_vault_store('acme', 'k', 'v')"
    ))
    .expect("prepared");
    (db, role)
}

/// Calls it and takes back what it did; an error must be one that says what is wrong.
fn call(sql: &mut Client, routine: &Routine, call: &str) -> Result<(), String> {
    // A procedure commits, and so stands alone.
    let (begin, end) = if routine.is_procedure { ("", "") } else { ("BEGIN", "ROLLBACK") };
    sql.batch_execute(begin).expect("begin");
    let called = sql.batch_execute(call);
    let Err(error) = called else {
        return sql.batch_execute(end).map_err(|error| panic!("{call}: {error:?}"));
    };
    let said = error.as_db_error().unwrap_or_else(|| panic!("the server ended: {call}: {error:?}"));
    let code = said.code().code();
    // Internal errors; the operator's, which are timeouts; and those of the system.
    let is_clean = !["XX", "57", "58"].contains(&&code[..2]);
    assert!(is_clean, "{call}: {code} {}", said.message());
    let parts = [Some(said.message()), said.detail(), said.hint(), said.where_()];
    let length: usize = parts.into_iter().flatten().map(str::len).sum();
    assert!(length < 2_000, "{call}: {} bytes of error", length);
    sql.batch_execute(end).expect("rollback");
    Err(code.to_owned())
}

#[test]
fn the_plain_calls_work() {
    let (db, _) = prepared();
    let mut sql = db.connect();
    for routine in Routine::all(&mut sql) {
        let plain = routine.call(|_| None);
        if let Err(code) = call(&mut sql, &routine, &plain) {
            let expected = match routine.name.as_str() {
                // Not preloaded.
                "api_token_stats" | "api_token_usage" | "api_tokens.check_usage_of" => "55000",
                // Nobody is authenticated, nor is there a header.
                "api_token_require_current" => "28000",
                "api_token_pre_request" => "PGRST",
                // It is sealed.
                "api_vault_get_encrypted" => "22023",
                _ => "",
            };
            assert_eq!(code, expected, "{plain}");
        }
    }
}

#[test]
fn every_argument_may_be_null() {
    let (db, role) = prepared();
    for mut sql in [db.connect(), db.connect_as(&role)] {
        for routine in Routine::all(&mut db.connect()) {
            let _ = call(&mut sql, &routine, &routine.call(|_| Some("NULL".to_owned())));
            for (null, _) in &routine.arguments {
                let one = routine.call(|name| (name == null).then(|| "NULL".to_owned()));
                let _ = call(&mut sql, &routine, &one);
            }
        }
    }
}

/// The ends of a type, and what is odd about it.
fn odd(kind: &str, has_infinite_intervals: bool) -> Vec<String> {
    let values: &[&str] = match kind {
        "timestamp with time zone" => &[
            "'infinity'",
            "'-infinity'",
            "'4714-11-24 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'2000-01-01 00:00:00+00'",
        ],
        "interval" if has_infinite_intervals => &["'infinity'", "'-infinity'"],
        "interval" => &[
            "make_interval(2000000, 2000000, 0, 2147483647)",
            "'178000000 years'",
            "'-178000000 years'",
            "'2147483647 months -2147483648 days'",
            "'2562047788 hours'",
            "'1 microsecond'",
            "'0'",
        ],
        "integer" => &["0", "-1", "2147483647", "-2147483648"],
        "bigint" => &["0", "-1", "9223372036854775807", "'-9223372036854775808'"],
        "uuid" => {
            &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]
        }
        "inet" => &["'0.0.0.0/0'", "'::/0'", "'::ffff:10.1.2.3'", "'255.255.255.255/0'"],
        "regrole" => &["0", "4294967295", "'pg_monitor'"],
        "boolean" => &["true", "false"],
        "text" => &["''", "' '", "E'\\x01'", "'ä😀'", "'*'", "':'", "E'a\\nb'", "'%s%n'", "'{}'"],
        "bytea" => &["''", "'\\x00'", "sha256('')"],
        "jsonb" => &[
            "'null'",
            "'[]'",
            "'{}'",
            "'\"x\"'",
            "'1e1000'",
            "'{\"\": null}'",
            "(repeat('[', 2000) || repeat(']', 2000))",
            "'{\"metadata\": null, \"scopes\": null, \"max_idle\": \"infinity\"}'",
            "'{\"expires_at\": \"-infinity\"}'",
            "'{\"max_expires_at\": \"infinity\", \"expires_at\": \"infinity\"}'",
            "'{\"refill_every\": \"178000000 years\", \"refill_amount\": 9223372036854775807}'",
        ],
        "text[]" => &[
            "'{}'",
            "'{NULL}'",
            "'{NULL,a}'",
            "'{\"\"}'",
            "'{{a,b},{c,d}}'",
            "'[-5:-4]={a,b}'",
            "'[2147483646:2147483646]={a}'",
            "array_fill('a'::text, '{2,2,2,2,2,2}', '{-7,0,7,1,1,1}')",
            "array_fill(NULL::text, '{3,3}')",
            "ARRAY[ARRAY[]::text[]]",
        ],
        "cidr[]" => &[
            "'{}'",
            "'{NULL}'",
            "'{{10.0.0.0/8},{::/0}}'",
            "'[-5:-4]={0.0.0.0/0,::1/128}'",
            "array_fill('10.0.0.0/8'::cidr, '{2,2,2,2,2,2}')",
        ],
        other => panic!("odd values of {other}"),
    };
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn the_ends_of_every_type_are_taken_or_refused() {
    let (db, _) = prepared();
    let mut sql = db.connect();
    let version = number(&mut sql, "SELECT current_setting('server_version_num')", &[]);
    each_value(&mut sql, |_, kind| odd(kind, false));
    if version >= 170_000 {
        each_value(&mut sql, |_, kind| match kind {
            "interval" => odd(kind, true),
            _ => Vec::new(),
        });
    }
}

/// Calls every function with each of the values that there are for each of its arguments, by name and type.
fn each_value(sql: &mut Client, values: impl Fn(&str, &str) -> Vec<String>) {
    for routine in Routine::all(sql) {
        for (changed, kind) in &routine.arguments {
            for value in values(changed, kind) {
                let one = routine.call(|name| (name == changed).then(|| value.clone()));
                let _ = call(sql, &routine, &one);
            }
        }
    }
}

/// What is taken at the ends of a type is no trouble for those who come across it later.
#[test]
fn tokens_at_the_ends_of_every_type_can_be_lived_with() {
    let (db, _) = prepared();
    let mut sql = db.connect();
    let comes_in = ["api_token_create", "api_token_import"];
    for routine in Routine::all(&mut sql) {
        let all = routine.arguments.iter().filter(|_| comes_in.contains(&routine.name.as_str()));
        for (changed, kind) in all {
            for value in odd(kind, false) {
                let other = |name: &str| match name {
                    _ if name == changed => Some(value.clone()),
                    "token_hash" => Some("sha256(gen_random_uuid()::text::bytea)".to_owned()),
                    _ => None,
                };
                let _ = sql.batch_execute(&routine.call(other));
            }
        }
    }
    let ids = column(&mut sql, "SELECT token_id FROM api_tokens.tokens", &[]);
    assert!(ids.len() > 80, "{} were taken", ids.len());
    for id in &ids {
        for done in [
            "api_token_validate_hash((SELECT token_hash FROM api_tokens.tokens WHERE token_id = $1::text::uuid))",
            "api_token_update($1::text::uuid, '{\"name\": \"other\"}')",
            "api_token_refresh_by_id($1::text::uuid, '178000000 years')",
        ] {
            run(&mut sql, &format!("SELECT * FROM {done}"), &[id]);
        }
    }
    let namespaces = "SELECT count(l) FROM (SELECT DISTINCT namespace FROM api_tokens.tokens) t, api_token_list(t.namespace, true) l";
    assert!(number(&mut sql, namespaces, &[]) > ids.len() as i64);
    run(&mut sql, "SELECT api_token_cleanup('178000000 years')", &[]);
    run(&mut sql, "SELECT api_token_invalidate_all()", &[]);
    run(&mut sql, "SELECT api_token_cleanup('0')", &[]);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_tokens.tokens", &[]), 0);
}

/// Values of so many bytes, a quarter for a jsonb, which has fewer at most; and arrays of so many elements.
fn huge(name: &str, kind: &str, bytes: u64, elements: u64) -> Vec<String> {
    // Some at a time, which is faster.
    let times = |text: &str, bytes: u64| {
        format!("repeat(repeat('{text}', 1000), {})", bytes / 1000 / text.len() as u64)
    };
    let text = times("x", bytes);
    let string = format!("to_jsonb({})", times("x", bytes / 4));
    let array = format!("to_jsonb(array_fill('x'::text, '{{{elements}}}'))");
    let member = |key: &str, value: &str| format!("jsonb_build_object('{key}', {value})");
    match (name, kind) {
        // What is split at something, or parsed, may become many times as long.
        ("after_cursor", _) => vec![times("/", bytes), times("1,", bytes)],
        ("headers", _) => {
            vec![format!("'{{\"a\":1' || {} || '}}'", times(",\"a\":1", bytes - 100))]
        }
        ("header", _) => vec![format!("'Bearer ' || {text}")],
        (_, "text") => vec![text],
        (_, "bytea") => vec![format!("convert_to({text}, 'UTF8')")],
        ("changes", _) => vec![
            array.clone(),
            member("name", &string),
            member("metadata", &string),
            member("scopes", &array),
            member("allowed_ips", &array),
            member("max_idle", &string),
            member("expires_at", &string),
        ],
        ("schema", _) => vec![string, member("required", &array)],
        (_, "jsonb") => vec![string],
        (_, "text[]") => vec![
            format!("ARRAY[{text}]"),
            format!("array_fill('x'::text, '{{{elements}}}')"),
            format!("array_fill('x'::text, '{{{},2,5}}')", elements / 10),
        ],
        (_, "cidr[]") => vec![format!("array_fill('10.0.0.0/8'::cidr, '{{{elements}}}')")],
        _ => Vec::new(),
    }
}

/// The most memory that the session's backend ever had, in bytes.
fn peak(sql: &mut Client) -> u64 {
    let line =
        "SELECT substring(pg_read_file('/proc/self/status', 0, 10000) FROM 'VmHWM:\\s+(\\d+)')";
    number(sql, line, &[]) as u64 * 1024
}

#[test]
fn what_is_huge_is_refused_in_bounded_time_and_memory() {
    let bytes = number_or("API_TOKENS_TEST_BYTES", 2_000_000);
    let elements = bytes / 100;
    let (db, _) = prepared();
    let mut sql = db.connect();
    sql.batch_execute("SET statement_timeout = '5 min'").expect("set");
    each_value(&mut sql, |name, kind| huge(name, kind, bytes, elements));
    // The value itself, what it is made of, and a few copies.
    let most = peak(&mut sql);
    assert!(most < 6 * bytes + 300_000_000, "{most} bytes");
}
