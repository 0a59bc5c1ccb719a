//! The proxy between this machine and the API: chosen by the scheme of the API's address.

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use super::variable;
use crate::error::Error;

/// The proxy for an address; `None` if requests are sent directly.
pub(super) fn for_url(url: &str) -> Result<Option<Proxy>, Error> {
    let Ok(uri) = url.parse::<Uri>() else { return Ok(None) };
    let own = if uri.scheme_str() == Some("https") { "https_proxy" } else { "http_proxy" };
    let Some((name, text)) = [own, "all_proxy"].into_iter().find_map(either_case) else {
        return Ok(None);
    };
    if either_case("no_proxy").is_some_and(|(_, list)| is_excluded(&uri, &list)) {
        return Ok(None);
    }
    let proxy = Proxy::new(&text).ok();
    let is_http =
        |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    // The text may contain a password.
    proxy.filter(is_http).map(Some).ok_or_else(|| {
        Error::usage(
            format!("{name} is not the address of a proxy"),
            "give one such as http://proxy.example.com:3128, or list the API's host in NO_PROXY",
        )
    })
}

/// A variable in lower case, else in upper case, with its name.
fn either_case(name: &str) -> Option<(String, String)> {
    [name.to_owned(), name.to_uppercase()]
        .into_iter()
        .find_map(|name| variable(&name).map(|text| (name, text)))
}

/// Whether a list of hosts covers an address. A host stands for all below it, and may have a port; `*` is all hosts.
fn is_excluded(uri: &Uri, list: &str) -> bool {
    let bare = |host: &str| host.trim_matches(['[', ']']).to_ascii_lowercase();
    let host = bare(uri.host().unwrap_or_default());
    let is_https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    list.split([',', ' ']).filter(|entry| !entry.is_empty()).any(|entry| {
        let (name, entry_port) = match entry.rsplit_once(':') {
            // An IPv6 address without brackets has no port.
            Some((name, digits)) if !name.contains(':') || name.ends_with(']') => {
                (name, digits.parse().ok())
            }
            _ => (entry, None),
        };
        let name = bare(name.trim_start_matches('*').trim_start_matches('.'));
        let is_host = entry == "*" || host == name || host.ends_with(&format!(".{name}"));
        is_host && entry_port.is_none_or(|known: u16| known == port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_a_list_are_reached_directly() {
        let excluded = |url: &str, list| is_excluded(&url.parse().unwrap(), list);
        for list in ["*", "a.example", ".example", "*.example", "b, A.EXAMPLE:8080", "x a.example"]
        {
            assert!(excluded("http://a.example:8080", list), "{list}");
        }
        for list in ["", "b.example", "xample", "a.example:80", "a.example.com", ","] {
            assert!(!excluded("http://a.example:8080", list), "{list}");
        }
        assert!(excluded("https://a", "a:443") && excluded("http://[::1]:8080", "::1"));
        assert!(excluded("http://[::1]:8080", "[::1]:8080") && !excluded("http://[::1]", "[::2]"));
    }
}
