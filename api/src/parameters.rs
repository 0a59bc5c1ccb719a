//! Which query parameters a route knows. A typo must not act: `?limt=5` would redrive everything, and a filter with a typo
//! would list everybody's jobs.
//!
//! The names are those that the route's OpenAPI annotation lists, so the document and what is accepted cannot differ.
//! Submissions check theirs themselves, in the order of their checks.

use std::collections::HashMap;
use std::sync::OnceLock;

use actix_web::http::Method;

use crate::openapi;
use crate::problem::Problem;
use crate::query;

/// Markers that links grow on their way through mails and campaigns.
const MARKERS: &str = "utm_";

/// What is done with a parameter that a route does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It is refused: verbs and lists.
    Refused,
    /// It is refused unless it is a marker of a link: reads of one resource.
    RefusedButMarkers,
    /// It is ignored: pages for people, and what supervisors ask.
    Ignored,
}

/// What a route does with a query string.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepts {
    known: &'static [String],
    unknown: Unknown,
}

impl Accepts {
    /// What is accepted by a route that the OpenAPI document lists; HEAD is as GET.
    pub(crate) fn by(method: &Method, path: &str, unknown: Unknown) -> Self {
        static ALL: OnceLock<HashMap<(Method, String), Vec<String>>> = OnceLock::new();
        let listed = if *method == Method::HEAD { &Method::GET } else { method };
        let key = (listed.clone(), path.to_owned());
        let known = ALL.get_or_init(openapi::query_parameters).get(&key);
        let reads = *listed == Method::GET;
        let unknown = if reads { unknown } else { Unknown::Refused };
        Self { known: known.map_or(&[], Vec::as_slice), unknown }
    }

    /// What is accepted by a route that reads its query itself.
    pub(crate) const fn anything() -> Self {
        Self { known: &[], unknown: Unknown::Ignored }
    }

    /// Refuses a parameter that is not known or comes twice.
    pub(crate) fn check(self, query: &str) -> Result<(), Problem> {
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
        let checked = Accepts::by(method, path, unknown).check(query);
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
