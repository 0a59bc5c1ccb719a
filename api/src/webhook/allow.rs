//! Where webhooks may be sent besides ports 80 and 443 of the public internet: internal receivers, and those of a
//! developer.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crunch_common::config::comma_separated;

/// The additional destinations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow(Arc<[Rule]>);

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// All ports of these addresses.
    Addresses { net: IpAddr, bits: u32 },
    /// A host, as written in the URL, and one port; to whatever address its name resolves.
    Host { name: String, port: u16 },
}

impl Allow {
    /// Whether the host and port are allowed, to whatever address the name resolves.
    pub(super) fn host(&self, host: &str, port: u16) -> bool {
        self.0.iter().any(
            |rule| matches!(rule, Rule::Host { name, port: at } if name == host && *at == port),
        )
    }

    /// Whether the address is allowed at every port.
    pub(super) fn address(&self, address: IpAddr) -> bool {
        self.0.iter().any(
            |rule| matches!(rule, Rule::Addresses { net, bits } if contains(*net, *bits, address)),
        )
    }

    /// Whether any address is allowed at every port.
    pub(super) fn any_address(&self) -> bool {
        self.0.iter().any(|rule| matches!(rule, Rule::Addresses { .. }))
    }
}

/// Whether an address is in the network `net` with a prefix of `bits` bits; never across address families.
pub(super) fn contains(net: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            let host = 32_u32.saturating_sub(bits);
            net.to_bits().checked_shr(host) == address.to_bits().checked_shr(host)
        }
        (IpAddr::V6(net), IpAddr::V6(address)) => {
            let host = 128_u32.saturating_sub(bits);
            net.to_bits().checked_shr(host) == address.to_bits().checked_shr(host)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

impl FromStr for Allow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rules: Result<Vec<Rule>, _> = comma_separated(text);
        let expected = "expected addresses, nets or host:port, separated by commas, such as 10.0.0.0/8,[::1],hooks.internal:8443";
        rules.map(|rules| Self(rules.into())).map_err(|error| format!("{expected}: {error}"))
    }
}

impl FromStr for Rule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rule) = net(text) {
            return Ok(rule);
        }
        let (name, port) = text.rsplit_once(':').ok_or("is none of them")?;
        let port = port.parse().map_err(|_| "does not end in a port")?;
        match url::Host::parse(name) {
            // Hosts are compared in the form that the URL parser produces.
            Ok(host) => Ok(Self::Host { name: host.to_string(), port }),
            Err(_) => Err("does not begin with a host"),
        }
    }
}

fn net(text: &str) -> Option<Rule> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let net: IpAddr = bare.unwrap_or(address).parse().ok()?;
    let max = if net.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => bits.parse().ok().filter(|bits| *bits <= max)?,
        None => max,
    };
    Some(Rule::Addresses { net, bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_mean_what_they_say_and_no_more() {
        let allow: Allow =
            "10.1.0.0/16, [::1],fd00::/8,Hooks.Internal:8443,127.0.0.1:8080".parse().unwrap();
        let at = |address: &str| allow.address(address.parse().unwrap());
        assert!(at("10.1.255.255") && at("::1") && at("fd12::1"));
        assert!(!at("10.2.0.0") && !at("::2") && !at("::ffff:10.1.0.1") && !at("127.0.0.1"));
        assert!(allow.host("hooks.internal", 8443) && allow.host("127.0.0.1", 8080));
        assert!(!allow.host("hooks.internal", 443) && !allow.host("x.hooks.internal", 8443));
        assert!("0.0.0.0/0".parse::<Allow>().unwrap().address("1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn other_text_is_refused() {
        for bad in
            ["", "hooks.internal", "10.0.0.0/33", "::/129", "a b:1", "host:x", "10.0.0.0/8,,"]
        {
            assert!(bad.parse::<Allow>().is_err(), "{bad}");
        }
    }
}
