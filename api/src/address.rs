//! Groups addresses into clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns what counts as one client: an IPv4 address, or an IPv6 network of 64 bits, since every site has at least one
/// of these (RFC 6177).
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Ipv4Addr::into(v4),
            None => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_one_client() {
        let net = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(net("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(net("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(net("10.0.0.1"), "10.0.0.1");
    }
}
