//! What a consumer is given at its start.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, WorkerId, WorkerInfo};
use crunch_common::task::TaskDescriptor;
use futures_util::future::join_all;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::{Leases, Pulses, Rotation, SlotGauges, Tallies};

/// What a consumer is, and where it runs.
#[derive(Debug)]
pub struct Settings {
    /// The Redis to consume from. Each loop gets its own connection.
    pub broker: Broker,
    /// The worker's id.
    pub worker: WorkerId,
    /// Its description, without what its pools have: heartbeats add that.
    pub info: WorkerInfo,
    /// How long a claim is held without a heartbeat.
    pub lease: Duration,
    /// Show its slots.
    pub slots: SlotGauges,
    /// The runners' leases.
    pub leases: Arc<Leases>,
    /// How the runners' attempts ended.
    pub tallies: Arc<Tallies>,
    /// Receives the pulse of each loop.
    pub pulses: Pulses,
    /// Where its loops run.
    pub threads: Threads,
}

/// What one pool of slots claims.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// Its name, for the pulses of its loops; none for the only one, or the worker's own slots.
    pub name: Option<String>,
    /// How many jobs it runs at once.
    pub slots: usize,
    /// The tasks to declare.
    pub tasks: Vec<TaskDescriptor>,
    /// The queues to claim from.
    pub queues: Rotation,
}

impl PoolSettings {
    /// Returns the name of its pulse.
    pub(crate) fn pulse(&self) -> String {
        self.name.as_ref().map_or("consumer".to_owned(), |name| format!("consumer of {name}"))
    }
}

/// Where processors and heartbeats run. Attempts, and the listeners that request work for them, run on the caller's
/// runtime: if attempts hog it, no more work is requested, and the listener's pulse shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// On a thread and runtime each. Attempts that hog their runtime delay neither heartbeats nor the outcomes of other
    /// jobs. And an exchange passes through several tasks: waking another thread for each of them would take longer
    /// than the exchange.
    Own,
    /// On the caller's runtime: for attempts that only wait for the network.
    Shared,
}

impl Threads {
    /// Runs some loops: on a thread for all of them, or each as a task, so that one that panics ends no other.
    pub(crate) fn spawn<F>(
        self,
        name: &str,
        tasks: &mut JoinSet<()>,
        loops: Vec<F>,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self {
            Self::Own => {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                let (running, ended) = oneshot::channel::<()>();
                std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                    let _running = running;
                    runtime.block_on(join_all(loops));
                })?;
                // The sender is dropped when the thread ends.
                tasks.spawn(async move { drop(ended.await) });
            }
            Self::Shared => loops.into_iter().for_each(|it| drop(tasks.spawn(it))),
        }
        Ok(())
    }
}
