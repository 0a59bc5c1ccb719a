//! The client: submits in batches, retries with the same keys until every job was accepted, cancels some jobs, and
//! records the responses.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::fleet::Fleet;
use super::orders::{
    LIMITED, LIMITED_RUNNING, NARROW, NARROW_RUNNING, Order, PACED, PACED_BURST, PACED_GAP_MS,
    QUEUES, SHARED, SHARED_RUNNING, SHARING, TASKS, without_padding,
};
use super::survey::{Ended, Job};
use super::{Plan, Progress};

/// Longer than an API takes to respond that the outcome is unknown.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// After this long no fault explains that an order is still not accepted.
const GIVE_UP: Duration = Duration::from_secs(120);
/// The pause before orders that were refused or whose outcome is unknown are submitted again.
const PAUSE: Duration = Duration::from_millis(50);
/// This many jobs are read through the APIs in the end, and this many with large results.
const SAMPLE: usize = 300;
const LARGE_SAMPLE: usize = 20;
/// One batch in this many is submitted once more although all its jobs were accepted.
const RESUBMIT_EVERY: u64 = 20;

/// The responses to one order.
#[derive(Debug, Clone, Default)]
pub(super) struct Submission {
    /// The order itself.
    pub(super) order: Order,
    /// All ids in responses; there must be exactly one.
    pub(super) ids: Vec<String>,
    pub(super) refused: u32,
    pub(super) unknown: u32,
    /// The status of the response to the cancel request, if there was one.
    pub(super) cancel: Option<u16>,
}

/// The outcome of one item in one response.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Accepted(String),
    Refused,
    Unknown,
}

#[derive(Debug)]
pub(super) struct Client {
    plan: Plan,
    http: reqwest::Client,
    fleet: Arc<Fleet>,
    progress: Arc<Progress>,
    next: AtomicU64,
    probes: AtomicU64,
    turn: AtomicUsize,
    submissions: Mutex<BTreeMap<u64, Submission>>,
    ended: Mutex<HashMap<String, Ended>>,
    ledger: File,
}

impl Client {
    pub(super) fn new(
        plan: &Plan,
        fleet: Arc<Fleet>,
        progress: Arc<Progress>,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(TIME_LIMIT).no_proxy().build()?;
        let ledger = File::create(fleet.directory().join("client.ledger"))?;
        Ok(Self {
            plan: plan.clone(),
            http,
            fleet,
            progress,
            next: AtomicU64::new(0),
            probes: AtomicU64::new(plan.jobs),
            turn: AtomicUsize::new(0),
            submissions: Mutex::default(),
            ended: Mutex::default(),
            ledger,
        })
    }

    /// Submits batches until all jobs of the plan are accepted. Several tasks run this concurrently.
    pub(super) async fn submit(self: Arc<Self>) {
        let batch = self.progress.batch();
        loop {
            self.progress.wait_for_jobs_turn().await;
            let first = self.next.fetch_add(batch, Ordering::Relaxed);
            if first >= self.plan.jobs {
                return;
            }
            let numbers: Vec<_> = (first..self.plan.jobs.min(first + batch)).collect();
            self.submit_until_accepted(&numbers).await;
            if (first / batch).is_multiple_of(RESUBMIT_EVERY) {
                self.submit_once(&numbers).await;
            }
            self.progress.acknowledged.fetch_add(numbers.len() as u64, Ordering::Relaxed);
        }
    }

    /// Submits a few jobs beyond the plan, and waits a little.
    pub(super) async fn probe(&self) {
        let first = self.probes.fetch_add(100, Ordering::Relaxed);
        self.submit_until_accepted(&(first..first + 100).collect::<Vec<_>>()).await;
        tokio::time::sleep(4 * PAUSE).await;
    }

