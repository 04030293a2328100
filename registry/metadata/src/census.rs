//! How much there is, for status and metrics. Counts stop at a bound, so that asking costs the same whatever is
//! stored.

use registry_sql::{Tx, params};

use crate::error::{Error, length};
use crate::model::Usage;

const TABLE: &str = "repository_usage";

/// What is here, each counted up to the bound it was asked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub repositories: u64,
    /// What those repositories hold together.
    pub usage: Usage,
    /// Uploads that are not finished.
    pub uploads: u64,
}

/// Counts at most `limit` repositories and `limit` uploads.
pub fn take(tx: &Tx<'_>, limit: u32) -> Result<Census, Error> {
    let limit = i64::from(limit);
    let held = tx.query_optional(
        "SELECT COUNT(*), CAST(COALESCE(SUM(u.bytes), 0) AS BIGINT), CAST(COALESCE(SUM(u.images), 0) AS BIGINT) \
         FROM (SELECT bytes, images FROM repository_usage LIMIT $1) u",
        params![limit],
    )?;
    let uploads =
        tx.query_optional("SELECT COUNT(*) FROM (SELECT 1 FROM uploads LIMIT $1) u", params![limit])?;
    let count =
        |row: &Option<registry_sql::Row>, index| row.as_ref().map_or(Ok(0), |row| length(row, index, TABLE));
    Ok(Census {
        repositories: count(&held, 0)?,
        usage: Usage { bytes: count(&held, 1)?, images: count(&held, 2)? },
        uploads: count(&uploads, 0)?,
    })
}
