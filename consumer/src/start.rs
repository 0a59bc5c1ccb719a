//! Starts the attempts of jobs that were claimed.

use std::sync::Arc;

use crunch_common::broker::{Claim, LeaseKey};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::{Ended, Leases, Runner, Slot};

/// A job about to start.
pub(crate) struct Start<R> {
    pub(crate) runner: Arc<R>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) claim: Claim,
    pub(crate) slot: Slot,
    pub(crate) runtime: Handle,
    pub(crate) settled: mpsc::UnboundedSender<Ended>,
}

impl<R: Runner> Start<R> {
    pub(crate) fn now(self) {
        let Self { runner, leases, claim, slot, runtime, settled } = self;
        let lease = claim.lease.key();
        // Only a consumer that gave up waiting has closed the channel; the lease then expires.
        let settle = move |ended| drop(settled.send(ended));
        match runner.admit(claim, slot) {
            Ok(job) => {
                let abandoned = Abandoned { runner: runner.clone(), leases, lease };
                runtime.spawn(async move {
                    let _if_it_panics = abandoned;
                    runner.run(job).await.map(settle)
                });
            }
            Err(settlement) => settle(Ended { settlement, slot: None }),
        }
    }
}

/// Gives up the lease of an attempt that panics: it expires, the job runs again, and the loss is counted.
struct Abandoned<R: Runner> {
    runner: Arc<R>,
    leases: Arc<Leases>,
    lease: LeaseKey,
}

impl<R: Runner> Drop for Abandoned<R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(job.id = %self.lease.id, "an attempt panicked outside its handler; the job runs again when its lease expires");
            self.leases.forget(self.lease);
            self.runner.abandoned(self.lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use crunch_common::broker::{Epoch, Settlement, TaskNames};
    use crunch_common::job::{JobId, Partition};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Runner for Counting {
        type Job = ();

        fn admit(&self, _claim: Claim, _slot: Slot) -> Result<(), Settlement> {
            Ok(())
        }

        async fn run(&self, (): ()) -> Option<Ended> {
            None
        }

        fn abandoned(&self, _lease: LeaseKey) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn tasks(&self) -> TaskNames {
            TaskNames::default()
        }
    }

    fn abandoned(runner: &Arc<Counting>, leases: &Arc<Leases>) -> Abandoned<Counting> {
        let lease = LeaseKey { id: JobId::generate(Partition::default()), epoch: Epoch::new(1) };
        leases.hold(lease, Instant::now() + Duration::from_secs(60));
        Abandoned { runner: runner.clone(), leases: leases.clone(), lease }
    }

    #[test]
    fn only_an_attempt_that_panics_gives_up_its_lease() {
        let (runner, leases) = (Arc::new(Counting::default()), Arc::new(Leases::default()));

        drop(abandoned(&runner, &leases));
        assert_eq!((leases.count(), runner.0.load(Ordering::Relaxed)), (1, 0));

        let second = abandoned(&runner, &leases);
        let panicked = std::thread::spawn(move || {
            let _if_it_panics = second;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!((leases.count(), runner.0.load(Ordering::Relaxed)), (1, 1));
    }
}
