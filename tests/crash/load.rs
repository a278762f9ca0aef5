//! Eight who change things, and one who follows the events.

use crate::oracle::Customer;
use api_tokens_tests::*;
use postgres::types::ToSql;
use postgres::{Client, Error, Row};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The connection is gone, and the answer with it.
#[derive(Debug)]
pub struct Gone;

fn gone(error: Error) -> Gone {
    let code = error.as_db_error().map(|error| error.code().code().to_owned());
    assert!(code.as_ref().is_none_or(|code| code.starts_with("57P")), "{error:?}");
    Gone
}

/// What all writers use at once.
pub struct Load {
    /// Each is refreshed by all writers.
    contested: Vec<Mutex<Customer>>,
    quota: Mutex<Customer>,
}

impl Load {
    const CONTESTED: usize = 20;
    const MAX_USES: i64 = 60;

    pub fn open(sql: &mut Client, round: u64, settled: &mut Vec<Customer>) -> Self {
        let mut open = |name: String, arguments: &str| {
            let statement = format!("SELECT token FROM api_token_create($1{arguments})");
            let token = text(sql, &statement, &[&name]);
            let mut customer = Customer { namespace: name, ..Customer::default() };
            customer.happens("create", Some(token));
            customer
        };
        let names = (0..Self::CONTESTED).map(|at| format!("contested-r{round}-{at}"));
        let contested = names.map(|name| Mutex::new(open(name, ""))).collect();
        // Every other quota goes on through the next crash.
        let again =
            settled.iter().position(|one| one.max_uses.is_some() && one.used < Self::MAX_USES);
        let quota = again.map(|at| settled.swap_remove(at)).unwrap_or_else(|| Customer {
            max_uses: Some(Self::MAX_USES),
            ..open(format!("quota-r{round}"), &format!(", max_uses => {}", Self::MAX_USES))
        });
        Self { contested, quota: Mutex::new(quota) }
    }

