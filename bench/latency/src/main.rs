//! Latency of prepared statements as one client sees it, read off a monotonic clock.
//! (pgbench's percentiles below 100 µs are not latencies.)
//!
//!     latency DATABASE TOKENS CALLS LABEL=SOCKET_DIR=STATEMENT ...
//!
//! The statements take a token as $1 and are run in turns of 1000 calls, so that whatever else
//! happens on the machine happens to all. Start it pinned to core 0 (taskset -c 0): it puts the
//! processes that serve it there too, for a call takes twice as long if the scheduler happened to
//! put the two ends on different cores. Prints "LABEL p50 p99 max" in microseconds.

use postgres::{Client, NoTls, Statement};
use std::error::Error;
use std::process::Command;
use std::time::Instant;

const TURN: usize = 1000;

struct Contestant {
    label: String,
    client: Client,
    statement: Statement,
    microseconds: Vec<f64>,
}

impl Contestant {
    fn new(description: &str, database: &str) -> Result<Self, Box<dyn Error>> {
        let mut parts = description.splitn(3, '=');
        let mut part = || parts.next().ok_or("a contestant is LABEL=SOCKET_DIR=STATEMENT");
        let (label, socket, sql) = (part()?.to_owned(), part()?, part()?);
        let target = format!("host={socket} user=postgres dbname={database}");
        let mut client = Client::connect(&target, NoTls)?;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        let pinned = Command::new("taskset").args(["-cp", "0", &pid.to_string()]).output()?;
        if !pinned.status.success() {
            return Err(format!("taskset: {}", String::from_utf8_lossy(&pinned.stderr)).into());
        }
        let statement = client.prepare(sql)?;
        Ok(Self { label, client, statement, microseconds: Vec::new() })
    }

    fn call(&mut self, token: &str) -> Result<f64, Box<dyn Error>> {
        let begun = Instant::now();
        let rows = self.client.query(&self.statement, &[&token])?;
        let elapsed = begun.elapsed();
        // A contestant that finds nothing is not to be compared with one that does.
        if rows.len() != 1 {
            return Err(format!("{}: {} rows for {token}", self.label, rows.len()).into());
        }
        Ok(elapsed.as_secs_f64() * 1e6)
    }

    fn print(&mut self) {
        self.microseconds.sort_by(f64::total_cmp);
        let at =
            |share: f64| self.microseconds[((self.microseconds.len() - 1) as f64 * share) as usize];
        println!("{} {:.1} {:.1} {:.1}", self.label, at(0.5), at(0.99), at(1.0));
    }
}

/// Numbers that are random enough to spread over a table, the same in every run (xorshift).
struct Draw(u64);

impl Draw {
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        1 + self.0 % most
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, tokens, calls, descriptions @ ..] = arguments.as_slice() else {
        return Err("latency DATABASE TOKENS CALLS LABEL=SOCKET_DIR=STATEMENT ...".into());
    };
    let (tokens, calls): (u64, usize) = (tokens.parse()?, calls.parse()?);
    let mut contestants = Vec::new();
    for description in descriptions {
        contestants.push(Contestant::new(description, database)?);
    }
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    // The first turn warms up and is not counted.
    for turn in 0..=calls.div_ceil(TURN) {
        for contestant in &mut contestants {
            for _ in 0..TURN {
                let took = contestant.call(&format!("sk_bench_{}", draw.up_to(tokens)))?;
                if turn > 0 {
                    contestant.microseconds.push(took);
                }
            }
        }
    }
    contestants.iter_mut().for_each(Contestant::print);
    Ok(())
}
