//! The key ring of a running server: other keys, bad ones, none, and the moves between them. One at a
//! time (`--test-threads=1`), on the cluster of the preloaded tests, whose key file these rewrite.

use api_tokens_tests::*;
use postgres::Client;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Base64 of 32 times the same byte.
const FIRST: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const SECOND: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

fn key_file() -> PathBuf {
    cluster_dir().join("vault.keys")
}

fn write_keys(lines: &[&str]) {
    write_key_file(&key_file(), &cluster_dir().join("data"), lines);
}

/// Writes a key file that only the owner of the data can read.
fn write_key_file(path: &Path, data: &Path, lines: &[&str]) {
    std::fs::write(path, lines.join("\n")).expect("write the key file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let owner = std::fs::metadata(data).expect("data").uid();
    chown(path, Some(owner), None).expect("chown");
}

/// Has all sessions read the configuration again, and waits until this one has.
fn reload(sql: &mut Client) {
    let at = "SELECT pg_conf_load_time()";
    let before = text(sql, at, &[]);
    run(sql, "SELECT pg_reload_conf()", &[]);
    while text(sql, at, &[]) == before {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn use_keys(sql: &mut Client, lines: &[&str]) {
    write_keys(lines);
    reload(sql);
}

/// Has the keys come from a command, and from no file.
fn use_command(sql: &mut Client, command: &str) {
    sql.batch_execute("ALTER SYSTEM SET api_tokens.vault_key_file = ''").expect("no file");
    let set = format!("ALTER SYSTEM SET api_tokens.vault_key_command = '{command}'");
    sql.batch_execute(&set).expect("set");
    reload(sql);
}

fn use_file_again(sql: &mut Client) {
    sql.batch_execute("ALTER SYSTEM RESET api_tokens.vault_key_command").expect("reset");
    let file = format!("ALTER SYSTEM SET api_tokens.vault_key_file = '{}'", key_file().display());
    sql.batch_execute(&file).expect("set");
    reload(sql);
}

fn store(sql: &mut Client, namespace: &str, value: &str) {
    run(sql, "SELECT api_vault_store($1, 'k', $2)", &[&namespace, &value]);
}

fn get(sql: &mut Client, namespace: &str) -> String {
    text(sql, "SELECT api_vault_get($1, 'k')", &[&namespace])
}

fn status(sql: &mut Client) -> Vec<String> {
    column(sql, "SELECT concat_ws(' ', label, role, deks) FROM api_vault_key_status()", &[])
}

#[test]
fn a_ring_is_rotated_without_a_gap() {
    let db = Database::new();
    let mut sql = db.connect();
    use_keys(&mut sql, &[&format!("{FIRST} first")]);
    store(&mut sql, "a", "one");
    store(&mut sql, "b", "two");
    assert_eq!(status(&mut sql), ["first primary 2"]);

    use_keys(&mut sql, &[&format!("{SECOND} second"), &format!("{FIRST} first")]);
    assert_eq!(get(&mut sql, "a"), "one");
    store(&mut sql, "c", "three");
    assert_eq!(status(&mut sql), ["second primary 1", "first open only 2"]);
    sql.batch_execute("CALL api_vault_rekey(1)").expect("rekey");
    assert_eq!(status(&mut sql), ["second primary 3", "first open only 0"]);

    // A key that is taken out works no more, also in a session that had used it.
    use_keys(&mut sql, &[&format!("{FIRST} first")]);
    assert_eq!(failure(&mut sql, "SELECT api_vault_get('a', 'k')", &[]).code().code(), "55000");
    use_keys(&mut sql, &[&format!("{SECOND} second")]);
    for (namespace, value) in [("a", "one"), ("b", "two"), ("c", "three")] {
        assert_eq!(get(&mut sql, namespace), value);
        assert_eq!(get(&mut db.connect(), namespace), value, "another session");
    }
}

#[test]
fn the_wrong_ring_opens_nothing_and_writes_nothing() {
    let db = Database::new();
    let mut sql = db.connect();
    use_keys(&mut sql, &[FIRST]);
    store(&mut sql, "a", "one");
    let first = text(&mut sql, "SELECT key_id FROM api_vault_key_status()", &[]);

    use_keys(&mut sql, &[SECOND]);
    let rows = "SELECT md5(string_agg(d::text, '' ORDER BY dek_id)) FROM api_tokens.vault_deks d";
    let before = text(&mut sql, rows, &[]);
    for call in [
        "SELECT api_vault_get('a', 'k')",
        "SELECT api_vault_store('a', 'k', 'two')",
        "SELECT api_vault_store('new', 'k', 'two')",
        "SELECT api_vault_rollback('a', 'k', 1)",
        "CALL api_vault_rekey()",
        "CALL api_vault_rotate_dek('a')",
    ] {
        let error = failure(&mut sql, call, &[]);
        let detail = error.detail().unwrap_or_default().to_owned();
        assert_eq!(error.code().code(), "55000", "{call}");
        assert!(detail.contains(&first) && detail.contains("Loaded: "), "{call}: {detail}");
        assert!(error.hint().is_some());
    }
    assert_eq!(text(&mut sql, rows, &[]), before);
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_tokens.vault_versions", &[]), 1);
    let verified = "SELECT object || ' ' || result FROM api_vault_verify() WHERE count > 0";
    assert_eq!(column(&mut sql, verified, &[]), ["data key key missing", "value key missing"]);
    assert_eq!(status(&mut sql), ["primary 0", "missing 1"]);

    use_keys(&mut sql, &[SECOND, FIRST]);
    assert_eq!(get(&mut sql, "a"), "one");
    store(&mut sql, "new", "two");
    assert_eq!(column(&mut sql, verified, &[]), ["data key ok", "value ok"]);
}

#[test]
fn a_bad_ring_leaves_the_last_good_one() {
    let db = Database::new();
    let mut sql = db.connect();
    use_keys(&mut sql, &[FIRST]);
    store(&mut sql, "a", "one");
    for (lines, said) in [
        (vec![FIRST, "", "not-a-key"], "Line 3 does not begin with base64."),
        (vec![FIRST, "AQEB"], "Line 2 holds a key that is not 32 bytes long."),
        (vec![FIRST, FIRST], "Line 2 holds a key that an earlier line has too."),
        (vec![], "There is no key in it."),
    ] {
        use_keys(&mut sql, &lines);
        assert_eq!(get(&mut sql, "a"), "one", "{said}");
        let error = failure(&mut db.connect(), "SELECT api_vault_get('a', 'k')", &[]);
        assert_eq!((error.code().code(), error.detail()), ("55000", Some(said)));
        let finding = "SELECT status || ': ' || finding FROM api_tokens_doctor() WHERE check_name = 'vault keys'";
        assert!(text(&mut sql, finding, &[]).ends_with(said));
        assert!(text(&mut sql, finding, &[]).starts_with("warning: "));
    }
    use_keys(&mut sql, &[FIRST]);
    assert_eq!(get(&mut db.connect(), "a"), "one");
}

#[test]
fn a_file_that_others_can_read_is_not_used() {
    let db = Database::new();
    let mut sql = db.connect();
    use_keys(&mut sql, &[FIRST]);
    store(&mut sql, "a", "one");
    let refused = |db: &Database| {
        let error = failure(&mut db.connect(), "SELECT api_vault_get('a', 'k')", &[]);
        assert_eq!(error.code().code(), "55000");
        error.detail().unwrap_or_default().to_owned()
    };
    for mode in [0o604, 0o640, 0o660, 0o601] {
        let open = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(key_file(), open).expect("chmod");
        assert!(refused(&db).contains("may read the file"), "{mode:o}");
    }
    std::fs::remove_file(key_file()).expect("remove");
    assert!(refused(&db).contains("No such file"));
    use_keys(&mut sql, &[FIRST]);
    assert_eq!(get(&mut db.connect(), "a"), "one");
}

#[test]
fn keys_can_come_from_a_command() {
    let db = Database::new();
    let mut sql = db.connect();
    use_keys(&mut sql, &[FIRST]);
    store(&mut sql, "a", "one");
    use_command(&mut sql, &format!("echo {FIRST} from a command"));
    assert_eq!(get(&mut db.connect(), "a"), "one");
    for (command, said) in
        [("echo secret; exit 3", "exit status: 3"), ("true", "no key"), ("sleep 60", "")]
    {
        use_command(&mut sql, command);
        let mut new = db.connect();
        new.batch_execute("SET statement_timeout = '2 s'").expect("set");
        let error = failure(&mut new, "SELECT api_vault_get('a', 'k')", &[]);
        let expected = if said.is_empty() { "57014" } else { "55000" };
        assert_eq!(error.code().code(), expected, "{command}");
        assert!(error.detail().unwrap_or_default().contains(said));
        assert!(!format!("{error:?}").contains("secret"));
    }
    sql.batch_execute("ALTER SYSTEM RESET api_tokens.vault_key_command").expect("reset");
    reload(&mut sql);
    let error = failure(&mut db.connect(), "SELECT api_vault_get('a', 'k')", &[]);
    assert_eq!((error.code().code(), error.message()), ("55000", "the vault has no key"));
    assert!(error.hint().is_some_and(|hint| hint.contains("API_TOKENS_ENCRYPTION_KEY")));
    use_file_again(&mut sql);
    assert_eq!(get(&mut db.connect(), "a"), "one");
}

#[test]
fn a_command_ends_with_the_session_that_waits_for_it() {
    let db = Database::new();
    let mut sql = db.connect();
    let note = cluster_dir().join("command.pid");
    use_command(&mut sql, &format!("echo $$ >{}; sleep 61; true", note.display()));
    let mut waiting = db.connect();
    let session = text(&mut waiting, "SELECT pg_backend_pid()::text", &[]);
    let ask = "SELECT api_vault_store('a', 'k', 'one')";
    let asked = std::thread::spawn(move || waiting.query(ask, &[]));
    let mut command = String::new();
    eventually("the command runs", || {
        command = std::fs::read_to_string(&note).unwrap_or_default().trim().to_owned();
        !command.is_empty()
    });
    run(&mut sql, "SELECT pg_terminate_backend($1::text::integer)", &[&session]);
    let process = PathBuf::from(format!("/proc/{command}/cmdline"));
    eventually("it has ended", || std::fs::read(&process).unwrap_or_default().is_empty());
    asked.join().expect("thread").expect_err("terminated");
    std::fs::remove_file(&note).expect("remove");
    use_file_again(&mut sql);
}

/// What a writer last had acknowledged, per namespace.
type Oracle = Vec<u32>;

/// Stores and reads in a loop, each namespace's values counting up; panics if one is lost.
fn write_and_read(db: &Database, namespaces: usize, go_on: &AtomicBool) -> Oracle {
    let mut sql = db.connect();
    let mut last = vec![0; namespaces];
    while go_on.load(Ordering::Relaxed) {
        for (at, count) in last.iter_mut().enumerate() {
            let namespace = format!("n{at}");
            assert_eq!(get(&mut sql, &namespace), count.to_string(), "{namespace}");
            if *count % 3 == at as u32 % 3 {
                store(&mut sql, &namespace, &(*count + 1).to_string());
                *count += 1;
            }
        }
    }
    last
}

#[test]
fn rekey_and_rotation_lose_nothing_though_they_are_killed() {
    const NAMESPACES: usize = 300;
    let db = Database::new();
    let mut sql = db.connect();
    use_keys(&mut sql, &[FIRST]);
    for at in 0..NAMESPACES {
        store(&mut sql, &format!("n{at}"), "0");
    }
    for number in 0..500 {
        run(
            &mut sql,
            "SELECT api_vault_store('n0', 'other-' || $1::text, 'v')",
            &[&number.to_string()],
        );
    }
    use_keys(&mut sql, &[SECOND, FIRST]);
    let go_on = AtomicBool::new(true);
    let last = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_and_read(&db, NAMESPACES, &go_on));
        for call in ["CALL api_vault_rekey(5)", "CALL api_vault_rotate_dek('n0', 5)"] {
            for _ in 0..4 {
                let mut worker = db.connect();
                let process = number(&mut worker, "SELECT pg_backend_pid()", &[]);
                let running = scope.spawn(move || worker.batch_execute(call));
                std::thread::sleep(Duration::from_millis(15));
                run(&mut sql, &format!("SELECT pg_terminate_backend({process})"), &[]);
                let _ = running.join().expect("no panic");
            }
            sql.batch_execute(call).expect(call);
        }
        go_on.store(false, Ordering::Relaxed);
        writer.join().expect("nothing was lost")
    });
    use_keys(&mut sql, &[SECOND]);
    let mut fresh = db.connect();
    for (at, count) in last.iter().enumerate() {
        assert_eq!(get(&mut fresh, &format!("n{at}")), count.to_string());
    }
    let bad = "SELECT count(*) FROM api_vault_verify() WHERE result <> 'ok'";
    assert_eq!(number(&mut sql, bad, &[]), 0);
    assert_eq!(
        number(&mut sql, "SELECT count(*) FROM api_tokens.vault_deks WHERE NOT is_active", &[]),
        0
    );
    assert_eq!(status(&mut sql), [format!("primary {NAMESPACES}")]);
    let values = "SELECT count(api_vault_get('n0', key_name)) FROM api_vault_list('n0') WHERE key_name <> 'k'";
    assert_eq!(number(&mut sql, values, &[]), 500);
}

