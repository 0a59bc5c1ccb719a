//! Telling the end of a job: who is events, and the deliveries that were made.
//!
//! A delivery is an ordinary job of a reserved task and queue. The function that ends a job makes it in the same step, from
//! what the submission left in the job's field `webhook`; so nothing that can crash stands between the two.

use redis::Value;
use serde::Deserialize;

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::read::{self, Attempt};
use super::record::{self, JobRecord, Lookup};
use super::transfer::MinRate;
use super::{Broker, Settings, reply};
use crate::job::{JobId, JobOptions, Status};
use crate::time::Timestamp;

/// Bytes of a delivery's payload beside the URL as JSON; the rest is blanks. `lua/lifecycle.lua` pads to the same.
const PAYLOAD_BYTES: usize = 96;
/// No more deliveries of one job are listed: the newest.
const LISTED: u16 = 20;
/// What a delivery takes at most, as far as time for its way is concerned: its message and the errors of ten attempts.
const DELIVERY_BYTES: u64 = 40 * 1024;

/// Whom to tell of a job's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where to send it.
    pub url: String,
    /// The ends that are told; terminal ones.
    pub events: Vec<Status>,
    /// How deliveries are run. The size of their payload is set here.
    options: JobOptions,
    /// Id of the first delivery; later ones follow it.
    first: JobId,
}

impl Webhook {
    /// A webhook of that job.
    #[must_use]
    pub fn new(job: JobId, url: String, events: Vec<Status>, options: JobOptions) -> Self {
        let payload_size = (PAYLOAD_BYTES + json(&url).len()) as u64;
        let first = JobId::first_of_many(job.partition());
        Self { url, events, options: JobOptions { payload_size, ..options }, first }
    }

    /// As it stands in the job's hash: four lines, none of which can hold a line break.
    pub(crate) fn field(&self) -> String {
        let events: Vec<_> = self.events.iter().map(|status| status.as_str()).collect();
        let options = serde_json::to_string(&self.options).expect("options are numbers and text");
        format!("{}\n{}\n{options}\n{}", events.join(" "), self.first, json(&self.url))
    }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// The payload of a delivery: what is to be told to whom.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DeliveryOrder {
    /// The job that ended.
    pub job: JobId,
    /// How it ended.
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

    /// Whether a record still shows the very end that is to be events: a job may have been given another life since.
    #[must_use]
    pub fn is_end_of(&self, job: &JobRecord) -> bool {
        job.status == self.status && job.finished_at == Some(self.at())
    }
}

fn status<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// A delivery as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The delivery, as the job that it is.
    pub job: JobRecord,
    /// What is told; `None` if it was forgotten to make room.
    pub order: Option<DeliveryOrder>,
    /// Up to ten attempts, the oldest first.
    pub attempts: Vec<Attempt>,
}

impl Broker {
    /// The deliveries of a job that are still kept, the oldest first; at most 20. Two round trips.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn deliveries(&self, job: JobId) -> Result<Lookup<Vec<Delivery>>, Error> {
        let (found, more) = self.job_and(job, &["webhook", "generation"]).await?;
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
        let mut pipeline = redis::pipe();
        for &id in ids {
            ask_for(&mut pipeline, &self.settings, id);
        }
        // Each with its message and its history: twenty of them are more than small calls should wait behind.
        let bytes = ids.len() as u64 * DELIVERY_BYTES;
        let values = self.pages.read(&pipeline, bytes, MinRate::ForCaller).await?;
        let read = ids.iter().zip(values).map(|(&id, value)| read_delivery(id, value));
        read.filter_map(Result::transpose).collect()
    }

    /// Tells nobody of this job's ends any more. Deliveries that are made already stay.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn mute(&self, job: JobId) -> Result<(), Error> {
        if !self.holds(job) {
            return Ok(());
        }
        let arguments = |command: &mut redis::Cmd| {
            command.arg(job.to_string());
        };
        self.link.call(Call::new(Function::Mute, job.partition()), arguments).await?;
        Ok(())
    }
}

/// One delivery a life of the job: none of a job without webhook.
fn delivery_ids(fields: Vec<Value>) -> Result<Vec<JobId>, Error> {
    let [webhook, generation] = reply::fields(Value::Array(fields))?;
    if webhook == Value::Nil {
        return Ok(Vec::new());
    }
    let webhook = reply::text(webhook)?;
    let first = webhook.split('\n').nth(1).and_then(|id| id.parse::<JobId>().ok());
    let first = first.ok_or_else(|| Error::unreadable("a webhook without deliveries"))?;
    let last = match generation {
        Value::Nil => 0,
        generation => u16::try_from(reply::unsigned(&generation)?).unwrap_or(u16::MAX),
    };
    Ok((last.saturating_sub(LISTED - 1)..=last).map(|number| first.another(number)).collect())
}

fn ask_for(pipeline: &mut redis::Pipeline, settings: &Settings, id: JobId) {
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
