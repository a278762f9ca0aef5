//! With the library preloaded: uses are kept in shared memory, exact at once for every backend,
//! and written to the table together. Run one at a time; some of these restart the server.

use api_tokens_tests::*;
use postgres::Client;
use std::time::{Duration, Instant};

fn stat(sql: &mut Client, column: &str) -> i64 {
    number(sql, &format!("SELECT {column} FROM api_token_stats()"), &[])
}

fn use_count(sql: &mut Client, token: &Created) -> i64 {
    let count = "SELECT use_count FROM api_tokens.tokens WHERE token_id::text = $1";
    number(sql, count, &[&token.id])
}

fn flushed(sql: &mut Client, token: &Created, uses: i64) {
    eventually(&format!("{uses} uses are in the table"), || use_count(sql, token) == uses);
}

#[test]
fn idleness_is_exact_at_once_in_every_backend_and_nothing_is_written() {
    let _turn = alone();
    let db = Database::new();
    let (mut one, mut two) = (db.connect(), db.connect());
    let made = create(&mut one, ", max_idle => '1 hour'");
    age(&mut one, &made, "last_used_at = now() - interval '59 min'");
    one.batch_execute("BEGIN READ ONLY").expect("begin");
    assert_eq!(verdict(&mut one, &made.token), "ok");
    one.batch_execute("ROLLBACK").expect("rollback");
    // As if a day had passed for the row: only the map knows of the use.
    age(&mut two, &made, "last_used_at = now() - interval '1 day'");
    assert_eq!(verdict(&mut two, &made.token), "ok");
    let listed = "SELECT status || ' ' || (last_used_at > now() - interval '1 min') FROM api_token_get($1::text::uuid)";
    assert_eq!(text(&mut two, listed, &[&made.id]), "active true");
    assert_eq!(number(&mut two, "SELECT api_token_cleanup('0')", &[]), 0, "it is alive");
    assert!(refresh(&mut two, &made.token, "").is_ok());
    assert_eq!(stat(&mut two, "touches_written"), 0);
}

#[test]
fn uses_reach_the_table_exactly_and_nothing_else_changes() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", 'n', '{\"k\": 1}', '{a}'");
    age(&mut sql, &made, "last_used_at = now() - interval '1 h'");
    let rest = "SELECT to_jsonb(t) - 'last_used_at' - 'use_count' FROM api_tokens.tokens t";
    let before = text(&mut sql, rest, &[]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut sql = db.connect();
                for _ in 0..250 {
                    assert_eq!(verdict(&mut sql, &made.token), "ok");
                }
            });
        }
    });
    flushed(&mut sql, &made, 1000);
    assert_eq!(text(&mut sql, rest, &[]), before);
    assert!(truth(
        &mut sql,
        "SELECT last_used_at > now() - interval '1 min' FROM api_tokens.tokens",
        &[]
    ));
    // Only forward: a row that was used later than the map knows keeps its time.
    age(&mut sql, &made, "last_used_at = '2900-01-01'");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    flushed(&mut sql, &made, 1001);
    assert!(truth(&mut sql, "SELECT last_used_at = '2900-01-01' FROM api_tokens.tokens", &[]));
}

#[test]
fn a_row_that_is_held_is_written_by_a_later_flush() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut holder) = (db.connect(), db.connect());
    let (held, free) = (create(&mut sql, ""), create(&mut sql, ""));
    let hold =
        format!("BEGIN; SELECT FROM api_tokens.tokens WHERE token_id = '{}' FOR UPDATE", held.id);
    holder.batch_execute(&hold).expect("hold");
    assert_eq!(verdict(&mut sql, &held.token), "ok");
    assert_eq!(verdict(&mut sql, &free.token), "ok");
    flushed(&mut sql, &free, 1);
    assert_eq!(use_count(&mut sql, &held), 0);
    holder.batch_execute("COMMIT").expect("release");
    flushed(&mut sql, &held, 1);
}

