//! One enum for every refusal, one table from it to SQLSTATE, message, detail and hint.
//!
//! Variants carry the evidence a caller needs (which argument, which bound) and never the value:
//! an argument may be a secret put in the wrong place.

use crate::vault::keyring::Malformed;
use crate::vault::seal::OpenError;
use crate::vault::secret::KeyId;
use crate::verdict::Reason;

mod texts;

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
    /// Two arguments that mean nothing without each other.
    Incomplete {
        argument: &'static str,
        needs: &'static str,
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
    /// A value is longer than the vault takes; lengths in bytes.
    ValueTooLong {
        max: usize,
        actual: usize,
    },
    /// The vault has no key at all.
    NoKeySource,
    /// A source of keys that cannot be used.
    KeySource(SourceError),
    /// A box was sealed by a KEK that is not loaded.
    KeyMissing {
        wanted: KeyId,
        loaded: Vec<KeyId>,
    },
    /// Keys are in use in this database, and none of them is loaded.
    StrangeRing {
        in_use: KeyId,
        loaded: Vec<KeyId>,
    },
    /// A sealed box does not open though there is a key for it.
    Unopened(OpenError),
    /// The same, while many are worked on: tells which.
    UnopenedAt {
        place: String,
        cause: OpenError,
    },
    /// Somebody else has stored a value meanwhile; or there is none, which is version 0.
    VersionChanged {
        expected: i32,
        actual: i32,
    },
    NoSuchVersion,
    /// The value was encrypted by a client, and its key is there.
    ClientEncrypted,
    /// The value was encrypted here, not by a client.
    NotClientEncrypted,
    /// Wrong secret, wrong iv, or a changed value: GCM does not tell which.
    NotDecrypted,
    /// The row changed after this transaction's snapshot; only a retry can see it.
    Conflict,
    /// A token was refused where one is required. Names it, if it is known.
    Unauthorized {
        reason: Reason,
        token_id: Option<String>,
    },
    /// No token was accepted in this transaction where one is required.
    NoIdentity,
    /// A token's heir cannot have a scope that the token has not.
    WidensScopes,
    /// A trigger function that was called otherwise than it can be.
    NotRowTrigger,
    /// A trigger was not told which column names the owner, or of one that is not there or cannot.
    NoOwnerColumn,
    /// Metadata does not fit the JSON Schema of its namespace. A path of plain names only.
    MetadataMismatch {
        path: String,
        keyword: String,
    },
    /// `schema` is no JSON Schema that can be used; the path is one in the schema.
    BadSchema {
        path: String,
        problem: SchemaProblem,
    },
    /// In bytes of text.
    SchemaTooLong {
        max: usize,
        actual: usize,
    },
    /// Checking could take too long.
    SchemaTooComplex {
        what: &'static str,
        max: usize,
        actual: usize,
    },
    /// Checking it by its schema could take too long, or too deep.
    MetadataTooComplex,
    /// As above; only where a schema applies.
    MetadataTooLong {
        max: usize,
        actual: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaProblem {
    /// Against the rules of JSON Schema, or a regular expression that is none.
    Invalid,
    /// Leads out of the schema, or nowhere.
    Reference,
}

/// Why keys cannot be had from where they should be. Names a place, never what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceError {
    /// The setting, and the system's reason.
    Unreadable {
        setting: &'static str,
        reason: String,
    },
    /// Others than the server could read the file.
    Exposed {
        setting: &'static str,
    },
    Malformed {
        setting: &'static str,
        problem: Malformed,
    },
}

impl SourceError {
    fn setting(&self) -> &'static str {
        match self {
            Self::Unreadable { setting, .. }
            | Self::Exposed { setting }
            | Self::Malformed { setting, .. } => setting,
        }
    }
}

/// The closed set of codes this extension raises (docs/reference.md, "Errors").
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
    DataCorrupted,
    InvalidAuthorization,
    InsufficientPrivilege,
    TriggerProtocolViolated,
}

impl Error {
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Missing { .. } => SqlState::NullValueNotAllowed,
            Self::TooMany { .. }
            | Self::ValueTooLong { .. }
            | Self::SchemaTooLong { .. }
            | Self::SchemaTooComplex { .. }
            | Self::MetadataTooComplex
            | Self::MetadataTooLong { .. } => SqlState::ProgramLimitExceeded,
            Self::NotUtf8 => SqlState::FeatureNotSupported,
            Self::NotPreloaded
            | Self::NoKeySource
            | Self::KeySource(_)
            | Self::KeyMissing { .. }
            | Self::StrangeRing { .. } => SqlState::ObjectNotInPrerequisiteState,
            Self::UnknownToken | Self::NoSuchVersion => SqlState::NoDataFound,
            Self::DuplicateToken => SqlState::UniqueViolation,
            Self::Unauthorized { .. } | Self::NoIdentity => SqlState::InvalidAuthorization,
            Self::WidensScopes => SqlState::InsufficientPrivilege,
            Self::NotRowTrigger => SqlState::TriggerProtocolViolated,
            Self::Conflict | Self::VersionChanged { .. } => SqlState::SerializationFailure,
            Self::Unopened(_) | Self::UnopenedAt { .. } => SqlState::DataCorrupted,
            Self::Length { .. }
            | Self::Malformed { .. }
            | Self::NotInFuture { .. }
            | Self::NotPositive { .. }
            | Self::Negative { .. }
            | Self::Incomplete { .. }
            | Self::ChangesNotObject
            | Self::UnknownKey { .. }
            | Self::HardEndFixed
            | Self::RevealingPrefix
            | Self::ClientEncrypted
            | Self::NotClientEncrypted
            | Self::NotDecrypted
            | Self::NoOwnerColumn
            | Self::MetadataMismatch { .. }
            | Self::BadSchema { .. }
            | Self::UnknownLevel => SqlState::InvalidParameterValue,
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
            Error::Incomplete { argument: "namespace", needs: "x" },
            Error::TooMany { argument: "namespace", max: 1, actual: 2 },
        ] {
            assert!(error.message().contains("\"namespace\""), "{error:?}");
        }
    }
}
