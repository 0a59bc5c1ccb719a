//! Which query parameters a route knows, and whether it takes a body. A typo must not act: `?limt=5` would redrive everything,
//! and a filter with a typo would list everybody's jobs; so would a parameter that is sent as a body.
//!
//! Both are what the route's OpenAPI annotation lists, so the document and what is accepted cannot differ.
//! Submissions check theirs themselves, in the order of their checks.

use std::collections::HashMap;
use std::sync::OnceLock;

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;

use crate::body::unused;
use crate::openapi::{self, Inputs};
use crate::problem::Problem;
use crate::query;

/// Markers that links grow on their way through mails and campaigns.
const MARKERS: &str = "utm_";

/// What is done with a parameter or a body that a route does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It is refused: verbs and lists.
    Refused,
    /// It is refused unless it is a marker in a link: reads of one resource.
    RefusedButMarkers,
    /// It is ignored: pages for people, and what supervisors ask.
    Ignored,
}

/// What a route does with a query string and a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepts {
    known: &'static [String],
    /// The handler reads the body.
    body: bool,
    unknown: Unknown,
}

impl Accepts {
    /// What is accepted by a route that the OpenAPI document lists; HEAD is as GET.
    pub(crate) fn by(method: &Method, path: &str, unknown: Unknown) -> Self {
        static ALL: OnceLock<HashMap<(Method, String), Inputs>> = OnceLock::new();
        let listed = if *method == Method::HEAD { &Method::GET } else { method };
        let key = (listed.clone(), path.to_owned());
        let inputs = ALL.get_or_init(openapi::inputs).get(&key);
        let reads = *listed == Method::GET;
        let unknown = if reads { unknown } else { Unknown::Refused };
        let known = inputs.map_or(&[][..], |inputs| &inputs.query);
        Self { known, body: inputs.is_some_and(|inputs| inputs.body), unknown }
    }

    /// What is accepted by a route that reads its query and its body itself.
    pub(crate) const fn anything() -> Self {
        Self { known: &[], body: true, unknown: Unknown::Ignored }
    }

    /// Refuses a parameter that is not known or comes twice, and a body where none is read.
    ///
    /// # Errors
    /// If there is one.
    pub(crate) async fn check(self, request: &mut ServiceRequest) -> Result<(), Problem> {
        self.check_query(request.query_string())?;
        if self.body || self.unknown == Unknown::Ignored {
            return Ok(());
        }
        unused::refuse(request, self.known).await
    }

    fn check_query(self, query: &str) -> Result<(), Problem> {
        if query.is_empty() || self.unknown == Unknown::Ignored {
            return Ok(());
        }
        let pairs = query::pairs(query)?;
        let names = || pairs.iter().map(|(name, _)| name.as_str());
        let passes = |name: &str| {
            let marks = self.unknown == Unknown::RefusedButMarkers && name.starts_with(MARKERS);
            marks || self.known.iter().any(|known| known == name)
        };
        if let Some(name) = names().find(|&name| !passes(name)) {
            return Err(query::unknown(name, self.known.iter().map(String::as_str)));
        }
        match query::repeated(names().filter(|name| self.known.iter().any(|known| known == name))) {
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
        let job = |query| refusal(&Method::HEAD, "/jobs/{id}", Unknown::RefusedButMarkers, query);
        assert_eq!(job("wait=5&utm_source=mail&utm_source=x"), "");
        assert!(job("wiat=5").contains("did you mean wait?"));
        assert_eq!(refusal(&Method::GET, "/docs", Unknown::Ignored, "%ff&a&a"), "");
    }
}
