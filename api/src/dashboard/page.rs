//! A page, and what is around it: the frame with navigation and search, and the headers that restrict what a browser
//! does with it.

use std::fmt;
use std::sync::LazyLock;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use crunch_common::time::Timestamp;
use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};

use super::assets;
use super::posted::TOKEN;
use super::viewer::Viewer;
use crate::etag;
use crate::problem::{INTERNAL, Problem};

/// What stands for the viewer's form token in a page that is kept for several viewers. No text of a job can contain it.
static PLACEHOLDER: LazyLock<String> =
    LazyLock::new(|| format!("form-token-{}", Alphanumeric.sample_string(&mut rand::rng(), 32)));

/// The hidden field that every form has.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenField;

impl fmt::Display for TokenField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<input type=\"hidden\" name=\"{TOKEN}\" value=\"{}\">", *PLACEHOLDER)
    }
}

impl askama::filters::HtmlSafe for TokenField {}

/// The main part of a page: the same for all viewers with the same rights.
#[derive(Debug)]
pub(super) struct Page {
    title: String,
    section: Section,
    main: String,
    /// Changes with its content.
    pub(super) version: String,
}

/// The entries of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Queues,
    Jobs,
    Errors,
    Workers,
    Tasks,
    Schedules,
    Deliveries,
    Actions,
    System,
    None,
}

const NAVIGATION: [(Section, &str, &str); 10] = [
    (Section::Overview, "Overview", "/dashboard"),
    (Section::Queues, "Queues", "/dashboard/queues"),
    (Section::Jobs, "Jobs", "/dashboard/jobs"),
    (Section::Errors, "Errors", "/dashboard/errors"),
    (Section::Workers, "Workers", "/dashboard/workers"),
    (Section::Tasks, "Tasks", "/dashboard/tasks"),
    (Section::Schedules, "Schedules", "/dashboard/schedules"),
    (Section::Deliveries, "Deliveries", "/dashboard/deliveries"),
    (Section::Actions, "Actions", "/dashboard/actions"),
    (Section::System, "System", "/dashboard/system"),
];

impl Page {
    /// Writes a page.
    ///
    /// # Errors
    /// If the template fails, which only an error of the program can cause.
    pub(super) fn new(
        title: impl Into<String>,
        section: Section,
        template: &impl Template,
    ) -> Result<Self, Problem> {
        let main = template.render().map_err(|error| unwritten(&error))?;
        let hash = Sha256::digest(&main);
        let version = hash.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { title: title.into(), section, main, version })
    }
}

impl Page {
    /// How many bytes it has.
    pub(super) fn size(&self) -> usize {
        self.main.len()
    }
}

pub(super) fn unwritten(error: &askama::Error) -> Problem {
    tracing::error!(%error, "cannot write a page of the dashboard");
    Problem::new(INTERNAL, "the page cannot be written")
}

#[derive(Template)]
#[template(path = "dashboard/frame.html")]
struct Frame<'a> {
    title: &'a str,
    section: Section,
    main: &'a str,
    /// `None`: the page belongs to one request, and is not updated.
    version: Option<&'a str>,
    /// The time, ms: the clock of a viewer may be wrong.
    now: u64,
    /// `None`: nobody has logged in, or needs to.
    viewer: Option<&'a Viewer>,
    style: String,
    icon: String,
    /// `None`: the page is not updated.
    scripts: Option<[String; 2]>,
}

impl Frame<'_> {
    fn navigation(&self) -> &'static [(Section, &'static str, &'static str)] {
        if self.viewer.is_some() { &NAVIGATION } else { &[] }
    }
}

/// Answers a request for a page; 304 if the browser has this version of it.
pub(super) fn respond(request: &HttpRequest, viewer: &Viewer, page: &Page) -> HttpResponse {
    let tag = format!("\"{}\"", page.version);
    if etag::is_known(request, &tag) {
        return HttpResponse::NotModified().insert_header((header::ETAG, tag)).finish();
    }
    let mut response = html(HttpResponse::Ok(), page, Some(viewer), Some(&page.version));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Answers with a page that only this request has: it is not updated.
pub(super) fn show_once(page: &Page, viewer: &Viewer) -> HttpResponse {
    html(HttpResponse::Ok(), page, Some(viewer), None)
}

/// Answers with a page for those who have not logged in.
pub(super) fn show_to_anyone(page: &Page) -> HttpResponse {
    html(HttpResponse::Ok(), page, None, None)
}

fn html(
    mut response: actix_web::HttpResponseBuilder,
    page: &Page,
    viewer: Option<&Viewer>,
    version: Option<&str>,
) -> HttpResponse {
    let Page { title, section, main, .. } = page;
    let frame = Frame {
        title,
        section: *section,
        main,
        version,
        now: Timestamp::now().unix_ms(),
        viewer,
        style: assets::STYLE.path(),
        icon: assets::ICON.path(),
        scripts: viewer.map(|_| [assets::MORPH.path(), assets::LIVE.path()]),
    };
    let Ok(text) = frame.render().inspect_err(|error| drop(unwritten(error))) else {
        return HttpResponse::InternalServerError().finish();
    };
    let text = match viewer {
        Some(viewer) => text.replace(&*PLACEHOLDER, &viewer.secret.form_token()),
        None => text,
    };
    response.content_type("text/html; charset=utf-8").body(text)
}

#[derive(Template)]
#[template(path = "dashboard/problem.html")]
struct ProblemPage {
    title: &'static str,
    detail: String,
    errors: Vec<String>,
    slug: &'static str,
}

/// Answers with a page that explains a problem, with its status.
pub(super) fn problem(problem: &Problem, viewer: Option<&Viewer>) -> HttpResponse {
    let template = ProblemPage {
        title: problem.kind.title,
        detail: problem.detail().to_owned(),
        errors: problem.errors().map(|error| error.to_string()).collect(),
        slug: problem.kind.slug,
    };
    let Ok(page) = Page::new(problem.kind.title, Section::None, &template) else {
        return HttpResponse::InternalServerError().finish();
    };
    let mut response = html(HttpResponse::build(problem.kind.status), &page, viewer, None);
    for (name, value) in problem.headers() {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

/// The browser loads only files of this origin, runs no inline script, applies no inline style, sends forms only to
/// this origin, and shows no page inside another.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// `same-origin` instead of `no-referrer`, with which browsers send `Origin: null` with forms.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Adds the headers that every answer of the dashboard has, unless it has stricter ones.
pub(super) fn harden(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
