//! The tasks that run the children of a pool, one each.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{Id, JoinSet};

use super::child::{Child, Event};
use super::life::{self, Exit};
use super::spec::ServerSpec;

#[derive(Debug, Default)]
pub(super) struct Children {
    tasks: JoinSet<Exit>,
    numbers: HashMap<Id, u64>,
    last: u64,
}

impl Children {
    /// Returns how many there are, with those that are not ready yet.
    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn start(
        &mut self,
        spec: &Arc<ServerSpec>,
        events: &UnboundedSender<(Arc<Child>, Event)>,
    ) {
        self.last += 1;
        let (spec, number, events) = (spec.clone(), self.last, events.clone());
        let task = self.tasks.spawn(async move { life::run(&spec, number, events).await });
        self.numbers.insert(task.id(), number);
    }

    /// Waits until one has ended; `None` if there is none.
    pub(super) async fn ended(&mut self) -> Option<Exit> {
        let (id, exit) = match self.tasks.join_next_with_id().await? {
            Ok((id, exit)) => (id, Ok(exit)),
            Err(error) => (error.id(), Err(error)),
        };
        let child = self.numbers.remove(&id).unwrap_or_default();
        Some(exit.unwrap_or_else(|error| {
            let problem = format!("the task that runs the child ended: {error}");
            Exit { child, problem, was_ready: true, answered: 0 }
        }))
    }

    /// Ends those that are left: dropping a child closes the socket to its launcher, which ends it.
    pub(super) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}
