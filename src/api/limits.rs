//! What a token is limited to: looked at when all else has passed, and charged only if all fits.

use crate::error::Result;
use crate::pg::shmem::{self, Shared};
use crate::pg::{clock, transaction, words};
use crate::store::quotas::Use;
use crate::store::token::StoredToken;
use crate::store::{namespace_limits, quotas};
use api_tokens_logic::Error;
use api_tokens_logic::digest::Digest;
use api_tokens_logic::limits::Allowance;
use api_tokens_logic::quota::Charged;
use api_tokens_logic::rate::{Passed, Rate};
use api_tokens_logic::rate_map::Key;
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::verdict::Reason;

/// What became of a use.
pub enum Charge {
    Accepted(Allowance),
    Refused(Reason, Allowance),
    /// Wait, and look at the token again.
    Wait(InTheWay),
}

/// Why a use cannot be written down yet.
#[derive(Clone, Copy)]
pub enum InTheWay {
    /// Somebody has the row, by this transaction if that is known.
    Holder(Option<u32>),
    /// As many transactions as there is place for have the token in use.
    Crowd,
}

/// How long one call has waited for a place.
#[derive(Default)]
pub struct Waiting {
    moments: u32,
}

impl Waiting {
    /// In a crowd anybody's end will do, so it is looked for again and again: whoever waited for one of
    /// them would wait for as long as that one, which may be a prepared transaction that nobody ends.
    pub fn wait(&mut self, in_the_way: InTheWay) {
        match in_the_way {
            InTheWay::Holder(Some(transaction)) => transaction::wait_for(transaction),
            InTheWay::Holder(None) | InTheWay::Crowd => {
                transaction::wait_a_moment(self.moments);
                self.moments += 1;
            }
        }
    }
}

/// Charges a use of a token that is otherwise accepted. First all limits are looked at, which writes
/// nothing, then all are charged; should another use come in between, what was charged is taken back.
pub fn charge(token: &StoredToken, cost: i32, now: Timestamp) -> Result<Charge> {
    let limits = token.limits().check()?;
    let of_namespace = namespace_limits::of(token.namespace())?;
    if limits.quota.is_none() && limits.rate.is_none() && of_namespace.is_none() {
        return Ok(Charge::Accepted(Allowance::default()));
    }
    let family_id = token.family_id();
    let rates = Rates::of([
        limits.rate.map(|rate| (*family_id.as_bytes(), rate)),
        of_namespace.map(|rate| (subject(token.namespace()), rate)),
    ])?;
    let mut allowance = Allowance::default();
    let quota = limits.quota.map(|quota| quotas::look(&family_id, &quota, cost, now));
    let mut refused = quota.and_then(|charged| look(charged, cost, &mut allowance));
    if !rates.look(cost, &mut allowance) {
        refused = refused.or(Some(Reason::RateLimited));
    }
    if let Some(reason) = refused {
        if reason == Reason::ReadOnly {
            // Waiting is no use.
            allowance.retry_after = None;
        }
        return Ok(Charge::Refused(reason, allowance));
    }
    // Who only asks has been answered.
    if cost == 0 {
        return Ok(Charge::Accepted(allowance));
    }
    let mut allowance = Allowance::default();
    if !rates.charge(cost, &mut allowance) {
        return Ok(Charge::Refused(Reason::RateLimited, allowance));
    }
    let Some(quota) = limits.quota else {
        return Ok(Charge::Accepted(allowance));
    };
    let charge = spend(&quotas::charge(&family_id, &quota, cost, now), allowance);
    if !matches!(charge, Charge::Accepted(_)) {
        rates.refund(cost);
    }
    Ok(charge)
}

/// Does the quota have room, and can its use be written down?
fn look(charged: Charged, cost: i32, allowance: &mut Allowance) -> Option<Reason> {
    match charged {
        Charged::Exceeded { left, retry_after } => {
            allowance.note_refusal(left, retry_after);
            Some(Reason::UsageExceeded)
        }
        Charged::Accepted { left } => {
            allowance.note_left(left);
            (cost > 0 && !words::can_alter()).then_some(Reason::ReadOnly)
        }
        Charged::Crowded => None,
    }
}

fn spend(used: &Use, mut allowance: Allowance) -> Charge {
    match *used {
        Use::Held(by) => Charge::Wait(InTheWay::Holder(by)),
        Use::Charged(Charged::Crowded) => Charge::Wait(InTheWay::Crowd),
        Use::Charged(Charged::Exceeded { left, retry_after }) => {
            allowance.note_refusal(left, retry_after);
            Charge::Refused(Reason::UsageExceeded, allowance)
        }
        Use::Charged(Charged::Accepted { left }) => {
            allowance.note_left(left);
            Charge::Accepted(allowance)
        }
    }
}

/// The rate limits that a call has to pass.
struct Rates {
    shared: Option<Shared>,
    all: [Option<(Key, Rate)>; 2],
    now: i64,
}

impl Rates {
    /// An error where they cannot be kept: they live in shared memory.
    fn of(limits: [Option<([u8; 16], Rate)>; 2]) -> Result<Self> {
        let shared = shmem::shared();
        if shared.is_none() && limits.iter().any(Option::is_some) {
            return Err(Error::NotPreloaded.into());
        }
        let database = shmem::database();
        let keyed = |(subject, rate)| (Key { database, subject }, rate);
        let all = limits.map(|limit| limit.map(keyed));
        Ok(Self { shared, all, now: clock::monotonic() })
    }

    fn each(&self) -> impl Iterator<Item = (&Shared, &Key, &Rate)> {
        let limits = self.all.iter().flatten();
        limits.filter_map(|(key, rate)| Some((self.shared.as_ref()?, key, rate)))
    }

    /// Would all of them let the call through? What is left is told as it is before the call.
    fn look(&self, cost: i32, allowance: &mut Allowance) -> bool {
        let mut all_pass = true;
        for (shared, key, rate) in self.each() {
            match shared.rates().look(key, rate, cost, self.now) {
                Passed::Yes { left } => allowance.note_left(left.saturating_add(cost.into())),
                Passed::No { left, retry_after } => {
                    allowance.note_refusal(left, retry_after);
                    all_pass = false;
                }
            }
        }
        all_pass
    }

    /// Lets the call through all of them, or none.
    fn charge(&self, cost: i32, allowance: &mut Allowance) -> bool {
        for (passed, (shared, key, rate)) in self.each().enumerate() {
            match shared.rates().charge(key, rate, cost, self.now) {
                Passed::Yes { left } => allowance.note_left(left),
                Passed::No { left, retry_after } => {
                    allowance.note_refusal(left, retry_after);
                    self.refund_first(passed, cost);
                    return false;
                }
            }
        }
        true
    }

    fn refund(&self, cost: i32) {
        self.refund_first(self.all.len(), cost);
    }

    fn refund_first(&self, count: usize, cost: i32) {
        for (shared, key, rate) in self.each().take(count) {
            shared.rates().refund(key, rate, cost, self.now);
        }
    }
}

/// What the rate of a namespace is known by: half of a hash, so that it has 16 bytes as the id of a
/// family has.
fn subject(namespace: &str) -> [u8; 16] {
    let [subject, _] = *Digest::of(namespace.as_bytes()).0.as_chunks::<16>().0 else {
        unreachable!("a hash has 32 bytes")
    };
    subject
}
