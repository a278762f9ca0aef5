//! The hook that redacts the log, beside the hook of another library (tests/chain/chain.c): both are called
//! for each entry, in whichever order they are preloaded, and neither for what is not logged. On a server
//! that preloads the library; it is restarted with other settings.

use api_tokens_tests::*;
use postgres::Client;
use std::path::PathBuf;
use std::process::Command;

/// The other library, built for this server where the server can read it.
fn other_library() -> PathBuf {
    let pg_config = Command::new(bin_dir().join("pg_config")).arg("--includedir-server").output();
    let headers = String::from_utf8(pg_config.expect("pg_config").stdout).expect("utf-8");
    let library = cluster_dir().join("chain.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-I", headers.trim(), "-o"])
        .arg(&library)
        .arg(root().join("tests/chain/chain.c"))
        .output()
        .expect("cc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// What the other library wrote down, and where.
struct Seen(PathBuf);

impl Seen {
    /// Of the session with this process id: what was shown to it (`before` it called the next hook, or
    /// `after`).
    fn lines(&self, pid: &str, when: &str) -> Vec<String> {
        let all = std::fs::read_to_string(&self.0).unwrap_or_default();
        let head = format!("{pid}|{when}|");
        all.lines().filter_map(|line| line.strip_prefix(&head)).map(str::to_owned).collect()
    }
}

/// Restarts the server with these libraries, and back again behind `work`, which is told what the other
/// one sees, and how much there was in the log before.
fn with_libraries(order: [&str; 2], work: impl FnOnce(&Seen, usize)) {
    let library = other_library();
    let seen = Seen(cluster_dir().join("chain.seen"));
    let _ = std::fs::remove_file(&seen.0);
    let place = |name: &str| match name {
        "chain" => library.to_str().expect("utf-8").to_owned(),
        other => other.to_owned(),
    };
    let before = log().len();
    let libraries = order.map(place).join(",");
    restart(
        "fast",
        &format!("-c shared_preload_libraries={libraries} -c chain.file={}", seen.0.display()),
    );
    work(&seen, before);
    restart("fast", "");
}

fn log() -> String {
    let bytes = std::fs::read(cluster_dir().join("server.log")).expect("log");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn pid(sql: &mut Client) -> String {
    text(sql, "SELECT pg_backend_pid()", &[])
}

/// Logs entries of every kind with the token in them.
fn log_the_token(sql: &mut Client, token: &str) {
    sql.batch_execute("SET log_statement = 'all'").expect("set");
    run(sql, &format!("SELECT '{token}'"), &[]);
    run(sql, "SELECT $1::text", &[&token]);
    run(sql, &format!("SELECT api_token_validate('{token}')"), &[]);
    for level in ["WARNING", "EXCEPTION"] {
        let raise = format!("RAISE {level} 'about {token}' USING DETAIL = 'it is {token}'");
        let _ = sql.batch_execute(&format!("DO $$ BEGIN {raise}; END $$"));
    }
}

#[test]
fn both_hooks_are_called_for_each_entry_and_the_one_preloaded_last_sees_it_first() {
    let _turn = alone();
    let db = Database::new();
    for order in [["chain", "api_tokens"], ["api_tokens", "chain"]] {
        with_libraries(order, |seen, begun| {
            let mut sql = db.connect();
            let made = create(&mut sql, "");
            let (pid, secret) = (pid(&mut sql), &made.token[7..]);
            log_the_token(&mut sql, &made.token);
            let log = log().split_off(begun);
            assert!(!log.contains(secret), "{order:?}");
            let mine = format!("[{pid}] ");
            let begins_entry = |line: &&str| {
                let rest = line.split_once(&mine).map_or("", |(_, rest)| rest);
                ["LOG:", "WARNING:", "ERROR:"].iter().any(|level| rest.starts_with(level))
            };
            let entries = log.lines().filter(begins_entry).count();
            assert_eq!(entries, 7, "{order:?}: {log}");
            let (before, after) = (seen.lines(&pid, "before"), seen.lines(&pid, "after"));
            assert_eq!((before.len(), after.len()), (entries, entries), "{order:?}");
            let with_secret =
                |lines: &[String]| lines.iter().filter(|l| l.contains(secret)).count();
            assert_eq!(with_secret(&after), 0, "{order:?}");
            match order {
                ["chain", _] => assert_eq!(with_secret(&before), 0),
                _ => assert_eq!(with_secret(&before), entries, "as it was written"),
            }
        });
    }
}

#[test]
fn what_is_not_logged_calls_no_hook() {
    let _turn = alone();
    let db = Database::new();
    with_libraries(["chain", "api_tokens"], |seen, _| {
        let mut sql = db.connect();
        let token = create(&mut sql, ", max_uses => 1000000").token;
        let pid = pid(&mut sql);
        let checks = "SELECT count(*) FROM generate_series(1, 10000), api_token_validate($1)";
        assert_eq!(number(&mut sql, checks, &[&token]), 10_000);
        for _ in 0..100 {
            assert_eq!(verdict(&mut sql, &token), "ok");
        }
        // Told to the client only.
        sql.batch_execute("DO $$ BEGIN RAISE NOTICE 'told'; END $$").expect("notice");
        assert_eq!(seen.lines(&pid, "before"), Vec::<String>::new());
        sql.batch_execute("DO $$ BEGIN RAISE WARNING 'told'; END $$").expect("warning");
        assert_eq!(seen.lines(&pid, "before").len(), 1, "it sees what is logged");
    });
}
