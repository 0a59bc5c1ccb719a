//! Filters by labels: `metadata.<name>=<value>`, and whether the jobs with them are found by an index.

use crunch_common::broker::{IndexId, ListQuery, Page};
use crunch_common::job::Metadata;
use crunch_common::task::TaskName;

use crate::document::SearchDocument;
use crate::document::words::SEARCH_WORDS;
use crate::problem::Problem;
use crate::query;

/// The parameters of such a filter, as the OpenAPI document names them: any label, and how to search.
pub(crate) const LABEL: &str = "metadata.{name}";
pub(crate) const SEARCH: &str = "search";
/// The values of `search`.
const INDEX: &str = SEARCH_WORDS[0];
const SCAN: &str = SEARCH_WORDS[1];

/// Decides whether the jobs of a task, or of any task, are indexed by a label.
pub(crate) type IsIndexed<'a> = &'a dyn Fn(Option<&TaskName>, &str) -> bool;

/// The name of the label that a parameter filters by.
pub(crate) fn label(parameter: &str) -> Option<&str> {
    parameter.strip_prefix("metadata.")
}

/// Adds a label to a filter.
///
/// # Errors
/// If no label can have that name or value.
pub(crate) fn add(
    metadata: &mut Metadata,
    parameter: &str,
    name: &str,
    value: &str,
) -> Result<(), Problem> {
    let added = metadata.insert(name.to_owned(), value.to_owned());
    added.map_err(|error| query::invalid(parameter, error))
}

/// Returns the index by which the jobs of a list are found: that of the first label, by name, that has one, unless the
/// client requests a scan. A page continues as its list began.
///
/// # Errors
/// If the client requests what there is not.
pub(crate) fn index(
    list: &ListQuery,
    requested: Option<&str>,
    is_indexed: IsIndexed<'_>,
) -> Result<Option<IndexId>, Problem> {
    let indexes = || list.metadata.iter().map(|(name, value)| (name, IndexId::of(name, value)));
    let declared = || {
        let declared = indexes().filter(|(name, _)| is_indexed(list.task.as_ref(), name));
        declared.filter_map(|(_, index)| index).next()
    };
    let found = match requested {
        None => declared(),
        Some(_) if list.metadata.is_empty() => {
            return Err(query::invalid(SEARCH, format!("it is only for lists with {LABEL}")));
        }
        Some(SCAN) => None,
        // A task may have declared it earlier.
        Some(INDEX) => {
            let index = declared().or_else(|| indexes().find_map(|(_, index)| index));
            let too_long = || {
                let most = IndexId::MAX_VALUE_BYTES;
                query::invalid(SEARCH, format!("values above {most} bytes are not indexed"))
            };
            Some(index.ok_or_else(too_long)?)
        }
        Some(_) => {
            let expected = format!("expected {}", SEARCH_WORDS.join(" or "));
            return Err(query::invalid(SEARCH, expected));
        }
    };
    Ok(list.cursor.as_ref().map_or(found, |cursor| cursor.index()))
}

/// Describes the search of a page; `None` if the list has no filter by labels.
pub(crate) fn document(list: &ListQuery, page: &Page) -> Option<SearchDocument> {
    let by = if list.index.is_some() { INDEX } else { SCAN };
    let (looked_at, of) = (page.looked_at, page.of);
    (!list.metadata.is_empty()).then_some(SearchDocument { by, looked_at, of })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(requested: Option<&str>, task: Option<&str>, labels: &[(&str, &str)]) -> String {
        let mut list =
            ListQuery { task: task.map(|task| task.parse().unwrap()), ..ListQuery::default() };
        for (name, value) in labels {
            add(&mut list.metadata, "", name, value).unwrap();
        }
        // Only this task declares it.
        let is_indexed = |task: Option<&TaskName>, name: &str| {
            name == "customer" && task.is_none_or(|task| task.as_str() == "order")
        };
        match index(&list, requested, &is_indexed) {
            Ok(None) => SCAN.to_owned(),
            Ok(found) => {
                let of = labels.iter().find(|(name, value)| IndexId::of(name, value) == found);
                of.unwrap().0.to_owned()
            }
            Err(problem) => problem.detail().to_owned(),
        }
    }

    #[test]
    fn an_index_is_used_where_the_task_declares_it() {
        let (acme, long) = ([("customer", "acme")], [("customer", &*"a".repeat(65))]);
        assert_eq!(by(None, None, &acme), "customer");
        assert_eq!(by(None, Some("order"), &[("a", "b"), ("customer", "acme")]), "customer");
        assert_eq!(by(None, Some("other"), &acme), SCAN);
        assert_eq!(by(None, None, &[("a", "b")]), SCAN);
        assert_eq!(by(None, None, &long), SCAN);
        assert_eq!(by(Some(SCAN), None, &acme), SCAN);
        assert_eq!(by(Some(INDEX), Some("other"), &acme), "customer");
        assert_eq!(by(Some(INDEX), None, &[("a", "b"), ("customer", "acme")]), "customer");
        assert!(by(Some(INDEX), None, &long).contains("64 bytes"));
        assert!(by(Some("fast"), None, &acme).contains("index or scan"));
        assert!(by(Some(SCAN), None, &[]).contains("only for lists"));
    }
}
