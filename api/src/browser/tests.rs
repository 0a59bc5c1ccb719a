//! Which requests are accepted.

use std::net::SocketAddr;

use actix_web::test::TestRequest;

use super::*;

fn browsers(keys: bool) -> Browsers {
    let bound: SocketAddr = "0.0.0.0:8080".parse().unwrap();
    let public = PublicUrl::new(Some("https://crunch.example.com/base"), "http", bound);
    let allowed = "https://app.example.com, http://localhost:3000".parse().unwrap();
    Browsers::new(&public, "api, Crunch.Internal.".parse().unwrap(), allowed, keys)
}

fn status_of(keys: bool, method: &str, headers: &[(&str, &str)]) -> u16 {
    let request = headers
        .iter()
        .fold(TestRequest::with_uri("/jobs"), |request, header| request.append_header(*header));
    let request = request.method(method.parse().unwrap()).to_http_request();
    match browsers(keys).judge(request.head()) {
        Ok(None) => 200,
        Ok(Some(answer)) => answer.status().as_u16(),
        Err(problem) => problem.kind.status.as_u16(),
    }
}

#[test]
fn without_keys_known_names_are_served_and_no_others() {
    let served = [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "app.localhost:1",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]:8080",
        "10.1.2.3",
        "[2001:db8::1]",
        "crunch.example.com",
        "crunch.example.com.:443",
        "Crunch.Example.COM:8080",
        "api:8080",
        "crunch.internal",
    ];
    let others = [
        "evil.example",
        "localhost.evil.example",
        "crunch.example.com.evil.example",
        "example.com",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "api.evil.example",
        "a.api",
    ];
    for host in served {
        assert_eq!(status_of(false, "GET", &[("host", host)]), 200, "{host}");
    }
    for host in others {
        assert_eq!(status_of(false, "GET", &[("host", host)]), 421, "{host}");
        assert_eq!(status_of(true, "GET", &[("host", host)]), 200, "{host}, with keys");
    }
    for host in ["", "a b", "user@localhost", "localhost:x", "%00", "http://localhost"] {
        for keys in [true, false] {
            assert_eq!(status_of(keys, "GET", &[("host", host)]), 400, "{host}");
        }
    }
}

#[test]
fn only_pages_of_our_own_and_of_allowed_origins_may_change_anything() {
    let cases: &[(&str, &str, u16)] = &[
        ("", "", 200),
        ("", "same-origin", 200),
        ("", "none", 200),
        ("", "same-site", 403),
        ("", "cross-site", 403),
        ("", "anything", 403),
        ("http://localhost:8080", "same-origin", 200),
        ("https://localhost:8080", "", 200),
        ("https://crunch.example.com", "same-origin", 200),
        ("https://crunch.example.com", "cross-site", 403),
        ("http://crunch.example.com", "", 403),
        ("http://localhost", "same-site", 403),
        ("http://localhost:8081", "same-site", 403),
        ("http://evil.example", "cross-site", 403),
        ("http://evil.example", "", 403),
        ("http://evil.example:8080", "same-origin", 403),
        ("null", "", 403),
        ("", "", 200),
        ("file://", "", 403),
        ("chrome-extension://abcdefgh", "", 403),
        ("https://app.example.com", "cross-site", 200),
        ("https://app.example.com:443", "", 200),
        ("http://app.example.com", "", 403),
        ("https://app.example.com.evil.example", "", 403),
        ("http://localhost:3000", "same-site", 200),
    ];
    for keys in [true, false] {
        for (origin, site, status) in cases {
            let mut headers = vec![("host", "localhost:8080")];
            headers.extend([("origin", *origin), ("sec-fetch-site", *site)]);
            headers.retain(|(_, value)| !value.is_empty());
            for method in ["POST", "DELETE", "PUT", "PATCH", "BREW"] {
                assert_eq!(status_of(keys, method, &headers), *status, "{method} {headers:?}");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert_eq!(status_of(keys, method, &headers), 200, "{method} {headers:?}");
            }
        }
    }
}

#[test]
fn behind_tls_of_a_proxy_the_usual_ports_are_those_of_the_scheme() {
    for (host, origin, status) in [
        ("crunch.internal", "https://crunch.internal", 200),
        ("crunch.internal", "http://crunch.internal", 200),
        ("crunch.internal", "https://crunch.internal:8443", 403),
        ("crunch.internal:443", "https://crunch.internal", 200),
        ("crunch.internal:8443", "https://crunch.internal", 403),
    ] {
        assert_eq!(
            status_of(false, "POST", &[("host", host), ("origin", origin)]),
            status,
            "{host}"
        );
    }
}

#[test]
fn a_preflight_is_answered_to_allowed_origins_only() {
    let ask = ("access-control-request-method", "DELETE");
    for (origin, status) in
        [("https://app.example.com", 204), ("https://evil.example", 200), ("null", 200)]
    {
        let headers = [("host", "localhost"), ("origin", origin), ask];
        assert_eq!(status_of(true, "OPTIONS", &headers), status, "{origin}");
        assert_eq!(status_of(true, "OPTIONS", &headers[..2]), 200, "{origin}");
    }
    let headers = [("host", "evil.example"), ("origin", "https://app.example.com"), ask];
    assert_eq!(status_of(false, "OPTIONS", &headers), 421);
}

#[test]
fn origins_and_names_are_read_strictly() {
    let wrong = [
        "*",
        "null",
        "app.example.com",
        "https://",
        "https://a/",
        "https://a/b",
        "https://a?b",
        "https://u@a",
        "ftp://a",
        "https://*.a",
        "https://a:99999",
        "",
        "https://a,",
    ];
    for text in wrong {
        assert!(text.parse::<Origins>().is_err(), "{text}");
    }
    for text in ["", "a,", "a:80", "http://a", "a/b", "a b", "*", "*.a", "a@b"] {
        assert!(text.parse::<HostNames>().is_err(), "{text}");
    }
    let error = "*".parse::<Origins>().unwrap_err();
    assert!(error.contains("list the origins"), "{error}");
}
