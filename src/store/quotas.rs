//! What is left of quotas: one row per family of tokens, added and deleted by SQL, and changed in
//! place by each use; see `api_tokens_logic::quota` for how, and `pg::words` for why that is sound.

use super::statement::{ids, statement};
use crate::error::Result;
use crate::pg::datum::timestamptz;
use crate::pg::scan::{Key, UniqueIndex};
use crate::pg::transaction;
use crate::pg::words::{Held, Words};
use api_tokens_logic::quota::{self, Account, Charged, Outcome, Quota};
use api_tokens_logic::time::Timestamp;
use pgrx::Uuid;

thread_local! {
    static BY_FAMILY: UniqueIndex =
        const { UniqueIndex::new(c"api_tokens", c"quotas", c"quotas_pkey", 1) };
}

/// The account's words begin behind the family's id. The fourth of them is the number of slots and
/// the header of the bytea that holds them.
const OFFSET: usize = 16;

statement!(
    OPEN = "
    INSERT INTO api_tokens.quotas (family_id, spent, refilled_at, cluster, slots, reservations)
    VALUES ($1, 0, $2, $3, $4, pg_catalog.decode(pg_catalog.repeat('00', $4 OPERATOR(pg_catalog.*) 16), 'hex'))
    ON CONFLICT (family_id) DO NOTHING"
);

/// Opens the account of a family, if it has none.
pub fn open(family_id: Uuid, now: Timestamp) -> Result<()> {
    let arguments = [
        family_id.into(),
        timestamptz(now).into(),
        transaction::history().cluster.into(),
        (quota::SLOTS as i32).into(),
    ];
    let is_first = BY_FAMILY.with(UniqueIndex::is_unused);
    OPEN.with(|open| open.execute(&arguments))?;
    if is_first {
        BY_FAMILY.with(UniqueIndex::tell_all_that_changed);
    }
    Ok(())
}

/// What became of a use.
pub enum Use {
    Charged(Charged),
    /// The row is held; wait for whoever has it, and look at everything again.
    Held(Option<u32>),
}

/// Nothing is left where no account is: better refused than given for nothing.
const NONE: Charged = Charged::Exceeded { left: 0, retry_after: None };

/// Would it fit? Nothing is reserved, and nothing written: also where that cannot be.
pub fn look(family_id: &Uuid, quota: &Quota, cost: i32, now: Timestamp) -> Charged {
    find(family_id, |words| {
        let Some(words) = words else { return NONE };
        let mut account = settled(&words.read(), &known(&words));
        account.refill(quota, now);
        account.look(quota, cost, now)
    })
}

/// Reserves a use until this transaction ends; a cost above 0, where something can be written.
pub fn charge(family_id: &Uuid, quota: &Quota, cost: i32, now: Timestamp) -> Use {
    let user = transaction::user();
    find(family_id, |words| {
        let Some(words) = words else { return Use::Charged(NONE) };
        // How the transactions ended is asked for before the page is locked.
        let known = known(&words);
        let charge = |row: &mut quota::Words| {
            let mut account = settled(row, &known);
            account.refill(quota, now);
            let charged = account.charge(quota, user, cost, now);
            account.write_to(row);
            charged
        };
        match words.alter(charge) {
            Ok(charged) => Use::Charged(charged),
            Err(Held(by)) => Use::Held(by),
        }
    })
}

/// Begins to count the time to the next refill now, after what came by the rule so far; says who
/// holds the row, if that is in the way.
pub fn restart_refill(family_id: &Uuid, so_far: Option<&Quota>, now: Timestamp) -> Option<Held> {
    let restart = |row: &mut quota::Words| {
        let mut account = Account::of_words(row);
        if let Some(quota) = so_far {
            account.refill(quota, now);
        }
        account.refilled_at = now;
        account.write_to(row);
    };
    find(family_id, |words| words?.alter(restart).err())
}

statement!(
    WITH_RESERVATIONS = "
    SELECT family_id FROM api_tokens.quotas
    WHERE reservations OPERATOR(pg_catalog.<>) pg_catalog.decode(pg_catalog.repeat('00', slots OPERATOR(pg_catalog.*) 16), 'hex')
    LIMIT $1"
);

/// Settles accounts, so that what was rolled back is not remembered as spent when nobody uses the
/// token again before the server forgets how its transactions ended, or before a dump.
pub fn settle(max_rows: Option<i64>) -> Result<()> {
    if BY_FAMILY.with(UniqueIndex::is_unused) {
        return Ok(());
    }
    for family_id in WITH_RESERVATIONS.with(|with| with.run(&[max_rows.into()], ids))? {
        pgrx::check_for_interrupts!();
        find(&family_id, |words| {
            let words = words?;
            let known = known(&words);
            // One that somebody holds is settled by the next use.
            words.alter(|row| settled(row, &known).write_to(row)).ok()
        });
    }
    Ok(())
}

// A family whose last token is gone. First tokens are found by their id, the others by the family.
statement!(
    CLOSE = "
    DELETE FROM api_tokens.quotas WHERE family_id OPERATOR(pg_catalog.=) ANY (ARRAY(
        SELECT q.family_id FROM api_tokens.quotas q
        WHERE NOT EXISTS (SELECT FROM api_tokens.tokens t
                WHERE t.token_id OPERATOR(pg_catalog.=) q.family_id)
            AND NOT EXISTS (SELECT FROM api_tokens.tokens t
                WHERE t.family_id OPERATOR(pg_catalog.=) q.family_id AND t.generation OPERATOR(pg_catalog.>) 0)
        LIMIT $1))"
);

/// Deletes the accounts of families that are gone.
pub fn close_orphaned(max_rows: Option<i64>) -> Result<()> {
    if !BY_FAMILY.with(UniqueIndex::is_unused) {
        CLOSE.with(|close| close.execute(&[max_rows.into()]))?;
    }
    Ok(())
}

type Row = Words<{ quota::WORDS }>;

fn find<R>(family_id: &Uuid, work: impl FnOnce(Option<Row>) -> R) -> R {
    BY_FAMILY.with(|index| index.words(Key::Uuid(family_id.as_bytes()), OFFSET, work))
}

/// How the transactions that have reservations ended.
fn known(words: &Row) -> Vec<(u64, Outcome)> {
    let account = Account::of_words(&words.read());
    let here = transaction::history().cluster;
    let ours = account.transactions().filter(|_| account.cluster == here);
    ours.map(|transaction| (transaction, transaction::outcome(transaction))).collect()
}

fn settled(row: &quota::Words, known: &[(u64, Outcome)]) -> Account {
    let mut account = Account::of_words(row);
    account.settle(transaction::history().cluster, |transaction| {
        let found = known.iter().find(|(one, _)| *one == transaction);
        // One that has come since is under way.
        found.map_or(Outcome::UnderWay, |(_, outcome)| *outcome)
    });
    account
}
