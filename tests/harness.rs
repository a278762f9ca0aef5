//! What the black-box tests share: a database of their own each, and short ways to ask it.
//!
//! `make test` starts the cluster and says where it is; see `scripts/test.sh`.

mod calls;
mod cluster;
pub use calls::*;
pub use cluster::{OtherCluster, Standby, connect_on};

use fallible_iterator::FallibleIterator;
use postgres::error::DbError;
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Made by `scripts/test.sh` with the extension in it; each test copies it.
const TEMPLATE: &str = "api_tokens_template";

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test`"))
}

/// The folder of the server's socket.
pub fn host() -> String {
    setting("API_TOKENS_TEST_HOST")
}

/// The folder of the server's data and log, readable by the tests.
pub fn cluster_dir() -> PathBuf {
    setting("API_TOKENS_TEST_CLUSTER").into()
}

/// The folder of the server's programs.
pub fn bin_dir() -> PathBuf {
    setting("API_TOKENS_TEST_BIN").into()
}

/// The top of the source tree.
pub fn root() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/..").into()
}

pub fn connect_to(host: &str, user: &str, database: &str) -> Client {
    let mut config = Config::new();
    config.host(host).user(user).dbname(database).connect_timeout(Duration::from_secs(10));
    config.connect(NoTls).unwrap_or_else(|error| panic!("connect to {database} as {user}: {error}"))
}

/// A database with the extension, and roles of its own; both are gone when it is dropped.
pub struct Database {
    pub name: String,
    roles: Vec<String>,
}

impl Database {
    pub fn new() -> Self {
        Self::from_template(TEMPLATE)
    }

    /// Without the extension.
    pub fn empty() -> Self {
        Self::from_template("template0")
    }

    fn from_template(template: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t_{}_{number}", std::process::id());
        let mut admin = connect_to(&host(), "postgres", "postgres");
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .expect("create database");
        Self { name, roles: Vec::new() }
    }

    /// A superuser's session.
    pub fn connect(&self) -> Client {
        connect_to(&host(), "postgres", &self.name)
    }

    pub fn connect_as(&self, role: &str) -> Client {
        connect_to(&host(), role, &self.name)
    }

    /// A login role with these levels of rights.
    pub fn role(&mut self, suffix: &str, levels: &[&str]) -> String {
        let role = format!("{}_{suffix}", self.name);
        let mut admin = self.connect();
        admin.batch_execute(&format!("CREATE ROLE {role} LOGIN")).expect("create role");
        for level in levels {
            run(&mut admin, &format!("SELECT api_tokens_grant('{role}', '{level}')"), &[]);
        }
        self.roles.push(role.clone());
        role
    }
}

impl Default for Database {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut admin = connect_to(&host(), "postgres", "postgres");
        let _ = admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        for role in &self.roles {
            let _ = admin.batch_execute(&format!("DROP ROLE {role}"));
        }
    }
}

pub fn run(client: &mut Client, sql: &str, params: Params) {
    client.query(sql, params).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Statements without a result.
pub fn execute(client: &mut Client, statements: &str) {
    client.batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

/// The one value of the one row, as text; `None` for NULL.
pub fn maybe(client: &mut Client, sql: &str, params: Params) -> Option<String> {
    let sql = format!("SELECT q.v::text FROM ({sql}) q(v)");
    client
        .query_one(&sql, params)
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
        .get::<_, Option<String>>(0)
}

pub fn text(client: &mut Client, sql: &str, params: Params) -> String {
    maybe(client, sql, params).unwrap_or_else(|| panic!("{sql}: NULL"))
}

pub fn truth(client: &mut Client, sql: &str, params: Params) -> bool {
    text(client, sql, params) == "true"
}

pub fn number(client: &mut Client, sql: &str, params: Params) -> i64 {
    text(client, sql, params).parse().expect("a number")
}

/// Installs an extension of others. Debian's Postgres has all that the tests use; the servers of
/// the wheel and the one with assertions have not, and say so.
pub fn has_other_extension(client: &mut Client, name: &str) -> bool {
    let available = "SELECT count(*) = 1 FROM pg_available_extensions WHERE name = $1";
    if truth(client, available, &[&name]) {
        client.batch_execute(&format!("CREATE EXTENSION {name}")).expect(name);
        return true;
    }
    assert!(!bin_dir().starts_with("/usr/lib/postgresql"), "Debian has {name}");
    eprintln!("not tested here: {name} is not there");
    false
}

/// All rows of one column, as text.
pub fn column(client: &mut Client, sql: &str, params: Params) -> Vec<String> {
    let sql = format!("SELECT coalesce(q.v::text, 'NULL') FROM ({sql}) q(v)");
    let rows = client.query(&sql, params).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// The error that the statement must end in.
pub fn failure(client: &mut Client, sql: &str, params: Params) -> DbError {
    match client.query(sql, params) {
        Ok(_) => panic!("no error: {sql}"),
        Err(error) => error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}")).clone(),
    }
}

pub fn error_code(client: &mut Client, sql: &str) -> String {
    failure(client, sql, &[]).code().code().to_owned()
}

/// Payloads notified to this session within a short while.
pub fn notifications(client: &mut Client) -> Vec<String> {
    let mut pending = client.notifications();
    let arrived = pending.timeout_iter(Duration::from_millis(300));
    arrived.map(|notification| Ok(notification.payload().to_owned())).collect().expect("listen")
}

/// The ```sql blocks of a document, in order, with the lines they start at.
pub fn sql_blocks(markdown: &str) -> Vec<(usize, String)> {
    blocks(markdown, "```sql")
}

