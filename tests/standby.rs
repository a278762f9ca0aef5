//! A hot standby checks tokens, and knows of a revocation as soon as it has replayed it.

use api_tokens_tests::*;
use std::path::PathBuf;
use std::process::Command;

/// A streaming replica of the test cluster; stopped and removed when dropped.
struct Standby {
    data: PathBuf,
}

/// Runs a program of the server as the server's user; says whether it succeeded.
fn as_server(program: &str, arguments: &[&str]) -> bool {
    let program = bin_dir().join(program);
    let user = Command::new("id").arg("-u").output().expect("id").stdout;
    let mut command = if user.starts_with(b"0\n") {
        let mut runuser = Command::new("runuser");
        runuser.args(["-u", "postgres", "--"]).arg(&program);
        runuser
    } else {
        Command::new(&program)
    };
    let quiet = std::process::Stdio::null;
    command.args(arguments).stdout(quiet()).status().is_ok_and(|status| status.success())
}

impl Standby {
    fn start() -> Self {
        let data = cluster_dir().join("standby");
        let standby = Self { data };
        let path = standby.path();
        let host = host();
        let copy = ["-h", &host, "-U", "postgres", "-D", path, "-R", "-X", "stream", "-c", "fast"];
        assert!(as_server("pg_basebackup", &copy));
        let log = format!("{path}.log");
        let options = "-c port=5433";
        assert!(as_server("pg_ctl", &["-D", path, "-l", &log, "-w", "-o", options, "start"]));
        standby
    }

    fn path(&self) -> &str {
        self.data.to_str().expect("utf-8")
    }

    fn connect(&self, database: &str) -> postgres::Client {
        let mut config = postgres::Config::new();
        config.host(&host()).port(5433).user("postgres").dbname(database);
        config.connect(postgres::NoTls).expect("connect to the standby")
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        as_server("pg_ctl", &["-D", self.path(), "-m", "immediate", "stop"]);
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

#[test]
fn a_standby_checks_and_follows() {
    let db = Database::new();
    let mut primary = db.connect();
    let made = create(&mut primary, ", max_idle => '1 hour'");
    age(&mut primary, &made, "last_used_at = now() - interval '10 min'");
    let standby = Standby::start();
    let mut replica = standby.connect(&db.name);
    assert_eq!(verdict(&mut replica, &made.token), "ok");
    assert!(truth(&mut replica, "SELECT api_token_touch($1)", &[&made.token]));
    assert_eq!(number(&mut replica, "SELECT count(*) FROM api_token_list('acme')", &[]), 1);
    let refused = failure(&mut replica, "SELECT api_token_invalidate($1)", &[&made.token]);
    assert_eq!(refused.code().code(), "25006");

    let read = "SELECT cursor, event_id FROM api_token_events($1)";
    let cursor: String = replica.query_one(read, &[&None::<String>]).expect("events").get(0);
    let mut late = db.connect();
    late.batch_execute("BEGIN").expect("begin");
    create(&mut late, "");

    // A transaction on the standby whose snapshot is older than the revocation.
    replica.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("begin");
    assert_eq!(verdict(&mut replica, &made.token), "ok");
    run(&mut primary, "SELECT api_token_invalidate($1)", &[&made.token]);
    let here = text(&mut primary, "SELECT pg_current_wal_lsn()", &[]);
    let replayed = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    while !truth(&mut replica, replayed, &[&here]) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(verdict(&mut replica, &made.token), "revoked");
    replica.batch_execute("COMMIT").expect("commit");

    // There, what a late transaction holds back comes once it has ended.
    let ids = |replica: &mut postgres::Client| -> Vec<i64> {
        let rows = replica.query(read, &[&cursor]).expect("events");
        rows.iter().map(|row| row.get(1)).collect()
    };
    assert_eq!(ids(&mut replica), [0_i64; 0]);
    late.batch_execute("COMMIT").expect("commit");
    let here = text(&mut primary, "SELECT pg_current_wal_lsn()", &[]);
    while !truth(&mut replica, replayed, &[&here]) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(ids(&mut replica), [2, 3]);
}
