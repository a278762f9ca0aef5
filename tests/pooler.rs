//! PgBouncer with transaction pooling: many clients of different tenants share few connections, and
//! none is ever taken for another.

use api_tokens_tests::*;
use postgres::SimpleQueryMessage;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

const PORT: u16 = 6543;
const TENANTS: usize = 20;
const CLIENTS: usize = 200;
const TRANSACTIONS: usize = 25;
const CONNECTIONS: usize = 8;

/// The real one, from Debian, between the tests and one database.
struct PgBouncer {
    pid_file: PathBuf,
}

impl PgBouncer {
    /// Whoever connects is this role.
    fn start(database: &str, role: &str) -> Self {
        let dir = cluster_dir();
        let path = |name: &str| dir.join(name);
        let pooler = Self { pid_file: path("pgbouncer.pid") };
        let settings = format!(
            "[databases]\n{database} = host={host} dbname={database} user={role}\n[pgbouncer]\n\
            listen_port = {PORT}\nunix_socket_dir = {host}\nauth_type = any\npool_mode = transaction\n\
            default_pool_size = {CONNECTIONS}\nmax_client_conn = {}\nlisten_backlog = 1000\nlogfile = {}\npidfile = {}\n",
            CLIENTS + 10,
            path("pgbouncer.log").display(),
            pooler.pid_file.display(),
            host = host(),
        );
        let file = path("pgbouncer.ini");
        std::fs::write(&file, settings).expect("settings");
        let file = file.to_str().expect("utf-8");
        assert!(as_server("/usr/sbin/pgbouncer", &["-q", "-d", file]), "apt-get install pgbouncer");
        let socket = PathBuf::from(host()).join(format!(".s.PGSQL.{PORT}"));
        for _ in 0..1000 {
            if UnixStream::connect(&socket).is_ok() {
                return pooler;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("PgBouncer did not start");
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(&self.pid_file).unwrap_or_default();
        as_server("/bin/kill", &["-INT", pid.trim()]);
    }
}

/// The values of the first column. The simple protocol, since PgBouncer 1.18 cannot carry prepared
/// statements from one connection to another.
fn simple(client: &mut postgres::Client, sql: &str) -> Vec<Option<String>> {
    let messages = client.simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

fn connect(database: &str) -> postgres::Client {
    let mut config = postgres::Config::new();
    config.host(&host()).port(PORT).user("anyone").dbname(database);
    config.connect_timeout(Duration::from_secs(30));
    config.connect(postgres::NoTls).expect("connect through the pooler")
}

/// What one client does, each time as its tenant, and how each transaction ends. Returns the server
/// processes that served it.
fn work(database: &str, tenant: &str, token: &str, seed: usize) -> Vec<String> {
    let mut client = connect(database);
    let mut served_by = Vec::new();
    for round in 0..TRANSACTIONS {
        let nobody = simple(&mut client, "SELECT api_token_current_namespace()");
        assert_eq!(nobody, [None], "left behind by somebody else");
        let unseen = simple(&mut client, "SELECT namespace FROM orders");
        assert!(unseen.is_empty(), "{unseen:?}");
        client.batch_execute("BEGIN").expect("begin");
        simple(&mut client, &format!("SELECT api_token_require('{token}')"));
        served_by.extend(simple(&mut client, "SELECT pg_backend_pid()").into_iter().flatten());
        for _ in 0..2 {
            let mine = simple(&mut client, "SELECT DISTINCT namespace FROM orders");
            assert_eq!(mine, [Some(tenant.to_owned())]);
        }
        match (seed + round) % 4 {
            0 => client.batch_execute("COMMIT").expect("commit"),
            1 => client.batch_execute("ROLLBACK").expect("rollback"),
            2 => {
                assert!(client.batch_execute("SELECT 1 / 0").is_err());
                client.batch_execute("ROLLBACK").expect("rollback");
            }
            // Goes away in the middle of it.
            _ => client = connect(database),
        }
    }
    served_by
}

#[test]
fn two_hundred_clients_of_twenty_tenants_over_eight_connections_never_mix() {
    let mut db = Database::new();
    let role = db.role("app", &["validate"]);
    let mut admin = db.connect();
    admin
        .batch_execute(&format!(
            "CREATE TABLE orders (namespace text NOT NULL, item text);
            INSERT INTO orders SELECT 'tenant-' || i % {TENANTS}, 'x' FROM generate_series(0, 999) i;
            ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
            CREATE POLICY tenant ON orders USING (namespace = (SELECT api_token_current_namespace()));
            GRANT SELECT ON orders TO {role}"
        ))
        .expect("orders");
    let tokens: Vec<String> = (0..TENANTS)
        .map(|tenant| {
            text(
                &mut admin,
                "SELECT token FROM api_token_create($1)",
                &[&format!("tenant-{tenant}")],
            )
        })
        .collect();
    let _pooler = PgBouncer::start(&db.name, &role);
    let served: Vec<Vec<String>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (name, token) = (&db.name, &tokens[client % TENANTS]);
                let tenant = format!("tenant-{}", client % TENANTS);
                scope.spawn(move || work(name, &tenant, token, client))
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    // They did share: each connection served many tenants, or this would prove nothing.
    let mut shared =
        std::collections::BTreeMap::<&String, std::collections::BTreeSet<usize>>::new();
    for (client, processes) in served.iter().enumerate() {
        for process in processes {
            shared.entry(process).or_default().insert(client % TENANTS);
        }
    }
    assert_eq!(served.iter().map(Vec::len).sum::<usize>(), CLIENTS * TRANSACTIONS);
    assert!(
        shared.values().filter(|tenants| tenants.len() > TENANTS / 2).count() >= CONNECTIONS / 2,
        "{shared:?}"
    );
}
