//! One face over the database: `read`, `point` and `write` take synchronous closures over a small [`Tx`].
//!
//! The rooms above keep their SQL and their migrations; this one knows no table names. It exists so that the
//! engine beneath can be SQLite (or a PostgreSQL later) without a query changing, and so that many small
//! transactions share one durable commit. Invariant: nothing that was written by `write` is acknowledged before it is
//! durable, together with everything that was committed before it, and a closure that fails changes nothing.

mod changes;
mod companion;
mod copy;
mod database;
mod error;
mod migrate;
mod placeholder;
mod postgres;
mod readers;
mod rerun;
mod schema;
mod session;
mod sqlite;
mod tx;
mod value;
mod writer;

pub use changes::{
    ChangeLogConfig, ChangeLogStatus, FrameSeal, LOG_FOLDER, Lag, LogFile, LogRemote, LogReplica, LogSeal,
    LogSource, ReplicaCheck, ReplicaLogStatus, RestoredDatabase, holds_change_log, is_snapshot,
    restore_sqlite,
};
pub use companion::{Companion, accompanied};
pub use copy::{check_sqlite, copy_sqlite, peek_sqlite};
pub use database::Database;
pub use error::{ConstraintKind, Error};
pub use migrate::Migration;
pub use tx::Tx;
pub use value::{FromValue, Row, Value};

/// A slice of [`Value`]s from anything that converts: `params![uid, name, now_ms]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::Value::from($value)),*][..] as &[$crate::Value]
    };
}
