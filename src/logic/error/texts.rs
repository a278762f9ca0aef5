//! What a refusal says: message, detail and hint.

use super::{Error, SchemaProblem, SourceError};
use crate::vault::seal::OpenError;
use crate::vault::secret::KeyId;
use crate::verdict::Reason;
use std::borrow::Cow;

/// A JSON pointer, which is empty for the whole.
fn place(path: &str) -> String {
    if path.is_empty() { "At the top level".into() } else { format!("At \"{path}\"") }
}

fn list(ids: &[KeyId]) -> String {
    ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}

impl Error {
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
            Self::MetadataMismatch { .. } => {
                "argument \"metadata\" does not fit the schema of its namespace".into()
            }
            Self::BadSchema { .. } => "argument \"schema\" is not a usable JSON Schema".into(),
            Self::MetadataTooLong { max, .. } => {
                format!("argument \"metadata\" is longer than {max} bytes and has a schema").into()
            }
            Self::SchemaTooComplex { what, max, .. } => {
                format!("argument \"schema\" has more than {max} {what}").into()
            }
            Self::MetadataTooComplex => {
                "argument \"metadata\" is too large or too deep for the schema of its namespace".into()
            }
            Self::SchemaTooLong { max, .. } => {
                format!("argument \"schema\" is longer than {max} bytes").into()
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
            Self::MetadataMismatch { keyword, .. } if keyword.is_empty() => {
                Some("Where is not looked for: the schema or the metadata is too large.".into())
            }
            Self::MetadataMismatch { path, keyword } => {
                Some(format!("{}: \"{keyword}\" is not satisfied.", place(path)).into())
            }
            Self::BadSchema { path, problem: SchemaProblem::Invalid } => {
                Some(format!("{}: not valid.", place(path)).into())
            }
            Self::BadSchema { path, problem: SchemaProblem::Reference } => Some(
                format!("{}: a reference that leads nowhere in the schema.", place(path)).into(),
            ),
            Self::SchemaTooComplex { actual, .. } => Some(format!("It has {actual}.").into()),
            Self::SchemaTooLong { actual, .. } | Self::MetadataTooLong { actual, .. } => {
                Some(format!("It has {actual} bytes.").into())
            }
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
            Self::MetadataTooComplex => Some(
                "A check cannot be interrupted, so what could be a long one is not begun: make the \
                metadata smaller, or the schema simpler."
                    .into(),
            ),
            Self::BadSchema { problem: SchemaProblem::Reference, .. } => {
                Some("Nothing is fetched: put what is referred to into \"$defs\".".into())
            }
            Self::BadSchema { problem: SchemaProblem::Invalid, .. } => Some(
                "Draft 2020-12 unless \"$schema\" says otherwise; patterns are regular expressions \
                without look-around and back-references."
                    .into(),
            ),
            _ => None,
        }
    }
}
