//! The children of a server: starts, replaces and ends them, and finds one for each job.
//!
//! The pool has as many slots as its ready children can run jobs at once, so no job is claimed that could not start; while
//! jobs are short, a few more (`ahead.rs`). A replacement is started before the child that it replaces gets no more jobs,
//! so replacing is invisible.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::backoff::Backoff;
use crunch_common::broker::{ServerInfo, SuspendedTask};
use crunch_common::task::{TaskDescriptor, TaskName};
use crunch_common::telemetry::LogLimit;
use crunch_common::time::{Timestamp, whole_ms};
use crunch_consumer::PoolSlots;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::ahead::{Ahead, GIVEN_BACK};
use super::child::{Child, Event, Reason};
use super::children::Children;
use super::declaration;
use super::life::Exit;
use super::members::{Member, Members};
use super::message::{Hello, ToChild, VERSION};
use super::owners::TaskOwners;
use super::spec::ServerSpec;
use crate::TaskError;
use crate::process::Request;
use crate::suspension::Suspensions;

mod assignment;

pub(super) use assignment::Assignment;

/// How often idle children and those that should have ended are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How long a child that has nothing left to do may take to exit.
const EXIT_GRACE: Duration = Duration::from_secs(5);
/// The pause before another child is started after several died in a row without having answered a job.
const RESTARTS: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(60) };
/// After this many deaths in a row the tasks are reported as not available: fewer may be an accident.
const UNAVAILABLE_AFTER: u32 = 5;
/// How long a claimed job waits while no child is ready. A child may die between the claim and the start; its
/// replacement may take long to start, and another worker may have one that is ready.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How this worker introduces itself.
const WORKER: &str = concat!("crunch-worker/", env!("CARGO_PKG_VERSION"));

/// Deaths may be as frequent as jobs.
static DEATHS: LogLimit = LogLimit::new(Duration::from_secs(1));

/// The pool of one server.
#[derive(Debug)]
pub(crate) struct ServerPool {
    spec: Arc<ServerSpec>,
    /// The largest result of a task without its own limit, in bytes.
    max_result: u64,
    owners: Arc<TaskOwners>,
    state: Mutex<State>,
    /// Notified when a child may have to be started or ended.
    changed: Notify,
    /// Notified when operators must see something new.
    visible: Arc<Notify>,
    /// Set once by the first child that is ready.
    tasks: watch::Sender<Option<Arc<[TaskDescriptor]>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that are ready.
    members: Members,
    /// Jobs that wait for a child.
    waiting: VecDeque<oneshot::Sender<Assignment>>,
    /// Set once jobs are claimed.
    slots: Option<PoolSlots>,
    ahead: Ahead,
    /// How many children there should be.
    target: usize,
    /// Deaths without an answered job, in a row.
    deaths: u32,
    /// Why the last child died.
    problem: Option<String>,
    /// When another child may be started, after a death.
    next_start: Option<Instant>,
}