    pub fn close(self) -> impl Iterator<Item = Customer> {
        let all = self.contested.into_iter().chain([self.quota]);
        all.map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One of those who change things.
pub struct Writer<'a> {
    pub name: String,
    pub load: &'a Load,
    pub book: &'a mut Vec<Customer>,
    pub random: Random,
}

impl Writer<'_> {
    /// Goes on until the connection is gone.
    pub fn work(mut self, mut sql: Client) {
        let mut contested = self.load.contested.iter();
        // Some of them from before the last crash.
        let first = self.book.len().saturating_sub(20);
        loop {
            let done = match self.random.below(100) {
                0..20 => self.create(&mut sql),
                20..30 => self.charge(&mut sql),
                30..40 => contested.next().map_or(Ok(()), |one| contend(&mut sql, one)),
                40..42 => sql.batch_execute("CHECKPOINT").map_err(gone),
                _ if self.book.len() == first => Ok(()),
                choice => {
                    let one = first + self.random.below(self.book.len() - first);
                    change(&mut sql, &mut self.book[one], choice)
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn create(&mut self, sql: &mut Client) -> Result<(), Gone> {
        let namespace = format!("{}-{}", self.name, self.book.len());
        let mut customer = Customer { namespace: namespace.clone(), ..Customer::default() };
        let create = "SELECT token FROM api_token_create($1)";
        let created = attempt(sql, &mut customer, "create", create, &[&namespace]);
        let created = created.map(|row| customer.happens("create", row.get(0)));
        self.book.push(customer);
        created
    }

    fn charge(&mut self, sql: &mut Client) -> Result<(), Gone> {
        let token = lock(&self.load.quota).tokens[0].clone();
        let cost = self.random.one_of(&[1, 1, 2, 3]);
        let (begin, end) =
            self.random.one_of(&[("", ""), ("BEGIN", "COMMIT"), ("BEGIN", "ROLLBACK")]);
        sql.batch_execute(begin).map_err(gone)?;
        let charge = "SELECT ok FROM api_token_validate($1, cost => $2)";
        let charged = sql.query_one(charge, &[&token, &cost]);
        let ended = charged.and_then(|row| sql.batch_execute(end).map(|()| row.get(0)));
        let mut quota = lock(&self.load.quota);
        match ended {
            Ok(true) if end != "ROLLBACK" => quota.used += i64::from(cost),
            Err(_) if end != "ROLLBACK" => quota.perhaps_used += i64::from(cost),
            _ => {}
        }
        ended.map(|_: bool| ()).map_err(gone)
    }
}

/// All present the same token: one gets the heir.
fn contend(sql: &mut Client, contested: &Mutex<Customer>) -> Result<(), Gone> {
    let token = lock(contested).tokens[0].clone();
    let refreshed = sql.query_one("SELECT token, reason FROM api_token_refresh($1)", &[&token]);
    let mut customer = lock(contested);
    match refreshed {
        Ok(row) if row.get::<_, Option<&str>>(1).is_none() => {
            customer.happens("refresh", row.get(0))
        }
        Ok(row) => {
            assert_eq!(row.get::<_, &str>(1), "revoked");
            customer.happens("reuse_detected", None);
        }
        Err(error) => {
            customer.lost.extend(["refresh", "reuse_detected"]);
            return Err(gone(error));
        }
    }
    Ok(())
}

/// Changes one of the writer's own, of which it knows what must come.
fn change(sql: &mut Client, customer: &mut Customer, choice: usize) -> Result<(), Gone> {
    let namespace = customer.namespace.clone();
    if choice < 55 {
        let value = customer.value(customer.count("vault_store") + 1);
        let store = "SELECT api_vault_store($1, 'k', $2)";
        attempt(sql, customer, "vault_store", store, &[&namespace, &value])?;
        customer.happens("vault_store", None);
        return Ok(());
    }
    let Some(Some(token)) = customer.tokens.last().cloned() else { return Ok(()) };
    let verdict = customer.verdict(customer.tokens.len() - 1);
    let switch = "SELECT api_token_set_enabled(token_id, $2) FROM api_token_validate($1)";
    match (choice, verdict) {
        (55..65, "ok") => {
            let refresh = "SELECT token FROM api_token_refresh($1)";
            let row = attempt(sql, customer, "refresh", refresh, &[&token])?;
            customer.happens("refresh", row.get(0));
        }
        (65..73, "ok" | "disabled") => {
            let invalidate = "SELECT api_token_invalidate($1)";
            attempt(sql, customer, "invalidate", invalidate, &[&token])?;
            customer.happens("invalidate", None);
        }
        (73..83, "ok" | "disabled") => {
            let change = if verdict == "ok" { "disable" } else { "enable" };
            attempt(sql, customer, change, switch, &[&token, &(change == "enable")])?;
            customer.happens(change, None);
        }
        (83..90, _) => {
            let mut transaction = sql.transaction().map_err(gone)?;
            transaction.query("SELECT api_token_invalidate($1)", &[&token]).map_err(gone)?;
            transaction.rollback().map_err(gone)?;
        }
        _ => {
            let validate = "SELECT coalesce(reason, 'ok') FROM api_token_validate($1)";
            let row = sql.query_one(validate, &[&token]).map_err(gone)?;
            assert_eq!(row.get::<_, &str>(0), verdict, "{namespace}");
        }
    }
    Ok(())
}

fn attempt(
    sql: &mut Client,
    customer: &mut Customer,
    change: &'static str,
    statement: &str,
    arguments: &[&(dyn ToSql + Sync)],
) -> Result<Row, Gone> {
    sql.query_one(statement, arguments).map_err(|error| {
        customer.lost.push(change);
        gone(error)
    })
}

fn lock(customer: &Mutex<Customer>) -> MutexGuard<'_, Customer> {
    customer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads events as a cache does, and remembers its cursor.
#[derive(Default)]
pub struct Follower {
    cursor: Option<String>,
    pub seen: HashSet<i64>,
}

impl Follower {
    /// Says how many there were.
    pub fn read(&mut self, sql: &mut Client, random: &mut Random) -> Result<usize, Gone> {
        let end = sql.query_one("SELECT api_token_events_end()", &[]).map_err(gone)?.get(0);
        let page = random.one_of(&[1, 3, 1000]);
        let read = "SELECT event_id, cursor FROM api_token_events($1, max_rows => $2)";
        let rows = sql.query(read, &[&self.cursor, &page]).map_err(gone)?;
        for row in &rows {
            assert!(self.seen.insert(row.get(0)), "an event came twice");
        }
        self.cursor = Some(rows.last().map_or(end, |row| row.get(1)));
        Ok(rows.len())
    }
}
