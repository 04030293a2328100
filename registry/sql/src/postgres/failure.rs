//! What PostgreSQL reports, as what a caller can do about it.
//!
//! Only code and message are kept: the detail of a report holds values of rows. Invariant: Busy and Unavailable
//! mean that the transaction is gone and may run again.

use std::sync::Arc;

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::error::{Cause, ConstraintKind};
use crate::{Error, Value};

/// What the server said, without the values of rows.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
struct Report {
    code: String,
    message: String,
}

/// What went wrong between this process and the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no answer within {0} s")]
    Silent(u64),
    #[error("the database stores text as {0}, and only UTF8 will do")]
    Encoding(String),
    #[error("a statement takes {expected} parameters and was given {given}")]
    Parameters { expected: usize, given: usize },
    #[error("column {column} is of type {kind}, which no portable query gives")]
    Column { column: usize, kind: String },
}

fn report(error: &DbError) -> Cause {
    Arc::new(Report { code: error.code().code().to_owned(), message: error.message().to_owned() })
}

/// An error of a statement, or of connecting.
pub(super) fn of_statement(error: tokio_postgres::Error) -> Error {
    let Some(reported) = error.as_db_error() else {
        let lost = error.is_closed() || has_io_source(&error);
        let cause: Cause = Arc::new(error);
        return if lost { Error::Unavailable(cause) } else { Error::Statement(cause) };
    };
    let (code, cause) = (reported.code(), report(reported));
    match code.code() {
        _ if *code == SqlState::UNIQUE_VIOLATION => {
            Error::Constraint { kind: ConstraintKind::Unique, source: cause }
        }
        _ if *code == SqlState::FOREIGN_KEY_VIOLATION => {
            Error::Constraint { kind: ConstraintKind::ForeignKey, source: cause }
        }
        _ if *code == SqlState::DISK_FULL => Error::Full(cause),
        code if code.starts_with("23") => Error::Constraint { kind: ConstraintKind::Other, source: cause },
        code if code.starts_with("40") => Error::Busy(cause),
        "55P03" => Error::Busy(cause),
        code if code.starts_with("58") => Error::Io(cause),
        code if code.starts_with("XX") => Error::Corrupt(cause),
        code if ["08", "28", "3D", "53", "57"].iter().any(|class| code.starts_with(class)) => {
            Error::Unavailable(cause)
        }
        _ if matches!(reported.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) => {
            Error::Unavailable(cause)
        }
        _ => Error::Statement(cause),
    }
}

/// An error of a commit: only what the server says to have rolled back is known to be undone.
pub(super) fn of_commit(error: tokio_postgres::Error) -> Error {
    let Some(reported) = error.as_db_error() else { return Error::OutcomeUnknown(Arc::new(error)) };
    let undone = ["23", "40"].iter().any(|class| reported.code().code().starts_with(class));
    if undone && reported.code().code() != "40003" {
        return of_statement(error);
    }
    Error::OutcomeUnknown(report(reported))
}

fn has_io_source(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Why a value cannot be a parameter of the type that the server expects.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("{found} cannot stand where {kind} is expected")]
    Kind { found: &'static str, kind: String },
    #[error("a text holds the character NUL, which PostgreSQL does not store")]
    Nul,
}

impl Unfit {
    pub(super) fn kind(value: &Value, kind: &tokio_postgres::types::Type) -> Unfit {
        Unfit::Kind { found: value.kind(), kind: kind.name().to_owned() }
    }
}
