//! Which query parameters a route accepts, and whether it accepts a body. A typo must not have an effect: `?limt=5`
//! would redrive everything, and a filter with a typo would list all jobs; so would a parameter that is sent as a body.
//!
//! A test compares both with the OpenAPI document, which would take two megabytes to build here.
//! Submissions check their own, in the order of their checks.

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;

use crate::body::unused;
use crate::problem::Problem;
use crate::query;
use crate::search;

/// The filters of jobs, between other parameters.
macro_rules! with_filters {
    ([$($first:literal),*], [$($more:literal),*]) => {
        [
            $($first,)*
            "status",
            "task",
            "queue",
            "error",
            "created_after",
            "created_before",
            "finished_after",
            "finished_before",
            search::LABEL,
            search::SEARCH,
            $($more),*
        ]
    };
}

/// The query parameters of the list of jobs.
pub(crate) const JOBS: [&str; 12] = with_filters!([], ["limit", "cursor"]);

/// The query parameters of each route that has any.
const KNOWN: [(&str, &[&str]); 17] = [
    (
        "GET /actions",
        &["from", "to", "by", "action", "queue", "job", "worker", "error", "limit", "cursor"],
    ),
    ("GET /errors", &["queue", "task", "with_failed_jobs", "limit", "cursor"]),
    ("GET /history", &["step", "from", "to", "queue", "task"]),
    ("GET /jobs", &JOBS),
    ("GET /jobs/summary", &with_filters!([], ["by", "limit"])),
    ("GET /jobs/{id}", &["wait"]),
    ("GET /jobs/{id}/events", &["ticket"]),
    ("GET /jobs/{id}/logs", &["limit", "cursor"]),
    ("GET /jobs/{id}/result", &["wait"]),
    ("GET /queues", &["limit", "cursor"]),
    ("GET /queues/{queue}/groups", &["limit", "cursor"]),
    ("GET /result/{token}", &["wait"]),
    ("GET /schedules", &["limit", "cursor"]),
    ("GET /tasks", &["limit", "cursor"]),
    ("GET /workers", &["limit", "cursor"]),
    ("POST /jobs/actions", &with_filters!(["action"], ["dry_run", "limit", "cursor"])),
    ("POST /queues/{queue}/redrive", &["task", "limit"]),
];
/// The routes besides submissions that accept a body.
const WITH_BODY: [&str; 7] = [
    "POST /schedules/{name}/backfill",
    "POST /stream-tickets",
    "PUT /limits/{name}",
    "PUT /queues/{queue}/groups",
    "PUT /queues/{queue}/groups/{group}",
    "PUT /queues/{queue}/limit",
    "PUT /schedules/{name}",
];

/// Prefix of the markers that mailings and campaigns add to links.
const MARKERS: &str = "utm_";

/// How a route treats a parameter or a body that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It is rejected: verbs and lists.
    Refused,
    /// It is rejected unless it is a marker in a link: reads of one resource.
    RefusedButMarkers,
    /// It is ignored: pages for humans, and probes.
    Ignored,
}

/// What a route accepts as query string and body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepts {
    known: &'static [&'static str],
    /// The handler reads the body.
    body: bool,
    unknown: Unknown,
}

impl Accepts {
    /// Returns what a route accepts; HEAD is like GET.
    pub(crate) fn by(method: &Method, path: &str, unknown: Unknown) -> Self {
        let reads = [Method::GET, Method::HEAD].contains(method);
        let route = format!("{} {path}", if reads { &Method::GET } else { method });
        let known = KNOWN.iter().find(|(known, _)| *known == route);
        let unknown = if reads { unknown } else { Unknown::Refused };
        let body = WITH_BODY.contains(&route.as_str());
        Self { known: known.map_or(&[], |(_, names)| names), body, unknown }
    }

    /// Returns the value for a route that reads its query and its body itself.
    pub(crate) const fn anything() -> Self {
        Self { known: &[], body: true, unknown: Unknown::Ignored }
    }

