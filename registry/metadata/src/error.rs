//! What can go wrong with a query: the database, or a row that does not parse.

use std::str::FromStr;

use registry_sql::Row;
use thiserror::Error;

/// An error of a query. Neither variant is the caller's fault.
#[derive(Debug, Error)]
pub enum Error {
    #[error("the metadata database failed")]
    Sql(#[from] registry_sql::Error),
    #[error("a row of {table} does not parse")]
    Corrupt { table: &'static str },
}

/// A text column as one of our types.
pub(crate) fn parse<T: FromStr>(row: &Row, index: usize, table: &'static str) -> Result<T, Error> {
    row.get::<String>(index)?.parse().map_err(|_| Error::Corrupt { table })
}

/// A text column that may be NULL as one of our types.
pub(crate) fn parse_optional<T: FromStr>(
    row: &Row,
    index: usize,
    table: &'static str,
) -> Result<Option<T>, Error> {
    match row.get::<Option<String>>(index)? {
        Some(text) => text.parse().map(Some).map_err(|_| Error::Corrupt { table }),
        None => Ok(None),
    }
}

/// A column that holds a length.
pub(crate) fn length(row: &Row, index: usize, table: &'static str) -> Result<u64, Error> {
    u64::try_from(row.get::<i64>(index)?).map_err(|_| Error::Corrupt { table })
}

/// A column of exactly `N` bytes.
pub(crate) fn bytes<const N: usize>(row: &Row, index: usize, table: &'static str) -> Result<[u8; N], Error> {
    row.get::<Vec<u8>>(index)?.try_into().map_err(|_| Error::Corrupt { table })
}

/// A length as the database stores it. Lengths are bounded by what a store can hold, far below `i64::MAX`.
pub(crate) fn stored(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
