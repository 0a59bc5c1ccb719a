//! What stands in front of every handler: who may have what the route offers, and what of a request the route knows.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};

use crate::address::network_of;
use crate::auth::{CHALLENGE, Caller, Scope, Ticket};
use crate::parameters::Accepts;
use crate::problem::{FORBIDDEN, INTERNAL, Problem};
use crate::query;
use crate::state::App;

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: whoever reaches the API may ask.
    Open,
    /// A key with that scope, where callers must show one. Every request counts against the caller's rate.
    Needs(Scope),
    /// As [`Access::Needs`], or a ticket for the stream of the job in the path.
    NeedsOrTicket(Scope),
    /// As [`Access::Needs`], but the handler counts the request itself, once it knows that the request is a valid one; it checks the query
    /// itself as well.
    NeedsAndCounts(Scope),
}

impl Access {
    /// The scope a key must have.
    pub(crate) const fn scope(self) -> Option<Scope> {
        match self {
            Self::Open => None,
            Self::Needs(scope) | Self::NeedsOrTicket(scope) | Self::NeedsAndCounts(scope) => {
                Some(scope)
            }
        }
    }
}

impl From<Scope> for Access {
    fn from(scope: Scope) -> Self {
        Self::Needs(scope)
    }
}

/// Lets a request through to its handler if its caller may have what the route offers, and the route knows what is asked.
pub(crate) async fn authorize(
    (access, accepts): (Access, Accepts),
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    match admitted(access, accepts, &mut request).await {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.call(request).await
        }
        Err(problem) => Ok(request.error_response(problem)),
    }
}

/// Who it is, if the route asks for somebody; what a stranger sends is not looked at.
async fn admitted(
    access: Access,
    accepts: Accepts,
    request: &mut ServiceRequest,
) -> Result<Option<Caller>, Problem> {
    let caller = admit(access, request)?;
    accepts.check(request).await?;
    Ok(caller)
}

/// Who it is, if the route asks for somebody.
fn admit(access: Access, request: &ServiceRequest) -> Result<Option<Caller>, Problem> {
    let Some(scope) = access.scope() else { return Ok(None) };
    let app = request.app_data::<web::Data<App>>();
    let app = app.ok_or_else(|| Problem::new(INTERNAL, "nobody can be let in"))?;
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

/// The ticket in the query of a request, whatever it may be.
fn ticket_in(request: &ServiceRequest) -> Option<String> {
    let pairs = query::pairs(request.query_string()).ok()?;
    pairs.into_iter().find(|(name, _)| name == Ticket::PARAMETER).map(|(_, ticket)| ticket)
}
