//! IP allow-lists: does an address lie in one of the networks?

use crate::error::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const MAX_NETWORKS: usize = 256;

/// Checks an allow-list. One that lets nobody in is a mistake; `enabled = false` says that plainly.
pub fn check(networks: &[Option<Network>]) -> Result<()> {
    let argument = "allowed_ips";
    if networks.is_empty() || networks.contains(&None) {
        let expected = "at least one network, none of them null";
        return Err(Error::Malformed { argument, expected });
    }
    match networks.len() {
        actual if actual > MAX_NETWORKS => {
            Err(Error::TooMany { argument, max: MAX_NETWORKS, actual })
        }
        _ => Ok(()),
    }
}

/// An address with the number of leading bits that count: `10.0.0.0/8`, or one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// `bits` beyond the address's width, or an IPv4-mapped IPv6 network narrower than the
    /// mapping itself, is brought to its plain form.
    pub fn new(address: IpAddr, bits: u8) -> Self {
        match address {
            IpAddr::V6(v6) if bits >= 96 => match v6.to_ipv4_mapped() {
                Some(v4) => Self { address: IpAddr::V4(v4), bits: bits.min(128) - 96 },
                None => Self { address, bits: bits.min(128) },
            },
            IpAddr::V6(_) => Self { address, bits },
            IpAddr::V4(_) => Self { address, bits: bits.min(32) },
        }
    }

    pub fn v4(octets: [u8; 4], bits: u8) -> Self {
        Self::new(IpAddr::V4(Ipv4Addr::from(octets)), bits)
    }

    pub fn v6(octets: [u8; 16], bits: u8) -> Self {
        Self::new(IpAddr::V6(Ipv6Addr::from(octets)), bits)
    }

    /// Is all of `other` inside this network? `::ffff:10.1.2.3` counts as `10.1.2.3`.
    pub fn contains(&self, other: &Self) -> bool {
        if other.bits < self.bits {
            return false;
        }
        match (self.address, other.address) {
            (IpAddr::V4(net), IpAddr::V4(addr)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (net.to_bits() ^ addr.to_bits()) & mask == 0
            }
            (IpAddr::V6(net), IpAddr::V6(addr)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (net.to_bits() ^ addr.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Network {
        let (address, bits) = text.split_once('/').unwrap_or((text, "255"));
        Network::new(address.parse().expect("address"), bits.parse().expect("bits"))
    }

    #[test]
    fn contains() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db9::1", true),
            ("::/0", "10.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("10.0.0.0/8", "10.0.0.0/7", false),
            ("10.0.0.0/8", "10.1.0.0/16", true),
        ] {
            assert_eq!(net(network).contains(&net(address)), inside, "{network} {address}");
        }
    }
}
