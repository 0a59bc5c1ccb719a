//! Runs checks of bodies that may take longer than a millisecond on blocking threads: a bounded number at a time, and a
//! bounded number that wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::web::{self, Bytes};
use crunch_common::telemetry::LogLimit;
use tokio::sync::Semaphore;

use crate::json;
use crate::problem::{BURST, BUSY, INTERNAL, Problem};

/// How many checks run at once. A check keeps a core busy, for 50 ms at worst if its body has 64 KiB, and holds its
/// body as parsed values, up to 16 times as large.
const AT_ONCE: usize = 2;
/// How many more wait, each with its body in memory; usual checks take some milliseconds, so they wait for a fraction
/// of a second. Beyond that, clients should retry.
const WAITING: usize = 64;
/// A larger body, in bytes, is read on a blocking thread. Its syntax takes 1 to 1.7 milliseconds per megabyte, its
/// members as long again, and the split of a batch twice as long: 128 KiB stay within a millisecond.
const READ_IN_PLACE: usize = 128 * 1024;
/// A larger body, in bytes, is hashed on a blocking thread: it takes 0.6 milliseconds per megabyte.
const HASHED_IN_PLACE: usize = 1024 * 1024;

static PERMITS: Semaphore = Semaphore::const_new(AT_ONCE);
static PENDING: AtomicUsize = AtomicUsize::new(0);

/// Any client that may submit can cause these lines.
static FAILED: LogLimit = LogLimit::new(BURST);

/// Runs a check on a blocking thread, when its turn comes.
///
/// # Errors
/// If too many wait already.
pub(crate) async fn elsewhere<T: Send + 'static>(
    check: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let _pending = Pending::enter()?;
    let permit = PERMITS.acquire().await;
    let done = web::block(move || {
        // The permit belongs to the check, not to the client that waits for it: a client may disconnect, the check
        // continues.
        let _permit = permit;
        check()
    });
    done.await.map_err(|error| {
        if let Some(left_out) = FAILED.admit() {
            tracing::error!(%error, left_out, "cannot check a request body");
        }
        Problem::new(INTERNAL, "the body could not be checked")
    })
}

/// Checks the syntax of a body and reads it; a large one on a blocking thread.
///
/// # Errors
/// If it is not JSON, or too many wait already.
pub(crate) async fn read<T: Send + 'static>(
    body: &Bytes,
    read: impl FnOnce(&Bytes, &str) -> T + Send + 'static,
) -> Result<T, Problem> {
    let read = move |body: &Bytes| json::check(body).map(|text| read(body, text));
    on(body, READ_IN_PLACE, read).await?
}

/// The same for work that reads the body this many times more, and takes four times as long for it as its syntax.
///
/// # Errors
/// If it is not JSON, or too many wait already.
pub(crate) async fn read_often<T: Send + 'static>(
    body: &Bytes,
    times: usize,
    read: impl FnOnce(&Bytes, &str) -> T + Send + 'static,
) -> Result<T, Problem> {
    let read = move |body: &Bytes| json::check(body).map(|text| read(body, text));
    on(body, READ_IN_PLACE / (1 + 4 * times), read).await?
}

/// Hashes a body; a large one on a blocking thread.
///
/// # Errors
/// If too many wait already.
pub(crate) async fn hashed<T: Send + 'static>(
    body: &Bytes,
    hash: impl FnOnce(&Bytes) -> T + Send + 'static,
) -> Result<T, Problem> {
    on(body, HASHED_IN_PLACE, hash).await
}

/// Processes a body: in place if it has at most `in_place` bytes, else on a blocking thread.
async fn on<T: Send + 'static>(
    body: &Bytes,
    in_place: usize,
    work: impl FnOnce(&Bytes) -> T + Send + 'static,
) -> Result<T, Problem> {
    if body.len() <= in_place {
        return Ok(work(body));
    }
    let body = body.clone();
    elsewhere(move || work(&body)).await
}

/// A check that waits or runs.
struct Pending;

impl Pending {
    fn enter() -> Result<Self, Problem> {
        let before = PENDING.fetch_add(1, Ordering::Relaxed);
        let pending = Self;
        if before < AT_ONCE + WAITING {
            return Ok(pending);
        }
        Err(Problem::new(BUSY, "too many bodies are waiting to be checked"))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        PENDING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Both tests use the counter of the process.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    #[actix_web::test]
    async fn large_bodies_are_read_and_hashed_on_other_threads() {
        let _alone = ALONE.lock().await;
        let here = std::thread::current().id();
        let thread = |_: &Bytes, _: &str| std::thread::current().id();
        let hasher = |_: &Bytes| std::thread::current().id();
        let body = |bytes: usize| Bytes::from(format!("\"{}\"", "a".repeat(bytes - 2)));
        assert_eq!(read(&body(READ_IN_PLACE), thread).await.unwrap(), here);
        assert_ne!(read(&body(READ_IN_PLACE + 1), thread).await.unwrap(), here);
        assert_eq!(hashed(&body(HASHED_IN_PLACE), hasher).await.unwrap(), here);
        assert_ne!(hashed(&body(HASHED_IN_PLACE + 1), hasher).await.unwrap(), here);
    }

    #[actix_web::test]
    async fn what_comes_while_too_many_wait_is_refused_and_nothing_else() {
        let _alone = ALONE.lock().await;
        let (release, released) = mpsc::channel::<()>();
        let blocker = actix_web::rt::spawn(elsewhere(move || released.recv().is_err()));
        let waiting: Vec<_> =
            (0..AT_ONCE + WAITING - 1).map(|_| Pending::enter().expect("there is room")).collect();
        while PENDING.load(Ordering::Relaxed) < AT_ONCE + WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(elsewhere(|| ()).await.unwrap_err().kind, BUSY);
        drop(waiting);
        assert!(elsewhere(|| ()).await.is_ok());
        drop(release);
        assert!(blocker.await.unwrap().unwrap());
    }
}
