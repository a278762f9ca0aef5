//! The vault's key-encryption keys, as this backend holds them: read at the first use, and again
//! after each reload of the configuration.

use crate::guc;
use crate::pg::key_source::{self, Unreadable};
use api_tokens_logic::error::SourceError;
use api_tokens_logic::vault::keyring::Ring;
use api_tokens_logic::{Error, Result};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

const FILE: &str = "api_tokens.vault_key_file";
const COMMAND: &str = "api_tokens.vault_key_command";
const ENVIRONMENT: &str = "API_TOKENS_ENCRYPTION_KEY";

/// A ring, and how many rings this backend has had: what was opened by an earlier one must be
/// opened anew.
#[derive(Clone)]
pub struct Loaded {
    pub ring: Rc<Ring>,
    pub generation: u64,
    configuration: i64,
}

thread_local! {
    static LOADED: RefCell<Option<Loaded>> = const { RefCell::new(None) };
}

/// The ring in force. A new one that cannot be used is told by a WARNING, and the last good one
/// stays; without one it is an error.
pub fn loaded() -> Result<Loaded> {
    let configuration = key_source::configuration_read_at();
    let last = LOADED.with_borrow(Clone::clone);
    if let Some(last) = last.as_ref().filter(|last| last.configuration == configuration) {
        return Ok(last.clone());
    }
    let now = match (read(), last) {
        (Ok(ring), last) => Loaded {
            ring: Rc::new(ring),
            generation: last.map_or(0, |last| last.generation + 1),
            configuration,
        },
        (Err(error), Some(last)) => {
            let detail = error.detail().unwrap_or_default();
            pgrx::warning!("{}; the keys loaded before stay. {detail}", error.message());
            Loaded { configuration, ..last }
        }
        (Err(error), None) => return Err(error),
    };
    LOADED.set(Some(now.clone()));
    Ok(now)
}

/// The ring as it lies there now, if it is another than the one in force: for a statement that began
/// before a reload and finds that a key is missing. Looks at most once a second.
pub fn renewed() -> Option<Loaded> {
    thread_local! {
        static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    if LOOKED.get().is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
        return None;
    }
    LOOKED.set(Some(Instant::now()));
    let last = LOADED.with_borrow(Clone::clone)?;
    let ring = read().ok().filter(|ring| ring.ids() != last.ring.ids())?;
    let generation = last.generation + 1;
    let now = Loaded { ring: Rc::new(ring), generation, ..last };
    LOADED.set(Some(now.clone()));
    Some(now)
}

/// Can the keys be read as they lie there now?
pub fn check() -> Result<Ring> {
    read()
}

/// Reads the first source that is set.
fn read() -> Result<Ring> {
    let (setting, text) = if let Some(path) = guc::vault_key_file() {
        (FILE, key_source::file(&path))
    } else if let Some(line) = guc::vault_key_command() {
        (COMMAND, key_source::command(&line))
    } else if let Some(text) = key_source::environment(ENVIRONMENT) {
        (ENVIRONMENT, Ok(text))
    } else {
        return Err(Error::NoKeySource);
    };
    let text = text.map_err(|unreadable| match unreadable {
        Unreadable::Exposed => Error::KeySource(SourceError::Exposed { setting }),
        Unreadable::Because(reason) => {
            Error::KeySource(SourceError::Unreadable { setting, reason })
        }
    })?;
    Ring::parse(&text)
        .map_err(|problem| Error::KeySource(SourceError::Malformed { setting, problem }))
}
