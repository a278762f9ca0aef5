//! pg_cron runs the README's line. It comes from Debian and is preloaded by the test cluster; jobs
//! start at full minutes, so this test takes up to one.

use api_tokens_tests::*;
use std::time::{Duration, Instant};

#[test]
fn the_readmes_line_cleans_up_and_its_runs_can_be_seen() {
    // pg_cron lives in one database of the server, this one.
    let mut admin = connect_to(&host(), "postgres", "postgres");
    if !has_other_extension(&mut admin, "pg_cron") {
        return;
    }
    admin
        .batch_execute(
            "CREATE EXTENSION api_tokens; CREATE ROLE keeper LOGIN;
            GRANT USAGE ON SCHEMA cron TO keeper; SELECT api_tokens_grant('keeper', 'manage')",
        )
        .expect("install");
    let (dead, live) = (create(&mut admin, ""), create(&mut admin, ""));
    age(&mut admin, &dead, "revoked_at = now() - interval '31 days'");
    let mut keeper = connect_to(&host(), "keeper", "postgres");
    let line = block_of("README.md", "cron.schedule");
    assert!(line.contains("'17 3 * * *'"), "{line}");
    let every_minute = line.replace("17 3 * * *", "* * * * *");
    keeper.batch_execute(&every_minute).expect("schedule");
    let runs = "SELECT count(*) FROM cron.job_run_details WHERE status = 'succeeded'
        AND command = 'SELECT api_token_cleanup()' AND username = 'keeper' AND end_time IS NOT NULL";
    let started = Instant::now();
    while number(&mut keeper, runs, &[]) == 0 {
        let seen = "SELECT string_agg(concat_ws(' ', status, return_message), '; ') FROM cron.job_run_details";
        assert!(started.elapsed() < Duration::from_secs(90), "{:?}", maybe(&mut keeper, seen, &[]));
        std::thread::sleep(Duration::from_millis(200));
    }
    let left = "SELECT token_id FROM api_token_list('acme', include_revoked => true)";
    assert_eq!(column(&mut keeper, left, &[]), [live.id]);
    let cleaned = "SELECT count || ' ' || actor FROM api_token_events() WHERE method = 'cleanup'";
    assert_eq!(column(&mut admin, cleaned, &[]), ["1 keeper"]);
    keeper.batch_execute("SELECT cron.unschedule('api_tokens cleanup')").expect("unschedule");
    admin
        .batch_execute(
            "DROP EXTENSION pg_cron; DROP EXTENSION api_tokens;
            DROP OWNED BY keeper; DROP ROLE keeper",
        )
        .expect("remove");
}
