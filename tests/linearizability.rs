//! No accept begins after a revocation was acknowledged, whatever the isolation level and however
//! long the transaction; nor does a refusal end before it was asked for.
//!
//! All times are of one monotonic clock in one process: a check begins before it is sent, and a
//! revocation is over when its commit was answered. So a check that both times call wrong is wrong.

use api_tokens_tests::*;
use postgres::{Client, Error};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

const VALIDATORS: usize = 6;
const REVOKERS: usize = 2;
const SLOTS_OF_EACH: usize = 8;
const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

#[test]
fn no_accept_begins_after_the_revocation_was_acknowledged() {
    let db = Database::new();
    let mut random = Random::seeded();
    let run = Run::new(number_or("API_TOKENS_TEST_VALIDATIONS", 50_000));
    std::thread::scope(|scope| {
        for at in 0..REVOKERS {
            let (mut sql, mut random, run) = (db.connect(), random.fork(), &run);
            let slots = run.slots.iter().skip(at * SLOTS_OF_EACH).take(SLOTS_OF_EACH);
            let slots: Vec<_> = slots.collect();
            scope.spawn(move || {
                while run.is_going_on() {
                    run.turn(&mut sql, random.one_of(&slots), &mut random);
                }
            });
        }
        for _ in 0..VALIDATORS {
            let (mut sql, mut random, run) = (db.connect(), random.fork(), &run);
            scope.spawn(move || {
                while run.is_going_on() {
                    run.validate(&mut sql, &mut random);
                }
            });
        }
    });
    run.judge();
}

/// Times are nanoseconds since the run began.
struct Subject {
    token: String,
    id: String,
    namespace: String,
    /// When its end was asked for, and when that was acknowledged.
    ending: AtomicU64,
    ended: AtomicU64,
    last_accept_began: AtomicU64,
    first_refusal_ended: AtomicU64,
    accepts: AtomicU64,
    /// Refusals that began after the end.
    refusals: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Subject {
    fn new(token: String, id: String, namespace: String) -> Arc<Self> {
        let [ending, ended, first_refusal_ended] = [NEVER; 3].map(AtomicU64::new);
        let [last_accept_began, accepts, refusals] = [0; 3].map(AtomicU64::new);
        let this = Self {
            token,
            id,
            namespace,
            ending,
            ended,
            last_accept_began,
            first_refusal_ended,
            accepts,
            refusals,
        };
        Arc::new(this)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst) != NEVER
    }
}

type Slot = RwLock<Option<Arc<Subject>>>;

struct Run {
    begun: Instant,
    wanted: u64,
    done: AtomicU64,
    slots: Vec<Slot>,
    all: Mutex<Vec<Arc<Subject>>>,
    conflicts: AtomicU64,
}

/// How a token `t` ends; gives the heir and its id, if there is one.
const ENDS: [&str; 7] = [
    "NULL, NULL FROM t, api_token_invalidate(t.token)",
    "NULL, NULL FROM t, api_token_invalidate_by_id(t.id)",
    "NULL, NULL FROM t, api_token_invalidate_all(t.namespace)",
    "NULL, NULL FROM t, api_token_set_enabled(t.id, false)",
    "h.token, h.token_id::text FROM t, api_token_refresh(t.token) h",
    "h.token, h.token_id::text FROM t, api_token_refresh_by_id(t.id) h",
    "h.token, h.token_id::text FROM t, api_token_refresh(t.token, grace => '1 h') g, api_token_refresh(g.token) h",
];
const T: &str = "WITH t AS (SELECT $1::text AS token, $2::text::uuid AS id, $3::text AS namespace)";

/// Some have a quota: that way a check looks at the token again, and writes.
const KINDS: [&str; 3] = ["", ", max_idle => '1 h'", ", max_uses => 1000000000"];