impl ServerPool {
    /// Creates the pool; [`ServerPool::run`] starts its children.
    pub(crate) fn new(
        spec: ServerSpec,
        max_result: u64,
        owners: Arc<TaskOwners>,
        visible: Arc<Notify>,
    ) -> Self {
        let state = State { target: spec.processes, ..State::default() };
        let (changed, tasks) = (Notify::new(), watch::Sender::new(None));
        let (spec, state) = (Arc::new(spec), Mutex::new(state));
        Self { spec, max_result, owners, state, changed, visible, tasks }
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    /// Waits until a child was ready, and returns the tasks of the server.
    pub(crate) async fn tasks(&self) -> Arc<[TaskDescriptor]> {
        let mut tasks = self.tasks.subscribe();
        let declared = tasks.wait_for(Option::is_some).await.expect("the sender lives");
        declared.clone().expect("it was waited for")
    }

    /// Waits until a child could not start, and returns why. Only where no heartbeats wait for the same notification.
    pub(crate) async fn problem(&self) -> String {
        loop {
            if let Some(problem) = self.info().problem {
                return problem;
            }
            self.visible.notified().await;
        }
    }

    /// Gives it the slots in which its jobs are claimed.
    pub(crate) fn attach(&self, slots: PoolSlots) {
        let mut state = self.state.lock();
        state.slots = Some(slots);
        state.resize();
    }

    /// Describes it for operators.
    pub(crate) fn info(&self) -> ServerInfo {
        let state = self.state.lock();
        ServerInfo {
            name: self.spec.name.clone(),
            processes: state.target,
            ready: state.members.ready(),
            slots: state.members.slots(),
            problem: state.visible_problem().map(shortened),
        }
    }

    /// Returns its tasks if none of them can run, and that is no accident.
    pub(crate) fn unavailable(&self) -> Vec<SuspendedTask> {
        let state = self.state.lock();
        if state.members.ready() > 0 || state.deaths < UNAVAILABLE_AFTER {
            return Vec::new();
        }
        let wait = state
            .next_start
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        let until = Timestamp::from_unix_ms(Timestamp::now().unix_ms() + whole_ms(wait));
        let reason = shortened(state.visible_problem().unwrap_or_default());
        let suspended =
            |name: &TaskName| SuspendedTask { task: name.clone(), reason: reason.clone(), until };
        let tasks = self.tasks.borrow();
        tasks.iter().flat_map(|tasks| tasks.iter()).map(|task| suspended(&task.name)).collect()
    }

    /// Returns whether a child is ready and one of its tasks can run.
    pub(crate) fn can_run(&self, suspensions: &Suspensions) -> bool {
        let tasks = self.tasks.borrow();
        let names = tasks.iter().flat_map(|tasks| tasks.iter()).map(|task| &task.name);
        self.state.lock().members.ready() > 0 && suspensions.all_until(names).is_none()
    }

    /// Returns the numbers of the children that get jobs.
    #[cfg(test)]
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.state.lock().members.numbers()
    }

    /// Returns how many children died in a row without having answered a job.
    #[cfg(test)]
    pub(super) fn deaths(&self) -> u32 {
        self.state.lock().deaths
    }

    /// Returns how much waits until its children read.
    #[cfg(test)]
    pub(super) fn unread(&self) -> usize {
        self.state.lock().members.unread()
    }

    /// Returns how many jobs its children run.
    #[cfg(test)]
    pub(super) fn load(&self) -> usize {
        self.state.lock().members.load()
    }

    /// Finds a child for a job that was claimed.
    ///
    /// # Errors
    /// If none is ready, or all are busy, for too long.
    pub(super) async fn assign(self: &Arc<Self>) -> Result<Assignment, TaskError> {
        let mut assignment = {
            let mut state = self.state.lock();
            if let Some(child) = self.choose(&mut state) {
                return Ok(Assignment::new(self.clone(), child));
            }
            let (assignment, receiver) = oneshot::channel();
            state.waiting.push_back(assignment);
            receiver
        };
        for wait in [GIVEN_BACK, HAND_OVER] {
            match tokio::time::timeout(wait, &mut assignment).await {
                Ok(Ok(assignment)) => return Ok(assignment),
                // The sender waits in this pool.
                Ok(Err(_)) => break,
                Err(_elapsed) => {}
            }
            let mut state = self.state.lock();
            if state.members.ready() > 0 {
                state.ahead.gave_back();
                state.resize();
                return Err(TaskError::busy());
            }
        }
        let problem = self.state.lock().problem.clone();
        let why = problem.unwrap_or_else(|| "none has started yet".to_owned());
        let server = &self.spec.name;
        Err(TaskError::machine(format!("no child of server {server} is ready: {why}")))
    }

    /// Ends the assignment of a job that its child has run for so long.
    fn leave(self: &Arc<Self>, child: &Child, took: Duration) {
        let mut state = self.state.lock();
        state.members.leave(child.number);
        state.ahead.ended(took);
        state.resize();
        self.serve_waiting(&mut state);
    }

