//! Where an HTTP request carries its token: `Authorization: Bearer <token>` or `X-API-Key: <token>`.

use crate::digest::MAX_TOKEN_BYTES;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Longer values of a header are not looked at.
pub const MAX_HEADER_BYTES: usize = MAX_TOKEN_BYTES + 64;

/// Nor are more headers than this, as JSON; servers take less. Read, they are many times as long.
const MAX_HEADERS_BYTES: usize = 1 << 20;

const BEARER: &[u8] = b"bearer";

/// The token of an `Authorization` header. The scheme is matched in any case and followed by one
/// or more spaces (RFC 9110, 11.4). RFC 6750 allows fewer characters in a token than are taken
/// here: tokens of other systems that are imported may have any visible one but a comma, which is
/// what proxies join two headers with.
pub fn bearer(header: &[u8]) -> Option<&str> {
    let header = trim(header);
    let (scheme, rest) = header.split_at_checked(BEARER.len())?;
    let token = rest.trim_ascii_start();
    let spaces = &rest[..rest.len() - token.len()];
    let is_separated = !spaces.is_empty() && spaces.iter().all(|b| *b == b' ');
    if scheme.eq_ignore_ascii_case(BEARER) && is_separated { one_token(token) } else { None }
}

/// The token of an `X-API-Key` header: all of it.
fn api_key(header: &[u8]) -> Option<&str> {
    one_token(trim(header))
}

/// Blanks around a header's value are not part of it (RFC 9110, 5.5); a line break is no blank.
fn trim(header: &[u8]) -> &[u8] {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let from = header.iter().position(|b| !is_blank(b)).unwrap_or(header.len());
    let to = header.iter().rposition(|b| !is_blank(b)).map_or(from, |last| last + 1);
    &header[from..to]
}

fn one_token(bytes: &[u8]) -> Option<&str> {
    let is_taken = |b: &u8| b.is_ascii_graphic() && *b != b',';
    let fits = (1..=MAX_TOKEN_BYTES).contains(&bytes.len());
    if fits && bytes.iter().all(is_taken) { str::from_utf8(bytes).ok() } else { None }
}

/// What a request presents as its token, from all of its headers as one JSON object, the way
/// PostgREST has them in `request.headers`. `X-API-Key` goes first: beside it, `Authorization` may
/// hold what somebody else will check. Header names are matched in any case; a header that comes
/// twice with different tokens presents none.
pub fn presented(headers: &str) -> Option<String> {
    if headers.len() > MAX_HEADERS_BYTES {
        return None;
    }
    let Headers(headers) = serde_json::from_str(headers).ok()?;
    let values = |name: &'static str| {
        headers
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let mut tokens: Vec<Option<&str>> =
        values("x-api-key").map(|key| token(key, api_key)).collect();
    if tokens.is_empty() {
        tokens = values("authorization").map(|value| token(value, bearer)).collect();
    }
    let first = *tokens.first()?;
    tokens.iter().all(|token| *token == first).then_some(first?).map(str::to_owned)
}

/// All members of an object, also those that come twice, of which a map would keep the last.
struct Headers(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Headers(all))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn token<'a>(value: &'a Value, read: fn(&'a [u8]) -> Option<&'a str>) -> Option<&'a str> {
    read(value.as_str()?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bearer_tokens() {
        for good in
            ["Bearer sk_1", "bearer sk_1", "BEARER sk_1", "bEaReR   sk_1", " \tBearer sk_1\t "]
        {
            assert_eq!(bearer(good.as_bytes()), Some("sk_1"), "{good:?}");
        }
        assert_eq!(bearer(b"Bearer 1|aB-._~+/="), Some("1|aB-._~+/="));
        for bad in [
            "",
            " ",
            "Bearer",
            "Bearer ",
            "Bearersk_1",
            "Bearer\tsk_1",
            "Bearer \tsk_1",
            "Bearer sk_1\n",
            "Bearer sk_1\r\n",
            "Bearer \nsk_1",
            "Bearer sk_1 sk_2",
            "Bearer sk_1, Bearer sk_2",
            "Bearer sk_1,sk_2",
            "Bearer Bearer sk_1",
            "Basic c2tfMTo=",
            "Digest sk_1",
            "sk_1",
            "Bearer sk_ä",
            "Bearer sk_\u{0}",
            "\u{212a}earer sk_1",
        ] {
            assert_eq!(bearer(bad.as_bytes()), None, "{bad:?}");
        }
        let longest = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES));
        assert!(bearer(longest.as_bytes()).is_some());
        assert!(bearer(format!("{longest}a").as_bytes()).is_none());
    }

    #[test]
    fn presented_in_headers() {
        let of = |headers: &str| presented(headers);
        assert_eq!(of(r#"{"Authorization": "Bearer a"}"#).as_deref(), Some("a"));
        assert_eq!(of(r#"{"AUTHORIZATION": "bearer a", "host": "x"}"#).as_deref(), Some("a"));
        assert_eq!(of(r#"{"X-Api-Key": " a "}"#).as_deref(), Some("a"));
        // The key is meant for us, whatever the other header holds.
        assert_eq!(
            of(r#"{"authorization": "Bearer jwt", "x-api-key": "a"}"#).as_deref(),
            Some("a")
        );
        assert_eq!(of(r#"{"authorization": "Bearer a", "x-api-key": ""}"#), None);
        assert_eq!(of(r#"{"x-api-key": "a", "X-API-Key": "b"}"#), None);
        assert_eq!(of(r#"{"x-api-key": "a", "x-api-key": "b"}"#), None);
        assert_eq!(of(r#"{"x-api-key": "a", "X-API-Key": "a"}"#).as_deref(), Some("a"));
        for none in ["", "{", "[]", "null", "{}", r#"{"x-api-key": 1}"#, r#"{"x-api-key": "a b"}"#]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn too_many_headers_present_none() {
        let beside = |bytes| {
            let rest = "x".repeat(bytes);
            presented(&format!(r#"{{"x-api-key": "a", "rest": "{rest}"}}"#))
        };
        assert_eq!(beside(MAX_HEADERS_BYTES - 100).as_deref(), Some("a"));
        assert_eq!(beside(MAX_HEADERS_BYTES), None);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_taken_is_part_of_the_header(header in ".{0,40}") {
            if let Some(token) = bearer(header.as_bytes()) {
                prop_assert!(header.contains(token) && !token.contains(char::is_whitespace));
            }
            let _ = presented(&header);
        }

        #[test]
        fn any_token_of_ours_comes_through(token in "[a-z]{1,20}_[0-9A-Za-z]{38}", spaces in " {1,5}") {
            let header = format!("Bearer{spaces}{token}");
            prop_assert_eq!(bearer(header.as_bytes()), Some(token.as_str()));
        }
    }
}
