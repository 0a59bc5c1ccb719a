//! Whether a client is a person's browser: the `Accept` header of a request (RFC 9110, section 12.5.1).

use actix_web::http::header::{self, HeaderMap};

/// Whether the client prefers HTML to JSON. One that accepts both equally gets JSON, as does one that states nothing.
pub(crate) fn prefers_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    let ranges: Vec<_> = values.flat_map(|value| value.split(',')).filter_map(range).collect();
    quality(&ranges, "text", "html") > quality(&ranges, "application", "json")
}

/// A media range and its weight, in thousandths.
type Range<'a> = (&'a str, &'a str, u16);

fn range(text: &str) -> Option<Range<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let (kind, subtype) = parts.next()?.split_once('/')?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |weight| weight.parse::<f32>().ok());
    let weight = weight.filter(|weight| (0.0..=1.0).contains(weight))?;
    Some((kind, subtype, (weight * 1000.0) as u16))
}

/// The weight of a media type: that of the most specific range that contains it.
fn quality(ranges: &[Range<'_>], kind: &str, subtype: &str) -> u16 {
    let is = |text: &str, wanted: &str| text.eq_ignore_ascii_case(wanted);
    let fits = |range: &&Range<'_>| match (range.0, range.1) {
        ("*", "*") => true,
        (it, "*") => is(it, kind),
        (it, sub) => is(it, kind) && is(sub, subtype),
    };
    let specific = |range: &&Range<'_>| (range.0 != "*", range.1 != "*");
    ranges.iter().filter(fits).max_by_key(specific).map_or(0, |range| range.2)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn prefers(accept: &str) -> bool {
        let request = TestRequest::default().append_header((header::ACCEPT, accept));
        prefers_html(request.to_http_request().headers())
    }

    #[test]
    fn browsers_prefer_html_and_clients_do_not() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for accept in [browser, "text/html", "TEXT/HTML", "text/*, application/json;q=0.5"] {
            assert!(prefers(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "application/json",
            "application/json, text/html",
            "application/json, text/plain, */*",
            "text/html;q=0.5, application/json;q=0.9",
            "text/html;q=0",
            "text/html;q=x",
            "*/*, text/html;q=0.1",
        ] {
            assert!(!prefers(accept), "{accept}");
        }
        assert!(!prefers_html(TestRequest::default().to_http_request().headers()));
    }
}
