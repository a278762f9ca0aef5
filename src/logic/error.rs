//! One enum for every refusal, one table from it to SQLSTATE, message, detail and hint.
//!
//! Variants carry the evidence a caller needs (which argument, which bound) and never the value:
//! an argument may be a secret put in the wrong place.

use crate::vault::keyring::Malformed;
use crate::vault::seal::OpenError;
use crate::vault::secret::KeyId;
use crate::verdict::Reason;
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

fn list(ids: &[KeyId]) -> String {
    ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
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
    DataCorrupted,
    InvalidAuthorization,
    InsufficientPrivilege,
    TriggerProtocolViolated,
}

impl Error {
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Missing { .. } => SqlState::NullValueNotAllowed,
            Self::TooMany { .. } | Self::ValueTooLong { .. } => SqlState::ProgramLimitExceeded,
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
            Self::Incomplete { argument, needs } => {
                format!("argument \"{argument}\" needs \"{needs}\" too").into()
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
            Self::ValueTooLong { max, .. } => {
                format!("argument \"value\" is longer than {max} bytes").into()
            }
            Self::NoKeySource => "the vault has no key".into(),
            Self::KeySource(source) => {
                format!("the vault cannot use the keys of {}", source.setting()).into()
            }
            Self::KeyMissing { .. } => "the key that sealed this is not loaded".into(),
            Self::StrangeRing { .. } => {
                "none of the loaded keys is one that the vault was sealed with".into()
            }
            Self::Unopened(OpenError::WrongContext)
            | Self::UnopenedAt { cause: OpenError::WrongContext, .. } => {
                "a sealed value lies in a place it was not sealed for".into()
            }
            Self::Unopened(_) | Self::UnopenedAt { .. } => "a sealed value is damaged".into(),
            Self::VersionChanged { expected, .. } => {
                format!("the current version is not {expected}").into()
            }
            Self::NoSuchVersion => "there is no such version".into(),
            Self::ClientEncrypted => "the value was encrypted by a client".into(),
            Self::NotClientEncrypted => "the value was not encrypted by a client".into(),
            Self::NotDecrypted => "the value does not decrypt with this secret".into(),
            Self::Conflict => "could not serialize access to the row".into(),
            Self::Unauthorized { reason, .. } => {
                format!("Unauthorized: {}", reason.as_str()).into()
            }
            Self::NoIdentity => format!("Unauthorized: {}", Reason::Invalid.as_str()).into(),
            Self::WidensScopes => "argument \"scopes\" asks for more than the token holds".into(),
            Self::NotRowTrigger => {
                "api_token_invalidate_owner() must be called after an UPDATE or DELETE, for each row"
                    .into()
            }
            Self::NoOwnerColumn => {
                "api_token_invalidate_owner() takes one argument, a column of the table".into()
            }
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
            Self::ValueTooLong { actual, .. } => Some(format!("It has {actual} bytes.").into()),
            Self::KeySource(SourceError::Unreadable { reason, .. }) => Some(reason.clone().into()),
            Self::KeySource(SourceError::Exposed { .. }) => {
                Some("Others than the server's user may read the file, or it is not theirs.".into())
            }
            Self::KeySource(SourceError::Malformed { problem, .. }) => {
                Some(problem.to_string().into())
            }
            Self::KeyMissing { wanted, loaded } => {
                Some(format!("Wanted: {wanted}. Loaded: {}.", list(loaded)).into())
            }
            Self::StrangeRing { in_use, loaded } => {
                Some(format!("In use: {in_use}. Loaded: {}.", list(loaded)).into())
            }
            Self::UnopenedAt { place, .. } => Some(format!("It is {place}.").into()),
            Self::Unopened(OpenError::KeyMissing(id)) => {
                Some(format!("Its data key {id} is not there.").into())
            }
            Self::Unopened(OpenError::WrongContext) => Some(
                "It was moved or renamed, or its data key was exchanged, or its head is damaged."
                    .into(),
            ),
            Self::VersionChanged { actual, .. } => {
                Some(format!("It is {actual} (0 is none).").into())
            }
            Self::DuplicateToken => Some("A token with the same hash exists.".into()),
            Self::Unauthorized { token_id: Some(token_id), .. } => {
                Some(format!("The token has the id {token_id}.").into())
            }
            Self::NoIdentity => Some("No token was accepted in this transaction.".into()),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Malformed { expected, .. } => Some(format!("Expected {expected}.").into()),
            Self::UnknownKey { .. } => {
                Some(format!("Known keys: {}.", crate::change::KEYS.join(", ")).into())
            }
            Self::HardEndFixed => Some("Create a new token.".into()),
            Self::RevealingPrefix => {
                Some("Give a shortened display text, and the SHA-256 of the whole token.".into())
            }
            Self::UnknownLevel => Some("Use validate, manage, vault or admin.".into()),
            Self::NotPreloaded => {
                Some("Add api_tokens to shared_preload_libraries and restart the server.".into())
            }
            Self::NoKeySource => Some(
                "Set api_tokens.vault_key_file or api_tokens.vault_key_command, or start the \
                server with API_TOKENS_ENCRYPTION_KEY."
                    .into(),
            ),
            Self::KeySource(SourceError::Exposed { .. }) => Some(
                "The file must belong to the server's user with mode 0600 or less, or to root \
                with 0640 or less."
                    .into(),
            ),
            Self::KeySource(SourceError::Malformed { .. }) => {
                Some("One key per line: base64 of 32 bytes, then perhaps a label.".into())
            }
            Self::KeyMissing { .. } | Self::StrangeRing { .. } => {
                Some("Add the key to the key ring and reload the configuration.".into())
            }
            Self::Unopened(_) => Some("Restore it from a backup.".into()),
            Self::UnopenedAt { .. } => Some(
                "Restore it from a backup, or give it up with api_vault_destroy() or \
                api_vault_shred(), and call again."
                    .into(),
            ),
            Self::Missing { .. } => Some("Pass a value that is not null.".into()),
            Self::Length { .. } => Some("Bytes of UTF-8 count, not characters.".into()),
            Self::ValueTooLong { .. } => Some(
                "Raise api_tokens.vault_max_value_bytes, or keep the data elsewhere and only its key \
                here."
                    .into(),
            ),
            Self::VersionChanged { .. } => Some("Read the value again, and retry.".into()),
            Self::ClientEncrypted => Some("Use api_vault_get_encrypted().".into()),
            Self::NotClientEncrypted => Some("Use api_vault_get().".into()),
            Self::Conflict => Some("Retry the transaction.".into()),
            Self::NoIdentity => Some(
                "Call api_token_authenticate() or api_token_require() first, in a statement of its \
                own in the same transaction."
                    .into(),
            ),
            Self::NoOwnerColumn => Some(
                "A column of a string type, an enum, a uuid or a whole number, named as it is in the \
                table."
                    .into(),
            ),
            Self::NotRowTrigger => Some(
                "CREATE TRIGGER … AFTER UPDATE OR DELETE … FOR EACH ROW EXECUTE FUNCTION \
                api_token_invalidate_owner('the column')."
                    .into(),
            ),
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
            Error::Incomplete { argument: "namespace", needs: "x" },
            Error::TooMany { argument: "namespace", max: 1, actual: 2 },
        ] {
            assert!(error.message().contains("\"namespace\""), "{error:?}");
        }
    }
}
