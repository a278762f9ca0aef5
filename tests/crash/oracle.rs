//! What the clients know, and whether the server agrees.

use api_tokens_tests::*;
use postgres::Client;
use std::collections::{HashMap, HashSet};

const CHANGES: [&str; 7] =
    ["create", "refresh", "invalidate", "disable", "enable", "vault_store", "reuse_detected"];

/// What the clients know of one namespace: one token and its heirs, and one value in the vault.
#[derive(Default)]
pub struct Customer {
    pub namespace: String,
    pub happened: Vec<&'static str>,
    /// No answer came: may have happened or not.
    pub lost: Vec<&'static str>,
    /// The line of heirs; `None` if the answer that had the token was lost.
    pub tokens: Vec<Option<String>>,
    pub max_uses: Option<i64>,
    pub used: i64,
    pub perhaps_used: i64,
}

impl Customer {
    pub fn count(&self, change: &str) -> usize {
        self.happened.iter().filter(|one| **one == change).count()
    }

    pub fn happens(&mut self, change: &'static str, token: Option<String>) {
        self.happened.push(change);
        if change == "create" || change == "refresh" {
            self.tokens.push(token);
        }
    }

    pub fn verdict(&self, generation: usize) -> &'static str {
        let mut switched = self.happened.iter().rev().filter(|one| one.ends_with("able"));
        match switched.next() {
            _ if generation + 1 < self.tokens.len() || self.count("invalidate") > 0 => "revoked",
            Some(&"disable") => "disabled",
            _ => "ok",
        }
    }

    pub fn value(&self, version: usize) -> Option<String> {
        (version > 0).then(|| format!("{} {version}", self.namespace))
    }
}

/// After a crash: settles what was lost, and finds everything as it must be.
pub fn check(sql: &mut Client, customers: &mut [&mut Customer], seen: &HashSet<i64>) {
    let mut told: HashMap<(String, String), usize> = HashMap::new();
    let events = "SELECT event_id, method, namespace FROM api_tokens.events";
    let events = sql.query(events, &[]).expect("events");
    let ids: HashSet<i64> = events.iter().map(|event| event.get(0)).collect();
    assert_eq!(&ids, seen, "who followed has seen all events, and no others");
    for event in events {
        *told.entry((event.get(1), event.get(2))).or_default() += 1;
    }
    for customer in customers.iter_mut() {
        let lost = std::mem::take(&mut customer.lost);
        for change in CHANGES {
            let told = told.remove(&(change.to_owned(), customer.namespace.clone())).unwrap_or(0);
            let acknowledged = customer.count(change);
            let at_most = acknowledged + lost.iter().filter(|one| **one == change).count();
            let what = (change, &customer.namespace, told, acknowledged, at_most);
            assert!((acknowledged..=at_most).contains(&told), "events: {what:?}");
            (acknowledged..told).for_each(|_| customer.happens(change, None));
        }
    }
    assert!(told.is_empty(), "changes that nobody asked for: {told:?}");

    let heirs = "SELECT namespace, count(*), count(replaced_by), count(DISTINCT replaced_by) FROM api_tokens.tokens GROUP BY 1";
    let rows = sql.query(heirs, &[]).expect("heirs").into_iter();
    let lines: HashMap<String, [i64; 3]> =
        rows.map(|row| (row.get(0), [1, 2, 3].map(|column| row.get(column)))).collect();
    for customer in customers.iter() {
        let length = customer.tokens.len() as i64;
        let line = lines.get(&customer.namespace).copied().unwrap_or_default();
        let wanted = if length == 0 { [0, 0, 0] } else { [length, length - 1, length - 1] };
        assert_eq!(line, wanted, "{}: one heir each", customer.namespace);
    }

    let tokens = customers.iter().flat_map(|customer| {
        customer.tokens.iter().enumerate().filter_map(|(generation, token)| {
            Some((token.as_deref()?, &*customer.namespace, customer.verdict(generation)))
        })
    });
    let tokens: Vec<(&str, &str, &str)> = tokens.collect();
    for tokens in tokens.chunks(1000) {
        let asked: Vec<&str> = tokens.iter().map(|(token, ..)| *token).collect();
        let many = "SELECT coalesce(reason, 'ok') FROM api_token_validate_many($1, cost => 0)";
        let told = column(sql, many, &[&asked]);
        assert_eq!(told.len(), tokens.len());
        for ((_, namespace, wanted), told) in tokens.iter().zip(told) {
            assert_eq!(told, *wanted, "a token of {namespace}");
        }
    }

    let names: Vec<&str> = customers.iter().map(|customer| &*customer.namespace).collect();
    let values =
        "SELECT api_vault_get(n, 'k') FROM unnest($1::text[]) WITH ORDINALITY u(n, i) ORDER BY i";
    for (row, customer) in sql.query(values, &[&names]).expect("vault").iter().zip(&*customers) {
        assert_eq!(row.get::<_, Option<String>>(0), customer.value(customer.count("vault_store")));
    }

    for customer in customers {
        let Some(max_uses) = customer.max_uses else { continue };
        let left = "SELECT remaining FROM api_token_validate($1, cost => 0)";
        let used = max_uses - number(sql, left, &[&customer.tokens[0]]);
        let at_most = customer.used + customer.perhaps_used;
        assert!(
            (customer.used..=at_most).contains(&used),
            "{} to {at_most}: {used}",
            customer.used
        );
        (customer.used, customer.perhaps_used) = (used, 0);
    }
}
