//! The jobs that the client orders: mostly quick ones, and a few of every other kind.

use std::path::Path;
use std::time::Duration;

use crunch_worker::{JobContext, Task, TaskError};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Plan;
use crate::Moment;
use crate::tasks::{LEDGER_VARIABLE, ledger};

/// The groups: most without a rule; of one few jobs may run, of another few may start in a time.
const GROUPS: [&str; 7] = ["a", "b", "c", "d", "e", NARROW, PACED];
pub(super) const NARROW: &str = "narrow";
pub(super) const PACED: &str = "paced";
/// How many jobs of the narrow group may run in each queue.
pub(super) const NARROW_RUNNING: usize = 3;
/// How many jobs of the paced group may start at once in each queue, and how long after each of them another one.
pub(super) const PACED_BURST: u64 = 3;
pub(super) const PACED_GAP_MS: u64 = 20;

/// For how long a handler puts its job off.
const PUT_OFF: Duration = Duration::from_millis(100);

/// How many locks there are.
const LOCKS: u64 = 20;

/// The label that the main task indexes.
const CUSTOMER: &str = "customer";
/// The queues.
pub(super) const QUEUES: [&str; 5] =
    ["work.first", "work.bulk", "work.slow", LIMITED, "work.server"];
/// The queue with a limit, and how many of its jobs may run.
pub(super) const LIMITED: &str = "work.limited";
pub(super) const LIMITED_RUNNING: usize = 6;
/// The limit that this queue and that of the server share, and how many of their jobs may run.
pub(super) const SHARED: &str = "work";
pub(super) const SHARING: [&str; 2] = [LIMITED, SERVER_QUEUE];
pub(super) const SHARED_RUNNING: usize = 9;
/// Those of the workers without a server, in their order of preference.
pub(super) const WORKER_QUEUES: &[&str] = QUEUES.first_chunk::<4>().unwrap();
/// That of the workers with a server.
pub(super) const SERVER_QUEUE: &str = QUEUES[4];
/// The main task, one that does the same and that a worker may lack, a command, and the task of the server.
pub(super) const TASKS: [&str; 4] = ["chaos.work", "chaos.rare", "chaos.command", "chaos.server"];
/// The program of the server's children. It does what the handler does.
pub(super) const CHILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/children/chaos.py");
/// The server. A child runs several jobs at once, so that others are affected when it dies, and few in all, so that
/// children are replaced all the time.
const SERVER: &str = "processes = 2\nconcurrency = 4\nmax_jobs = 10";
/// The command of the third task. It writes no ledger: only its result is checked.
const COMMAND: &str = r#"sed -E 's/.*"number":([0-9]+).*/{"number":\1,"epoch":'$CRUNCH_EPOCH'}/'"#;
/// From this size, in bytes, a payload or a result is sent in a separate call.
const LARGE: usize = 64 * 1024;
/// The largest payload or result: a few of this size occupy a slow link for seconds.
const LARGEST: usize = 2560 * 1024;
/// The limits of the tasks for payloads and results: there is little in addition to the padding.
const SIZE_LIMIT: u64 = 2 * LARGEST as u64;
/// At most about this many orders of a run are large, because Redis keeps all of them and writes each to its disk; and
/// at most as many run the command, because each starts processes.
const MAX_COSTLY: f64 = 300.0;
/// In a small run one order in a hundred is of either kind.
const SHARE_OF_COSTLY: f64 = 0.01;

/// A job that the client submits; the same seed and number give the same job.
#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    number: u64,
    task: &'static str,
    queue: &'static str,
    priority: &'static str,
    delay_ms: Option<u64>,
    /// Within which time it must start.
    start_within_ms: Option<u64>,
    work: Work,
    /// The size of the padding of its payload, in bytes.
    padding: usize,
    /// Whether the client cancels it as soon as it is accepted.
    pub(super) is_canceled: bool,
    /// Its value of the label that the main task indexes.
    customer: Option<u64>,
    group: Option<&'static str>,
    /// Its lock, which several orders have: then one job may stand for several of them.
    lock: Option<u64>,
}

/// The payload of the tasks, without padding.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Work {
    number: u64,
    busy_ms: u64,
    /// How many attempts fail before one succeeds.
    fails: u32,
    /// Whether each attempt whose epoch is a multiple of three puts the job off.
    #[serde(default)]
    snoozes: bool,
    /// The size of the padding of the result, in bytes.
    returns: usize,
}

/// The payload with its padding.
#[derive(Deserialize)]
struct Padded {
    #[serde(flatten)]
    work: Work,
    #[serde(default)]
    padding: String,
}