#[test]
fn a_failing_flush_loses_nothing_and_is_told() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    let failures = stat(&mut sql, "flush_failures");
    sql.batch_execute("ALTER INDEX api_tokens.tokens_pkey RENAME TO hidden").expect("break");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    eventually("the failure is counted", || stat(&mut sql, "flush_failures") > failures);
    assert_eq!(text(&mut sql, "SELECT last_error FROM api_token_stats()", &[]), "XX000");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    sql.batch_execute("ALTER INDEX api_tokens.hidden RENAME TO tokens_pkey").expect("mend");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    eventually("all are written", || {
        verdict(&mut sql, "another use asks for a worker if there is none");
        use_count(&mut sql, &made) == 3
    });
}

#[test]
fn a_clean_shutdown_writes_everything() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_idle => '1 h'");
    for _ in 0..5 {
        assert_eq!(verdict(&mut sql, &made.token), "ok");
    }
    drop(sql);
    restart("fast", "-c api_tokens.flush_interval=1");
    assert_eq!(use_count(&mut db.connect(), &made), 5);
}

#[test]
fn a_crash_forgets_uses_and_nothing_else() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let (used, revoked) = (create(&mut sql, ""), create(&mut sql, ""));
    assert_eq!(verdict(&mut sql, &used.token), "ok");
    assert_eq!(verdict(&mut sql, &revoked.token), "ok");
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&revoked.token]);
    drop(sql);
    restart("immediate", "-c api_tokens.flush_interval=1");
    let mut sql = db.connect();
    assert_eq!(verdict(&mut sql, &revoked.token), "revoked");
    assert_eq!(verdict(&mut sql, &used.token), "ok");
    eventually("uses are written again", || use_count(&mut sql, &used) >= 1);
}

#[test]
fn a_killed_worker_is_replaced() {
    let _turn = alone();
    let db = Database::new();
    restart("fast", "-c api_tokens.flush_interval=3600");
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    // Told to end long before its time, it writes first.
    eventually("a worker waits", || signal_worker("-TERM"));
    flushed(&mut sql, &made, 1);
    drop(sql);
    restart("fast", "-c api_tokens.flush_interval=1");
    let mut sql = db.connect();
    // SIGKILL restarts the whole server, as for any process with shared memory.
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    eventually("a worker waits", || signal_worker("-KILL"));
    drop(sql);
    std::thread::sleep(Duration::from_millis(300));
    eventually("the server is back", || {
        let mut config = postgres::Config::new();
        config.host(&host()).user("postgres").dbname(&db.name);
        config.connect(postgres::NoTls).is_ok_and(|mut sql| sql.batch_execute("SELECT 1").is_ok())
    });
    let mut sql = db.connect();
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    eventually("uses are written again", || use_count(&mut sql, &made) >= 2);
}

#[test]
fn a_database_that_is_read_only_by_default_is_flushed_too() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    sql.batch_execute(&format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        db.name
    ))
    .expect("alter");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    flushed(&mut sql, &made, 1);
}

#[test]
fn a_flush_that_waits_for_a_lock_gives_up_and_holds_up_no_shutdown() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut holder) = (db.connect(), db.connect());
    let made = create(&mut sql, "");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    let failures = stat(&mut sql, "flush_failures");
    holder
        .batch_execute("BEGIN; LOCK TABLE api_tokens.tokens IN ACCESS EXCLUSIVE MODE")
        .expect("lock");
    eventually("it has given up", || stat(&mut sql, "flush_failures") > failures);
    holder.batch_execute("PREPARE TRANSACTION 'held'").expect("prepare");
    drop((sql, holder));
    restart("fast", "-c api_tokens.flush_interval=1");
    db.connect().batch_execute("ROLLBACK PREPARED 'held'").expect("rollback");
}