    /// Waits until every API knows the tasks that workers declared: before, it would refuse large payloads.
    pub(super) async fn wait_until_tasks_are_known(&self) {
        for api in 0..self.plan.apis {
            for task in TASKS {
                let url = format!("{}/tasks/{task}", self.fleet.url(api));
                crate::eventually("every API knows the tasks", async || {
                    let response = self.http.get(&url).send().await.ok()?;
                    (response.status() == StatusCode::OK).then_some(())
                })
                .await;
            }
        }
    }

    /// Sets the rules of the groups and the limits of the queues that have one. No job was submitted yet.
    pub(super) async fn set_rules(&self) -> anyhow::Result<()> {
        let rate = json!({ "starts": 1, "per_ms": PACED_GAP_MS, "burst": PACED_BURST });
        let rules =
            [(NARROW, json!({ "concurrency": NARROW_RUNNING })), (PACED, json!({ "rate": rate }))];
        for queue in QUEUES {
            for (group, rule) in &rules {
                let url = format!("{}/queues/{queue}/groups/{group}", self.url());
                self.http.put(url).json(rule).send().await?.error_for_status()?;
            }
        }
        let url = format!("{}/limits/{SHARED}", self.url());
        let limit = json!({ "concurrency": SHARED_RUNNING });
        self.http.put(url).json(&limit).send().await?.error_for_status()?;
        for queue in SHARING {
            let own = (queue == LIMITED).then_some(LIMITED_RUNNING);
            let limit = json!({ "concurrency": own, "limits": [SHARED] });
            let url = format!("{}/queues/{queue}/limit", self.url());
            self.http.put(url).json(&limit).send().await?.error_for_status()?;
        }
        Ok(())
    }

    pub(super) async fn is_ready(&self, api: usize) -> bool {
        let response = self.http.get(format!("{}/readyz", self.fleet.url(api))).send().await;
        response.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// Reads some of the jobs through the APIs, in turn: they must return what is in Redis.
    pub(super) async fn check_some(&self, jobs: &HashMap<String, Job>) {
        let large = jobs.iter().filter(|(_, job)| job.result_is_large).take(LARGE_SAMPLE);
        for (id, job) in large {
            let result = self.body(&format!("{id}/result")).await.unwrap_or_default();
            if without_padding(&result) != job.result {
                self.fleet.report(format!(
                    "the API returns a result of {id} that Redis does not have: {job:?}"
                ));
            }
        }
        let small = jobs.iter().filter(|(_, job)| !job.result_is_large).take(SAMPLE);
        for (id, job) in small {
            let document = self.body(id).await.unwrap_or_default();
            let document: Value = serde_json::from_str(&document).unwrap_or_default();
            if document["status"] != job.status || document["result"] != job.result {
                self.fleet
                    .report(format!("the API returns {document} for {id}, Redis has {job:?}"));
            }
        }
    }

    /// Retries once if Redis was unavailable: an API detects a dead connection only when it uses it.
    async fn body(&self, path: &str) -> Option<String> {
        let get = async || self.http.get(format!("{}/jobs/{path}", self.url())).send().await.ok();
        let mut response = get().await?;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            response = get().await?;
        }
        response.text().await.ok()
    }

    pub(super) fn submissions(&self) -> BTreeMap<u64, Submission> {
        self.submissions.lock().clone()
    }

    /// Returns acknowledged ids, each the first at or after one of these numbers.
    pub(super) fn ids_near(&self, numbers: impl Iterator<Item = u64>) -> Vec<String> {
        let submissions = self.submissions.lock();
        let first = |number| {
            submissions.range(number..).find_map(|(_, submission)| submission.ids.first().cloned())
        };
        numbers.filter_map(first).collect()
    }

    /// Records how a job ended; that must not change later.
    pub(super) fn record_end(&self, id: String, ended: Ended) {
        self.ended.lock().entry(id).or_insert(ended);
    }

    pub(super) fn seen_ended(&self) -> HashMap<String, Ended> {
        self.ended.lock().clone()
    }

