//! The servers of a worker: started together, ended together.

use std::sync::Arc;

use crunch_common::task::TaskDescriptor;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::owners::TaskOwners;
use super::pool::ServerPool;
use super::spec::ServerSpec;

/// All servers of a worker. If this value is dropped, their children are ended.
#[derive(Debug)]
pub(crate) struct Servers {
    pools: Vec<Arc<ServerPool>>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    changed: Arc<Notify>,
    owners: Arc<TaskOwners>,
}

impl Servers {
    /// Starts the children of all servers, in a worker with these tasks of its own.
    pub(crate) fn start(specs: Vec<ServerSpec>, max_result: u64, own: &[TaskDescriptor]) -> Self {
        let (changed, owners) = (Arc::<Notify>::default(), Arc::new(TaskOwners::of(own)));
        let pool = |spec| ServerPool::new(spec, max_result, owners.clone(), changed.clone());
        let pools: Vec<_> = specs.into_iter().map(pool).map(Arc::new).collect();
        let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
        for pool in &pools {
            tasks.spawn(pool.clone().run(shutdown.clone()));
        }
        Self { pools, tasks, shutdown, changed, owners }
    }

    pub(crate) fn pools(&self) -> &[Arc<ServerPool>] {
        &self.pools
    }

    /// Returns the tasks of the whole worker, with those of its servers once a child has declared them.
    pub(crate) fn owners(&self) -> Arc<TaskOwners> {
        self.owners.clone()
    }

    /// Returns what is notified when operators must see something new.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Ends all children: they finish what they run, and exit.
    pub(crate) async fn end(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
