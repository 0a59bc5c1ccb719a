//! What a worker can run now: its own tasks unless they are suspended, and those of its servers while children are ready.
//!
//! Heartbeats and the health port show it. Never decides what is claimed: suspensions and slots do.

use std::sync::Arc;

use crunch_common::broker::{LeaseKey, ServerInfo, SuspendedTask, Verdict, WorkerState};
use crunch_common::task::TaskName;
use crunch_consumer::Monitor;
use tokio::sync::{Notify, watch};

use crate::running::RunningJobs;
use crate::server::ServerPool;
use crate::stop::StopReason;
use crate::suspension::Suspensions;

/// A heartbeat describes the worker in a few kilobytes: one that can run nothing shows it by some of its tasks.
const MAX_LISTED: usize = 16;

/// What a worker can run.
#[derive(Debug)]
pub(crate) struct Availability {
    pub(crate) running: Arc<RunningJobs>,
    pub(crate) suspensions: Arc<Suspensions>,
    pub(crate) servers: Vec<Arc<ServerPool>>,
    /// The tasks that need no server.
    pub(crate) own_tasks: Vec<TaskName>,
    /// What an operator requested.
    pub(crate) wanted: watch::Sender<WorkerState>,
    /// Notified when an operator may have requested something.
    pub(crate) requested: Arc<Notify>,
    /// Notified when operators must see something new.
    pub(crate) changed: Arc<Notify>,
}

impl Availability {
    /// Returns whether a task can run.
    pub(crate) fn can_run_any(&self) -> bool {
        let suspensions = &self.suspensions;
        let own =
            !self.own_tasks.is_empty() && suspensions.all_until(self.own_tasks.iter()).is_none();
        own || self.servers.iter().any(|server| server.can_run(suspensions))
    }

    /// Waits until an operator has requested that the worker ends, and nothing runs any more.
    pub(crate) async fn stopped_by_operator(&self) {
        let mut wanted = self.wanted.subscribe();
        let stops = |state: &WorkerState| *state == WorkerState::Stopping;
        loop {
            // The sender lives as long as this value.
            let _ = wanted.wait_for(stops).await;
            tokio::select! {
                () = self.running.idle() => return,
                _ = wanted.wait_for(|state| !stops(state)) => {}
            }
        }
    }

    /// Returns what cannot run, in words for operators.
    pub(crate) fn problems(&self) -> Vec<String> {
        let servers = self.servers.iter().map(|server| server.info());
        let servers =
            servers.filter_map(|ServerInfo { name, processes, ready, problem, .. }| {
                let described = |problem| {
                    format!("server {name} has {ready} of {processes} processes: {problem}")
                };
                problem
                    .map(described)
                    .or((ready == 0).then(|| format!("server {name} is starting")))
            });
        let tasks =
            self.suspensions.list().into_iter().map(|SuspendedTask { task, reason, .. }| {
                format!("task {task} is suspended, as this machine cannot run it: {reason}")
            });
        servers.chain(tasks).collect()
    }
}

impl Monitor for Availability {
    fn stop(&self, lease: LeaseKey, verdict: Verdict) {
        match verdict {
            Verdict::Held => {}
            Verdict::Cancel => self.running.stop(lease, StopReason::Canceled),
            Verdict::Lost => self.running.stop(lease, StopReason::LeaseLost),
        }
    }

    fn busy(&self) -> usize {
        self.running.count()
    }

    fn suspended(&self) -> Vec<SuspendedTask> {
        let of_servers = self.servers.iter().flat_map(|server| server.unavailable());
        self.suspensions.list().into_iter().chain(of_servers).take(MAX_LISTED).collect()
    }

    fn servers(&self) -> Vec<ServerInfo> {
        self.servers.iter().map(|server| server.info()).collect()
    }

    fn wanted(&self, state: WorkerState) {
        self.wanted.send_replace(state);
    }

    async fn requested(&self) {
        self.requested.notified().await;
    }

    async fn changed(&self) {
        tokio::select! {
            () = self.suspensions.changed() => {}
            () = self.changed.notified() => {}
        }
    }
}
