//! The examples in Python and Node work: their own tests, each against a database of its own.

use api_tokens_tests::*;
use std::process::Command;

/// Runs a test script as a client of a new database, where it is superuser.
fn passes(program: &str, arguments: &[&str]) {
    let db = Database::new();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .env("PGHOST", host())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", &db.name)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

const PYTHON: &str = "target/examples-venv/bin/python";

#[test]
fn the_cache_in_python_accepts_nothing_stale() {
    passes(PYTHON, &["examples/tests/test_cache.py"]);
}

#[test]
fn the_cache_in_node_accepts_nothing_stale() {
    passes("node", &["--test", "examples/tests/cache.test.mjs"]);
}

#[test]
fn fastapi_answers_by_token() {
    passes(PYTHON, &["examples/tests/test_fastapi_app.py"]);
}

#[test]
fn node_http_answers_by_token() {
    passes("node", &["--test", "examples/tests/http_app.test.mjs"]);
}
