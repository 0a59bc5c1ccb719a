//! The deliveries of a job's webhook.

use actix_web::web;
use crunch_common::broker::Delivery;
use crunch_common::job::{JobError, Status};
use crunch_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Answer;
use super::job_access::{found_or_problem, visible_id};
use super::shared_parameters::JobPath;
use crate::auth::Caller;
use crate::document::{AttemptDocument, Items, ok};
use crate::state::App;
use crate::webhook::event;

/// One message about a job's end, with all attempts to send it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryDocument {
    /// The header `webhook-id`: the same in every attempt.
    id: String,
    /// `job.succeeded`, `job.failed` or `job.canceled`.
    event: Option<String>,
    url: Option<String>,
    /// `queued`, `running`, `retrying`, `succeeded`, `failed`, or `canceled`.
    status: String,
    /// Attempts so far, the current one included.
    attempt: u32,
    max_attempts: u32,
    /// When the next attempt is made, if one is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_at: Option<Timestamp>,
    /// The status of the receiver's last answer, if any.
    response_status: Option<u16>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// Up to ten, the oldest first.
    attempts: Vec<AttemptDocument>,
}

/// Deliveries of a job's webhook, oldest first.
#[utoipa::path(get, path = "/jobs/{id}/deliveries", tag = "jobs", operation_id = "listDeliveries",
    params(JobPath),
    responses((status = 200, description = "One for each time the job ended; kept for 24 hours after the delivery ended", body = Items<DeliveryDocument>)))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    let id = visible_id(&app, &caller, &id).await?;
    let deliveries = found_or_problem(app.broker.deliveries(id).await?)?;
    Ok(ok(&Items { items: deliveries.into_iter().map(DeliveryDocument::from).collect() }))
}

impl From<Delivery> for DeliveryDocument {
    fn from(delivery: Delivery) -> Self {
        let Delivery { job, order, attempts } = delivery;
        let delivered = job.result.as_ref().and_then(|result| result.inline.as_deref());
        let delivered = delivered.and_then(|json| serde_json::from_slice::<Delivered>(json).ok());
        let failed_with = job.error.as_ref().and_then(status_in);
        let ordered = order.as_ref().map(|order| event(order.status));
        Self {
            id: job.id.to_string(),
            event: ordered.or_else(|| delivered.as_ref().map(|it| it.event.clone())),
            url: order.map(|order| order.url),
            status: job.status.to_string(),
            attempt: job.attempt,
            max_attempts: job.options.max_attempts,
            next_at: job.run_at.filter(|_| job.status == Status::Retrying),
            response_status: delivered.map(|it| it.status).or(failed_with),
            created_at: job.created_at,
            finished_at: job.finished_at,
            attempts: attempts.into_iter().map(AttemptDocument::from).collect(),
        }
    }
}

/// The result of a delivery.
#[derive(Deserialize)]
struct Delivered {
    event: String,
    status: u16,
}

/// Returns the status in the error code of a failed attempt.
fn status_in(error: &JobError) -> Option<u16> {
    match error.code.as_str() {
        "webhook_gone" => Some(410),
        code => code.strip_prefix("http_")?.parse().ok(),
    }
}
