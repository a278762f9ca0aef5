//! Every SQL line of the README and of docs/ runs.

use api_tokens_tests::*;

/// Stands in for pg_cron, which needs preloading: runs the command at once.
const CRON: &str = "CREATE SCHEMA cron;
    CREATE FUNCTION cron.schedule(job_name text, schedule text, command text) RETURNS bigint
    LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; RETURN 1; END $$;";

#[test]
fn every_sql_block_of_the_readme_runs_in_order() {
    runs_in_order("README.md");
}

#[test]
fn every_sql_block_of_the_docs_runs_in_order() {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs");
    for page in docs {
        let name = page.expect("a page").file_name();
        runs_in_order(&format!("docs/{}", name.to_str().expect("utf-8")));
    }
}

/// Each document in a database of its own, where nothing is installed yet; and the roles it makes
/// do not stay.
fn runs_in_order(page: &str) {
    let db = Database::empty();
    let markdown = std::fs::read_to_string(root().join(page)).expect(page);
    let blocks = sql_blocks(&markdown);
    assert!(blocks.len() >= 3, "{page}: {}", blocks.len());
    let mut script = CRON.to_owned();
    for (line, sql) in blocks {
        script += &format!("\n\\echo {page}:{line}\n{sql}");
    }
    psql(&db.name, &script);
}
