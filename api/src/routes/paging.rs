//! Lists that are read a page at a time: which page is requested, and the link to the next one.

use std::fmt;
use std::str::FromStr;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;

use crate::document::Page;
use crate::problem::Problem;
use crate::query;

/// The largest page, and the default: most deployments need no second page, and one call takes Redis about a
/// millisecond.
pub(crate) const MAX_LIMIT: usize = 1000;

/// The requested page. A cursor is the name of the last item of the previous page.
#[derive(Debug)]
pub(crate) struct Paging<C> {
    pub(crate) limit: usize,
    pub(crate) after: Option<C>,
    filters: Vec<(String, String)>,
}

impl<C: FromStr> Paging<C> {
    /// Reads the page from the query of a request.
    ///
    /// # Errors
    /// If a parameter is unknown or invalid.
    pub(crate) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        Self::filtered(request, &[])
    }

    /// Reads the page from the query of a request that may have these parameters too.
    ///
    /// # Errors
    /// If a parameter is unknown or invalid.
    pub(crate) fn filtered(request: &HttpRequest, filters: &[&str]) -> Result<Self, Problem> {
        Self::read(request.query_string(), filters)
    }

    fn read(query: &str, filters: &[&str]) -> Result<Self, Problem> {
        let mut paging = Self { limit: MAX_LIMIT, after: None, filters: Vec::new() };
        for (name, text) in query::pairs(query)? {
            let invalid = |accepted| query::invalid(&name, format!("expected {accepted}"));
            match name.as_str() {
                "limit" => {
                    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    paging.limit = limit.ok_or_else(|| invalid("a whole number from 1 to 1000"))?;
                }
                "cursor" => {
                    let cursor = text.parse().ok();
                    let not_a_cursor = || invalid("the next_cursor of a page of this list");
                    paging.after = Some(cursor.ok_or_else(not_a_cursor)?);
                }
                other if filters.contains(&other) => paging.filters.push((name, text)),
                _ => {
                    let known = filters.iter().copied().chain(["limit", "cursor"]);
                    return Err(query::unknown(&name, known));
                }
            }
        }
        Ok(paging)
    }
}

impl<C> Paging<C> {
    /// The other parameters of the request, not checked.
    pub(crate) fn filters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.filters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<C: fmt::Display> Paging<C> {
    /// Builds the 200 with a page, and a link to the next one.
    pub(crate) fn page<T: Serialize>(
        &self,
        request: &HttpRequest,
        items: Vec<T>,
        next: Option<C>,
    ) -> HttpResponse {
        let (mut response, next_cursor) = self.linked(request, next);
        response.json(Page { items, next_cursor })
    }

    /// Builds the head of that answer, for pages with more members; also returns the `next_cursor`.
    pub(crate) fn linked(
        &self,
        request: &HttpRequest,
        next: Option<C>,
    ) -> (HttpResponseBuilder, Option<String>) {
        let mut response = HttpResponse::Ok();
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        let next_cursor = next.map(|cursor| cursor.to_string());
        if let Some(cursor) = &next_cursor {
            let limit = self.limit.to_string();
            let query = self.filters().chain([("limit", limit.as_str()), ("cursor", cursor)]);
            let link = format!("<{}?{}>; rel=\"next\"", request.path(), query::encoded(query));
            response.insert_header((header::LINK, link));
        }
        (response, next_cursor)
    }
}

#[cfg(test)]
mod tests {
    use crunch_common::queue::QueueName;

    use super::*;

    #[test]
    fn a_page_is_requested_by_limit_and_cursor() {
        let read = |query| Paging::<QueueName>::read(query, &["task"]);
        let all = read("").unwrap();
        assert_eq!((all.limit, all.after), (1000, None));
        let page = read("cursor=a.b&limit=7").unwrap();
        assert_eq!((page.limit, page.after), (7, "a.b".parse().ok()));
        let filtered = read("task=t").unwrap();
        assert_eq!(filtered.filters().collect::<Vec<_>>(), [("task", "t")]);
        for wrong in ["limit=0", "limit=1001", "limit=x", "cursor=", "cursor=A", "name=q"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
