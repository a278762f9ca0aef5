//! From our refusals to Postgres' error reports: the one place that knows both.

use crate::pg::log::OURS;
use api_tokens_logic::error::SqlState;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, spi};

#[derive(Debug)]
pub enum Error {
    Refused(api_tokens_logic::Error),
    /// A statement of ours did not behave; a bug or a damaged installation, never the caller.
    Spi(spi::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

impl From<api_tokens_logic::Error> for Error {
    fn from(error: api_tokens_logic::Error) -> Self {
        Self::Refused(error)
    }
}

impl From<spi::Error> for Error {
    fn from(error: spi::Error) -> Self {
        Self::Spi(error)
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let refusal = match error {
            Error::Refused(refusal) => refusal,
            Error::Spi(error) => {
                let code = PgSqlErrorCode::ERRCODE_INTERNAL_ERROR;
                return Self::new(code, format!("api_tokens could not run a query: {error}"), OURS);
            }
        };
        let mut report = Self::new(code(refusal.sqlstate()), refusal.message(), OURS);
        if let Some(detail) = refusal.detail() {
            report = report.set_detail(detail);
        }
        if let Some(hint) = refusal.hint() {
            report = report.set_hint(hint);
        }
        report
    }
}

fn code(state: SqlState) -> PgSqlErrorCode {
    match state {
        SqlState::NullValueNotAllowed => PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
        SqlState::InvalidParameterValue => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        SqlState::UniqueViolation => PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
        SqlState::ProgramLimitExceeded => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        SqlState::FeatureNotSupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        SqlState::ObjectNotInPrerequisiteState => {
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
        }
        SqlState::InvalidAuthorization => {
            PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION
        }
        SqlState::InsufficientPrivilege => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        SqlState::TriggerProtocolViolated => {
            PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED
        }
        SqlState::NoDataFound => PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
        SqlState::DataCorrupted => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        SqlState::SerializationFailure => PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
    }
}
