//! Simulates many photons on several threads: a seed gives the same counts with any number of threads.
//!
//! Photons are split into chunks of equal size. Each chunk has its own random numbers, seeded from the seed and the
//! chunk's number. Idle threads take the next chunk. Only integers are summed, so the order does not matter.
//!
//! Knows nothing of payloads, results or JSON.

use std::io;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio_util::sync::CancellationToken;

use super::slab::{Fate, Slab};

/// Photons of one chunk: well under a millisecond of work in a thin slab, and many times the cost of seeding a
/// generator. The results of a seed depend on it: another number gives other results.
const CHUNK: u64 = 1024;
/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Flights between two checks for cancellation: below a millisecond, and far more than a check costs.
const FLIGHTS_PER_CHECK: u32 = 8192;

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Simulation {
    pub(super) slab: Slab,
    /// The number of photons.
    pub(super) photons: u64,
    /// Determines every random number.
    pub(super) seed: u64,
    /// The number of threads; at least 1.
    pub(super) threads: usize,
}

/// The number of photons by how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) unscattered: u64,
    pub(super) transmitted: u64,
    pub(super) reflected: u64,
    pub(super) absorbed: u64,
}

impl Tally {
    fn count(&mut self, fate: Fate) {
        let counter = match fate {
            Fate::Unscattered => &mut self.unscattered,
            Fate::Transmitted => &mut self.transmitted,
            Fate::Reflected => &mut self.reflected,
            Fate::Absorbed => &mut self.absorbed,
        };
        *counter += 1;
    }

    /// The sum of all counts.
    pub(super) fn photons(&self) -> u64 {
        self.unscattered + self.transmitted + self.reflected + self.absorbed
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.unscattered += other.unscattered;
        self.transmitted += other.transmitted;
        self.reflected += other.reflected;
        self.absorbed += other.absorbed;
    }
}

/// State shared by the threads.
struct Shared {
    simulation: Simulation,
    stop: CancellationToken,
    next_chunk: AtomicU64,
    photons_done: AtomicU64,
}

impl Simulation {
    /// Runs the simulation; returns `None` if it was canceled before its end. Calls `report` about ten times a second
    /// with the number of photons done, and only on this thread.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(super) fn run(
        self,
        cancellation: &CancellationToken,
        mut report: impl FnMut(u64),
    ) -> io::Result<Option<Tally>> {
        let shared = Shared {
            simulation: self,
            stop: cancellation.child_token(),
            next_chunk: AtomicU64::new(0),
            photons_done: AtomicU64::new(0),
        };
        let total = thread::scope(|scope| {
            let (tallies, receiver) = channel();
            for _ in 0..self.threads {
                let (shared, tallies) = (&shared, tallies.clone());
                let spawned = thread::Builder::new()
                    .name("crunch".to_owned())
                    .spawn_scoped(scope, move || shared.work(&tallies));
                if let Err(error) = spawned {
                    // The scope waits for the threads that did start.
                    shared.stop.cancel();
                    return Err(error);
                }
            }
            drop(tallies);
            Ok(shared.sum(&receiver, &mut report))
        })?;
        // An incomplete tally was stopped; a complete one is valid, even if the cancellation came just then.
        Ok((total.photons() == self.photons).then_some(total))
    }
}

impl Shared {
    /// Sums the tallies until the last thread has ended, and reports progress meanwhile.
    fn sum(&self, receiver: &Receiver<Tally>, report: &mut impl FnMut(u64)) -> Tally {
        let mut total = Tally::default();
        loop {
            match receiver.recv_timeout(REPORT_EVERY) {
                Ok(tally) => total += tally,
                Err(RecvTimeoutError::Timeout) => {
                    report(self.photons_done.load(Ordering::Relaxed));
                }
                Err(RecvTimeoutError::Disconnected) => return total,
            }
        }
    }

    /// Runs one thread: simulates chunks until there are none left, or until stopped.
    fn work(&self, tallies: &Sender<Tally>) {
        let mut stopped = self.stop_check();
        let mut tally = Tally::default();
        while let Some((chunk, photons)) = self.take_chunk() {
            let mut random = self.simulation.random_numbers(chunk);
            let Some(fates) = self.simulation.slab.follow_all(photons, &mut random, &mut stopped)
            else {
                return;
            };
            tally += fates;
            self.photons_done.fetch_add(photons, Ordering::Relaxed);
        }
        // Fails only if the simulation is over.
        let _ = tallies.send(tally);
    }

    /// The next chunk's number and its number of photons.
    fn take_chunk(&self) -> Option<(u64, u64)> {
        let chunk = self.next_chunk.fetch_add(1, Ordering::Relaxed);
        let before = chunk.checked_mul(CHUNK)?;
        let left = self.simulation.photons.checked_sub(before)?;
        (left > 0).then_some((chunk, left.min(CHUNK)))
    }

    /// Returns a function that reports whether to stop; it checks only every [`FLIGHTS_PER_CHECK`] calls.
    fn stop_check(&self) -> impl FnMut() -> bool + use<'_> {
        let mut until_check = 0;
        move || {
            if until_check == 0 {
                until_check = FLIGHTS_PER_CHECK;
                return self.stop.is_cancelled();
            }
            until_check -= 1;
            false
        }
    }
}

impl Simulation {
    /// The random numbers of one chunk. Seeding hashes, so neighbouring chunks are unrelated; hashing the seed first
    /// keeps chunk 1 of seed 0 from being chunk 0 of seed 1.
    fn random_numbers(&self, chunk: u64) -> Pcg64Mcg {
        let base = Pcg64Mcg::seed_from_u64(self.seed).next_u64();
        Pcg64Mcg::seed_from_u64(base.wrapping_add(chunk))
    }
}

impl Slab {
    /// Simulates photons one after another; returns `None` if stopped.
    fn follow_all(
        &self,
        photons: u64,
        random: &mut impl Rng,
        stopped: &mut impl FnMut() -> bool,
    ) -> Option<Tally> {
        let mut tally = Tally::default();
        for _ in 0..photons {
            tally.count(self.follow(random, stopped)?);
        }
        Some(tally)
    }
}