#[test]
fn rotation_waits_for_who_is_storing() {
    let db = Database::new();
    let (mut sql, mut slow) = (db.connect(), db.connect());
    use_keys(&mut sql, &[FIRST]);
    store(&mut sql, "a", "one");
    slow.batch_execute("BEGIN; SELECT api_vault_store('a', 'other', 'two')").expect("store");
    std::thread::scope(|scope| {
        let rotation = scope.spawn(|| db.connect().batch_execute("CALL api_vault_rotate_dek('a')"));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let begun = Instant::now();
        while number(&mut sql, waiting, &[]) == 0 && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(number(&mut sql, waiting, &[]), 1, "it waits");
        assert_eq!(get(&mut sql, "a"), "one");
        slow.batch_execute("COMMIT").expect("commit");
        rotation.join().expect("no panic").expect("rotated");
    });
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_tokens.vault_deks", &[]), 1);
    assert_eq!(text(&mut sql, "SELECT api_vault_get('a', 'other')", &[]), "two");
    assert_eq!(get(&mut sql, "a"), "one");
}

#[test]
fn a_dump_opens_in_another_cluster_with_the_ring_and_not_without() {
    let db = Database::new();
    let mut sql = db.connect();
    use_keys(&mut sql, &[FIRST]);
    for namespace in ["a", "b"] {
        store(&mut sql, namespace, "old");
        store(&mut sql, namespace, &format!("value of {namespace}"));
    }
    let token = create(&mut sql, "").token;
    let keys = cluster_dir().join("other.keys");
    let write_keys = |lines: &[&str]| write_key_file(&keys, &cluster_dir().join("data"), lines);
    write_keys(&[SECOND]);
    let other = OtherCluster::start(&keys);
    let (dump, host, port) = (other.path("dump"), host(), OtherCluster::PORT.to_string());
    let from = ["-h", &host, "-U", "postgres", "-Fd", "-f", &dump, &db.name];
    assert!(as_server("pg_dump", &from));
    let mut admin = other.connect("postgres", "postgres");
    admin.batch_execute("CREATE DATABASE restored").expect("create");
    let to = ["-h", &host, "-p", &port, "-U", "postgres", "-j", "2", "-e", "-d", "restored", &dump];
    assert!(as_server("pg_restore", &to));

    let mut restored = other.connect("postgres", "restored");
    let verified =
        "SELECT object || ' ' || result || ' ' || count FROM api_vault_verify() WHERE count > 0";
    assert_eq!(
        column(&mut restored, verified, &[]),
        ["data key key missing 2", "value key missing 4"]
    );
    for call in [
        "SELECT api_vault_get('a', 'k')",
        "SELECT api_vault_store('a', 'k', 'v')",
        "SELECT api_vault_store('c', 'k', 'v')",
    ] {
        assert_eq!(failure(&mut restored, call, &[]).code().code(), "55000", "{call}");
    }
    write_keys(&[FIRST]);
    reload(&mut restored);
    assert_eq!(column(&mut restored, verified, &[]), ["data key ok 2", "value ok 4"]);
    assert_eq!(get(&mut restored, "b"), "value of b");
    assert_eq!(text(&mut restored, "SELECT api_vault_get('a', 'k', 1)", &[]), "old");
    store(&mut restored, "a", "new");
    assert_eq!(get(&mut restored, "a"), "new");
    assert_eq!(verdict(&mut restored, &token), "ok");
}

