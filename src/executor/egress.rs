//! Which addresses an action may reach.
//!
//! Invariant: the rule is asked about the address that is about to be connected to, never about a name: a name that
//! resolves to something else the next time gains nothing. Public addresses are free; all others must be listed, among
//! them every way of writing a private IPv4 address as an IPv6 one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A range of addresses, such as `10.0.0.0/8`. A single address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// The addresses of this machine to itself.
    pub const LOOPBACK: [Self; 2] = [
        Self { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), bits: 8 },
        Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 },
    ];

    /// Says whether the range holds this address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                same_prefix(range.to_bits().into(), address.to_bits().into(), 32 - self.bits)
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                same_prefix(range.to_bits(), address.to_bits(), 128 - self.bits)
            }
            _ => false,
        }
    }
}

fn same_prefix(left: u128, right: u128, host_bits: u8) -> bool {
    (left ^ right).checked_shr(host_bits.into()).unwrap_or(0) == 0
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || format!("`{text}` is not a range of addresses such as 10.0.0.0/8 or fd00::/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| fault())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| fault())?
            }
            Some(_) => return Err(fault()),
            None => width,
        };
        if bits > width {
            return Err(fault());
        }
        let cidr = Self { address, bits };
        if cidr.network() != address {
            return Err(format!(
                "`{text}` has bits set behind its prefix; did you mean {}/{bits}?",
                cidr.network()
            ));
        }
        Ok(cidr)
    }
}

impl Cidr {
    fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.bits)
    }
}

/// Which addresses an action may reach. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct EgressRule {
    allow: Arc<[Cidr]>,
}

/// An address that an action may not reach. Do not retry: an administrator lists it, or the task names another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{target} is {kind}, and `execution.egress_allow` of this node does not list it")]
pub struct EgressRefused {
    target: String,
    kind: &'static str,
}

impl EgressRule {
    /// Makes a rule that allows public addresses and these ranges.
    #[must_use]
    pub fn new(allow: impl IntoIterator<Item = Cidr>) -> Self {
        Self { allow: allow.into_iter().collect() }
    }

    /// Checks an address that is about to be connected to.
    ///
    /// # Errors
    /// [`EgressRefused`], which says what sort of address it is and which key would allow it.
    pub fn check(&self, address: IpAddr) -> Result<(), EgressRefused> {
        let listed = |address| self.allow.iter().any(|range| range.contains(address));
        let Some(kind) = kind_unless_public(address) else { return Ok(()) };
        if listed(address) || listed(address.to_canonical()) {
            return Ok(());
        }
        Err(EgressRefused { target: address.to_string(), kind })
    }
}

/// Returns what sort of address this is, unless it is a public one.
fn kind_unless_public(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_link_local() => Some("a link-local address"),
        _ if address.is_private() => Some("a private address"),
        [100, 64..=127, ..] => Some("a private address"),
        [0, ..] => Some("an address of this machine"),
        [192, 0, 0, _] | [198, 18..=19, ..] | [192, 88, 99, _] => Some("a reserved address"),
        _ if address.is_documentation() => Some("a reserved address"),
        _ if address.is_multicast() => Some("a multicast address"),
        [240..=255, ..] => Some("a reserved address"),
        _ => None,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_unspecified() => Some("an address of this machine"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some("a private address"),
        _ if address.is_multicast() => Some("a multicast address"),
        // Translated addresses are what they are translated to.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] | [0, 0, 0, 0, 0, 0, high, low] => {
            let bits = u32::from(high) << 16 | u32::from(low);
            kind_of_v4(Ipv4Addr::from_bits(bits))
        }
        [0x64, 0xff9b, 1, ..] => Some("a private address"),
        // Only 2000::/3 is given out at all; within it, Teredo, benchmarks and documentation are not public.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("a reserved address"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved address"),
    }
}