impl Order {
    pub(super) fn draw(plan: &Plan, number: u64) -> Self {
        let mut random =
            Pcg64Mcg::seed_from_u64(plan.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9)));
        let lease_ms = crunch_common::time::whole_ms(plan.lease);
        let is_slow = random.random_bool(0.002);
        let busy_ms = match random.random_range(0..100) {
            _ if is_slow => lease_ms * 3 / 2,
            0..70 => random.random_range(0..5),
            70..95 => random.random_range(20..200),
            _ => random.random_range(200..1000),
        };
        let mut queue = match random.random_range(0..10) {
            _ if is_slow => QUEUES[2],
            0 => LIMITED,
            1..5 => QUEUES[0],
            _ => QUEUES[1],
        };
        let priority = ["low", "normal", "normal", "normal", "high"][random.random_range(0..5)];
        let delay_ms = random.random_bool(0.03).then(|| random.random_range(1..3000));
        let fails = u32::from(random.random_bool(0.01));
        let is_canceled = random.random_bool(0.01);
        let mut task = match random.random_range(0..20) {
            0..2 => TASKS[1],
            2..4 => TASKS[3],
            _ => TASKS[0],
        };
        let (padding, mut returns) = draw_sizes(&mut random, plan);
        if random.random_bool(share_of_costly(plan)) {
            (task, returns) = (TASKS[2], 0);
        }
        // The worker's own task and that of the server are in one queue: each finds jobs of the other there.
        if task == TASKS[3] || (task == TASKS[1] && random.random_bool(0.3)) {
            queue = SERVER_QUEUE;
        }
        let snoozes = random.random_bool(0.02);
        let work = Work { number, busy_ms, fails, snoozes, returns };
        let customer = random.random_bool(0.3).then(|| random.random_range(0..20));
        let group = random.random_bool(0.3).then(|| GROUPS[random.random_range(0..GROUPS.len())]);
        let start_within_ms = random.random_bool(0.03).then(|| random.random_range(1..2000));
        let lock = random.random_bool(0.03).then(|| random.random_range(0..LOCKS));
        let order = Self {
            number,
            task,
            queue,
            priority,
            delay_ms,
            start_within_ms,
            work,
            padding,
            is_canceled,
            customer,
            group,
            lock,
        };
        order.lock.map_or(order.clone(), |_| order.into_unique())
    }

    /// An order with a lock is for one task and one queue, nobody cancels it and it is not put off: others may have its job.
    fn into_unique(self) -> Self {
        let (task, queue, is_canceled) = (TASKS[0], QUEUES[0], false);
        let (delay_ms, start_within_ms, group) = (None, None, None);
        let work = Work { snoozes: false, ..self.work };
        Self { task, queue, work, is_canceled, delay_ms, start_within_ms, group, ..self }
    }

    pub(super) const fn lock(&self) -> Option<u64> {
        self.lock
    }

    /// Whether a job waits for the end of the one that holds this lock; else an order gets that one.
    pub(super) const fn may_follow(lock: u64) -> bool {
        lock.is_multiple_of(2)
    }

    pub(super) const fn queue(&self) -> &'static str {
        self.queue
    }

    /// Its queue and its group, if it has one.
    pub(super) fn place(&self) -> Option<(&'static str, &'static str)> {
        self.group.map(|group| (self.queue, group))
    }

    pub(super) fn is_delayed(&self) -> bool {
        self.delay_ms.is_some()
    }

    /// How long after its submission it must have started.
    pub(super) fn starts_within_ms(&self) -> Option<u64> {
        self.start_within_ms.map(|ms| self.delay_ms.unwrap_or(0) + ms)
    }

    /// Whether its handler may put it off.
    pub(super) fn may_be_put_off(&self) -> bool {
        self.work.snoozes
    }

    /// Whether a worker may release the job, because it lacks the task, cannot start a command or has no child that is
    /// ready.
    pub(super) fn may_be_released(&self) -> bool {
        TASKS[1..].contains(&self.task)
    }

    /// Whether the payload or the result is large.
    pub(super) fn is_large(&self) -> bool {
        self.padding.max(self.work.returns) > 0
    }

    /// Whether it runs in a child of a server.
    pub(super) fn is_of_server(&self) -> bool {
        self.task == TASKS[3]
    }

    /// Returns the item of a batch.
    pub(super) fn json(&self) -> Value {
        let mut payload = json!(self.work);
        if self.padding > 0 {
            payload["padding"] = json!("x".repeat(self.padding));
        }
        let unique = self.lock.map(|lock| {
            let on_conflict = if Self::may_follow(lock) { "keep_latest" } else { "existing" };
            json!({ "key": lock.to_string(), "on_conflict": on_conflict })
        });
        json!({
            "unique": unique,
            "task": self.task, "queue": self.queue, "priority": self.priority, "payload": payload,
            "group": self.group, "delay_ms": self.delay_ms, "start_within_ms": self.start_within_ms, "idempotency_key": format!("order-{}", self.number),
            "metadata": self.customer.map(|number| json!({ CUSTOMER: number.to_string() })),
        })
    }

    /// Returns the expected result of the claim with this epoch, in the form of [`without_padding`].
    pub(super) fn result(&self, number: u64, epoch: u64) -> Value {
        let received = if self.task == TASKS[2] { 0 } else { self.padding };
        outcome(number, epoch, received, json!(self.work.returns))
    }
}

#[cfg(test)]
impl Order {
    /// An order with this much padding in its payload and its result.
    pub(super) fn large(padding: usize, returns: usize) -> Self {
        Self { padding, work: Work { returns, ..Work::default() }, ..Self::default() }
    }

