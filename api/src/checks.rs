//! Checks of bodies that may take longer than a millisecond: on threads that serve nobody meanwhile, a bounded number at a
//! time, and a bounded number that wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::web::{self, Bytes};
use tokio::sync::Semaphore;

use crate::json;
use crate::problem::{BUSY, INTERNAL, Problem};

/// So many run at once. A check keeps a core busy, for 50 ms at worst if its body has 64 KiB, and holds its body as values,
/// up to 16 times as large.
const AT_ONCE: usize = 2;
/// So many more wait, each with its body in memory; with ordinary ones of some milliseconds, a fraction of a second. Beyond
/// that clients had better come again.
const WAITING: usize = 64;
/// The syntax of a larger body, in bytes, is checked elsewhere: it takes about 3 milliseconds a megabyte.
const SYNTAX_IN_PLACE: usize = 256 * 1024;

static PERMITS: Semaphore = Semaphore::const_new(AT_ONCE);
static PRESENT: AtomicUsize = AtomicUsize::new(0);

/// Runs a check elsewhere, when its turn comes.
///
/// # Errors
/// If too many wait already.
pub(crate) async fn elsewhere<T: Send + 'static>(
    check: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let _present = Present::enter()?;
    let permit = PERMITS.acquire().await;
    let done = web::block(move || {
        // Belongs to the check, not to the client that waits for it: a client may hang up, the check goes on.
        let _permit = permit;
        check()
    });
    done.await.map_err(|error| {
        tracing::error!(%error, "a body could not be checked");
        Problem::new(INTERNAL, "the body could not be checked")
    })
}

/// [`json::check`], for large bodies elsewhere.
pub(crate) async fn syntax(body: &Bytes) -> Result<&str, Problem> {
    if body.len() <= SYNTAX_IN_PLACE {
        return json::check(body);
    }
    let bytes = body.clone();
    elsewhere(move || json::check(&bytes).map(|_| ())).await??;
    json::text(body)
}

/// Somebody who waits, or whose check runs.
struct Present;

impl Present {
    fn enter() -> Result<Self, Problem> {
        let before = PRESENT.fetch_add(1, Ordering::Relaxed);
        let present = Self;
        if before < AT_ONCE + WAITING {
            return Ok(present);
        }
        Err(Problem::new(BUSY, "too many bodies wait to be checked"))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        PRESENT.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[actix_web::test]
    async fn what_comes_while_too_many_wait_is_refused_and_nothing_else() {
        let (release, held) = mpsc::channel::<()>();
        let blocker = actix_web::rt::spawn(elsewhere(move || held.recv().is_err()));
        let waiting: Vec<_> =
            (0..AT_ONCE + WAITING - 1).map(|_| Present::enter().expect("there is room")).collect();
        while PRESENT.load(Ordering::Relaxed) < AT_ONCE + WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(elsewhere(|| ()).await.unwrap_err().kind, BUSY);
        drop(waiting);
        assert!(elsewhere(|| ()).await.is_ok());
        drop(release);
        assert!(blocker.await.unwrap().unwrap());
    }
}
