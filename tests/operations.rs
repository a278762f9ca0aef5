//! What docs/operations.md says of the server: its settings and counters, dumps, logical replication.

use api_tokens_tests::*;
use postgres::Client;

fn page() -> String {
    std::fs::read_to_string(root().join("docs/operations.md")).expect("the page")
}

/// The cells of the rows of the page's tables, each with its backquotes taken off.
fn rows(page: &str) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
}

#[test]
fn the_table_of_settings_is_true() {
    let db = Database::new();
    let mut sql = db.connect();
    let mut documented = Vec::new();
    for row in rows(&page()) {
        let [name, default, changed_by, _] = row.as_slice() else { continue };
        if !name.starts_with("api_tokens.") {
            continue;
        }
        let context = match changed_by.as_str() {
            "superuser" => "superuser",
            "reload" => "sighup",
            "restart" => "postmaster",
            other => panic!("{name}: {other}"),
        };
        documented.push(name.clone());
        // Those that hold places are not shown to all, and before Postgres 16 in no list.
        let listed = "SELECT context = $2 AND CASE unit WHEN 's' THEN make_interval(secs => boot_val::float8) = nullif($3, '')::interval
                ELSE coalesce(boot_val, '') = $3 END FROM pg_settings WHERE name = $1";
        match sql.query_opt(listed, &[name, &context, default]).expect("settings") {
            Some(row) => assert!(row.get::<_, bool>(0), "{name}"),
            None => {
                assert!(name.starts_with("api_tokens.vault_key_"), "{name}");
                run(&mut sql, "SELECT current_setting($1)", &[name]);
            }
        }
    }
    let others = "SELECT name FROM pg_settings WHERE name ^@ 'api_tokens.' AND name <> ALL ($1)";
    assert_eq!(column(&mut sql, others, &[&documented]), Vec::<String>::new());
    assert_eq!(documented.len(), 12);
}

#[test]
fn every_counter_has_a_row() {
    let db = Database::new();
    let columns = "SELECT unnest(proargnames) FROM pg_proc WHERE proname = 'api_token_stats'";
    let fields: Vec<String> = rows(&page()).into_iter().map(|row| row[0].clone()).collect();
    for counter in column(&mut db.connect(), columns, &[]) {
        let named = format!("`{counter}`");
        let has_row = fields.iter().any(|field| format!("`{field}`").contains(&named));
        assert!(has_row, "{counter}");
    }
}

/// A copy of the database by a dump; gone when it is dropped.
fn restored(db: &Database, dump: &str) -> Database {
    let copy = Database::empty();
    let host = host();
    let to = ["-h", &host, "-U", "postgres", "-e", "-d", &copy.name, dump];
    assert!(as_server("pg_restore", &to), "{}", db.name);
    copy
}

const COUNTS: &str = "SELECT concat_ws(' ', (SELECT count(*) FROM api_tokens.tokens), (SELECT count(*) FROM api_tokens.quotas),
    (SELECT count(*) FROM api_tokens.events), (SELECT count(*) FROM api_tokens.metadata_schemas),
    (SELECT count(*) FROM api_tokens.vault_versions))";

#[test]
fn a_dump_has_everything_but_roles_and_the_ring() {
    let mut db = Database::new();
    let role = db.role("app", &["validate"]);
    let mut sql = db.connect();
    let token = create(&mut sql, ", max_uses => 10").token;
    let revoked = create(&mut sql, "").token;
    run(&mut sql, "SELECT api_token_invalidate($1)", &[&revoked]);
    run(&mut sql, "SELECT api_token_set_metadata_schema('a*', '{\"type\": \"object\"}')", &[]);
    run(&mut sql, "SELECT api_vault_store('acme', 'stripe', 'a value to look for')", &[]);
    run(&mut sql, "SELECT api_token_validate($1, cost => 4)", &[&token]);
    let counts = text(&mut sql, COUNTS, &[]);

    let dump = cluster_dir().join(format!("data/{}.dump", db.name));
    let path = dump.to_str().expect("utf-8");
    let host = host();
    // Not compressed, so that it can be searched.
    let from = ["-h", &host, "-U", "postgres", "-Fc", "-Z0", "-f", path, &db.name];
    assert!(as_server("pg_dump", &from));
    let bytes = std::fs::read(&dump).expect("dump");
    let holds =
        |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
    let ring = std::fs::read_to_string(cluster_dir().join("vault.keys")).expect("ring");
    let key = ring.split_whitespace().next().expect("a key");
    assert!(holds("acme") && !holds(&token[3..]) && !holds("a value to look for") && !holds(key));

    let copy = restored(&db, path);
    let mut sql = copy.connect();
    assert_eq!(text(&mut sql, COUNTS, &[]), counts);
    assert_eq!(
        text(&mut sql, "SELECT api_vault_get('acme', 'stripe')", &[]),
        "a value to look for"
    );
    // The levels of roles that are there came along, and no others.
    let mut app = copy.connect_as(&role);
    let left = "SELECT remaining FROM api_token_validate($1, cost => 0)";
    assert_eq!(number(&mut app, left, &[&token]), 6);
    assert_eq!(verdict(&mut app, &revoked), "revoked");
    assert_eq!(
        failure(&mut app, "SELECT api_vault_get('acme', 'stripe')", &[]).code().code(),
        "42501"
    );
    // The sequence, too: the next event has a number of its own.
    create(&mut sql, "");
    drop((app, sql, copy));
    let _ = std::fs::remove_file(&dump);
}

