//! Checks every request before its handler: whether its caller may use the route, and whether the route knows its
//! parameters.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse, web};
use crunch_common::job::JobId;

use crate::accept::prefers_html;
use crate::address::network_of;
use crate::auth::{CHALLENGE, Caller, Scope, Ticket};
use crate::parameters::Accepts;
use crate::problem::{FORBIDDEN, INTERNAL, Problem};
use crate::query;
use crate::state::App;

/// What a route requires of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: every client that reaches the API may use it.
    Open,
    /// A key with this scope, where keys are required. Every request counts against the caller's rate.
    Needs(Scope),
    /// As [`Access::Needs`], or a ticket for the stream of the job in the path.
    NeedsOrTicket(Scope),
    /// As [`Access::Needs`]; a browser is sent to the page of the dashboard, which requires a session instead.
    NeedsOrPage(Scope),
    /// As [`Access::Needs`], but the handler counts the request itself, once it is known to be valid; it also checks
    /// the query itself.
    NeedsAndCounts(Scope),
}

impl Access {
    /// Returns the scope that a key must have.
    pub(crate) const fn scope(self) -> Option<Scope> {
        match self {
            Self::Open => None,
            Self::Needs(scope)
            | Self::NeedsOrTicket(scope)
            | Self::NeedsOrPage(scope)
            | Self::NeedsAndCounts(scope) => Some(scope),
        }
    }
}

impl From<Scope> for Access {
    fn from(scope: Scope) -> Self {
        Self::Needs(scope)
    }
}

/// Passes a request to its handler if its caller may use the route, and the route accepts its parameters.
pub(crate) async fn authorize(
    (access, accepts): (Access, Accepts),
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if let Some(page) = page_instead(access, &request) {
        let answer = HttpResponse::SeeOther()
            .insert_header((header::LOCATION, page))
            .insert_header((header::VARY, "Accept"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .finish();
        return Ok(request.into_response(answer));
    }
    match check(access, accepts, &mut request).await {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.call(request).await
        }
        Err(problem) => Ok(request.error_response(problem)),
    }
}

/// Returns the caller, if the route requires one; parameters and body are checked only after the caller.
async fn check(
    access: Access,
    accepts: Accepts,
    request: &mut ServiceRequest,
) -> Result<Option<Caller>, Problem> {
    let caller = identify(access, request)?;
    accepts.check(request).await?;
    Ok(caller)
}

/// Returns the caller, if the route requires one.
fn identify(access: Access, request: &ServiceRequest) -> Result<Option<Caller>, Problem> {
    let Some(scope) = access.scope() else { return Ok(None) };
    let app = request.app_data::<web::Data<App>>();
    let app = app.ok_or_else(|| Problem::new(INTERNAL, "internal error"))?;
    let address = request.peer_addr().map(|peer| network_of(peer.ip()));
    let ticket = Some(request).filter(|_| matches!(access, Access::NeedsOrTicket(_)));
    let caller = match ticket.and_then(ticket_in) {
        Some(ticket) => app.authority.redeem(&ticket, request, address)?,
        None => app.authority.identify(request.headers(), address)?,
    };
    if !caller.has(scope) {
        let detail = format!("the key lacks the scope {scope}");
        let challenge = format!("{CHALLENGE}, error=\"insufficient_scope\", scope=\"{scope}\"");
        return Err(Problem::new(FORBIDDEN, detail).header(header::WWW_AUTHENTICATE, &challenge));
    }
    if !matches!(access, Access::NeedsAndCounts(_)) {
        app.limits.count(&caller, request.request())?;
    }
    Ok(Some(caller))
}

/// Returns the page of a job for a browser. It needs no right: the page decides what it shows.
fn page_instead(access: Access, request: &ServiceRequest) -> Option<String> {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    let wanted = matches!(access, Access::NeedsOrPage(_)) && reads;
    let id: JobId = request.match_info().get("id").filter(|_| wanted)?.parse().ok()?;
    prefers_html(request.headers()).then(|| format!("/dashboard/jobs/{id}"))
}

/// Returns the ticket in the query of a request, valid or not.
fn ticket_in(request: &ServiceRequest) -> Option<String> {
    let pairs = query::pairs(request.query_string()).ok()?;
    pairs.into_iter().find(|(name, _)| name == Ticket::PARAMETER).map(|(_, ticket)| ticket)
}