#[test]
fn the_environment_is_the_last_resort() {
    let data = cluster_dir().join("data");
    let data = data.to_str().expect("utf-8");
    let log = format!("{data}/../server.log");
    let variable = format!("API_TOKENS_ENCRYPTION_KEY={FIRST}");
    let pg_ctl = bin_dir().join("pg_ctl");
    let pg_ctl = pg_ctl.to_str().expect("utf-8");
    let restart = |options: &str, environment: &str| {
        assert!(as_server("pg_ctl", &["-D", data, "-m", "fast", "-w", "stop"]));
        let start = [environment, pg_ctl, "-D", data, "-l", &log, "-w", "-o", options, "start"];
        assert!(as_server("/usr/bin/env", &start));
    };
    let db = Database::new();
    restart("-c api_tokens.vault_key_file=", &variable);
    let mut sql = db.connect();
    store(&mut sql, "a", "one");
    assert_eq!(get(&mut sql, "a"), "one");
    let shown = text(&mut sql, "SELECT string_agg(setting, ' ') FROM pg_settings", &[]);
    assert!(!shown.contains(FIRST));
    restart("-c api_tokens.touch_interval=60", "IGNORED=1");
    let mut sql = db.connect();
    use_keys(&mut sql, &[SECOND]);
    assert_eq!(failure(&mut sql, "SELECT api_vault_get('a', 'k')", &[]).code().code(), "55000");
    use_keys(&mut sql, &[SECOND, FIRST]);
    assert_eq!(get(&mut sql, "a"), "one");
}
