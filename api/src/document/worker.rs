//! A worker, and what it runs.

use crunch_common::broker::{ServerInfo, SuspendedTask, WorkerState, WorkerSummary};
use crunch_common::task::TaskName;
use crunch_common::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// A worker as an operator sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
pub(crate) struct WorkerDocument {
    id: String,
    kind: WorkerKind,
    state: WorkerStateWord,
    /// The state that an operator requested last; null if none did.
    wanted: Option<WorkerStateWord>,
    host: String,
    pid: u32,
    version: String,
    tasks: Vec<String>,
    queues: Vec<String>,
    slots: usize,
    busy: u64,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    seen_at: Timestamp,
    running: Vec<RunningDocument>,
    /// Tasks of which it claims no jobs for now, because its machine cannot run them. Of many it lists some.
    suspended: Vec<SuspendedDocument>,
    /// Its servers: pools of long-lived processes.
    servers: Vec<ServerDocument>,
}

/// A pool of long-lived processes of a worker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Server)]
pub(crate) struct ServerDocument {
    name: String,
    /// How many processes it should have.
    processes: usize,
    /// How many of them are ready to run jobs.
    ready: usize,
    /// How many jobs those can run at once.
    slots: usize,
    /// Why it has fewer than it should have, human-readable.
    problem: Option<String>,
}

/// A job that a worker runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunningJob)]
pub(crate) struct RunningDocument {
    id: String,
    task: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
}

/// A task of which a worker claims no jobs for now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SuspendedTask)]
pub(crate) struct SuspendedDocument {
    task: String,
    /// Why its machine cannot run it, human-readable.
    reason: String,
    /// When it claims jobs of the task again, by its own clock.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = WorkerState)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerStateWord {
    /// It claims jobs and runs them.
    Running,
    /// It claims no more jobs; those it has continue.
    Quiet,
    /// It claims no more jobs, and ends.
    Stopping,
}

impl From<WorkerState> for WorkerStateWord {
    fn from(state: WorkerState) -> Self {
        match state {
            WorkerState::Running => Self::Running,
            WorkerState::Quiet => Self::Quiet,
            WorkerState::Stopping => Self::Stopping,
        }
    }
}

/// The kind of a process in the list of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerKind {
    /// A worker that runs jobs of tasks.
    Worker,
    /// An API that delivers webhooks.
    Api,
}

impl WorkerKind {
    pub(crate) fn of(worker: &WorkerSummary) -> Self {
        // No worker can declare a reserved task.
        let delivers = worker.info.tasks.iter().any(TaskName::is_reserved);
        if delivers { Self::Api } else { Self::Worker }
    }
}

impl From<WorkerSummary> for WorkerDocument {
    fn from(worker: WorkerSummary) -> Self {
        let kind = WorkerKind::of(&worker);
        let running = worker.running.into_iter().map(|job| RunningDocument {
            id: job.id.to_string(),
            task: job.task.to_string(),
            started_at: job.started_at,
        });
        Self {
            id: worker.id.to_string(),
            kind,
            state: worker.info.state.into(),
            wanted: worker.wanted.map(WorkerStateWord::from),
            host: worker.info.host,
            pid: worker.info.pid,
            version: worker.info.version,
            tasks: worker.info.tasks.iter().map(ToString::to_string).collect(),
            queues: worker.info.queues.iter().map(ToString::to_string).collect(),
            slots: worker.info.slots,
            busy: worker.busy,
            started_at: worker.info.started_at,
            seen_at: worker.seen_at,
            running: running.collect(),
            suspended: worker.info.suspended.into_iter().map(SuspendedDocument::from).collect(),
            servers: worker.info.servers.into_iter().map(ServerDocument::from).collect(),
        }
    }
}

impl From<ServerInfo> for ServerDocument {
    fn from(server: ServerInfo) -> Self {
        let ServerInfo { name, processes, ready, slots, problem } = server;
        Self { name, processes, ready, slots, problem }
    }
}

impl From<SuspendedTask> for SuspendedDocument {
    fn from(suspended: SuspendedTask) -> Self {
        let SuspendedTask { task, reason, until } = suspended;
        Self { task: task.to_string(), reason, until }
    }
}