#[test]
fn a_table_that_only_has_the_name_is_not_touched() {
    let _turn = alone();
    let db = Database::new();
    restart("fast", "-c api_tokens.flush_interval=2");
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    sql.batch_execute(
        "DROP EXTENSION api_tokens;
        CREATE SCHEMA api_tokens;
        CREATE TABLE api_tokens.tokens (x text);
        CREATE UNIQUE INDEX tokens_pkey ON api_tokens.tokens (x);
        INSERT INTO api_tokens.tokens SELECT md5(i::text) FROM generate_series(1, 1000) i",
    )
    .expect("plant");
    let hash = "SELECT md5(string_agg(x, '' ORDER BY x)) FROM api_tokens.tokens";
    let before = text(&mut sql, hash, &[]);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(text(&mut sql, hash, &[]), before, "and the server is up");
    drop(sql);
    let other = Database::new();
    assert_eq!(stat(&mut other.connect(), "map_pending"), 0, "forgotten");
    restart("fast", "-c api_tokens.flush_interval=1");
}

/// Signals the worker of this server that waits for its time; without a connection it is in no
/// view of Postgres.
fn signal_worker(signal: &str) -> bool {
    let pid_file = std::fs::read_to_string(cluster_dir().join("data/postmaster.pid"));
    let pid_file = pid_file.expect("postmaster.pid");
    let postmaster = pid_file.lines().next().expect("pid");
    let is_our_worker = |process: &std::path::Path| {
        let command = std::fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        command.contains("api_tokens flush") && status.contains(&format!("PPid:\t{postmaster}\n"))
    };
    let mut processes =
        std::fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    let Some(worker) = processes.find(|path| is_our_worker(path)) else { return false };
    let pid = worker.file_name().expect("a pid").to_string_lossy().into_owned();
    let kill = format!("kill {signal} {pid}");
    std::process::Command::new("sh").args(["-c", &kill]).status().expect("sh").success()
}

#[test]
fn the_extension_and_the_database_can_be_dropped_at_any_time() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    sql.batch_execute("DROP EXTENSION api_tokens; CREATE EXTENSION api_tokens").expect("reinstall");
    let again = create(&mut sql, "");
    assert_eq!(verdict(&mut sql, &again.token), "ok");
    flushed(&mut sql, &again, 1);
    sql.batch_execute("DROP EXTENSION api_tokens").expect("drop");
    drop(sql);

    // Without FORCE, right after a use: the worker waits unconnected.
    let mut admin = connect_to(&host(), "postgres", "postgres");
    let name = format!("{}_gone", db.name);
    admin
        .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE api_tokens_template"))
        .expect("create");
    let mut sql = connect_to(&host(), "postgres", &name);
    let made = create(&mut sql, "");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    drop(sql);
    admin.batch_execute(&format!("DROP DATABASE {name}")).expect("drop");
    let other = Database::new();
    let mut sql = other.connect();
    let made = create(&mut sql, "");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    flushed(&mut sql, &made, 1);
    eventually("nothing is left of dropped databases", || stat(&mut sql, "map_pending") == 0);
}

#[test]
fn where_the_map_is_full_the_row_is_written() {
    let _turn = alone();
    let db = Database::new();
    restart("fast", "-c api_tokens.touch_map_size=64 -c api_tokens.flush_interval=3600");
    let mut sql = db.connect();
    sql.batch_execute(
        "CREATE TABLE t AS SELECT c.token FROM generate_series(1, 500) i,
            LATERAL api_token_create('n' || i, max_idle => '1 h') c;
        UPDATE api_tokens.tokens SET last_used_at = now() - interval '30 min'",
    )
    .expect("create");
    let all = "SELECT count(*) FILTER (WHERE v.ok) FROM t, LATERAL api_token_validate(t.token) v";
    assert_eq!(number(&mut sql, all, &[]), 500);
    let (kept, full) = (stat(&mut sql, "map_used"), stat(&mut sql, "map_full"));
    assert_eq!((kept, kept + full, stat(&mut sql, "map_capacity")), (64, 500, 64));
    assert_eq!(stat(&mut sql, "touches_written"), full);
    let idle = "SELECT count(*) FROM generate_series(1, 500) i, LATERAL api_token_list('n' || i) l
        WHERE l.last_used_at < now() - interval '1 min'";
    assert_eq!(number(&mut sql, idle, &[]), 0, "wherever it is kept, it is known");
    drop(sql);
    restart("fast", "-c api_tokens.flush_interval=1");
    let written = "SELECT sum(use_count)::bigint FROM api_tokens.tokens";
    assert_eq!(number(&mut db.connect(), written, &[]), 64, "the shutdown wrote what was kept");
}

