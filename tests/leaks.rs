//! An error leaves nothing open: no buffer, snapshot, lock, plan or memory of Postgres. What is left open is told
//! by a WARNING when the transaction commits; `scripts/test.sh` looks for those in the log of all tests.

use api_tokens_tests::*;
use postgres::{Client, Config, NoTls};
use std::sync::{Arc, Mutex, PoisonError};

const TIMES: i64 = 1_000;

/// What the server tells a session beside its answers: severities and messages.
#[derive(Default)]
struct Notices(Arc<Mutex<Vec<String>>>);

impl Notices {
    /// A superuser's session that tells its notices here.
    fn of(database: &Database) -> (Self, Client) {
        let told = Self::default();
        let into = Arc::clone(&told.0);
        let mut config = Config::new();
        config.host(&host()).user("postgres").dbname(&database.name).notice_callback(
            move |notice| {
                let line = format!("{}: {}", notice.severity(), notice.message());
                into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            },
        );
        (told, config.connect(NoTls).expect("connect"))
    }

    fn so_far(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tables and indexes, other than catalogs, that the session has locked.
fn locks(sql: &mut Client) -> Vec<String> {
    let locks = "SELECT relation::regclass FROM pg_locks WHERE pid = pg_backend_pid() AND relation >= 16384";
    column(sql, locks, &[])
}

/// How many contexts of memory it has: a leak in each of so many calls is many more.
fn contexts(sql: &mut Client) -> i64 {
    number(sql, "SELECT count(*) FROM pg_backend_memory_contexts", &[])
}

/// Does the session with this process id, which is idle, keep a snapshot?
fn keeps_a_snapshot(db: &Database, pid: i64) -> bool {
    let keeps =
        "SELECT backend_xmin IS NOT NULL FROM pg_stat_activity WHERE pid = $1::text::integer";
    truth(&mut db.connect(), keeps, &[&pid.to_string()])
}

#[test]
fn errors_in_the_middle_leave_nothing_open() {
    let db = Database::new();
    let (told, mut sql) = Notices::of(&db);
    let mut other = db.connect();
    let (good, limited, busy) = (create(&mut sql, ""), create(&mut sql, ""), create(&mut sql, ""));
    // As if made on a server that preloads: checking it is an error here, in the middle of a scan.
    age(&mut sql, &limited, "rate_limit = 1, rate_window = '1 s'");
    run(&mut sql, "SELECT api_token_import('acme', sha256('x'), 'x...')", &[]);
    run(
        &mut sql,
        "SELECT api_vault_store('acme', k, 'v') FROM unnest('{k,damaged}'::text[]) k",
        &[],
    );
    run(
        &mut sql,
        "UPDATE api_tokens.vault_versions SET sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) WHERE key_name = 'damaged'",
        &[],
    );
    sql.batch_execute(
        "CREATE FUNCTION fails(failing text, working text, times bigint) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE codes text[] = '{}';
        BEGIN
            FOR i IN 1..times LOOP
                BEGIN
                    EXECUTE failing;
                    codes[i] = 'none';
                EXCEPTION WHEN OTHERS THEN codes[i] = SQLSTATE;
                END;
                EXECUTE working;
            END LOOP;
            RETURN (SELECT string_agg(DISTINCT code, ' ') FROM unnest(codes) code);
        END $$;
        SET lock_timeout = 1",
    )
    .expect("prepared");
    let mut transaction = other.transaction().expect("begin");
    let hold = "SELECT FROM api_tokens.tokens WHERE token_id::text = $1 FOR UPDATE";
    transaction.query(hold, &[&busy.id]).expect("hold");
    let pid = number(&mut sql, "SELECT pg_backend_pid()", &[]);
    let working = format!(
        "SELECT FROM api_token_validate('{0}') v, api_token_validate_many('{{{0},x}}') m, api_vault_get('acme', 'k') g LIMIT 1",
        good.token
    );
    for (failing, code) in [
        ("SELECT api_token_import('acme', sha256('x'), 'x...')".to_owned(), "23505"),
        (format!("SELECT api_token_validate('{}')", limited.token), "55000"),
        (
            format!("SELECT api_token_validate_many('{{{},{}}}')", good.token, limited.token),
            "55000",
        ),
        (
            format!(
                "SELECT 1 / (count(*) - 2) FROM api_token_validate_many('{{{},x}}')",
                good.token
            ),
            "22012",
        ),
        (format!("SELECT api_token_validate('{}', '{{a b}}')", good.token), "22023"),
        (format!("SELECT api_token_require('{}x')", good.token), "28000"),
        (format!("SELECT api_token_invalidate('{}')", busy.token), "55P03"),
        (format!("SELECT api_token_update('{}', '{{\"max_idle\": \"none\"}}')", good.id), "22023"),
        ("SELECT api_token_update(gen_random_uuid(), '{}')".to_owned(), "P0002"),
        ("SELECT api_vault_get('acme', 'damaged')".to_owned(), "XX001"),
        ("SELECT api_vault_store('acme', 'k', 'v', expected_version => 7)".to_owned(), "40001"),
        ("SELECT api_token_events('x')".to_owned(), "22023"),
        ("SELECT 1 / (event_id - event_id) FROM api_token_events()".to_owned(), "22012"),
    ] {
        let fails = "SELECT fails($1, $2, $3)";
        // What is kept for the session is made the first time.
        run(&mut sql, fails, &[&failing, &working, &2_i64]);
        let before = contexts(&mut sql);
        assert_eq!(text(&mut sql, fails, &[&failing, &working, &TIMES]), code, "{failing}");
        assert!(contexts(&mut sql) - before < TIMES / 10, "{failing}");
        assert_eq!(locks(&mut sql), Vec::<String>::new(), "{failing}");
        assert!(!keeps_a_snapshot(&db, pid), "{failing}");
    }
    assert_eq!(told.so_far(), Vec::<String>::new());
}

#[test]
fn timeouts_in_the_middle_leave_nothing_open() {
    let db = Database::new();
    let (told, mut sql) = Notices::of(&db);
    let made = create(&mut sql, "");
    let pid = number(&mut sql, "SELECT pg_backend_pid()", &[]);
    sql.batch_execute(&format!(
        "CREATE TABLE many AS SELECT array_agg('{}' || i) AS tokens FROM generate_series(1, 10000) i",
        made.token
    ))
    .expect("tokens");
    let many =
        sql.prepare("SELECT count(*) FROM many, api_token_validate_many(tokens)").expect("prepare");
    let before = contexts(&mut sql);
    let mut cancelled = 0;
    sql.batch_execute("BEGIN").expect("begin");
    for i in 0..TIMES {
        let timeout = format!("SAVEPOINT s; SET LOCAL statement_timeout = {}", 1 + i % 2);
        sql.batch_execute(&timeout).expect("savepoint");
        if let Err(error) = sql.query(&many, &[]) {
            assert_eq!(error.code().map(|code| code.code()), Some("57014"));
            cancelled += 1;
        }
        sql.batch_execute("ROLLBACK TO s").expect("rollback");
    }
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    sql.batch_execute("COMMIT").expect("commit");
    assert!(cancelled > TIMES / 2, "{cancelled} were cancelled");
    assert!(contexts(&mut sql) - before < TIMES / 10);
    assert_eq!(locks(&mut sql), Vec::<String>::new());
    assert!(!keeps_a_snapshot(&db, pid));
    assert_eq!(told.so_far(), Vec::<String>::new());
}
