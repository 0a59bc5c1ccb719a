//! Webhooks: the receiver that is notified of a job's end, and the deliveries.
//!
//! A delivery is an ordinary job of a reserved task and queue. The function that ends a job creates it in the same
//! step, from the field `webhook` that the submission wrote; so no crash can separate the two.

use redis::Value;
use serde::Deserialize;

use super::commands::Commands;
use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::read::{self, Attempt};
use super::record::{self, JobRecord, Lookup};
use super::transfer::MinRate;
use super::{Broker, Settings, reply};
use crate::job::{JobId, JobOptions, Partition, Status, TraceContext};
use crate::time::Timestamp;

/// Bytes of a delivery's payload besides the URL as JSON; unused ones are spaces. `lua/lifecycle.lua` pads to the same
/// size.
const PAYLOAD_BYTES: usize = 96;
/// Maximum number of deliveries listed per job: the newest.
const MAX_LISTED: u16 = 20;
/// Maximum size of a delivery, for the time limit of its transfer: its message and the errors of ten attempts.
const DELIVERY_BYTES: u64 = 40 * 1024;

/// The receiver to notify of a job's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where to send notifications.
    pub url: String,
    /// The statuses to notify of; all terminal.
    pub events: Vec<Status>,
    /// The options of deliveries; `payload_size` is set by [`Webhook::new`].
    options: JobOptions,
    /// Id of the first delivery; later ones have the following numbers of its series.
    first: JobId,
}

impl Webhook {
    /// Creates a webhook of the job.
    #[must_use]
    pub fn new(job: JobId, url: String, events: Vec<Status>, options: JobOptions) -> Self {
        let payload_size = (PAYLOAD_BYTES + json(&url).len()) as u64;
        let first = JobId::first_of_many(job.partition());
        Self { url, events, options: JobOptions { payload_size, ..options }, first }
    }

    /// Returns it for its job in another partition.
    pub(super) fn moved_to(self, partition: Partition) -> Self {
        Self { first: self.first.moved_to(partition), ..self }
    }

    pub(super) fn set_trace(&mut self, trace: TraceContext) {
        self.options.trace = Some(trace);
    }

    /// The value of the field in the job's hash: four lines, none of which can contain a line break.
    pub(crate) fn field(&self) -> String {
        let events: Vec<_> = self.events.iter().map(|status| status.as_str()).collect();
        let options = serde_json::to_string(&self.options).expect("options are numbers and text");
        format!("{}\n{}\n{options}\n{}", events.join(" "), self.first, json(&self.url))
    }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// The payload of a delivery: which end to notify of, and where to send it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DeliveryOrder {
    /// The job that ended.
    pub job: JobId,
    /// The status in which it ended.
    #[serde(deserialize_with = "status")]
    pub status: Status,
    /// When it ended, ms.
    at: u64,
    /// Where to send it.
    pub url: String,
}

impl DeliveryOrder {
    /// When the job ended.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.at)
    }

    /// Whether a record still shows the end that this order reports: the job may have been retried since.
    #[must_use]
    pub fn is_end_of(&self, job: &JobRecord) -> bool {
        job.status == self.status && job.finished_at == Some(self.at())
    }
}

fn status<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// The state of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The job of the delivery.
    pub job: JobRecord,
    /// Its payload; `None` if it was deleted to free memory.
    pub order: Option<DeliveryOrder>,
    /// Up to ten attempts, the oldest first.
    pub attempts: Vec<Attempt>,
}

impl Broker {
    /// Returns the deliveries of a job that are still kept, the oldest first; at most 20. Two round trips.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn deliveries(&self, job: JobId) -> Result<Lookup<Vec<Delivery>>, Error> {
        let (found, more) = self.job_and_fields(job, &["webhook", "generation"]).await?;
        match found {
            Lookup::Found(_) => Ok(Lookup::Found(self.deliveries_of(&delivery_ids(more)?).await?)),
            Lookup::Gone(how) => Ok(Lookup::Gone(how)),
            Lookup::Unknown => Ok(Lookup::Unknown),
        }
    }

    async fn deliveries_of(&self, ids: &[JobId]) -> Result<Vec<Delivery>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = Commands::default();
        for &id in ids {
            add_read(commands.at(id.partition()), &self.settings, id);
        }
        // Each with its message and its history: twenty of them would delay small calls on the same connection too
        // much.
        let bytes = ids.len() as u64 * DELIVERY_BYTES;
        let values = self.pages.read_all(&commands, bytes, MinRate::ForCaller).await?;
        let read = ids.iter().zip(values).map(|(&id, value)| read_delivery(id, value));
        read.filter_map(Result::transpose).collect()
    }

    /// Stops notifying the receiver of this job's ends. Deliveries that were already created remain.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn mute(&self, job: JobId) -> Result<(), Error> {
        if !self.may_contain(job) {
            return Ok(());
        }
        let arguments = |command: &mut redis::Cmd| {
            command.arg(job.to_string());
        };
        self.link.call(Call::new(Function::Mute, job.partition()), arguments).await?;
        Ok(())
    }
}

/// The deliveries' ids: one per `generation` of the job; none for a job without webhook.
fn delivery_ids(fields: Vec<Value>) -> Result<Vec<JobId>, Error> {
    let [webhook, generation] = reply::fields(Value::Array(fields))?;
    if webhook == Value::Nil {
        return Ok(Vec::new());
    }
    let webhook = reply::text(webhook)?;
    let first = webhook.split('\n').nth(1).and_then(|id| id.parse::<JobId>().ok());
    let first = first.ok_or_else(|| {
        Error::unreadable("webhook of a job without the id of its first delivery")
    })?;
    let last = match generation {
        Value::Nil => 0,
        generation => u16::try_from(reply::unsigned(&generation)?).unwrap_or(u16::MAX),
    };
    Ok((last.saturating_sub(MAX_LISTED - 1)..=last).map(|number| first.another(number)).collect())
}

fn add_read(pipeline: &mut redis::Pipeline, settings: &Settings, id: JobId) {
    let key = settings.keys(id.partition()).job(id);
    pipeline.cmd("HMGET").arg(key).arg(&record::FIELDS).arg("payload").arg("history");
}

fn read_delivery(id: JobId, value: Value) -> Result<Option<Delivery>, Error> {
    let mut values = reply::array(value)?;
    let [order, history] = reply::fields(Value::Array(values.split_off(record::FIELDS.len())))?;
    let Lookup::Found(job) = record::read(id, Value::Array(values))? else { return Ok(None) };
    let order = match order {
        Value::Nil => None,
        order => serde_json::from_slice(&reply::bytes(order)?).ok(),
    };
    let attempts = read::attempts_of(&job, history)?;
    Ok(Some(Delivery { job, order, attempts }))
}
