//! The client: submits in batches, asks again with the same keys until it knows that each job was taken, cancels some, and
//! writes down what it was told.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::fleet::Fleet;
use super::orders::{Order, TASKS, without_padding};
use super::survey::{Ended, Job};
use super::{Plan, Progress};

/// Longer than an API takes to say that it does not know.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// After this long nothing that is broken explains that an order is not taken.
const GIVE_UP: Duration = Duration::from_secs(120);
/// Before it asks again for what it does not know.
const PAUSE: Duration = Duration::from_millis(50);
/// So many jobs are asked for in the end, and so many with large results.
const SAMPLE: usize = 300;
const LARGE_SAMPLE: usize = 20;
/// One batch in so many is asked for once more although it is known.
const ASKED_AGAIN: u64 = 20;

/// What is known of one order.
#[derive(Debug, Clone, Default)]
pub(super) struct Submission {
    /// What was asked for.
    pub(super) order: Order,
    /// Every id that an answer named; there must be one.
    pub(super) ids: Vec<String>,
    pub(super) refused: u32,
    pub(super) unknown: u32,
    /// What the cancel was answered, if one was asked for and answered.
    pub(super) cancel: Option<u16>,
}

/// What one answer says of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Taken(String),
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
    known: Mutex<BTreeMap<u64, Submission>>,
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
            known: Mutex::default(),
            ended: Mutex::default(),
            ledger,
        })
    }

    /// Submits batch after batch, until all of the plan is taken. Several do this at once.
    pub(super) async fn submit(self: Arc<Self>) {
        let batch = self.progress.batch();
        loop {
            self.progress.jobs_may_go_on().await;
            let first = self.next.fetch_add(batch, Ordering::Relaxed);
            if first >= self.plan.jobs {
                return;
            }
            let numbers: Vec<_> = (first..self.plan.jobs.min(first + batch)).collect();
            self.submit_until_taken(&numbers).await;
            if (first / batch).is_multiple_of(ASKED_AGAIN) {
                self.submit_once(&numbers).await;
            }
            self.progress.acknowledged.fetch_add(numbers.len() as u64, Ordering::Relaxed);
        }
    }

    /// Submits a few jobs beyond the plan, and waits a little.
    pub(super) async fn probe(&self) {
        let first = self.probes.fetch_add(100, Ordering::Relaxed);
        self.submit_until_taken(&(first..first + 100).collect::<Vec<_>>()).await;
        tokio::time::sleep(4 * PAUSE).await;
    }

    /// Waits until every API knows what workers declared: before, it would refuse large payloads.
    pub(super) async fn every_api_knows_the_tasks(&self) {
        for api in 0..self.plan.apis {
            for task in TASKS {
                let url = format!("{}/tasks/{task}", self.fleet.url(api));
                crate::eventually("every API knows the tasks", async || {
                    let answer = self.http.get(&url).send().await.ok()?;
                    (answer.status() == StatusCode::OK).then_some(())
                })
                .await;
            }
        }
    }

    pub(super) async fn is_ready(&self, api: usize) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.fleet.url(api))).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Asks the APIs, in turn, for some of the jobs: they must tell what Redis holds.
    pub(super) async fn ask_for_some(&self, jobs: &HashMap<String, Job>) {
        let large = jobs.iter().filter(|(_, job)| job.result_is_large).take(LARGE_SAMPLE);
        for (id, job) in large {
            let result = self.body(&format!("{id}/result")).await.unwrap_or_default();
            if without_padding(&result) != job.result {
                self.fleet.trouble(format!("the API has another result of {id}, which is {job:?}"));
            }
        }
        let small = jobs.iter().filter(|(_, job)| !job.result_is_large).take(SAMPLE);
        for (id, job) in small {
            let document = self.body(id).await.unwrap_or_default();
            let document: Value = serde_json::from_str(&document).unwrap_or_default();
            if document["status"] != job.status || document["result"] != job.result {
                self.fleet.trouble(format!("the API says {document} of {id}, which is {job:?}"));
            }
        }
    }

    /// Asks once more where Redis could not be asked: an API notices that a connection was stranded when it uses it.
    async fn body(&self, path: &str) -> Option<String> {
        let ask = async || self.http.get(format!("{}/jobs/{path}", self.url())).send().await.ok();
        let mut answer = ask().await?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            answer = ask().await?;
        }
        answer.text().await.ok()
    }

    pub(super) fn submissions(&self) -> BTreeMap<u64, Submission> {
        self.known().clone()
    }

    /// Ids that were acknowledged, each the first at or after one of these numbers.
    pub(super) fn ids_near(&self, numbers: impl Iterator<Item = u64>) -> Vec<String> {
        let known = self.known();
        let first =
            |number| known.range(number..).find_map(|(_, known)| known.ids.first().cloned());
        numbers.filter_map(first).collect()
    }

    /// Notes how a job ended; it must stay that way.
    pub(super) fn has_ended(&self, id: String, ended: Ended) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert(ended);
    }

    pub(super) fn seen_ended(&self) -> HashMap<String, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn submit_until_taken(&self, numbers: &[u64]) {
        let mut open = numbers.to_vec();
        let deadline = Instant::now() + GIVE_UP;
        while !open.is_empty() {
            if Instant::now() > deadline {
                return self
                    .fleet
                    .trouble(format!("orders {open:?} are not taken after {GIVE_UP:?}"));
            }
            let taken = self.submit_once(&open).await;
            open.retain(|number| !taken.contains(number));
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

    /// Submits a batch once; returns which are taken now.
    async fn submit_once(&self, numbers: &[u64]) -> Vec<u64> {
        let jobs: Vec<_> =
            numbers.iter().map(|&number| Order::draw(&self.plan, number).json()).collect();
        let outcomes = self.ask(&json!({ "jobs": jobs })).await;
        let mut taken = Vec::new();
        for (at, &number) in numbers.iter().enumerate() {
            let outcome = outcomes.as_ref().map_or_else(Clone::clone, |items| items[at].clone());
            if matches!(outcome, Outcome::Taken(_)) {
                taken.push(number);
            }
            self.note(number, outcome);
        }
        taken
    }

    /// The outcome of each item; one for all if the whole batch went wrong.
    async fn ask(&self, batch: &Value) -> Result<Vec<Outcome>, Outcome> {
        let answer = self.http.post(format!("{}/jobs/batch", self.url())).json(batch).send().await;
        let answer = answer.map_err(|error| match error.is_connect() {
            true => Outcome::Refused,
            false => Outcome::Unknown,
        })?;
        let body: Value = answer.json().await.map_err(|_| Outcome::Unknown)?;
        let items = body["items"].as_array().ok_or(Outcome::Unknown)?;
        Ok(items.iter().map(|item| self.read(item)).collect())
    }

    fn read(&self, item: &Value) -> Outcome {
        match (&item["status"], &item["problem"]["outcome"]) {
            (status, _) if *status == 202 => {
                Outcome::Taken(item["job"]["id"].as_str().unwrap_or_default().to_owned())
            }
            (status, outcome) if *status == 503 => match outcome == "unknown" {
                true => Outcome::Unknown,
                false => Outcome::Refused,
            },
            _ => {
                self.fleet.trouble(format!("an item was answered {item}"));
                Outcome::Unknown
            }
        }
    }

    fn note(&self, number: u64, outcome: Outcome) {
        let line = match &outcome {
            Outcome::Taken(id) => format!("{number} ok {id}\n"),
            Outcome::Refused => format!("{number} refused\n"),
            Outcome::Unknown => format!("{number} unknown\n"),
        };
        // For people only: what decides is in memory.
        let _ = (&self.ledger).write_all(line.as_bytes());
        let mut known = self.known();
        let known = known.entry(number).or_default();
        known.order = Order::draw(&self.plan, number);
        match outcome {
            Outcome::Taken(id) if !known.ids.contains(&id) => known.ids.push(id),
            Outcome::Taken(_) => {}
            Outcome::Refused => known.refused += 1,
            Outcome::Unknown => known.unknown += 1,
        }
    }

    /// Asks once; an answer that does not come is none.
    async fn cancel(&self, number: u64) {
        let Some(id) = self.known().get(&number).and_then(|known| known.ids.first().cloned())
        else {
            return;
        };
        let answer = self.http.post(format!("{}/jobs/{id}/cancel", self.url())).send().await;
        if let Ok(answer) = answer {
            self.known().entry(number).or_default().cancel = Some(answer.status().as_u16());
        }
    }

    /// The next API in turn.
    fn url(&self) -> String {
        self.fleet.url(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Submission>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
