//! Tickets for event streams, for pages in browsers: `EventSource` cannot send a key.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use crunch_common::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::job_access::find_job;
use crate::auth::Caller;
use crate::problem::{Problem, Violation};
use crate::state::App;
use crate::{body, json};

/// The largest body: an id and the JSON around it need less.
const MAX_BODY: u64 = 1024;

/// The job for whose event stream a ticket is issued.
#[derive(ToSchema)]
#[schema(as = StreamTicketRequest)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct TicketRequest {
    /// The job's id.
    job: String,
}

/// A ticket, and the URL that contains it.
#[derive(Serialize, ToSchema)]
#[schema(as = StreamTicket)]
pub(crate) struct TicketDocument {
    /// Gives access to the event stream of this job only. A secret.
    ticket: String,
    /// For `new EventSource(url)`; contains the ticket.
    #[schema(format = "uri")]
    url: String,
    /// The stream must be opened before this time. An open one continues.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Issues a ticket for a job's event stream: for `EventSource`, which cannot send a key.
#[utoipa::path(post, path = "/stream-tickets", tag = "jobs", operation_id = "createStreamTicket",
    request_body = TicketRequest,
    responses(
        (status = 201, description = "A ticket that is valid for 60 seconds", body = TicketDocument),
        (status = 404, description = "There is no such job"),
        (status = 410, description = "It was deleted"),
    ))]
pub(crate) async fn create(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let bytes = body::json(&request, payload, &app.budgets.requests, MAX_BODY).await?;
    let id = job_in(json::check(&bytes)?).map_err(|wrong| Problem::violations(vec![wrong]))?;
    let job = find_job(&app, &caller, &id).await?;
    let ticket = caller.ticket(job.id);
    let document = TicketDocument {
        url: app.public_url.stream(job.id, &ticket),
        ticket: ticket.reveal(),
        expires_at: ticket.expires_at,
    };
    // No Location: proxies log headers.
    Ok(HttpResponse::Created().insert_header((header::CACHE_CONTROL, "no-store")).json(document))
}

/// Returns the only member of the body.
fn job_in(text: &str) -> Result<String, Violation> {
    let members = json::Members::of(text);
    let members = members.ok_or_else(|| Violation::new("", "expected {\"job\": \"<id>\"}"))?;
    if let Some((name, _)) = members.all.iter().find(|(name, _)| name != "job") {
        return Err(Violation::new(
            json::pointer_segment(name),
            format!("there is no member {name:?} here, only \"job\""),
        ));
    }
    match &members.all[..] {
        [] => Err(Violation::new("/job", "is missing")),
        [(_, job)] => serde_json::from_str(job.get())
            .map_err(|_| Violation::new("/job", "expected the id of a job")),
        _ => Err(Violation::new("/job", "is given twice")),
    }
}
