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
    docs().for_each(|page| runs_in_order(&page));
}

fn docs() -> impl Iterator<Item = String> {
    let pages = std::fs::read_dir(root().join("docs")).expect("docs");
    pages.map(|page| format!("docs/{}", page.expect("a page").file_name().display()))
}

/// Each document in a database of its own, where nothing is installed yet. The roles it makes belong to
/// the whole server, so one page at a time, and they go with it.
fn runs_in_order(page: &str) {
    let _turn = alone();
    let db = Database::empty();
    let roles = "SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_|t_)'";
    let before = column(&mut db.connect(), roles, &[]);
    let markdown = std::fs::read_to_string(root().join(page)).expect(page);
    let blocks = sql_blocks(&markdown);
    assert!(blocks.len() >= 3, "{page}: {}", blocks.len());
    let mut script = CRON.to_owned();
    for (line, sql) in blocks {
        script += &format!("\n\\echo {page}:{line}\n{sql}");
    }
    psql(&db.name, &script);
    let mut sql = db.connect();
    for role in column(&mut sql, roles, &[]).iter().filter(|role| !before.contains(role)) {
        sql.batch_execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).expect(role);
    }
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    for page in ["README.md", "SECURITY.md", "RELEASING.md", "CHANGELOG.md"]
        .map(str::to_owned)
        .into_iter()
        .chain(docs())
    {
        let markdown = std::fs::read_to_string(root().join(&page)).expect(&page);
        let folder = root().join(&page).parent().expect("a folder").to_owned();
        for link in markdown.split("](").skip(1) {
            let target = link.split([')', '#']).next().expect("a link");
            let is_there = target.starts_with("http") || folder.join(target).exists();
            assert!(is_there, "{page}: {target}");
        }
    }
}

/// By its name, or by the end of it behind others of its kind: "`api_token_current_id()`, `_name()`".
#[test]
fn every_function_is_in_the_reference() {
    let page = |name: &str| std::fs::read_to_string(root().join(name)).expect(name);
    let pages = page("docs/reference.md") + &page("docs/vault.md");
    let db = Database::new();
    let public = "SELECT DISTINCT p.proname FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
        WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND p.pronamespace = 'public'::regnamespace
            AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'api_tokens')";
    let functions = column(&mut db.connect(), public, &[]);
    assert!(functions.len() > 50, "{functions:?}");
    for name in functions {
        let ends = name.match_indices('_').map(|(at, _)| &name[at..]);
        let is_there =
            [name.as_str()].into_iter().chain(ends).any(|end| pages.contains(&format!("`{end}")));
        assert!(is_there, "{name}");
    }
}
