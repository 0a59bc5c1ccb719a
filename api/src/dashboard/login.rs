//! Login and logout.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, web};
use askama::Template;
use tokio::time::Instant;

use super::page::{self, Page, Section};
use super::viewer::{self, Viewer};
use super::{Call, ROOT, posted, see_other};
use crate::address::network_of;
use crate::problem::{Problem, RATE_LIMITED};
use crate::query;

/// The largest login form: a key, and where to go on.
const MAX_FORM: u64 = 16 * 1024;

#[derive(Template)]
#[template(path = "dashboard/login.html")]
struct Login<'a> {
    next: &'a str,
    failure: Option<&'a str>,
}

/// Shows the form.
pub(super) fn form(call: &Call) -> Result<HttpResponse, Problem> {
    let pairs = query::pairs(call.request.query_string())?;
    let next = pairs.iter().find(|(name, _)| name == "next").map_or(ROOT, |(_, next)| next);
    ask(own_page(next), None)
}

fn ask(next: &str, failure: Option<&str>) -> Result<HttpResponse, Problem> {
    let page = Page::new("Log in", Section::None, &Login { next, failure })?;
    Ok(page::show_to_anyone(&page))
}

/// Sends a viewer without a session to the form, and later back to the page.
pub(super) fn redirect(call: &Call) -> HttpResponse {
    let request = &call.request;
    let wanted = match request.query_string() {
        "" => request.path().to_owned(),
        query => format!("{}?{query}", request.path()),
    };
    let query = query::encoded([("next", own_page(&wanted))].into_iter());
    see_other(&format!("{ROOT}/login?{query}"))
}

/// Returns a path of the dashboard as it is, and the overview instead of anything else: a link to the login page must
/// not lead to another site.
fn own_page(next: &str) -> &str {
    let is_own = next == ROOT || next.starts_with("/dashboard/") || next.starts_with("/dashboard?");
    let is_stream = next.starts_with("/dashboard/ticks");
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own && is_plain && !is_stream { next } else { ROOT }
}

/// Opens a session with the key in the form.
pub(super) async fn open(call: &Call, body: web::Payload) -> Result<HttpResponse, Problem> {
    let app = &call.app;
    app.browsers.require_own_page(call.request.head())?;
    let posted = posted::read_any(call, body, MAX_FORM).await?;
    let next = own_page(posted.get("next").unwrap_or(ROOT));
    let key = posted.get("key").unwrap_or_default();
    if let Some(caller) = app.authority.key_of(key).and_then(|key| app.authority.caller_with(&key))
    {
        app.limits.count(&caller, &call.request)?;
    }
    let sessions = &call.dashboard.sessions;
    let Some(secret) = sessions.open(&app.broker, &app.authority, key).await? else {
        return refuse(call, next);
    };
    let mut response = see_other(next);
    set_cookie(&mut response, &viewer::cookie(call).set(&secret));
    Ok(response)
}

fn refuse(call: &Call, next: &str) -> Result<HttpResponse, Problem> {
    let address = call.request.peer_addr().map(|peer| network_of(peer.ip()));
    call.dashboard.failed_logins.count(address, Instant::now()).map_err(|wait| {
        let detail = "too many logins have failed; Retry-After gives the time to wait";
        let seconds = wait.as_secs() + 1;
        Problem::new(RATE_LIMITED, detail).header(header::RETRY_AFTER, &seconds.to_string())
    })?;
    let mut response = ask(next, Some("The API key is not valid."))?;
    *response.status_mut() = actix_web::http::StatusCode::UNAUTHORIZED;
    Ok(response)
}

/// Ends the session of a viewer.
pub(super) async fn end(call: &Call, viewer: &Viewer) -> Result<HttpResponse, Problem> {
    call.dashboard.sessions.end(&call.app.broker, &viewer.secret).await?;
    let mut response = see_other(&format!("{ROOT}/login"));
    set_cookie(&mut response, &viewer::cookie(call).remove());
    Ok(response)
}

fn set_cookie(response: &mut HttpResponse, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_pages_of_the_dashboard_only() {
        for own in ["/dashboard", "/dashboard?a=b", "/dashboard/jobs?status=failed&task=t"] {
            assert_eq!(own_page(own), own);
        }
        for other in [
            "",
            "//evil.example",
            "https://evil.example/dashboard",
            "/dashboards",
            "/jobs",
            "/dashboard/\\evil",
            "/dashboard/a b",
            "/dashboard/a\r\nSet-Cookie: x",
            "/dashboard/ticks?page=/dashboard",
        ] {
            assert_eq!(own_page(other), ROOT, "{other}");
        }
    }
}
