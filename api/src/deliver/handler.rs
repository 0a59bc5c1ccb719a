//! Makes deliveries: reads the job, builds the message, signs it, sends it, evaluates the answer, settles.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crunch_common::broker::{
    Broker, Claim, ClaimedJob, DeliveryOrder, Error, Lease, LeaseKey, Lookup, ReleaseCause,
    Settlement, TaskNames, Verdict,
};
use crunch_common::job::{ErrorCode, JobError, JobId, Payload, TraceContext};
use crunch_common::telemetry::{LogLimit, LogLimits};
use crunch_common::time::Timestamp;
use crunch_consumer::{Ended, Leases, Monitor, Runner, Slot, Tallies};
use crunch_otel::{Otel, Post};
use http_body_util::Full;
use hyper::{Request, header};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::judge::{Judgement, Plan};
use super::message;
use super::post::{PostClient, Unanswered};
use super::share::Shares;
use crate::metrics;
use crate::problem::BURST;
use crate::webhook::{ATTEMPT_TIMEOUT, Target, Webhooks, event};

/// Every client that may submit can choose a receiver that rejects everything: a burst of one receiver logs one line.
/// All deliveries are in `GET /jobs/{id}/deliveries`.
static RETRIED: LazyLock<LogLimits<String>> = LazyLock::new(limits_by_receiver);
static GIVEN_UP: LazyLock<LogLimits<String>> = LazyLock::new(limits_by_receiver);
static UNREAD: LogLimit = LogLimit::new(BURST);
/// Further receivers share one limit: clients choose the host names.
const RECEIVERS: usize = 256;

fn limits_by_receiver() -> LogLimits<String> {
    LogLimits::new(BURST, RECEIVERS)
}

/// For how long the lease of a delivery is extended at most: its attempt, and the calls of Redis around it, take less.
const LONGEST_DELIVERY: Duration = Duration::from_secs(60);

/// The value of `User-Agent`.
const USER_AGENT: &str = concat!("crunch/", env!("CARGO_PKG_VERSION"));

pub(super) struct DeliveryHandler {
    pub(super) broker: Broker,
    pub(super) webhooks: Arc<Webhooks>,
    pub(super) client: PostClient,
    pub(super) shares: Arc<Shares>,
    pub(super) leases: Arc<Leases>,
    pub(super) tallies: Arc<Tallies>,
    /// Cancelled to release the deliveries in flight.
    pub(super) hurry: CancellationToken,
    pub(super) otel: Otel,
}

/// What to deliver, and where.
struct Delivery {
    order: DeliveryOrder,
    target: Target,
}

impl Runner for DeliveryHandler {
    type Job = (Claim, Slot);

    fn admit(&self, claim: Claim, slot: Slot) -> Result<Self::Job, Settlement> {
        self.leases.hold(claim.lease.key(), Instant::now() + LONGEST_DELIVERY);
        Ok((claim, slot))
    }

    async fn run(&self, (claim, slot): Self::Job) -> Option<Ended> {
        let (queue, task, begun) =
            (claim.job.queue.clone(), claim.job.task.clone(), Instant::now());
        let settlement = self.deliver(claim).await;
        metrics::delivered(settlement.word());
        self.tallies.ended(&queue, &task, settlement.word(), begun.elapsed());
        drop(slot);
        Some(Ended { settlement, slot: None })
    }

    /// None: deliveries are not parked.
    fn tasks(&self) -> TaskNames {
        TaskNames::default()
    }
}

impl Monitor for DeliveryHandler {
    /// An attempt is short, so it runs to its end: settling it then cancels the delivery if that was requested, or is
    /// rejected.
    fn stop(&self, lease: LeaseKey, verdict: Verdict) {
        tracing::debug!(job.id = %lease.id, ?verdict, "a delivery ends although it should stop");
    }

    fn busy(&self) -> usize {
        self.leases.count()
    }
}

impl DeliveryHandler {
    /// Makes a delivery; always ends, within the time limits of an attempt and of the broker.
    async fn deliver(&self, claim: Claim) -> Settlement {
        // The Redis function that ends a job creates the delivery: its payload is always in the claim.
        let Claim { lease, job, .. } = claim;
        let delivery = match read(&job) {
            Ok(delivery) => delivery,
            Err(error) => return lease.fail(error),
        };
        let Some(_share) = self.shares.take(delivery.target.authority()) else {
            // Uncharged, and after a delay: the receiver is busy with other deliveries of this API.
            return lease.release(ReleaseCause::Receiver);
        };
        match self.hurry.run_until_cancelled(self.attempt(&job, &delivery)).await {
            None => lease.release(ReleaseCause::Worker),
            Some(Err(error)) => {
                if let Some(left_out) = UNREAD.admit() {
                    tracing::warn!(job.id = %delivery.order.job, %error, left_out, "cannot read the job of a webhook from Redis, retrying");
                }
                // Uncharged: nothing was sent to the receiver. And not at once: Redis should recover first.
                lease.release(ReleaseCause::Machine(error.to_string()))
            }
            Some(Ok(judgement)) => settle(lease, &job, &delivery, judgement),
        }
    }