/// The blocks of a document that begin with this fence.
pub fn blocks(markdown: &str, fence: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(markdown.lines()) {
        match (&mut open, line.trim()) {
            (None, begins) if begins == fence => open = Some((number, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, sql)), _) => *sql += &format!("{line}\n"),
            _ => {}
        }
    }
    blocks
}

/// Runs a script through psql, as a superuser; it must not fail.
pub fn psql(database: &str, script: &str) {
    let path = std::env::temp_dir().join(format!("{database}.sql"));
    std::fs::write(&path, format!("\\set ON_ERROR_STOP on\n{script}")).expect("write");
    let output = Command::new(bin_dir().join("psql"))
        .args(["-X", "-q", "-h", &host(), "-U", "postgres", "-d", database, "-f"])
        .arg(&path)
        .output()
        .expect("psql");
    let _ = std::fs::remove_file(&path);
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The first block of a page that has this in it.
pub fn block_of(page: &str, part: &str) -> String {
    let markdown = std::fs::read_to_string(root().join(page)).expect(page);
    let found = sql_blocks(&markdown).into_iter().find(|(_, sql)| sql.contains(part));
    found.unwrap_or_else(|| panic!("no block of {page} has {part}")).1
}

/// Runs a program of the server as the server's user; says whether it succeeded.
pub fn as_server(program: &str, arguments: &[&str]) -> bool {
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

/// One test at a time, whatever the number of threads.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Restarts the server with these settings added, stopping it in this mode.
pub fn restart(mode: &str, settings: &str) {
    let data = cluster_dir().join("data");
    let data = data.to_str().expect("utf-8");
    let log = format!("{data}/../server.log");
    assert!(as_server("pg_ctl", &["-D", data, "-m", mode, "-w", "stop"]));
    assert!(as_server("pg_ctl", &["-D", data, "-l", &log, "-w", "-o", settings, "start"]));
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "still not so: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A number from the environment, or this one.
pub fn number_or(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

/// Choices that can be made again: xorshift64*, from a seed that is printed.
pub struct Random(u64);

impl Random {
    /// From API_TOKENS_TEST_SEED, or from the time.
    pub fn seeded() -> Self {
        let time = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.subsec_nanos().into());
        let seed = number_or("API_TOKENS_TEST_SEED", time);
        eprintln!("API_TOKENS_TEST_SEED={seed}");
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// For another thread.
    pub fn fork(&mut self) -> Self {
        Self(self.next() | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    pub fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }
}