#[test]
fn where_no_worker_can_start_a_warning_says_so_and_the_row_is_written() {
    let _turn = alone();
    let db = Database::new();
    restart("fast", "-c max_worker_processes=0");
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    age(&mut sql, &made, "last_used_at = now() - interval '1 h'");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    assert!(truth(
        &mut sql,
        "SELECT last_used_at > now() - interval '1 min' FROM api_tokens.tokens",
        &[]
    ));
    let log = std::fs::read_to_string(cluster_dir().join("server.log")).expect("log");
    assert!(log.contains("WARNING:  api_tokens could not start a background worker"));
    drop(sql);
    restart("fast", "-c api_tokens.flush_interval=1");
}

#[test]
fn stats_count_what_happened() {
    let _turn = alone();
    let db = Database::new();
    restart("fast", "-c api_tokens.flush_interval=1");
    let mut sql = db.connect();
    let made = create(&mut sql, ", scopes => '{a}'");
    for _ in 0..3 {
        assert_eq!(verdict(&mut sql, &made.token), "ok");
    }
    assert_eq!(verdict(&mut sql, "unknown"), "invalid");
    run(&mut sql, "SELECT api_token_validate($1, '{b}')", &[&made.token]);
    run(&mut sql, "SELECT api_token_validate_many(ARRAY[$1, NULL])", &[&made.token]);
    let counted =
        "SELECT row(calls, accepted, refused -> 'invalid', refused -> 'insufficient_scope',
        touches_coalesced, map_used)::text FROM api_token_stats()";
    assert_eq!(text(&mut sql, counted, &[]), "(7,4,2,1,4,1)");
    flushed(&mut sql, &made, 4);
    eventually("the flush is counted", || stat(&mut sql, "rows_flushed") >= 1);
    assert!(truth(
        &mut sql,
        "SELECT flushes > 0 AND last_flush_at <= clock_timestamp() FROM api_token_stats()",
        &[]
    ));
}

#[test]
fn a_standby_is_exact_too_and_writes_once_it_is_promoted() {
    let _turn = alone();
    let db = Database::new();
    let mut primary = db.connect();
    let made = create(&mut primary, ", max_idle => '1 hour'");
    age(&mut primary, &made, "last_used_at = now() - interval '59 min'");
    let standby = Standby::start();
    let mut replica = standby.connect(&db.name);
    assert_eq!(verdict(&mut replica, &made.token), "ok");
    assert!(truth(&mut replica, "SELECT api_token_touch($1)", &[&made.token]));
    let live = "SELECT last_used_at > now() - interval '1 min' FROM api_token_get($1::text::uuid)";
    assert!(truth(&mut replica, live, &[&made.id]));
    assert_eq!(use_count(&mut replica, &made), 0);
    run(&mut replica, "SELECT pg_promote()", &[]);
    flushed(&mut replica, &made, 2);
}

#[test]
fn uses_that_come_during_a_flush_survive_a_clean_shutdown() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut holder) = (db.connect(), db.connect());
    let (first, second) = (create(&mut sql, ""), create(&mut sql, ""));
    holder
        .batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE")
        .expect("in the way of the flush");
    assert_eq!(verdict(&mut sql, &first.token), "ok");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'api_tokens flush' AND wait_event_type = 'Lock'";
    let mut watch = connect_to(&host(), "postgres", "postgres");
    eventually("the flush waits", || number(&mut watch, waiting, &[]) == 1);
    let often = "SELECT count(v.ok) FROM generate_series(1, 1000) i, LATERAL api_token_validate($1 || left('', i)) v";
    assert_eq!(number(&mut sql, often, &[&second.token]), 1000);
    restart("fast", "");
    let mut sql = db.connect();
    assert_eq!((use_count(&mut sql, &first), use_count(&mut sql, &second)), (1, 1000));
}