/// Resolves names for the HTTP client, and leaves out what may not be reached.
pub(super) struct CheckedResolver {
    rule: EgressRule,
}

impl CheckedResolver {
    pub(super) fn new(rule: EgressRule) -> Self {
        Self { rule }
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = self.rule.clone();
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = allowed(&rule, name.as_str(), resolved)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Returns the addresses that may be reached.
///
/// # Errors
/// [`EgressRefused`], naming the first that may not, when none is left.
fn allowed(
    rule: &EgressRule,
    name: &str,
    resolved: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, EgressRefused> {
    let mut refused = None;
    let mut allowed = Vec::new();
    for address in resolved {
        match rule.check(address.ip()) {
            Ok(()) => allowed.push(address),
            Err(error) => {
                let target = format!("{name} resolves to {}, which", error.target);
                refused.get_or_insert(EgressRefused { target, ..error });
            }
        }
    }
    match refused {
        Some(error) if allowed.is_empty() => Err(error),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(allow: &[&str], address: &str, expected: Option<&str>) {
        let rule = EgressRule::new(allow.iter().map(|range| range.parse().expect("a range")));
        let found = rule.check(address.parse().expect("an address")).err().map(|refused| refused.kind);
        assert_eq!(found, expected, "{address} under {allow:?}");
    }

    #[test]
    fn public_addresses_are_free() {
        for address in
            ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]
        {
            check(&[], address, None);
        }
    }

    #[test]
    fn all_others_are_refused_however_they_are_written() {
        for address in
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]
        {
            check(&[], address, Some("a loopback address"));
        }
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            check(&[], address, Some("a private address"));
        }
        for address in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"] {
            check(&[], address, Some("a link-local address"));
        }
        for address in ["0.0.0.0", "0.1.2.3", "::"] {
            check(&[], address, Some("an address of this machine"));
        }
        for address in [
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "2001:db8::1",
            "ff02::1",
            "2001::1",
            "4000::1",
            "198.18.0.1",
        ] {
            let rule = EgressRule::default();
            assert!(rule.check(address.parse().expect("an address")).is_err(), "{address}");
        }
    }

    #[test]
    fn what_is_listed_is_allowed_and_nothing_beside_it() {
        check(&["10.1.0.0/16"], "10.1.2.3", None);
        check(&["10.1.0.0/16"], "::ffff:10.1.2.3", None);
        check(&["10.1.0.0/16"], "10.2.0.1", Some("a private address"));
        check(&["127.0.0.1"], "127.0.0.1", None);
        check(&["127.0.0.1"], "127.0.0.2", Some("a loopback address"));
        check(&["0.0.0.0/0"], "192.168.0.1", None);
        check(&["0.0.0.0/0"], "::1", Some("a loopback address"));
        check(&["::/0"], "fd00::1", None);
    }

    #[test]
    fn a_range_must_be_one() {
        for text in
            ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "10.0.0.0/", "localhost", "10.0.0.0/+8"]
        {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        let message = "10.1.0.0/8".parse::<Cidr>().expect_err("bits behind the prefix");
        assert_eq!(message, "`10.1.0.0/8` has bits set behind its prefix; did you mean 10.0.0.0/8?");
    }

    #[test]
    fn a_name_reaches_only_what_may_be_reached() {
        let rule = EgressRule::default();
        let addresses = |texts: &[&str]| {
            texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<SocketAddr>>()
        };
        let mixed = addresses(&["10.0.0.7:0", "1.1.1.1:0"]);
        assert_eq!(allowed(&rule, "runner.example", mixed.into_iter()), Ok(addresses(&["1.1.1.1:0"])));
        let inside =
            allowed(&rule, "runner.example", addresses(&["10.0.0.7:0"]).into_iter()).expect_err("refused");
        assert_eq!(
            inside.to_string(),
            "runner.example resolves to 10.0.0.7, which is a private address, \
             and `execution.egress_allow` of this node does not list it"
        );
    }
}
