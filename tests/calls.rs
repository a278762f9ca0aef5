//! Short ways to call the extension, each as most tests do.

use crate::{eventually, maybe, number, run, text};
use postgres::Client;

/// A token as `api_token_create` returned it.
#[derive(Clone)]
pub struct Created {
    pub token: String,
    pub id: String,
}

/// Creates a token in namespace `acme`; `arguments` go on after the namespace, e.g. `, max_idle => '1 h'`.
pub fn create(client: &mut Client, arguments: &str) -> Created {
    let sql = format!("SELECT token, token_id::text FROM api_token_create('acme'{arguments})");
    let row = client.query_one(&sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    Created { token: row.get(0), id: row.get(1) }
}

/// `ok`, or the reason why not.
pub fn verdict(client: &mut Client, token: &str) -> String {
    text(
        client,
        "SELECT CASE WHEN ok THEN 'ok' ELSE reason END FROM api_token_validate($1)",
        &[&token],
    )
}

/// The new token, or the reason why not.
pub fn refresh(client: &mut Client, token: &str, arguments: &str) -> Result<Created, String> {
    let sql =
        format!("SELECT ok, reason, token, token_id::text FROM api_token_refresh($1{arguments})");
    let row = client.query_one(&sql, &[&token]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    match row.get(0) {
        true => Ok(Created { token: row.get(2), id: row.get(3) }),
        false => Err(row.get(1)),
    }
}

/// Puts a token's times into the past, as if it had lived through it.
pub fn age(client: &mut Client, token: &Created, assignments: &str) {
    let sql = format!("UPDATE api_tokens.tokens SET {assignments} WHERE token_id::text = $1");
    assert_eq!(client.execute(&sql, &[&token.id]).expect("age"), 1);
}

/// What a check that costs so much says: `ok` or the reason, and what remains.
pub fn spend(client: &mut Client, token: &str, cost: i32) -> String {
    let answer = "SELECT concat_ws(' ', CASE WHEN ok THEN 'ok' ELSE reason END, remaining)
        FROM api_token_validate($1, cost => $2)";
    let row = client.query_one(answer, &[&token, &cost]);
    row.unwrap_or_else(|error| panic!("{error:?}")).get(0)
}

pub fn update(client: &mut Client, token: &Created, changes: &str) {
    let update = "SELECT api_token_update($1::text::uuid, $2::text::jsonb)";
    run(client, update, &[&token.id, &changes]);
}

/// Uses that a quota has left.
pub fn left(client: &mut Client, token: &str) -> i64 {
    number(client, "SELECT remaining FROM api_token_validate($1, cost => 0)", &[&token])
}

/// One of the server's counters.
pub fn stat(client: &mut Client, column: &str) -> i64 {
    number(client, &format!("SELECT {column} FROM api_token_stats()"), &[])
}

/// Uses that are in the table.
pub fn use_count(client: &mut Client, token: &Created) -> i64 {
    let count = "SELECT use_count FROM api_tokens.tokens WHERE token_id::text = $1";
    number(client, count, &[&token.id])
}

/// Waits until so many uses are in the table.
pub fn flushed(client: &mut Client, token: &Created, uses: i64) {
    eventually(&format!("{uses} uses are in the table"), || use_count(client, token) == uses);
}

pub const VAULT_GET: &str = "SELECT api_vault_get($1, $2)";

/// Of namespace `acme`.
pub fn vault_get(client: &mut Client, name: &str) -> Option<String> {
    maybe(client, VAULT_GET, &[&"acme", &name])
}

/// In namespace `acme`; the new version.
pub fn vault_store(client: &mut Client, name: &str, value: &str) -> i64 {
    number(client, "SELECT api_vault_store($1, $2, $3)", &[&"acme", &name, &value])
}
