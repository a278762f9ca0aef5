//! What was acknowledged survives a crash, and nothing else is seen after it.
//!
//! A server of its own, with fsync on, is killed at random while eight connections change things.
//! The oracle is what the clients were told. A change whose answer was lost may have happened or
//! not; then the events decide, and everything else must agree with them.

use api_tokens_tests::*;
use load::{Follower, Load, Writer};
use oracle::{Customer, check};
use server::Server;
use std::collections::HashMap;
use std::time::{Duration, Instant};

#[path = "crash/load.rs"]
mod load;
#[path = "crash/oracle.rs"]
mod oracle;
#[path = "crash/server.rs"]
mod server;

#[test]
fn a_server_that_is_killed_keeps_what_it_acknowledged() {
    crash_again_and_again(|server, random| match random.below(3) {
        0 => server.kill_one("api_tokens flush"),
        1 => server.kill_one("[local]"),
        _ => server.kill_postmaster(),
    });
}

#[test]
fn a_server_that_is_stopped_at_once_keeps_what_it_acknowledged() {
    crash_again_and_again(|server, _| server.stop_at_once());
}

/// Transaction ids that left nothing in the log are given out again after a crash; a cursor holds ids.
#[test]
fn an_event_after_a_crash_is_not_taken_for_one_before_it() {
    let _turn = alone();
    let mut server = Server::start();
    let mut sql = server.connect();
    create(&mut sql, "");
    sql.batch_execute("BEGIN; SELECT api_token_create('acme'); ROLLBACK").expect("roll back");
    let cursor = text(&mut sql, "SELECT api_token_events_end()", &[]);
    server.stop_at_once();
    server.revive();
    let mut sql = server.connect();
    create(&mut sql, "");
    let read = "SELECT method FROM api_token_events($1)";
    assert_eq!(column(&mut sql, read, &[&cursor]), ["create"]);
}

#[test]
fn an_event_that_was_read_is_not_undone_by_a_crash() {
    let _turn = alone();
    let mut server = Server::start();
    let mut sql = server.connect();
    sql.batch_execute("SET synchronous_commit = off").expect("set");
    let made = create(&mut sql, "");
    assert_eq!(number(&mut sql, "SELECT count(*) FROM api_token_events()", &[]), 1);
    server.stop_at_once();
    server.revive();
    assert_eq!(verdict(&mut server.connect(), &made.token), "ok");
}

/// Of what is written in place only the changed bytes are logged; the rest of a page, hint bits for one,
/// may differ after a replay.
#[test]
fn recovery_that_compares_pages_takes_none_of_ours_for_damaged() {
    let _turn = alone();
    let mut server = Server::start();
    let mut sql = server.connect();
    sql.batch_execute("ALTER DATABASE crashed SET wal_consistency_checking = 'all'").expect("set");
    let mut sql = server.connect();
    sql.batch_execute("CHECKPOINT").expect("checkpoint");
    let made = create(&mut sql, ", max_uses => 10");
    // Whoever reads them first notes in the rows that they are committed, which is not logged.
    let read = "SELECT (SELECT count(*) FROM api_tokens.tokens) + (SELECT count(*) FROM api_tokens.quotas)";
    assert_eq!(number(&mut sql, read, &[]), 2);
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 9");
    let count = "SELECT use_count FROM api_tokens.tokens";
    eventually("it is in the table", || number(&mut sql, count, &[]) == 1);
    server.stop_at_once();
    server.revive();
    let mut sql = server.connect();
    assert_eq!(number(&mut sql, count, &[]), 1);
    assert_eq!(spend(&mut sql, &made.token, 1), "ok 8");
}

const WRITERS: usize = 8;

fn crash_again_and_again(crash: impl Fn(&mut Server, &mut Random)) {
    let _turn = alone();
    let mut random = Random::seeded();
    let mut server = Server::start();
    let mut books: [Vec<Customer>; WRITERS] = Default::default();
    let mut shared = Vec::new();
    let mut follower = Follower::default();
    let (rounds, begun) = (number_or("API_TOKENS_TEST_ROUNDS", 5), Instant::now());
    for round in 1..=rounds {
        let load = Load::open(&mut server.connect(), round, &mut shared);
        std::thread::scope(|scope| {
            for (me, book) in books.iter_mut().enumerate() {
                let sql = server.connect();
                let name = format!("w{me}-r{round}");
                let writer = Writer { name, load: &load, book, random: random.fork() };
                scope.spawn(move || writer.work(sql));
            }
            let (mut sql, mut choices) = (server.connect(), random.fork());
            // Reading makes durable what came before: not always at once, so that others must, too.
            let pause = Duration::from_millis(random.one_of(&[0, 200]));
            let follower = &mut follower;
            scope.spawn(move || {
                while follower.read(&mut sql, &mut choices).is_ok() {
                    std::thread::sleep(pause);
                }
            });
            std::thread::sleep(Duration::from_millis(50 + random.below(500) as u64));
            crash(&mut server, &mut random);
        });
        shared.extend(load.close());
        server.revive();
        let mut sql = server.connect();
        while follower.read(&mut sql, &mut random).expect("catch up") > 0 {}
        let customers = books.iter_mut().flatten().chain(&mut shared);
        check(&mut sql, &mut customers.collect::<Vec<_>>(), &follower.seen);
    }
    let mut held = HashMap::new();
    for change in books.iter().flatten().chain(&shared).flat_map(|one| &one.happened) {
        *held.entry(change).or_insert(0) += 1;
    }
    eprintln!("{rounds} rounds in {:?}; {} events: {held:?}", begun.elapsed(), follower.seen.len());
}
