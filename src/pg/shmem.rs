//! Shared memory: the touch map, the rate limits, the counters, and who flushes which database. Only there when
//! the library is preloaded; everything works without.

use api_tokens_logic::claims::Claims;
use api_tokens_logic::counters::{Counters, Totals};
use api_tokens_logic::rate_map::{self, RateMap};
use api_tokens_logic::touch_map::{self, TouchMap};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// More than a machine has cores that check tokens at the same moment, or nearly.
const COUNTER_SETS: usize = 32;

/// What lies at the start of our shared memory. All zero is its initial state.
#[repr(C, align(64))]
struct Header {
    counters: [Counters; COUNTER_SETS],
    claims: Claims,
}

/// The shared memory as this backend sees it.
#[derive(Clone, Copy)]
pub struct Shared {
    header: &'static Header,
    touches: &'static [touch_map::Bucket],
    rates: &'static [rate_map::Bucket],
}

/// Set by the postmaster's start-up hook, at every start: after a crash the memory is new. Null
/// without preloading.
static HEADER: AtomicPtr<Header> = AtomicPtr::new(std::ptr::null_mut());

/// `None` unless the library was preloaded.
pub fn shared() -> Option<Shared> {
    let header = HEADER.load(Ordering::Relaxed);
    // SAFETY: if not null, it was set by `start_up` to zeroed shared memory that lies before as
    // many buckets of both kinds, all of one alignment, stays mapped while this process lives, and
    // holds nothing but atomics.
    unsafe {
        let header = header.as_ref()?;
        let touches = std::ptr::from_ref(header).add(1).cast::<touch_map::Bucket>();
        let touches = std::slice::from_raw_parts(touches, touch_buckets());
        let rates = touches.as_ptr_range().end.cast::<rate_map::Bucket>();
        Some(Shared { header, touches, rates: std::slice::from_raw_parts(rates, rate_buckets()) })
    }
}

impl Shared {
    pub fn map(&self) -> TouchMap<'static> {
        TouchMap::new(self.touches)
    }

    pub fn rates(&self) -> RateMap<'static> {
        RateMap::new(self.rates)
    }

    /// The set that this backend counts in.
    pub fn counters(&self) -> &'static Counters {
        // SAFETY: the process id is set once, at the start of the process.
        let process = unsafe { pg_sys::MyProcPid };
        &self.header.counters[process.unsigned_abs() as usize % COUNTER_SETS]
    }

    pub fn totals(&self) -> Totals<'static> {
        Totals(&self.header.counters)
    }

    pub fn capacity(&self) -> usize {
        self.touches.len() * touch_map::ENTRIES_PER_BUCKET
    }

    pub fn rate_capacity(&self) -> usize {
        self.rates.len() * rate_map::ENTRIES_PER_BUCKET
    }

    /// Who flushes which database.
    pub fn claims(&self) -> &'static Claims {
        &self.header.claims
    }
}

/// The database of this session.
pub fn database() -> u32 {
    // SAFETY: set once at the start of a session.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

pub fn is_preloading() -> bool {
    // SAFETY: read during _PG_init only.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

static mut PREVIOUS_REQUEST_HOOK: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP_HOOK: pg_sys::shmem_startup_hook_type = None;

/// How many entries the maps were asked to have; set while preloading, inherited by every process.
static TOUCHES: AtomicUsize = AtomicUsize::new(0);
static RATES: AtomicUsize = AtomicUsize::new(0);

/// Asks the postmaster for the memory. Call it from `_PG_init` while preloading.
///
/// Postgres takes all shared memory at once and does not start if there is not enough. So this looks
/// first; with too little a WARNING says so, and everything goes on as without preloading.
pub fn install_hooks(touches: usize, rates: usize) {
    TOUCHES.store(touches, Ordering::Relaxed);
    RATES.store(rates, Ordering::Relaxed);
    if !could_have(size()) {
        return warn();
    }
    // SAFETY: the postmaster is single-threaded here; hooks set before are kept and called first.
    unsafe {
        PREVIOUS_REQUEST_HOOK = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP_HOOK = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(start_up);
    }
}

/// Could the server have so much? Without its buffers: those may lie in huge pages, which count
/// elsewhere.
fn could_have(bytes: usize) -> bool {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: maps fresh memory as Postgres does, touches none of it, and gives it back.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        memory != libc::MAP_FAILED && libc::munmap(memory, bytes) == 0
    }
}

fn warn() {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
        "api_tokens cannot have the shared memory it was set to",
        "api_tokens",
    )
    .set_detail("It works as if it were not preloaded.")
    .set_hint("Lower api_tokens.touch_map_size or api_tokens.rate_map_size and restart.")
    .report(PgLogLevel::WARNING);
}

fn touch_buckets() -> usize {
    TOUCHES.load(Ordering::Relaxed).div_ceil(touch_map::ENTRIES_PER_BUCKET).max(1)
}

fn rate_buckets() -> usize {
    RATES.load(Ordering::Relaxed).div_ceil(rate_map::ENTRIES_PER_BUCKET).max(1)
}

fn size() -> usize {
    const { assert!(align_of::<touch_map::Bucket>() == align_of::<rate_map::Bucket>()) };
    let maps = touch_buckets() * size_of::<touch_map::Bucket>()
        + rate_buckets() * size_of::<rate_map::Bucket>();
    align_of::<Header>() + size_of::<Header>() + maps
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: called by the postmaster in the phase where memory may be requested.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST_HOOK {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(size());
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn start_up() {
    // SAFETY: called by the postmaster before any backend exists, so nothing else has the memory
    // yet; it is zeroed before it is shared. The size asked for covers the alignment, the header and
    // the buckets behind it.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP_HOOK {
            previous();
        }
        let mut found = false;
        let memory = pg_sys::ShmemInitStruct(c"api_tokens".as_ptr(), size(), &mut found);
        let memory = memory.cast::<u8>();
        let header = memory.add(memory.align_offset(align_of::<Header>()));
        if !found {
            memory.write_bytes(0, size());
        }
        HEADER.store(header.cast(), Ordering::Relaxed);
    }
}