/// The page's publication of one database, subscribed to by another; ends when it is dropped.
struct Subscription {
    publisher: Client,
    subscriber: Client,
    name: String,
}

impl Subscription {
    fn new(of: &Database, by: &Database) -> Self {
        let name = of.name.clone();
        let (mut publisher, mut subscriber) = (of.connect(), by.connect());
        let page = page();
        let publication =
            sql_blocks(&page).into_iter().find(|(_, sql)| sql.contains("PUBLICATION"));
        publisher.batch_execute(&publication.expect("a block").1).expect("publish");
        // On one server the slot must be made beforehand, or CREATE SUBSCRIPTION waits for itself.
        run(&mut publisher, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", &[&name]);
        let subscribe = format!(
            "CREATE SUBSCRIPTION {name} CONNECTION 'host={} user=postgres dbname={name}' PUBLICATION api_tokens
                WITH (create_slot = false, slot_name = '{name}')",
            host()
        );
        subscriber.batch_execute(&subscribe).expect("subscribe");
        Self { publisher, subscriber, name }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let cut = format!("ALTER SUBSCRIPTION {0} DISABLE", self.name);
        let _ = self.subscriber.batch_execute(&cut);
        let cut = format!("ALTER SUBSCRIPTION {0} SET (slot_name = NONE)", self.name);
        let _ = self.subscriber.batch_execute(&cut);
        let _ = self.subscriber.batch_execute(&format!("DROP SUBSCRIPTION {}", self.name));
        let drop = "SELECT pg_drop_replication_slot($1)";
        while self
            .publisher
            .execute(drop, &[&self.name])
            .is_err_and(|error| error.code() == Some(&postgres::error::SqlState::OBJECT_IN_USE))
        {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[test]
fn a_subscriber_follows_and_what_is_written_in_place_stays_behind() {
    let _turn = alone();
    restart("fast", "-c wal_level=logical -c api_tokens.flush_interval=1");
    let (mut db, copy) = (Database::new(), Database::new());
    let role = db.role("app", &["validate"]);
    let (mut publisher, mut subscriber) = (db.connect(), copy.connect());
    let early = create(&mut publisher, ", max_uses => 10");
    run(&mut publisher, "SELECT api_vault_store('acme', 'stripe', 'sealed')", &[]);
    let subscription = Subscription::new(&db, &copy);
    let late = create(&mut publisher, "");
    eventually("both have come", || {
        verdict(&mut subscriber, &early.token) == "ok"
            && verdict(&mut subscriber, &late.token) == "ok"
    });
    let value = "SELECT api_vault_get('acme', 'stripe')";
    eventually("the vault, too", || {
        maybe(&mut subscriber, value, &[]).is_some_and(|value| value == "sealed")
    });

    let count = "SELECT use_count FROM api_tokens.tokens WHERE token_id::text = $1";
    for _ in 0..3 {
        assert_eq!(verdict(&mut publisher, &late.token), "ok");
    }
    run(&mut publisher, "SELECT api_token_validate($1, cost => 7)", &[&early.token]);
    eventually("the uses are written", || number(&mut publisher, count, &[&late.id]) == 3);
    run(&mut publisher, "SELECT api_token_invalidate($1)", &[&early.token]);
    eventually("it is revoked there", || verdict(&mut subscriber, &early.token) == "revoked");
    // Uses on both sides, which each writes down, have not stopped it.
    assert!(number(&mut subscriber, "SELECT count(*) FROM api_tokens.usage_hours", &[]) > 0);
    // The change of a later transaction has come, and none of these.
    let uses_here = number(&mut subscriber, count, &[&late.id]);
    assert!(uses_here < 3, "{uses_here}");
    // The publisher's use of seven is not known here.
    assert!(number(&mut subscriber, "SELECT spent FROM api_tokens.quotas", &[]) < 7);
    assert_eq!(number(&mut subscriber, "SELECT count(*) FROM api_token_events()", &[]), 0);
    let mut app = copy.connect_as(&role);
    let denied = failure(&mut app, "SELECT api_token_validate('x')", &[]);
    assert_eq!(denied.code().code(), "42501", "levels do not come along");
    run(&mut publisher, "SELECT api_token_set_namespace_limit('acme', 1, '1 day')", &[]);
    eventually("sessions that begin afterwards keep to the limit", || {
        verdict(&mut copy.connect(), &late.token) == "rate_limited"
    });
    // Cut off, it can be changed like any other.
    drop(subscription);
    assert!(refresh(&mut subscriber, &late.token, "").is_ok());
    drop((app, publisher, subscriber, copy, db));
    restart("fast", "-c api_tokens.flush_interval=1");
}
