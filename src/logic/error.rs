//! One enum for every refusal, one table from it to SQLSTATE, message, detail and hint.
//!
//! Variants carry the evidence a caller needs (which argument, which bound) and never the value:
//! an argument may be a secret put in the wrong place.

use std::borrow::Cow;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The argument is NULL and must not be.
    Missing {
        argument: &'static str,
    },
    /// A text is shorter or longer than its column takes; lengths in bytes.
    Length {
        argument: &'static str,
        min: usize,
        max: usize,
        actual: usize,
    },
    /// The value has the right type and the wrong form.
    Malformed {
        argument: &'static str,
        expected: &'static str,
    },
    /// More elements than a token may carry.
    TooMany {
        argument: &'static str,
        max: usize,
        actual: usize,
    },
    NotInFuture {
        argument: &'static str,
    },
    NotPositive {
        argument: &'static str,
    },
    Negative {
        argument: &'static str,
    },
    /// The argument is part of the contract, and what it asks for is not in this version.
    Unsupported {
        argument: &'static str,
    },
    /// `changes` of `api_token_update` is no JSON object.
    ChangesNotObject,
    /// A key of `changes` that no token has; shown only if it looks like a column's name.
    UnknownKey {
        key: Option<String>,
    },
    /// `max_expires_at` is a hard end: once set it stays.
    HardEndFixed,
    /// The token's own hash was given for a display text, or the hash of nothing.
    RevealingPrefix,
    UnknownToken,
    DuplicateToken,
    UnknownLevel,
    /// Texts are taken from Postgres as UTF-8, without conversion.
    NotUtf8,
    /// It lives in shared memory, which only a preloaded library has.
    NotPreloaded,
    /// The row changed after this transaction's snapshot; only a retry can see it.
    Conflict,
}

/// The closed set of codes this extension raises (README, "Errors").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlState {
    NullValueNotAllowed,
    InvalidParameterValue,
    UniqueViolation,
    ProgramLimitExceeded,
    FeatureNotSupported,
    ObjectNotInPrerequisiteState,
    NoDataFound,
    SerializationFailure,
}

impl Error {
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Missing { .. } => SqlState::NullValueNotAllowed,
            Self::TooMany { .. } => SqlState::ProgramLimitExceeded,
            Self::Unsupported { .. } | Self::NotUtf8 => SqlState::FeatureNotSupported,
            Self::NotPreloaded => SqlState::ObjectNotInPrerequisiteState,
            Self::UnknownToken => SqlState::NoDataFound,
            Self::DuplicateToken => SqlState::UniqueViolation,
            Self::Conflict => SqlState::SerializationFailure,
            Self::Length { .. }
            | Self::Malformed { .. }
            | Self::NotInFuture { .. }
            | Self::NotPositive { .. }
            | Self::Negative { .. }
            | Self::ChangesNotObject
            | Self::UnknownKey { .. }
            | Self::HardEndFixed
            | Self::RevealingPrefix
            | Self::UnknownLevel => SqlState::InvalidParameterValue,
        }
    }

    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Missing { argument } => {
                format!("argument \"{argument}\" must not be null").into()
            }
            Self::Length { argument, min, max, .. } => {
                format!("argument \"{argument}\" must be {min} to {max} bytes long").into()
            }
            Self::Malformed { argument, .. } => {
                format!("argument \"{argument}\" is malformed").into()
            }
            Self::TooMany { argument, max, .. } => {
                format!("argument \"{argument}\" has more than {max} elements").into()
            }
            Self::NotInFuture { argument } => {
                format!("argument \"{argument}\" must lie in the future").into()
            }
            Self::NotPositive { argument } => {
                format!("argument \"{argument}\" must be greater than zero").into()
            }
            Self::Negative { argument } => {
                format!("argument \"{argument}\" must not be negative").into()
            }
            Self::Unsupported { argument } => {
                format!("argument \"{argument}\" is not supported by this version").into()
            }
            Self::ChangesNotObject => "argument \"changes\" must be a JSON object".into(),
            Self::UnknownKey { .. } => "argument \"changes\" has an unknown key".into(),
            Self::HardEndFixed => "\"max_expires_at\" cannot be changed once it is set".into(),
            Self::RevealingPrefix => {
                "argument \"token_prefix\" or \"token_hash\" would reveal the token".into()
            }
            Self::UnknownToken => "there is no token with this id".into(),
            Self::DuplicateToken => "this token is already known".into(),
            Self::UnknownLevel => "argument \"level\" is not a level of rights".into(),
            Self::NotUtf8 => "api_tokens needs a database with the encoding UTF8".into(),
            Self::NotPreloaded => "api_tokens is not preloaded".into(),
            Self::Conflict => "could not serialize access to the token".into(),
        }
    }

    pub fn detail(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Length { actual, .. } => Some(format!("It has {actual} bytes.").into()),
            Self::TooMany { actual, .. } => Some(format!("It has {actual} elements.").into()),
            Self::UnknownKey { key: Some(key) } => Some(format!("The key is \"{key}\".").into()),
            Self::Conflict => {
                Some("It was changed by a transaction that committed after this one began.".into())
            }
            Self::DuplicateToken => Some("A token with the same hash exists.".into()),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Malformed { expected, .. } => Some(format!("Expected {expected}.").into()),
            Self::UnknownKey { .. } => {
                Some(format!("Known keys: {}.", crate::change::KEYS.join(", ")).into())
            }
            Self::Unsupported { .. } => {
                Some("Quotas, rate limits and the vault come in a later version.".into())
            }
            Self::HardEndFixed => Some("Create a new token.".into()),
            Self::RevealingPrefix => {
                Some("Give a shortened display text, and the SHA-256 of the whole token.".into())
            }
            Self::UnknownLevel => Some("Use validate, manage or admin.".into()),
            Self::NotPreloaded => {
                Some("Add api_tokens to shared_preload_libraries and restart the server.".into())
            }
            Self::Conflict => Some("Retry the transaction.".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_its_argument() {
        for error in [
            Error::Missing { argument: "namespace" },
            Error::Length { argument: "namespace", min: 1, max: 512, actual: 0 },
            Error::Malformed { argument: "namespace", expected: "x" },
            Error::NotInFuture { argument: "namespace" },
            Error::NotPositive { argument: "namespace" },
            Error::Negative { argument: "namespace" },
            Error::Unsupported { argument: "namespace" },
            Error::TooMany { argument: "namespace", max: 1, actual: 2 },
        ] {
            assert!(error.message().contains("\"namespace\""), "{error:?}");
        }
    }
}