    /// Makes an attempt, and returns what follows from it.
    async fn attempt(&self, job: &ClaimedJob, delivery: &Delivery) -> Result<Judgement, Error> {
        let ended = match self.broker.job(delivery.order.job).await? {
            Lookup::Found(job) => Some(job),
            Lookup::Gone(_) | Lookup::Unknown => None,
        };
        let plan = Plan {
            attempt: job.attempt,
            max_attempts: job.options.max_attempts,
            delays: &self.webhooks.delays,
        };
        let posting = self.otel.posting(job.options.trace.as_ref());
        let trace = posting.context().or(job.options.trace.as_ref());
        let body = message::build(&delivery.order, ended);
        let request = match self.request(job.id, delivery, body, trace) {
            Ok(request) => request,
            Err(error) => return Ok(Judgement::GivenUp(invalid(&error))),
        };
        let sent = self.client.send(&self.webhooks.guard, &delivery.target, request);
        let mut status = None;
        let judgement = match tokio::time::timeout(ATTEMPT_TIMEOUT, sent).await {
            Ok(Ok(answer)) => {
                status = Some(answer.status);
                plan.answered(&answer)
            }
            Ok(Err(why)) => {
                if let Unanswered::Unreachable(error) = &why {
                    tracing::debug!(job.id = %delivery.order.job, to = %delivery.target, %error, "cannot connect to a webhook receiver");
                }
                plan.unanswered(&why)
            }
            Err(_) => plan.late(),
        };
        posting.ended(&post(job, delivery, status, &judgement));
        if matches!(judgement, Judgement::Gone(_)) {
            // Before it is settled: if this process dies in between, the receiver answers 410 once more.
            self.broker.mute(delivery.order.job).await?;
        }
        Ok(judgement)
    }

    /// Builds the signed request. The id is the same in all attempts and the time is not: so a receiver can detect
    /// repetitions, and reject replays.
    fn request(
        &self,
        id: JobId,
        delivery: &Delivery,
        body: Vec<u8>,
        trace: Option<&TraceContext>,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let (id, seconds) = (id.to_string(), Timestamp::now().unix_ms() / 1000);
        let signature = self.webhooks.secrets.sign(&id, seconds, &body);
        let mut request = Request::post(delivery.target.path_and_query())
            .header(header::HOST, delivery.target.authority())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature);
        if let Some(trace) = trace {
            request = request.header("traceparent", trace.traceparent());
            if let Some(state) = trace.tracestate() {
                request = request.header("tracestate", state);
            }
        }
        request.body(Full::new(body.into()))
    }
}

/// The request as it is exported.
fn post<'a>(
    job: &ClaimedJob,
    delivery: &'a Delivery,
    status: Option<u16>,
    judgement: &'a Judgement,
) -> Post<'a> {
    let target = &delivery.target;
    Post {
        scheme: if target.is_https() { "https" } else { "http" },
        authority: target.authority(),
        host: target.host().to_string(),
        port: target.port(),
        job: delivery.order.job,
        attempt: job.attempt,
        status,
        error: judgement.error().map(|error| error.code.as_str()),
    }
}

fn read(job: &ClaimedJob) -> Result<Delivery, JobError> {
    let order: DeliveryOrder =
        serde_json::from_slice(&job.payload.bytes).map_err(|error| invalid(&error))?;
    let target = order.url.parse().map_err(|error| invalid(&error))?;
    Ok(Delivery { order, target })
}

fn invalid(error: &dyn std::error::Error) -> JobError {
    JobError::permanent(ErrorCode::payload_invalid(), error.to_string())
}

fn settle(lease: Lease, job: &ClaimedJob, delivery: &Delivery, judgement: Judgement) -> Settlement {
    let (ended, to, attempt) = (delivery.order.job, &delivery.target, job.attempt);
    match judgement {
        Judgement::Delivered { status } => {
            tracing::debug!(job.id = %ended, %to, attempt, status, "webhook delivered");
            let result = json!({ "event": event(delivery.order.status), "status": status });
            lease.complete(Payload::json(result.to_string()))
        }
        Judgement::Again { error, delay } => {
            if let Some(left_out) = RETRIED.admit(&to.authority().to_owned()) {
                tracing::info!(job.id = %ended, %to, attempt, delay_ms = delay.as_millis(), code = %error.code, left_out, "webhook not delivered, another attempt follows");
            }
            lease.retry(error, delay)
        }
        Judgement::Gone(error) | Judgement::GivenUp(error) => {
            if let Some(left_out) = GIVEN_UP.admit(&to.authority().to_owned()) {
                tracing::warn!(job.id = %ended, %to, attempt, code = %error.code, left_out, "webhook not delivered, giving up");
            }
            lease.fail(error)
        }
    }
}
