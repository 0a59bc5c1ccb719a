//! Decides which receivers webhooks may reach. Clients choose the receivers, so without a guard they could make the API
//! send requests to what only the API can reach: this machine, its network, the metadata of a cloud (server-side
//! request forgery).
//!
//! The guard cannot be bypassed: it resolves the name itself, checks *every* address, and returns only these addresses
//! to connect to. The name is not resolved again, so it does not matter if it resolves to others a moment later.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::Host;

use super::allow::contains;
use super::{Allow, Target};

/// The allowed ports of public receivers.
const PORTS: [u16; 2] = [80, 443];

/// IPv4 addresses that are not the public internet (IANA, IPv4 Special-Purpose Address Registry).
const CLOSED_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8), // this network, and the unspecified address
    (Ipv4Addr::new(10, 0, 0, 0), 8), // private
    (Ipv4Addr::new(100, 64, 0, 0), 10), // carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8), // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16), // link-local, and the metadata of clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12), // private
    (Ipv4Addr::new(192, 0, 0, 0), 24), // IETF assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24), // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112
    (Ipv4Addr::new(192, 88, 99, 0), 24), // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16), // private
    (Ipv4Addr::new(198, 18, 0, 0), 15), // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24), // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4), // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4), // reserved, and broadcast
];

/// Contains all public IPv6 addresses. So what is outside needs no list: the unspecified address and loopback, IPv4
/// inside IPv6 (mapped, compatible, NAT64), discard, unique local, link-local, site-local, multicast.
const OPEN_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// The addresses in it that are not public.
const CLOSED_V6: [(Ipv6Addr, u32); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // IETF assignments: Teredo, benchmarking, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: IPv4 inside
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16), // 6bone
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

fn is_public(address: IpAddr) -> bool {
    let within = |net: IpAddr, bits| contains(net, bits, address);
    match address {
        IpAddr::V4(_) => !CLOSED_V4.iter().any(|&(net, bits)| within(net.into(), bits)),
        IpAddr::V6(_) => {
            within(OPEN_V6.0.into(), OPEN_V6.1)
                && !CLOSED_V6.iter().any(|&(net, bits)| within(net.into(), bits))
        }
    }
}

/// Why no webhooks are sent to a receiver. It contains neither the address nor whether the name has one: both would
/// disclose to the client information about a network that only the API can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forbidden {
    /// Its address is not public, or its name has none.
    #[error("its name has no address that webhooks may be sent to")]
    Address,
    /// Its port is neither 80 nor 443.
    #[error("its port is not one that webhooks may be sent to")]
    Port,
}

impl Forbidden {
    /// Returns the text for the answer to a submission.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "webhooks are not sent to this address",
            Self::Port => "webhooks are sent to ports 80 and 443 only",
        }
    }
}

/// Turns names into addresses.
pub(crate) trait Resolve: Send + Sync + 'static {
    fn resolve(
        &self,
        name: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct System;

impl Resolve for System {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((name, port)).await?.collect())
    }
}

/// Decides where webhooks may be sent.
#[derive(Debug, Clone)]
pub(crate) struct Guard<R = System> {
    allow: Allow,
    resolver: R,
}

impl Guard {
    pub(crate) fn new(allow: Allow) -> Self {
        Self { allow, resolver: System }
    }
}

impl<R: Resolve> Guard<R> {
    /// Creates a guard with another resolver than the system's.
    #[cfg(test)]
    pub(crate) fn resolving(allow: Allow, resolver: R) -> Self {
        Self { allow, resolver }
    }

    /// Rejects what is forbidden whatever names resolve to. What passes is checked again before it is connected to.
    pub(crate) fn check_spelling(&self, target: &Target) -> Result<(), Forbidden> {
        match address_of(&target.host()) {
            Some(address) => self.check(target, address),
            None if PORTS.contains(&target.port()) || self.allow.any_address() => Ok(()),
            None if self.allow.host(&target.host().to_string(), target.port()) => Ok(()),
            None => Err(Forbidden::Port),
        }
    }

    /// Returns the only addresses to connect to: the name is resolved once, here.
    pub(crate) async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Forbidden> {
        let port = target.port();
        let addresses = match (address_of(&target.host()), target.host()) {
            (Some(address), _) => vec![SocketAddr::new(address, port)],
            (None, Host::Domain(name)) => {
                self.resolver.resolve(name, port).await.map_err(|_| Forbidden::Address)?
            }
            (None, Host::Ipv4(_) | Host::Ipv6(_)) => Vec::new(),
        };
        if addresses.is_empty() {
            return Err(Forbidden::Address);
        }
        // A forbidden address among allowed ones is not an accident.
        addresses.iter().try_for_each(|address| self.check(target, address.ip()))?;
        Ok(addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect())
    }

    fn check(&self, target: &Target, address: IpAddr) -> Result<(), Forbidden> {
        let port = target.port();
        if self.allow.address(address) || self.allow.host(&target.host().to_string(), port) {
            return Ok(());
        }
        if !is_public(address) {
            return Err(Forbidden::Address);
        }
        if PORTS.contains(&port) { Ok(()) } else { Err(Forbidden::Port) }
    }
}

fn address_of(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some((*address).into()),
        Host::Ipv6(address) => Some((*address).into()),
    }
}

#[cfg(test)]
mod tests;
