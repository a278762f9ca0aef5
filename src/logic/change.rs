//! The `changes` of `api_token_update`: present keys change, null clears.
//!
//! Values whose type only Postgres can read (timestamps, intervals, networks) stay text here;
//! metadata is not looked at, so that its numbers keep every digit.

use crate::error::{Error, Result};
use crate::{input, scope};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The keys an update knows, as the error for an unknown one lists them.
pub const KEYS: [&str; 13] = [
    "name",
    "metadata",
    "scopes",
    "expires_at",
    "max_idle",
    "allowed_ips",
    "enabled",
    "max_expires_at",
    "max_uses",
    "refill_amount",
    "refill_every",
    "rate_limit",
    "rate_window",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Name(Option<String>),
    Metadata,
    Scopes(Vec<String>),
    ExpiresAt(Option<String>),
    MaxIdle(Option<String>),
    AllowedIps(Option<Vec<String>>),
    Enabled(bool),
    MaxExpiresAt(Option<String>),
    MaxUses(Option<i64>),
    RefillAmount(Option<i64>),
    RefillEvery(Option<String>),
    RateLimit(Option<i32>),
    RateWindow(Option<String>),
}

impl Change {
    /// Is it a limit, which a token shares with its family?
    pub const fn is_of_family(&self) -> bool {
        matches!(
            self,
            Self::MaxUses(_)
                | Self::RefillAmount(_)
                | Self::RefillEvery(_)
                | Self::RateLimit(_)
                | Self::RateWindow(_)
                | Self::MaxExpiresAt(_)
        )
    }

    /// The key, which is the column.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Metadata => "metadata",
            Self::Scopes(_) => "scopes",
            Self::ExpiresAt(_) => "expires_at",
            Self::MaxIdle(_) => "max_idle",
            Self::AllowedIps(_) => "allowed_ips",
            Self::Enabled(_) => "enabled",
            Self::MaxExpiresAt(_) => "max_expires_at",
            Self::MaxUses(_) => "max_uses",
            Self::RefillAmount(_) => "refill_amount",
            Self::RefillEvery(_) => "refill_every",
            Self::RateLimit(_) => "rate_limit",
            Self::RateWindow(_) => "rate_window",
        }
    }
}

/// Reads the text of a JSON object.
pub fn parse(changes: &str) -> Result<Vec<Change>> {
    let object: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(changes).map_err(|_| Error::ChangesNotObject)?;
    object.iter().map(|(key, value)| parse_one(key, value.get())).collect()
}

fn parse_one(key: &str, json: &str) -> Result<Change> {
    Ok(match key {
        "name" => {
            let name: Option<String> = read("name", "a string or null", json)?;
            input::name(name.as_deref())?;
            Change::Name(name)
        }
        "metadata" => Change::Metadata,
        "scopes" => {
            let scopes: Option<Vec<String>> = read("scopes", "an array of strings or null", json)?;
            let scopes = scopes.unwrap_or_default();
            scope::check("scopes", scopes.iter().map(|scope| Some(scope.as_str())))?;
            Change::Scopes(scopes)
        }
        "expires_at" => Change::ExpiresAt(read("expires_at", TIMESTAMP, json)?),
        "max_idle" => Change::MaxIdle(read("max_idle", INTERVAL, json)?),
        "allowed_ips" => Change::AllowedIps(read("allowed_ips", NETWORKS, json)?),
        "enabled" => Change::Enabled(read("enabled", "true or false", json)?),
        "max_expires_at" => Change::MaxExpiresAt(read("max_expires_at", TIMESTAMP, json)?),
        "max_uses" => Change::MaxUses(read("max_uses", NUMBER, json)?),
        "refill_amount" => Change::RefillAmount(read("refill_amount", NUMBER, json)?),
        "refill_every" => Change::RefillEvery(read("refill_every", INTERVAL, json)?),
        "rate_limit" => Change::RateLimit(read("rate_limit", NUMBER, json)?),
        "rate_window" => Change::RateWindow(read("rate_window", INTERVAL, json)?),
        _ => {
            let plain = key.len() <= 63 && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            return Err(Error::UnknownKey { key: plain.then(|| key.to_owned()) });
        }
    })
}

pub const TIMESTAMP: &str = "a timestamptz as a string, or null";
pub const INTERVAL: &str = "an interval as a string, or null";
const NUMBER: &str = "a whole number, or null";
pub const NETWORKS: &str = "an array of cidr strings, or null";

fn read<'a, T: serde::Deserialize<'a>>(
    argument: &'static str,
    expected: &'static str,
    json: &'a str,
) -> Result<T> {
    serde_json::from_str(json).map_err(|_| Error::Malformed { argument, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_each_key() {
        let changes = r#"{"name": null, "metadata": {"n": 1e400}, "scopes": ["a:*"],
            "expires_at": "2030-01-01", "max_idle": null, "allowed_ips": ["10.0.0.0/8"],
            "enabled": false, "max_expires_at": null}"#;
        let parsed = parse(changes).expect("parsed");
        assert_eq!(parsed.len(), 8);
        assert!(parsed.contains(&Change::Name(None)));
        assert!(parsed.contains(&Change::Metadata));
        assert!(parsed.contains(&Change::Enabled(false)));
        assert_eq!(parse(r#"{"scopes": null}"#), Ok(vec![Change::Scopes(vec![])]));
        assert_eq!(parse(r#"{"max_uses": 5}"#), Ok(vec![Change::MaxUses(Some(5))]));
        assert_eq!(parse("{}"), Ok(vec![]));
    }

    #[test]
    fn wrong_types_name_the_key() {
        for (json, argument) in [
            (r#"{"name": 1}"#, "name"),
            (r#"{"scopes": "a"}"#, "scopes"),
            (r#"{"scopes": [1]}"#, "scopes"),
            (r#"{"enabled": null}"#, "enabled"),
            (r#"{"enabled": "yes"}"#, "enabled"),
            (r#"{"expires_at": 5}"#, "expires_at"),
            (r#"{"max_uses": "5"}"#, "max_uses"),
            (r#"{"max_uses": 1.5}"#, "max_uses"),
            (r#"{"rate_limit": 3000000000}"#, "rate_limit"),
            (r#"{"refill_every": 5}"#, "refill_every"),
        ] {
            let error = parse(json).expect_err(json);
            assert!(
                matches!(error, Error::Malformed { argument: a, .. } if a == argument),
                "{json}"
            );
        }
        assert_eq!(parse("[]"), Err(Error::ChangesNotObject));
    }

    #[test]
    fn an_unknown_key_is_shown_only_if_it_is_plainly_a_name() {
        let key = |json: &str| match parse(json) {
            Err(Error::UnknownKey { key }) => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(key(r#"{"namespace": "x"}"#), Some("namespace".into()));
        assert_eq!(key(r#"{"sk_0000": 1}"#), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
