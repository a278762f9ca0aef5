//! Data keys in the clear: made, unwrapped, and kept by this backend for the next call.

use crate::error::{self, Result};
use crate::keyring::{self, Loaded};
use crate::pg::{clock, random, scan};
use crate::store::vault::deks::{self, WrappedDek};
use api_tokens_logic::vault::keyring::Ring;
use api_tokens_logic::vault::seal::{self, Context, OpenError};
use api_tokens_logic::vault::secret::{Key, KeyId, Plaintext};
use api_tokens_logic::{Error, id};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A data key, ready for use.
pub(super) struct Dek {
    pub id: KeyId,
    pub key: Rc<Key>,
}

impl Dek {
    pub fn seal(&self, context: &Context, plaintext: &[u8]) -> Vec<u8> {
        seal::seal(&self.key, &self.id, context, &random::bytes(), plaintext)
    }
}

/// Keys unwrapped by one ring while nothing in the catalog changed: destroying a key changes it.
#[derive(Default)]
struct Kept {
    ring: u64,
    catalog: u64,
    keys: HashMap<KeyId, Rc<Key>>,
}

/// Namespaces a backend works with at a time, roughly; 80 bytes each.
const MAX_KEPT: usize = 4096;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Gives what is kept, after dropping what may have changed.
fn with_kept<R>(loaded: &Loaded, use_it: impl FnOnce(&mut HashMap<KeyId, Rc<Key>>) -> R) -> R {
    KEPT.with_borrow_mut(|kept| {
        let now = (loaded.generation, scan::catalog_generation());
        if (kept.ring, kept.catalog) != now || kept.keys.len() >= MAX_KEPT {
            kept.keys.clear();
            (kept.ring, kept.catalog) = now;
        }
        use_it(&mut kept.keys)
    })
}

/// The key in a wrapped data key.
pub(super) fn unwrap(ring: &Ring, wrapped: &WrappedDek) -> Result<Key> {
    let kek_id = seal::key_id(&wrapped.wrapped).map_err(Error::Unopened)?;
    let kek = ring
        .find(&kek_id)
        .ok_or_else(|| Error::KeyMissing { wanted: kek_id, loaded: ring.ids() })?;
    let context = Context::Dek { dek_id: &wrapped.dek_id, namespace: &wrapped.namespace };
    let key = seal::open(&kek.key, &context, &wrapped.wrapped).map_err(Error::Unopened)?;
    Ok(Key::from_slice(&key).ok_or(Error::Unopened(OpenError::Malformed))?)
}

/// A data key sealed by the primary KEK.
pub(super) fn wrap(ring: &Ring, dek_id: KeyId, namespace: &str, key: &Key) -> WrappedDek {
    let kek = ring.primary();
    let context = Context::Dek { dek_id: &dek_id, namespace };
    let wrapped = seal::seal(&kek.key, &kek.id, &context, &random::bytes(), key.as_bytes());
    WrappedDek { dek_id, namespace: namespace.to_owned(), kek_id: kek.id, wrapped }
}

/// A value, opened by the data key its box names.
pub(super) fn open(context: &Context, sealed: &[u8]) -> Result<Plaintext> {
    let loaded = keyring::loaded()?;
    let dek_id = seal::key_id(sealed).map_err(Error::Unopened)?;
    let key = kept_or(&loaded, &dek_id, || {
        let missing = || Error::Unopened(OpenError::KeyMissing(dek_id));
        Ok(deks::find(&dek_id).ok_or_else(missing)?)
    })?;
    Ok(seal::open(&key, context, sealed).map_err(Error::Unopened)?)
}

/// The key that is kept, or else the one that `find` finds wrapped.
fn kept_or(
    loaded: &Loaded,
    dek_id: &KeyId,
    find: impl FnOnce() -> Result<WrappedDek>,
) -> Result<Rc<Key>> {
    match with_kept(loaded, |keys| keys.get(dek_id).cloned()) {
        Some(key) => Ok(key),
        None => keep(loaded, &find()?),
    }
}

fn keep(loaded: &Loaded, wrapped: &WrappedDek) -> Result<Rc<Key>> {
    let mut loaded = loaded.clone();
    let mut opened = unwrap(&loaded.ring, wrapped);
    if let Err(error::Error::Refused(Error::KeyMissing { .. })) = opened
        && let Some(new) = keyring::renewed()
    {
        opened = unwrap(&new.ring, wrapped);
        loaded = new;
    }
    let key = Rc::new(opened?);
    with_kept(&loaded, |keys| keys.insert(wrapped.dek_id, key.clone()));
    Ok(key)
}

/// The data key that seals for a namespace, made if there is none, and held until the transaction
/// ends. A key that only others' rings could open is not made beside theirs.
pub(super) fn sealing(namespace: &str) -> Result<Dek> {
    // It may be made by somebody else, and shredded, between two looks at it. A snapshot from before
    // sees none of that.
    const ATTEMPTS: usize = 10;
    let loaded = keyring::loaded()?;
    for _ in 0..ATTEMPTS {
        if let Some(wrapped) = deks::hold_active(namespace)? {
            let id = wrapped.dek_id;
            return Ok(Dek { id, key: kept_or(&loaded, &id, || Ok(wrapped))? });
        }
        if let Some(made) = create(&loaded.ring, namespace)? {
            return Ok(made);
        }
    }
    Err(Error::Conflict.into())
}

/// Makes the data key of a namespace that has none that seals; `None` if somebody else has made it
/// in this moment.
pub(super) fn create(ring: &Ring, namespace: &str) -> Result<Option<Dek>> {
    if let Some(in_use) = deks::in_use_besides(&ring.ids())? {
        return Err(Error::StrangeRing { in_use, loaded: ring.ids() }.into());
    }
    let now = clock::now();
    let key = Key::filled(random::fill);
    let dek_id = KeyId(*id::new_id(now, random::bytes()).as_bytes());
    let is_made = deks::insert(&wrap(ring, dek_id, namespace, &key), now)?;
    Ok(is_made.then(|| Dek { id: dek_id, key: Rc::new(key) }))
}
