//! Who looks at a page, and with which rights.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpMessage, HttpResponse};

use super::secret::{Cookie, Secret};
use super::{Call, lacks};
use crate::address::network_of;
use crate::auth::{Caller, Scope};
use crate::problem::{Problem, UNAUTHORIZED};

/// The sender of a request to the dashboard.
#[derive(Debug, Clone)]
pub(super) struct Viewer {
    pub(super) caller: Caller,
    pub(super) secret: Secret,
    /// `Set-Cookie`, if the browser does not have the secret yet.
    cookie: Option<String>,
}

/// Returns the viewer of a request; the page that explains a problem finds it there, too.
///
/// # Errors
/// 401 if keys are required and the request has no session; 503 if Redis is unavailable.
pub(super) async fn of(call: &Call) -> Result<Viewer, Problem> {
    let viewer = identify(call).await?;
    call.request.extensions_mut().insert(viewer.clone());
    Ok(viewer)
}

async fn identify(call: &Call) -> Result<Viewer, Problem> {
    let cookie = cookie(call);
    let secret = secret(call);
    let address = call.request.peer_addr().map(|peer| network_of(peer.ip()));
    // Without keys there are no sessions. The secret only binds forms to this browser.
    if let Some(caller) = call.app.authority.anyone(address) {
        let known = secret.is_some();
        let secret = secret.unwrap_or_else(Secret::generate);
        let cookie = (!known).then(|| cookie.set(&secret));
        return Ok(Viewer { caller, secret, cookie });
    }
    let no_session = || Problem::new(UNAUTHORIZED, "log in with an API key");
    let secret = secret.ok_or_else(no_session)?;
    let app = &call.app;
    let caller = call.dashboard.sessions.caller(&app.broker, &app.authority, &secret).await?;
    Ok(Viewer { caller, secret, cookie: None })
}

/// Returns the secret in the cookie of a request.
pub(super) fn secret(call: &Call) -> Option<Secret> {
    let headers = call.request.headers().get_all(header::COOKIE);
    cookie(call).read(headers.filter_map(|value| value.to_str().ok()))
}

/// Returns the form of the cookie in this deployment.
pub(super) fn cookie(call: &Call) -> Cookie {
    Cookie { secure: call.app.public_url.to_string().starts_with("https:") }
}

impl Viewer {
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.caller.has(scope)
    }

    /// # Errors
    /// 403 if the viewer's key lacks the scope.
    pub(super) fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) { Ok(()) } else { Err(lacks(scope)) }
    }

    /// What the viewer may do, for templates.
    pub(super) fn rights(&self) -> Rights {
        Rights {
            submit: self.may(Scope::Submit),
            cancel: self.may(Scope::Cancel),
            admin: self.may(Scope::Admin),
        }
    }

    /// Adds the cookie to an answer, if the browser does not have it yet.
    pub(super) fn remember(&self, mut response: HttpResponse) -> HttpResponse {
        if let Some(cookie) = self.cookie.as_deref().and_then(|it| HeaderValue::from_str(it).ok()) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }
}

/// Which verbs a page offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rights {
    pub(super) submit: bool,
    pub(super) cancel: bool,
    pub(super) admin: bool,
}