    /// A job did not end when it was asked to: its child gets no more jobs.
    fn leaked(&self, child: &Arc<Child>) {
        let mut state = self.state.lock();
        if let Some(member) = state.members.find(child.number) {
            member.retire();
            let (_, leaked) = child.load();
            if 2 * leaked >= member.credits {
                let why =
                    "half of the jobs that it may run at once did not end when they were asked to";
                child.end(Request::Stop, Some(Reason::Died(why.to_owned())));
            }
            state.resize();
        }
        self.changed.notify_one();
    }

    fn choose(&self, state: &mut State) -> Option<Arc<Child>> {
        let child = state.members.assign(self.spec.max_jobs);
        if state.members.any_outdated() {
            self.changed.notify_one();
        }
        if self.spec.idle_exit.is_some()
            && state.target < self.spec.processes
            && state.members.is_full()
        {
            state.target = (state.members.ready() + 1).min(self.spec.processes);
            self.changed.notify_one();
        }
        child
    }

    fn serve_waiting(self: &Arc<Self>, state: &mut State) {
        while let Some(waiting) = state.waiting.pop_front() {
            if waiting.is_closed() {
                continue;
            }
            let Some(child) = self.choose(state) else { return state.waiting.push_front(waiting) };
            if let Err(assignment) = waiting.send(Assignment::new(self.clone(), child)) {
                // It gave up at this moment. Dropping the assignment here would lock again.
                state.members.leave(assignment.cancel().number);
            }
        }
    }

