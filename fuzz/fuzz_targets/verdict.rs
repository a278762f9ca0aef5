//! A verdict follows from its parts: scopes, networks, lifetimes and what a refresh makes of them.
#![no_main]

use api_tokens_logic::lifetime::{Lifetime, Revocation, Status};
use api_tokens_logic::network::Network;
use api_tokens_logic::rotation::{self, Rotation, Terms};
use api_tokens_logic::scope;
use api_tokens_logic::time::{Span, Timestamp};
use api_tokens_logic::verdict::{Credential, Request, decide};
use libfuzzer_sys::fuzz_target;

/// By its definition: word by word, and a star stands for one or more.
fn is_below(held: &str, needed: &str) -> bool {
    let (held, needed): (Vec<_>, Vec<_>) = (held.split(':').collect(), needed.split(':').collect());
    match held.split_last() {
        Some((&"*", above)) => needed.len() > above.len() && needed.starts_with(above),
        _ => held == needed,
    }
}

fn scopes(text: &str) -> Vec<&str> {
    text.split(',').filter(|scope| scope::check("scopes", [Some(*scope)]).is_ok()).collect()
}

type Input<'a> = (&'a [u8], [u8; 16], u8, u8, [Option<i64>; 4], [i64; 3], [bool; 4]);

fuzz_target!(|input: Input| {
    let (text, mut address, bits, flipped, ends, times, flags) = input;
    let letter = |byte: &u8| char::from(b"ab:*,"[usize::from(byte % 5)]);
    let text: String = text.iter().take(60).map(letter).collect();
    let (held, needed) = text.split_at(text.len() / 2);
    let (held, needed) = (scopes(held), scopes(needed));
    for one in &held {
        for other in &needed {
            assert_eq!(scope::covers(one, other), is_below(one, other), "{one} {other}");
        }
    }

    // Not one that stands for an IPv4 address.
    address[0] |= 0xc0;
    let is_v6 = flags[3];
    let network = |address: [u8; 16], bits: u8| match is_v6 {
        true => Network::v6(address, bits),
        false => Network::v4([address[0], address[1], address[2], address[3]], bits),
    };
    let width = if is_v6 { 128 } else { 32 };
    let (bits, flipped) = (bits % (width + 1), flipped % width);
    let allowed = network(address, bits);
    address[usize::from(flipped / 8)] ^= 0x80 >> (flipped % 8);
    let client = network(address, u8::MAX);
    assert_eq!(allowed.contains(&client), flipped >= bits);
    let mapped = [[0; 10].as_slice(), &[0xff; 2], &address[..4]].concat().try_into().expect("16");
    assert!(is_v6 || Network::v6(mapped, 96 + bits) == network(address, bits));

    let [now, later, last_used_at] = times.map(Timestamp);
    let [revoked_at, expires_at, hard_end, new_end] = ends.map(|end| end.map(Timestamp));
    let lifetime = Lifetime {
        enabled: flags[0],
        revocation: Revocation::of(revoked_at, flags[1]),
        expires_at,
        last_used_at,
        max_idle: flags[2].then_some(Span(times[0].saturating_abs().max(1))),
    };
    let is_active = lifetime.status(now) == Status::Active;
    assert!(is_active || now > later || lifetime.status(later) != Status::Active, "none revives");

    let credential = Credential { lifetime, allowed_ips: Some(&[allowed]), scopes: &held };
    let request = Request { required_scopes: &needed, client_ip: Some(client), cost: 1 };
    let has_all = needed.iter().all(|needed| held.iter().any(|held| is_below(held, needed)));
    let is_accepted = decide(&credential, &request, now).is_ok();
    assert_eq!(is_accepted, is_active && flipped >= bits && has_all);

    let grace = Span(times[1].saturating_abs());
    let terms = Terms { grace, expires_at: new_end.filter(|end| *end > now) };
    let plan = rotation::plan(&lifetime, flags[3], hard_end, &terms, now);
    if let Rotation::Granted { retired, expires_at } = plan {
        assert!(is_active && retired.revoked_at >= now && retired.in_grace == (grace > Span::ZERO));
        assert!(lifetime.expires_at.is_none_or(|end| retired.revoked_at <= end));
        assert!(hard_end.is_none_or(|hard| expires_at.is_some_and(|end| end <= hard)));
    }
});