#[test]
fn a_cancelled_flush_counts_nothing_twice() {
    let _turn = alone();
    let db = Database::new();
    let mut sql = db.connect();
    sql.batch_execute(
        "CREATE TABLE made AS SELECT c.token FROM generate_series(1, 2000) i, LATERAL api_token_create('n' || i) c",
    )
    .expect("tokens");
    let all = "SELECT count(v.ok) FROM made, LATERAL api_token_validate(made.token) v";
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'api_tokens flush'";
    let mut uses = 0;
    for round in 0..40 {
        uses += number(&mut sql, all, &[]);
        std::thread::sleep(Duration::from_millis(20 + round * 3));
        run(&mut sql, cancel, &[]);
    }
    let total = "SELECT sum(use_count) FROM api_tokens.tokens";
    eventually("all uses are in the table", || number(&mut sql, total, &[]) >= uses);
    assert_eq!(number(&mut sql, total, &[]), uses);
}

#[test]
fn a_role_set_for_the_database_does_not_stop_the_flush() {
    let _turn = alone();
    let mut db = Database::new();
    let role = db.role("poor", &["validate"]);
    let mut sql = db.connect();
    let made = create(&mut sql, "");
    sql.batch_execute(&format!("ALTER DATABASE {} SET role = '{role}'", db.name)).expect("alter");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    flushed(&mut sql, &made, 1);
}

/// Whoever is ended by it gives back nothing of what it was handed to write. There since Postgres 17.
#[test]
fn a_transaction_timeout_of_the_database_does_not_end_the_flush() {
    let _turn = alone();
    let db = Database::new();
    let (mut sql, mut other) = (db.connect(), db.connect());
    let has_it = "SELECT count(*) FROM pg_settings WHERE name = 'transaction_timeout'";
    if number(&mut sql, has_it, &[]) == 0 {
        return;
    }
    let made = create(&mut sql, "");
    let set = format!("ALTER DATABASE {} SET transaction_timeout = '200 ms'", db.name);
    sql.batch_execute(&set).expect("alter");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    other.batch_execute("BEGIN; LOCK TABLE api_tokens.tokens").expect("lock");
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the flush waits for the table", || number(&mut sql, waiting, &[]) == 1);
    std::thread::sleep(Duration::from_millis(500));
    other.batch_execute("ROLLBACK").expect("let go");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    flushed(&mut sql, &made, 2);
}

#[test]
fn a_map_that_cannot_be_had_is_done_without() {
    let _turn = alone();
    let db = Database::new();
    let data = cluster_dir().join("data");
    let data = data.to_str().expect("utf-8");
    let log = format!("{data}/../server.log");
    assert!(as_server("pg_ctl", &["-D", data, "-m", "fast", "-w", "stop"]));
    let pg_ctl = bin_dir().join("pg_ctl");
    let start = format!(
        "ulimit -v 2500000; exec {} -D {data} -l {log} -w -o '-c api_tokens.touch_map_size=100000000' start",
        pg_ctl.display()
    );
    assert!(as_server("/bin/sh", &["-c", &start]));
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_idle => '1 hour'");
    age(&mut sql, &made, "last_used_at = now() - interval '30 min'");
    assert_eq!(verdict(&mut sql, &made.token), "ok");
    let used = "SELECT last_used_at > now() - interval '1 min' FROM api_tokens.tokens WHERE token_id::text = $1";
    assert!(truth(&mut sql, used, &[&made.id]), "written by the check itself");
    let refused = failure(&mut sql, "SELECT * FROM api_token_stats()", &[]);
    assert_eq!(refused.code().code(), "55000");
    let said = std::fs::read_to_string(&log).expect("log");
    assert!(said.contains("WARNING:  api_tokens cannot have the shared memory it was set to"));
    assert!(said.contains("HINT:  Lower api_tokens.touch_map_size"));
    restart("fast", "");
}
