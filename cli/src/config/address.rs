//! Addresses of APIs.

use ureq::http::Uri;

use crate::error::Error;

/// Checks an address, and removes the slashes at its end.
pub(crate) fn parse_url(text: &str) -> Result<String, Error> {
    let url = text.trim().trim_end_matches('/');
    if is_address(url) {
        return Ok(url.to_owned());
    }
    let remedy = with_scheme(url).map_or_else(
        || "give one such as http://127.0.0.1:8080 or https://crunch.example.com".to_owned(),
        |url| format!("add the scheme: {url}"),
    );
    Err(Error::usage(format!("{text} is not the address of an API"), remedy))
}

fn is_address(url: &str) -> bool {
    let uri: Option<Uri> = url.parse().ok();
    // The parser drops a fragment, and the paths of requests would become a part of it.
    !url.contains('#')
        && uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && uri.query().is_none()
        })
}

/// The address that was meant by one without a scheme: that of a machine nearby is not encrypted.
fn with_scheme(text: &str) -> Option<String> {
    if text.contains("://") {
        return None;
    }
    let http = format!("http://{text}");
    let uri: Uri = http.parse().ok().filter(|_| is_address(&http))?;
    let host = uri.host()?;
    let is_near = is_local(host) || uri.port().is_some() || !host.contains('.');
    Some(if is_near { http } else { format!("https://{text}") })
}

/// Whether a host is this machine.
pub(crate) fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.starts_with("127.") || host == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_http_without_credentials() {
        assert_eq!(parse_url("http://127.0.0.1:8080/").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(parse_url("https://a.example/base//").unwrap(), "https://a.example/base");
        for text in [
            "",
            "127.0.0.1:8080",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "http://a?b=c",
            "http://a#b",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_without_a_scheme_is_completed() {
        for (text, meant) in [
            ("127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("crunch:8080", "http://crunch:8080"),
            ("localhost", "http://localhost"),
            ("crunch.example.com/base", "https://crunch.example.com/base"),
        ] {
            let error = parse_url(text).unwrap_err();
            assert_eq!(error.remedy(), format!("add the scheme: {meant}"));
        }
        assert!(parse_url("ftp://a").unwrap_err().remedy().contains("such as"));
    }
}
