//! Where keys come from: a file, a command, the environment. What is read is wiped when dropped.

use pgrx::pg_sys::{self, Datum};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};
use zeroize::Zeroizing;

/// More than a full ring needs.
const MAX_BYTES: usize = 256 * 1024;

/// Why a source could not be read.
pub enum Unreadable {
    /// Others than the server's user could read it.
    Exposed,
    /// The system's reason, without anything that was read.
    Because(String),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Because(error.to_string())
    }
}

type Secret = Zeroizing<Vec<u8>>;

/// The contents of a file that only the server, or root, can read: the rule of Postgres for the
/// private key of TLS.
pub fn file(path: &str) -> Result<Secret, Unreadable> {
    // Without waiting for a writer, where it is a pipe.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    // What was opened is what is looked at, whatever the name points to by then.
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(Unreadable::Because("It is not a regular file.".to_owned()));
    }
    // SAFETY: asks the system for the user of this process.
    let server = unsafe { libc::geteuid() };
    let forbidden = match about.uid() {
        owner if owner == server => 0o077,
        0 => 0o037,
        _ => 0o777,
    };
    if about.mode() & forbidden != 0 || ![server, 0].contains(&about.uid()) {
        return Err(Unreadable::Exposed);
    }
    read_all(file, || true)
}

/// What a shell command prints. A cancel of the statement ends it.
pub fn command(line: &str) -> Result<Secret, Unreadable> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let output = child.stdout.take().expect("its output is piped");
    let mut ended = EndOnDrop::new(child);
    let descriptor = output.as_raw_fd();
    let text = read_all(output, || is_readable(descriptor))?;
    let status = loop {
        pgrx::check_for_interrupts!();
        if let Some(status) = ended.0.as_mut().expect("still there").try_wait()? {
            ended.forget();
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    if status.success() {
        Ok(text)
    } else {
        Err(Unreadable::Because(format!("It ended with {status}.")))
    }
}

/// A child that does not outlive what waits for it, nor do the children of it.
struct EndOnDrop(Option<Child>);

/// The group of the child that is waited for, for a session that is terminated: that drops nothing.
static WAITED_FOR: AtomicI32 = AtomicI32::new(0);

impl EndOnDrop {
    fn new(child: Child) -> Self {
        static AT_EXIT: Once = Once::new();
        WAITED_FOR.store(child.id() as i32, Ordering::Relaxed);
        // SAFETY: registers a callback of the right type, in the process that it is for.
        AT_EXIT.call_once(|| unsafe { pg_sys::on_proc_exit(Some(at_exit), Datum::null()) });
        Self(Some(child))
    }

    /// It has ended by itself: its number may be another's now.
    fn forget(&mut self) {
        WAITED_FOR.store(0, Ordering::Relaxed);
        self.0 = None;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end_group();
            let _ = child.wait();
        }
    }
}

fn end_group() {
    let group = WAITED_FOR.swap(0, Ordering::Relaxed);
    if group != 0 {
        // SAFETY: signals the group that the child was made the leader of.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

unsafe extern "C-unwind" fn at_exit(_code: i32, _argument: Datum) {
    end_group();
}

/// Waits a moment for something to read, or for the end.
fn is_readable(descriptor: i32) -> bool {
    const MILLISECONDS: i32 = 100;
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives in this frame.
    unsafe { libc::poll(&mut poll, 1, MILLISECONDS) > 0 }
}

/// Reads to the end, in one allocation, so that nothing is left behind by a move.
fn read_all(mut from: impl Read, is_ready: impl Fn() -> bool) -> Result<Secret, Unreadable> {
    let mut text = Zeroizing::new(vec![0; MAX_BYTES]);
    let mut length = 0;
    loop {
        pgrx::check_for_interrupts!();
        if !is_ready() {
            continue;
        }
        match from.read(&mut text[length..]) {
            Ok(0) if length == MAX_BYTES => {
                return Err(Unreadable::Because(format!("There are more than {MAX_BYTES} bytes.")));
            }
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    text.truncate(length);
    Ok(text)
}

/// A variable of the environment that the server was started with.
pub fn environment(name: &str) -> Option<Secret> {
    use std::os::unix::ffi::OsStringExt;
    std::env::var_os(name).map(|value| Zeroizing::new(value.into_vec()))
}

/// When this process last read its configuration; changes with each reload.
pub fn configuration_read_at() -> i64 {
    // SAFETY: a variable of this process, written by its own signal handling only.
    unsafe { pg_sys::PgReloadTime }
}