    /// Rejects a parameter that is not known or is given twice, and a body where none is read.
    ///
    /// # Errors
    /// If there is one.
    pub(crate) async fn check(self, request: &mut ServiceRequest) -> Result<(), Problem> {
        self.check_query(request.query_string())?;
        if self.body || self.unknown == Unknown::Ignored {
            return Ok(());
        }
        unused::require_empty(request, self.known).await
    }

    fn check_query(self, query: &str) -> Result<(), Problem> {
        if query.is_empty() || self.unknown == Unknown::Ignored {
            return Ok(());
        }
        let pairs = query::pairs(query)?;
        let names = || pairs.iter().map(|(name, _)| name.as_str());
        let is_known = |name: &str| {
            let is_label = search::label(name).is_some() && self.known.contains(&search::LABEL);
            is_label || self.known.contains(&name)
        };
        let passes = |name: &str| {
            let marks = self.unknown == Unknown::RefusedButMarkers && name.starts_with(MARKERS);
            marks || is_known(name)
        };
        if let Some(name) = names().find(|&name| !passes(name)) {
            return Err(query::unknown(name, self.known.iter().copied()));
        }
        match query::repeated(names().filter(|name| is_known(name))) {
            Some(name) => Err(query::invalid(name, "is given twice")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(method: &Method, path: &str, unknown: Unknown, query: &str) -> String {
        let checked = Accepts::by(method, path, unknown).check_query(query);
        checked.map_or_else(|problem| problem.to_string(), |()| String::new())
    }

    #[test]
    fn what_is_accepted_is_what_the_document_lists() {
        let document = crate::openapi::document(&[], &[], "http://localhost");
        let document = serde_json::to_value(document).unwrap();
        let (mut with_query, mut with_body) = (Vec::new(), Vec::new());
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let route = format!("{} {path}", method.to_uppercase());
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let query = parameters.filter(|parameter| parameter["in"] == "query");
                let names: Vec<_> =
                    query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
                // A backfill submits jobs later, and checks its request as other routes do.
                let submits = operation["responses"].get("202").is_some()
                    && !path.ends_with("/backfill")
                    && operation.get("requestBody").is_some();
                if !submits && !names.is_empty() {
                    with_query.push((route.clone(), names));
                }
                if !submits && operation.get("requestBody").is_some() {
                    with_body.push(route);
                }
            }
        }
        with_query.sort();
        let known = KNOWN.map(|(route, names)| {
            (route.to_owned(), names.iter().map(|&name| name.to_owned()).collect())
        });
        assert_eq!(with_query, known);
        with_body.sort();
        assert_eq!(with_body, WITH_BODY);
    }

    #[test]
    fn what_a_route_does_not_know_is_refused_where_it_acts() {
        let redrive = |query| {
            refusal(&Method::POST, "/queues/{queue}/redrive", Unknown::RefusedButMarkers, query)
        };
        assert_eq!(redrive("limit=5&task=t"), "");
        assert_eq!(
            redrive("limt=5"),
            "invalid-parameter: limt: there is no such query parameter here; did you mean limit? Known: task, limit"
        );
        assert!(redrive("utm_source=mail").contains("utm_source"), "a verb takes no markers");
        assert_eq!(redrive("limit=5&limit=6"), "invalid-parameter: limit: is given twice");
        let list = |query| refusal(&Method::GET, "/jobs", Unknown::RefusedButMarkers, query);
        assert_eq!(list("metadata.customer=acme&metadata.a=b"), "");
        assert!(list("metadata.a=b&metadata.a=c").contains("given twice"));
        assert!(list("metadata=a").contains("did you mean metadata.{name}?"));
        assert!(redrive("metadata.a=b").contains("no such query parameter"));
        let job = |query| refusal(&Method::HEAD, "/jobs/{id}", Unknown::RefusedButMarkers, query);
        assert_eq!(job("wait=5&utm_source=mail&utm_source=x"), "");
        assert!(job("wiat=5").contains("did you mean wait?"));
        assert_eq!(refusal(&Method::GET, "/docs", Unknown::Ignored, "%ff&a&a"), "");
    }
}
