//! Many photons on several threads: the same counts for a seed, whatever the number of threads.
//!
//! Photons are cut into chunks of one size, each with random numbers of its own, made from the seed and the chunk's
//! number. Threads take the next chunk when they are free. Only whole numbers are added up, so the order does not matter.
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

/// Photons of one chunk: well under a millisecond of work in a thin slab, and many times what it costs to seed a
/// generator. Part of what a seed means: another number gives other results.
const CHUNK: u64 = 1024;
/// How often progress is told.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Flights between two looks at the cancellation: below a millisecond, and far more than a look costs.
const FLIGHTS_PER_LOOK: u32 = 8192;

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Simulation {
    /// Where the photons go.
    pub(super) slab: Slab,
    /// How many.
    pub(super) photons: u64,
    /// Decides every random number.
    pub(super) seed: u64,
    /// How many threads share the work; at least 1.
    pub(super) threads: usize,
}

/// How many photons ended in which way.
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

    /// All photons counted.
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

/// What the threads share.
struct Shared {
    simulation: Simulation,
    stop: CancellationToken,
    next_chunk: AtomicU64,
    photons_done: AtomicU64,
}

impl Simulation {
    /// Runs it; `None` if it was canceled before its end. `report` hears about ten times a second, and on this thread
    /// only, how many photons are done.
    ///
    /// # Errors
    /// If the system has no thread to give.
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
            let (tallies, inbox) = channel();
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
            Ok(shared.listen(&inbox, &mut report))
        })?;
        // A tally that is short was stopped; one that is whole is right, even if the cancel came just then.
        Ok((total.photons() == self.photons).then_some(total))
    }
}

impl Shared {
    /// Adds up until the last thread has ended, and tells the progress meanwhile.
    fn listen(&self, inbox: &Receiver<Tally>, report: &mut impl FnMut(u64)) -> Tally {
        let mut total = Tally::default();
        loop {
            match inbox.recv_timeout(REPORT_EVERY) {
                Ok(tally) => total += tally,
                Err(RecvTimeoutError::Timeout) => {
                    report(self.photons_done.load(Ordering::Relaxed));
                }
                Err(RecvTimeoutError::Disconnected) => return total,
            }
        }
    }

    /// One thread's part: chunks until there are none, or until it is stopped.
    fn work(&self, tallies: &Sender<Tally>) {
        let mut stopped = self.looker();
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
        // Nobody listens only if the simulation is over.
        let _ = tallies.send(tally);
    }

    /// The next chunk's number and how many photons it has.
    fn take_chunk(&self) -> Option<(u64, u64)> {
        let chunk = self.next_chunk.fetch_add(1, Ordering::Relaxed);
        let before = chunk.checked_mul(CHUNK)?;
        let left = self.simulation.photons.checked_sub(before)?;
        (left > 0).then_some((chunk, left.min(CHUNK)))
    }

    /// Says whether to stop; looks only once in a while.
    fn looker(&self) -> impl FnMut() -> bool + use<'_> {
        let mut until_look = 0;
        move || {
            if until_look == 0 {
                until_look = FLIGHTS_PER_LOOK;
                return self.stop.is_cancelled();
            }
            until_look -= 1;
            false
        }
    }
}

impl Simulation {
    /// The random numbers of one chunk. Seeding hashes, so neighbouring chunks have nothing in common; hashing the seed
    /// first keeps chunk 1 of seed 0 from being chunk 0 of seed 1.
    fn random_numbers(&self, chunk: u64) -> Pcg64Mcg {
        let base = Pcg64Mcg::seed_from_u64(self.seed).next_u64();
        Pcg64Mcg::seed_from_u64(base.wrapping_add(chunk))
    }
}

impl Slab {
    /// Sends photons in one after the other; `None` if stopped.
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