    /// An order of a group.
    pub(super) fn grouped(group: &'static str) -> Self {
        Self { queue: QUEUES[0], group: Some(group), ..Self::default() }
    }

    /// An order of the queue with a limit.
    pub(super) fn limited() -> Self {
        Self { queue: LIMITED, ..Self::default() }
    }

    /// An order that must start in time.
    pub(super) fn to_start(delay_ms: Option<u64>, start_within_ms: u64) -> Self {
        Self { delay_ms, start_within_ms: Some(start_within_ms), ..Self::default() }
    }

    /// An order with a lock.
    pub(super) fn locked(lock: u64) -> Self {
        Self { lock: Some(lock), ..Self::default() }
    }

    /// An order for the task of the server.
    pub(super) fn of_server() -> Self {
        Self { task: TASKS[3], ..Self::default() }
    }

    /// An order for the task that a worker may lack.
    pub(super) fn rare() -> Self {
        Self { task: TASKS[1], ..Self::default() }
    }
}

/// Draws the sizes of the padding of payload and result: of one of them, or both.
fn draw_sizes(random: &mut impl Rng, plan: &Plan) -> (usize, usize) {
    if !random.random_bool(share_of_costly(plan)) {
        return (0, 0);
    }
    let mut size = || match random.random_bool(0.1) {
        true => random.random_range(8 * LARGE..LARGEST),
        false => random.random_range(LARGE..4 * LARGE),
    };
    let (padding, returns) = (size(), size());
    [(padding, 0), (0, returns), (padding, returns)][random.random_range(0..3)]
}

fn share_of_costly(plan: &Plan) -> f64 {
    (MAX_COSTLY / plan.jobs.max(1) as f64).min(SHARE_OF_COSTLY)
}

/// The result of the handler. It contains the size of the received padding, so that a truncated payload is detected.
fn outcome(number: u64, epoch: u64, received: usize, padding: Value) -> Value {
    let mut outcome = json!({ "number": number, "epoch": epoch });
    if received > 0 {
        outcome["received"] = json!(received);
    }
    if padding != 0 && padding != "" {
        outcome["padding"] = padding;
    }
    outcome
}

/// Replaces the padding of a result by its length, or by `damaged` if a byte of it is wrong.
pub(super) fn without_padding(result: &str) -> Value {
    let mut result: Value = serde_json::from_str(result).unwrap_or_default();
    let length =
        result["padding"].as_str().map(|padding| match padding.bytes().all(|x| x == b'x') {
            true => json!(padding.len()),
            false => json!("damaged"),
        });
    if let Some(length) = length {
        result["padding"] = length;
    }
    result
}

/// The task that every worker has.
pub(crate) fn task() -> Task {
    let task = Task::new(TASKS[0], work).max_attempts(10).indexes(&[CUSTOMER]);
    task.max_payload(SIZE_LIMIT).max_result(SIZE_LIMIT)
}

/// The task that a worker may lack.
pub(crate) fn rare_task() -> Task {
    Task::new(TASKS[1], work).max_attempts(10).max_payload(SIZE_LIMIT).max_result(SIZE_LIMIT)
}

/// Returns the tasks file with the server, whose children write this ledger.
pub(super) fn server(ledger: &Path) -> String {
    let (name, variable) = (TASKS[3], LEDGER_VARIABLE);
    format!(
        "[[server]]\ncommand = [\"python3\", \"-S\", '{CHILD}']\nenv = {{ {variable} = '{}' }}\n{SERVER}\n\n[[server.task]]\nname = \"{name}\"\nmax_attempts = 20\nmax_payload = {SIZE_LIMIT}\nmax_result = {SIZE_LIMIT}\n",
        ledger.display()
    )
}

/// Returns the tasks file that declares the command to the stock worker.
pub(super) fn command() -> String {
    let name = TASKS[2];
    format!(
        "[[task]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{COMMAND}''']\nmax_attempts = 20\nmax_payload = {SIZE_LIMIT}\n"
    )
}

/// The handler: records its start, works, fails as often as the payload requires, records its end, and returns the
/// epoch of its claim.
async fn work(job: JobContext, input: Value) -> Result<Value, TaskError> {
    let Padded { work: input, padding } = serde_json::from_value(input)?;
    let ledger = ledger()?;
    ledger.record(Moment::Start, &job)?;
    if input.busy_ms > 0 {
        let sleep = tokio::time::sleep(Duration::from_millis(input.busy_ms));
        if job.cancellation().run_until_cancelled(sleep).await.is_none() {
            return Err(TaskError::retryable("asked to stop"));
        }
    }
    if input.snoozes && job.epoch().number().is_multiple_of(3) {
        return Err(TaskError::snooze(PUT_OFF));
    }
    if job.attempt() <= input.fails {
        return Err(TaskError::retryable("fails as ordered"));
    }
    ledger.record(Moment::End, &job)?;
    let returned = json!("x".repeat(input.returns));
    Ok(outcome(input.number, job.epoch().number(), padding.len(), returned))
}
