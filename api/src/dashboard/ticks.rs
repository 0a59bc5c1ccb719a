//! Reports that a page has changed, as server-sent events: a tick has the version of the page and no content, and the
//! browser reads the page again. So a page needs nothing to be live, and no state is kept for a viewer.

use std::time::Duration;

use actix_web::http::{Method, header};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::stream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::jobs::Filters;
use super::viewer::Viewer;
use super::{Call, Dashboard, ROOT, kept};
use crate::auth::Scope;
use crate::places::Place;
use crate::problem::{NOT_FOUND, Problem};
use crate::query;
use crate::state::App;

const INTERVAL: Duration = Duration::from_secs(1);
/// How many pages are made for streams at the same time. A viewer may have many streams of different pages: they are
/// late then, and requests are not.
const MADE_AT_ONCE: usize = 4;
/// A comment is sent after this long without a tick, so that proxies keep the connection.
const SILENCE: u32 = 15;

/// The turns in which pages are made for streams.
#[derive(Debug)]
pub(super) struct LivePages(Semaphore);

impl Default for LivePages {
    fn default() -> Self {
        Self(Semaphore::new(MADE_AT_ONCE))
    }
}

/// Streams the versions of the page in the parameter `page`, beginning with the current one.
///
/// # Errors
/// If the viewer has too many streams, or the parameter is no page.
pub(super) async fn stream(
    call: &Call,
    viewer: &Viewer,
    query: &str,
) -> Result<HttpResponse, Problem> {
    let pairs = query::pairs(query)?;
    let page = pairs.iter().find(|(name, _)| name == "page").map(|(_, page)| page.as_str());
    let page = page.filter(|page| page.starts_with(ROOT));
    let page = page.ok_or_else(|| Problem::new(NOT_FOUND, "there is no such page"))?;
    let (path, query) = page.split_once('?').unwrap_or((page, ""));
    // What forms ask is not live, and to count jobs or to search takes longer than other pages.
    let filters = Filters::read(query)?;
    let is_search = path == "/dashboard/jobs" && (filters.has_labels() || filters.is_summary());
    let is_form = ["/dashboard/jobs/actions", "/dashboard/jobs/new"];
    if is_search || is_form.iter().any(|form| path.starts_with(form)) {
        return Err(Problem::new(NOT_FOUND, "this page is not live"));
    }
    call.app.limits.count(&viewer.caller, &call.request)?;
    let ticks = Ticks {
        dashboard: call.dashboard.clone(),
        app: call.app.clone(),
        viewer: viewer.clone(),
        path: path.to_owned(),
        query: query.to_owned(),
        version: None,
        silent: 0,
        _place: call.app.places.take(viewer.caller.identity())?,
    };
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream").insert_header(("X-Accel-Buffering", "no"));
    if call.request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    Ok(response.streaming(stream::unfold(ticks, async |mut ticks| {
        let text = Box::pin(ticks.next()).await?;
        Some((Ok::<_, actix_web::Error>(Bytes::from(text)), ticks))
    })))
}

struct Ticks {
    dashboard: web::Data<Dashboard>,
    app: web::Data<App>,
    viewer: Viewer,
    path: String,
    query: String,
    /// The last one that was sent.
    version: Option<String>,
    /// For how many seconds nothing was sent.
    silent: u32,
    _place: Place,
}

impl Ticks {
    /// Waits for the next tick. `None` ends the stream: the session has ended, or this process is about to.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.version.is_some() {
                tokio::select! {
                    () = sleep_until(next_second()) => {}
                    () = self.app.watchers.closing() => return None,
                }
                self.check_session().await?;
            }
            if let Some(version) = self.changed().await {
                self.silent = 0;
                let tick = format!("event: tick\ndata: {version}\n\n");
                self.version = Some(version);
                return Some(tick);
            }
            self.silent += 1;
            if self.silent >= SILENCE {
                self.silent = 0;
                return Some(": still here\n\n".to_owned());
            }
        }
    }

    /// Returns the version of the page if it has changed. One that cannot be made is a version too: the browser shows
    /// the reason.
    async fn changed(&self) -> Option<String> {
        let at = (self.path.as_str(), self.query.as_str());
        // Fails only if it is closed, which it never is.
        let _turn = self.dashboard.live_pages.0.acquire().await;
        let page = kept::get(&self.dashboard, &self.app, &self.viewer, at).await;
        let version =
            page.map_or_else(|problem| problem.kind.slug.to_owned(), |it| it.version.clone());
        (self.version.as_ref() != Some(&version)).then_some(version)
    }

    /// `None` if the session has ended, or may not read any more. While Redis is unavailable it goes on.
    async fn check_session(&mut self) -> Option<()> {
        let (app, viewer) = (&self.app, &self.viewer);
        if app.authority.anyone(None).is_some() {
            return Some(());
        }
        let sessions = &self.dashboard.sessions;
        match sessions.caller(&app.broker, &app.authority, &viewer.secret).await {
            Err(problem) if problem.kind == crate::problem::UNAUTHORIZED => None,
            // Its rights may have changed.
            Ok(caller) => {
                self.viewer.caller = caller;
                self.viewer.may(Scope::Read).then_some(())
            }
            Err(_) => Some(()),
        }
    }
}

/// The next whole second of this process: all streams tick at the same time, so that one page serves all of them.
fn next_second() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    let passed = start.elapsed().as_secs() + 1;
    start + INTERVAL * u32::try_from(passed).unwrap_or(u32::MAX)
}
