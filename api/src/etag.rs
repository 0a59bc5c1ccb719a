//! A job's entity tag, which is its version, and the tags that a client already has (RFC 9110, sections 8.8.3 and
//! 13.1.2).

use actix_web::HttpRequest;
use actix_web::http::header;

/// Returns the tag of a version.
pub(crate) fn of(version: u64) -> String {
    format!("\"{version}\"")
}

/// The versions that If-None-Match names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfNoneMatch {
    /// `*`
    Any,
    /// Tags that are not versions are left out.
    Versions(Vec<u64>),
}

impl IfNoneMatch {
    /// Reads the header of a request, if there is one.
    pub(crate) fn of(request: &HttpRequest) -> Option<Self> {
        let values = request.headers().get_all(header::IF_NONE_MATCH);
        let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        let mut versions = Vec::new();
        for tag in values.iter().flat_map(|value| value.split(',')).map(str::trim) {
            if tag == "*" {
                return Some(Self::Any);
            }
            versions.extend(version(tag));
        }
        (!values.is_empty()).then_some(Self::Versions(versions))
    }

    pub(crate) fn contains(&self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Versions(versions) => versions.contains(&version),
        }
    }
}

/// The versions that If-Match names: weak tags match none (RFC 9110, section 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// `*`
    Any,
    /// Tags that are not versions are left out.
    Versions(Vec<u64>),
}

impl IfMatch {
    /// Reads the header of a request, if there is one.
    pub(crate) fn of(request: &HttpRequest) -> Option<Self> {
        let values = request.headers().get_all(header::IF_MATCH);
        let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        let mut versions = Vec::new();
        for tag in values.iter().flat_map(|value| value.split(',')).map(str::trim) {
            if tag == "*" {
                return Some(Self::Any);
            }
            versions.extend(version(tag).filter(|_| !tag.starts_with("W/")));
        }
        (!values.is_empty()).then_some(Self::Versions(versions))
    }
}

/// Whether If-None-Match names `tag`, which is not a job's version.
pub(crate) fn is_known(request: &HttpRequest, tag: &str) -> bool {
    let values = request.headers().get_all(header::IF_NONE_MATCH);
    let mut tags = values.filter_map(|value| value.to_str().ok()).flat_map(|it| it.split(','));
    tags.any(|given| matches!(given.trim(), "*") || given.trim().trim_start_matches("W/") == tag)
}

/// Parses a tag. Weak tags compare like strong ones here.
fn version(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')?;
    let version = digits.parse().ok()?;
    (of(version).trim_matches('"') == digits).then_some(version)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn tags_are_read_as_a_list() {
        let known = |value: &str| {
            IfNoneMatch::of(
                &TestRequest::default().append_header(("if-none-match", value)).to_http_request(),
            )
        };
        assert_eq!(
            known("\"7\", W/\"8\" ,\"x\",9,\"010\",\"+1\""),
            Some(IfNoneMatch::Versions(vec![7, 8]))
        );
        assert_eq!(known("\"7\", *"), Some(IfNoneMatch::Any));
        assert_eq!(known("nonsense"), Some(IfNoneMatch::Versions(vec![])));
        assert_eq!(IfNoneMatch::of(&TestRequest::default().to_http_request()), None);
    }
}