impl Run {
    fn new(wanted: u64) -> Self {
        let slots = (0..REVOKERS * SLOTS_OF_EACH).map(|_| Slot::default()).collect();
        let [done, conflicts] = [0; 2].map(AtomicU64::new);
        Self { begun: Instant::now(), wanted, done, slots, all: Mutex::default(), conflicts }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn is_going_on(&self) -> bool {
        self.done.load(Ordering::Relaxed) < self.wanted
    }

    /// Ends the slot's token, or puts a new one in the place of one that has ended: so there are
    /// always some of both.
    fn turn(&self, sql: &mut Client, slot: &Slot, random: &mut Random) {
        let here = slot.read().expect("slot").clone();
        let next = match here {
            Some(subject) if !subject.has_ended() => self.end(sql, &subject, random),
            _ => Some(self.create(sql, random)),
        };
        if let Some(next) = next {
            self.all.lock().expect("all").push(next.clone());
            *slot.write().expect("slot") = Some(next);
        }
    }

    fn create(&self, sql: &mut Client, random: &mut Random) -> Arc<Subject> {
        let namespace = format!("{}", random.below(usize::MAX));
        let kind = random.one_of(&KINDS);
        let create = format!("SELECT token, token_id::text FROM api_token_create($1{kind})");
        let row = sql.query_one(&create, &[&namespace]).expect("create");
        Subject::new(row.get(0), row.get(1), namespace)
    }

    /// An heir is checked in the place of its parent only now and then, or there would be few ended.
    fn end(
        &self,
        sql: &mut Client,
        subject: &Subject,
        random: &mut Random,
    ) -> Option<Arc<Subject>> {
        let (how, level) = (random.one_of(&ENDS), random.one_of(&LEVELS));
        let Subject { token, id, namespace, .. } = subject;
        subject.ending.store(self.now(), Ordering::SeqCst);
        let row = loop {
            let begin = format!("BEGIN ISOLATION LEVEL {level}");
            sql.batch_execute(&begin).expect("begin");
            let ended = sql.query_one(&format!("{T} SELECT {how}"), &[token, id, namespace]);
            let ended = ended.and_then(|row| sql.batch_execute("COMMIT").map(|()| row));
            match ended {
                Ok(row) => break row,
                Err(error) => self.conflict(sql, error),
            }
        };
        subject.ended.store(self.now(), Ordering::SeqCst);
        let heir: Option<String> = row.get(0);
        heir.filter(|_| random.below(2) == 0)
            .map(|heir| Subject::new(heir, row.get(1), namespace.clone()))
    }

    fn conflict(&self, sql: &mut Client, error: Error) {
        let code = error.as_db_error().map(|error| error.code().code().to_owned());
        assert_eq!(code.as_deref(), Some("40001"), "{error:?}");
        self.conflicts.fetch_add(1, Ordering::Relaxed);
        sql.batch_execute("ROLLBACK").expect("rollback");
    }

    /// One transaction of up to a thousand checks, with a snapshot from its beginning.
    fn validate(&self, sql: &mut Client, random: &mut Random) {
        let ask = random.one_of(&[
            "SELECT ok FROM api_token_validate($1)",
            "SELECT ok FROM api_token_validate_hash(sha256(convert_to($1, 'UTF8')))",
            "SELECT ok FROM api_token_authenticate($1)",
        ]);
        let ask = sql.prepare(ask).expect("prepare");
        let level = random.one_of(&LEVELS);
        let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class");
        sql.batch_execute(&begin).expect("begin");
        for _ in 0..=random.below(1000) {
            let subject = random.one_of(&self.slots.iter().collect::<Vec<_>>());
            let Some(subject) = subject.read().expect("slot").clone() else { continue };
            let began = self.now();
            match sql.query_one(&ask, &[&subject.token]) {
                Ok(row) => self.note(&subject, began, row.get(0)),
                Err(error) => return self.conflict(sql, error),
            }
            if !self.is_going_on() {
                break;
            }
        }
        if let Err(error) = sql.batch_execute(random.one_of(&["COMMIT", "ROLLBACK"])) {
            self.conflict(sql, error);
        }
    }

    fn note(&self, subject: &Subject, began: u64, is_accepted: bool) {
        self.done.fetch_add(1, Ordering::Relaxed);
        if is_accepted {
            subject.accepts.fetch_add(1, Ordering::Relaxed);
            subject.last_accept_began.fetch_max(began, Ordering::SeqCst);
        } else {
            subject.first_refusal_ended.fetch_min(self.now(), Ordering::SeqCst);
            let is_after = began > subject.ended.load(Ordering::SeqCst);
            subject.refusals.fetch_add(is_after.into(), Ordering::Relaxed);
        }
    }

    /// When all threads have ended: nobody is between a look at the clock and its note of it.
    fn judge(&self) {
        let all = self.all.lock().expect("all");
        let get = |time: &AtomicU64| time.load(Ordering::SeqCst);
        for one in all.iter() {
            let (last, ended) = (get(&one.last_accept_began), get(&one.ended));
            assert!(last <= ended, "{}: accepted {} ns after", one.id, last - ended);
            let (first, ending) = (get(&one.first_refusal_ended), get(&one.ending));
            assert!(first >= ending, "{}: refused {} ns before", one.id, ending - first);
        }
        let sum = |of: fn(&Subject) -> &AtomicU64| all.iter().map(|one| get(of(one))).sum::<u64>();
        let (accepts, refusals) = (sum(|one| &one.accepts), sum(|one| &one.refusals));
        let ended = all.iter().filter(|one| one.has_ended()).count();
        eprintln!(
            "{} checks: {accepts} accepted, {refusals} refused that began after an end; {ended} tokens ended; {} conflicts; {:?}",
            get(&self.done),
            get(&self.conflicts),
            self.begun.elapsed()
        );
        assert!(accepts > 0 && refusals > 0 && ended > 0, "it tries something");
    }
}
