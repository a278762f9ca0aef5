//! With the library preloaded: what becomes of uses where something ends or is missing, be it the
//! server, its worker, a place in the map, memory, or the table. Run one at a time; most of these
//! restart the server.

use api_tokens_tests::*;
use std::time::Duration;

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