    async fn submit_until_accepted(&self, numbers: &[u64]) {
        let mut open = numbers.to_vec();
        let deadline = Instant::now() + GIVE_UP;
        while !open.is_empty() {
            if Instant::now() > deadline {
                return self
                    .fleet
                    .report(format!("orders {open:?} are not accepted after {GIVE_UP:?}"));
            }
            let accepted = self.submit_once(&open).await;
            open.retain(|number| !accepted.contains(number));
            if !open.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        for &number in numbers {
            if Order::draw(&self.plan, number).is_canceled {
                self.cancel(number).await;
            }
        }
    }

    /// Submits a batch once; returns the numbers of the accepted orders.
    async fn submit_once(&self, numbers: &[u64]) -> Vec<u64> {
        let jobs: Vec<_> =
            numbers.iter().map(|&number| Order::draw(&self.plan, number).json()).collect();
        let outcomes = self.post(&json!({ "jobs": jobs })).await;
        let mut accepted = Vec::new();
        for (at, &number) in numbers.iter().enumerate() {
            let outcome = outcomes.as_ref().map_or_else(Clone::clone, |items| items[at].clone());
            if matches!(outcome, Outcome::Accepted(_)) {
                accepted.push(number);
            }
            self.record(number, outcome);
        }
        accepted
    }

    /// Posts a batch; returns the outcome of each item, or one for all if the whole batch failed.
    async fn post(&self, batch: &Value) -> Result<Vec<Outcome>, Outcome> {
        let response =
            self.http.post(format!("{}/jobs/batch", self.url())).json(batch).send().await;
        let response = response.map_err(|error| match error.is_connect() {
            true => Outcome::Refused,
            false => Outcome::Unknown,
        })?;
        let body: Value = response.json().await.map_err(|_| Outcome::Unknown)?;
        let items = body["items"].as_array().ok_or(Outcome::Unknown)?;
        Ok(items.iter().map(|item| self.read(item)).collect())
    }

    fn read(&self, item: &Value) -> Outcome {
        match (&item["status"], &item["problem"]["outcome"]) {
            (status, _) if *status == 202 => {
                Outcome::Accepted(item["job"]["id"].as_str().unwrap_or_default().to_owned())
            }
            (status, outcome) if *status == 503 => match outcome == "unknown" {
                true => Outcome::Unknown,
                false => Outcome::Refused,
            },
            _ => {
                self.fleet.report(format!("unexpected outcome of an item: {item}"));
                Outcome::Unknown
            }
        }
    }

    fn record(&self, number: u64, outcome: Outcome) {
        let line = match &outcome {
            Outcome::Accepted(id) => format!("{number} ok {id}\n"),
            Outcome::Refused => format!("{number} refused\n"),
            Outcome::Unknown => format!("{number} unknown\n"),
        };
        // For the reader of a failed run only: the check uses what is in memory.
        let _ = (&self.ledger).write_all(line.as_bytes());
        let mut submissions = self.submissions.lock();
        let submission = submissions.entry(number).or_default();
        submission.order = Order::draw(&self.plan, number);
        match outcome {
            Outcome::Accepted(id) if !submission.ids.contains(&id) => submission.ids.push(id),
            Outcome::Accepted(_) => {}
            Outcome::Refused => submission.refused += 1,
            Outcome::Unknown => submission.unknown += 1,
        }
    }

    /// Sends one cancel request; a missing response is not recorded.
    async fn cancel(&self, number: u64) {
        let Some(id) = self
            .submissions
            .lock()
            .get(&number)
            .and_then(|submission| submission.ids.first().cloned())
        else {
            return;
        };
        let response = self.http.post(format!("{}/jobs/{id}/cancel", self.url())).send().await;
        if let Ok(response) = response {
            self.submissions.lock().entry(number).or_default().cancel =
                Some(response.status().as_u16());
        }
    }

    /// Returns the URL of the next API in turn.
    fn url(&self) -> String {
        self.fleet.url(self.turn.fetch_add(1, Ordering::Relaxed))
    }
}