    /// Keeps as many children as there should be, until `shutdown` fires; then ends them.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let (sender, mut events) = mpsc::unbounded_channel();
        let mut children = Children::default();
        let mut ticks = tokio::time::interval(TICK);
        loop {
            for _ in 0..self.missing(children.count()) {
                children.start(&self.spec, &sender);
            }
            let next_start = self.state.lock().next_start.filter(|&at| Instant::now() < at);
            // In random order: a child that causes events all the time delays nothing that concerns others.
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some((child, event)) = events.recv() => self.apply(&child, event),
                Some(exit) = children.ended() => {
                    // A hello must not be handled after the end of its child.
                    for _ in 0..events.len() {
                        let Ok((child, event)) = events.try_recv() else { break };
                        self.apply(&child, event);
                    }
                    self.ended(exit);
                }
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next_start.unwrap_or_else(Instant::now).into()), if next_start.is_some() => {}
                _ = ticks.tick() => self.tick(),
            }
        }
        self.end(children).await;
    }

    /// Returns how many children are to be started now.
    fn missing(&self, all: usize) -> usize {
        let state = self.state.lock();
        let starting = all.saturating_sub(state.members.len());
        let wanted = state.target + state.members.outdated();
        let missing = wanted.saturating_sub(state.members.ready() + starting);
        let room = (2 * self.spec.processes).saturating_sub(all);
        match state.next_start {
            Some(at) if Instant::now() < at => 0,
            // One shows whether it works again.
            Some(_) if state.deaths > 0 => missing.min(1_usize.saturating_sub(starting)).min(room),
            Some(_) | None => missing.min(room),
        }
    }

    fn apply(self: &Arc<Self>, child: &Arc<Child>, event: Event) {
        match event {
            Event::Hello(hello, tasks) => {
                if let Err(why) = self.admit(child, &hello, tasks.as_deref()) {
                    child.end(Request::Kill, Some(Reason::Died(why)));
                }
            }
            Event::Credit => {
                let mut state = self.state.lock();
                let credits = child.take_credit();
                if let (Some(member), Some(credits)) = (state.members.find(child.number), credits) {
                    member.credits = credits as usize;
                    state.resize();
                    self.serve_waiting(&mut state);
                }
            }
            Event::Grew => {
                if let Some(member) = self.state.lock().members.find(child.number) {
                    member.outdated = true;
                }
            }
            // What it had room for is not claimed, and what waits finds another child.
            Event::Ending => self.state.lock().resize(),
        }
    }

    fn admit(
        self: &Arc<Self>,
        child: &Arc<Child>,
        hello: &Hello,
        body: Option<&[u8]>,
    ) -> Result<(), String> {
        let declared = declaration::tasks(body, &self.spec.tasks)?;
        let known = self.tasks.borrow().clone();
        match known {
            Some(known) if *known != declared[..] => {
                return Err("it declares other tasks than the children before it: restart the worker to use them".to_owned());
            }
            Some(_) => {}
            None => {
                self.owners.claim(&self.spec.name, &declared)?;
                tracing::info!(server = self.spec.name, tasks = %names(&declared), sdk = hello.sdk, "server is ready");
                self.tasks.send_replace(Some(declared.into()));
            }
        }
        child.send(&ToChild::Hello {
            channel: VERSION,
            worker: WORKER,
            max_result: self.max_result,
        });
        let mut state = self.state.lock();
        state.members.add(Member::new(child.clone(), hello.concurrency as usize));
        // It may replace another.
        let more_than_enough = state.members.ready() > state.target;
        if let Some(outdated) = state.members.oldest_outdated().filter(|_| more_than_enough) {
            outdated.retire();
        }
        state.resize();
        self.serve_waiting(&mut state);
        drop(state);
        self.visible.notify_one();
        Ok(())
    }

    fn ended(self: &Arc<Self>, exit: Exit) {
        let Exit { child, problem, was_ready, answered } = exit;
        let mut state = self.state.lock();
        let member = state.members.remove(child);
        if answered > 0 {
            (state.deaths, state.next_start) = (0, None);
        }
        if member.is_some_and(|member| member.retiring) {
            tracing::debug!(server = self.spec.name, child, answered, "child ended");
            return state.resize();
        }
        if answered == 0 {
            state.deaths = state.deaths.saturating_add(1);
            // One may be an accident, or the fault of its first job.
            let pause = (state.deaths > 1).then(|| RESTARTS.draw(state.deaths - 1));
            state.next_start = pause.map(|pause| Instant::now() + pause);
        }
        if let Some(left_out) = DEATHS.admit() {
            let (server, deaths) = (&self.spec.name, state.deaths);
            tracing::warn!(
                server,
                child,
                problem,
                was_ready,
                answered,
                deaths,
                left_out,
                "child died"
            );
        }
        state.problem = Some(problem);
        state.resize();
        drop(state);
        self.visible.notify_one();
    }

    /// Ends idle children, and those that should have ended.
    fn tick(&self) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(idle_exit) = self.spec.idle_exit {
            while state.members.ready() > 1
                && let Some(idle) = state.members.idle_longer_than(idle_exit, now)
            {
                idle.retire();
                state.target = state.members.ready();
                state.resize();
            }
        }
        for child in state.members.overdue(EXIT_GRACE, now) {
            child.end(Request::Stop, None);
        }
    }

    async fn end(self: Arc<Self>, mut children: Children) {
        self.state.lock().members.retire_all();
        let members_end = async {
            while self.state.lock().members.len() > 0
                && let Some(exit) = children.ended().await
            {
                self.state.lock().members.remove(exit.child);
            }
        };
        let _all_ended = tokio::time::timeout(EXIT_GRACE, members_end).await;
        // Dropping a child closes the socket to its launcher, which ends it.
        children.kill().await;
    }
}

impl State {
    fn visible_problem(&self) -> Option<&str> {
        self.problem.as_deref().filter(|_| self.members.ready() < self.target)
    }

    /// Adjusts the slots to what the children can run, and to what may wait for them.
    fn resize(&mut self) {
        if let Some(slots) = &self.slots {
            let at_once = self.members.slots();
            slots.resize(at_once, self.ahead.jobs(at_once));
        }
    }
}

fn shortened(problem: &str) -> String {
    problem[..problem.floor_char_boundary(ServerInfo::MAX_PROBLEM_BYTES)].to_owned()
}

fn names(tasks: &[TaskDescriptor]) -> String {
    tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(",")
}
