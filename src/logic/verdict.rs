//! May this token be used for this request, now?

use crate::lifetime::{Lifetime, Status};
use crate::network::Network;
use crate::scope;
use crate::time::Timestamp;

/// Why not. The first that applies, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Invalid,
    Revoked,
    Disabled,
    Expired,
    IdleTimeout,
    IpNotAllowed,
    InsufficientScope,
    UsageExceeded,
    /// A use of a token with a quota cannot be written down here.
    ReadOnly,
    RateLimited,
}

impl Reason {
    pub const ALL: [Self; 10] = [
        Self::Invalid,
        Self::Revoked,
        Self::Disabled,
        Self::Expired,
        Self::IdleTimeout,
        Self::IpNotAllowed,
        Self::InsufficientScope,
        Self::UsageExceeded,
        Self::ReadOnly,
        Self::RateLimited,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Revoked => Status::Revoked.as_str(),
            Self::Disabled => Status::Disabled.as_str(),
            Self::Expired => Status::Expired.as_str(),
            Self::IdleTimeout => Status::IdleTimeout.as_str(),
            Self::IpNotAllowed => "ip_not_allowed",
            Self::InsufficientScope => "insufficient_scope",
            Self::ReadOnly => "read_only",
            Self::UsageExceeded => "usage_exceeded",
            Self::RateLimited => "rate_limited",
        }
    }

    /// What an inactive token is refused for.
    pub const fn of_status(status: Status) -> Option<Self> {
        match status {
            Status::Active => None,
            Status::Revoked => Some(Self::Revoked),
            Status::Disabled => Some(Self::Disabled),
            Status::Expired => Some(Self::Expired),
            Status::IdleTimeout => Some(Self::IdleTimeout),
        }
    }
}

/// What a request brings along and asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    pub required_scopes: &'a [&'a str],
    pub client_ip: Option<Network>,
    /// What it is charged to limits; 0 asks.
    pub cost: i32,
}

/// What of a token a verdict looks at. `scopes` need be given only where the request requires
/// some: that is the caller's way of not decoding them for nothing.
#[derive(Clone, Copy, Debug)]
pub struct Credential<'a> {
    pub lifetime: Lifetime,
    pub allowed_ips: Option<&'a [Network]>,
    pub scopes: &'a [&'a str],
}

pub fn decide(
    credential: &Credential,
    request: &Request,
    now: Timestamp,
) -> std::result::Result<(), Reason> {
    if let Some(reason) = Reason::of_status(credential.lifetime.status(now)) {
        return Err(reason);
    }
    if let Some(allowed) = credential.allowed_ips {
        let from = request.client_ip.ok_or(Reason::IpNotAllowed)?;
        if !allowed.iter().any(|network| network.contains(&from)) {
            return Err(Reason::IpNotAllowed);
        }
    }
    if !scope::covers_all(credential.scopes, request.required_scopes.iter().copied()) {
        return Err(Reason::InsufficientScope);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifetime::{Revocation, active};

    const NOW: Timestamp = Timestamp(1_000);
    const ACTIVE: Lifetime = active(NOW);

    #[test]
    fn reasons_come_in_order() {
        let inside = Network::v4([10, 0, 0, 0], 8);
        let outside = Network::v4([192, 0, 2, 1], 32);
        let networks = [inside];
        let request = Request { required_scopes: &["b"], client_ip: Some(outside), cost: 1 };
        let revoked = Lifetime { revocation: Some(Revocation::Final), ..ACTIVE };
        let mut token =
            Credential { lifetime: revoked, allowed_ips: Some(&networks), scopes: &["a"] };
        assert_eq!(decide(&token, &request, NOW), Err(Reason::Revoked));
        token.lifetime = ACTIVE;
        assert_eq!(decide(&token, &request, NOW), Err(Reason::IpNotAllowed));
        let request = Request { client_ip: Some(Network::v4([10, 9, 9, 9], 32)), ..request };
        assert_eq!(decide(&token, &request, NOW), Err(Reason::InsufficientScope));
        token.scopes = &["b"];
        assert_eq!(decide(&token, &request, NOW), Ok(()));
    }

    #[test]
    fn an_allow_list_without_an_address_refuses() {
        let networks = [Network::v4([0; 4], 0)];
        let token = Credential { lifetime: ACTIVE, allowed_ips: Some(&networks), scopes: &[] };
        assert_eq!(decide(&token, &Request::default(), NOW), Err(Reason::IpNotAllowed));
    }
}
