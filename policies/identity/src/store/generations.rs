//! Which set of policy files is in effect, and who published it.

use registry_sql::{Error, Tx};

/// The newest published set.
#[derive(Debug)]
pub(crate) struct Newest {
    pub(crate) number: i64,
    pub(crate) published_ms: i64,
    pub(crate) published_by: String,
    pub(crate) content_sha256: String,
}

pub(crate) fn newest(tx: &Tx<'_>) -> Result<Option<Newest>, Error> {
    let row = tx.query_optional(
        "SELECT generation, published_ms, published_by, content_sha256 FROM identity_file_generations \
         ORDER BY generation DESC LIMIT 1",
        &[],
    )?;
    row.map(|row| {
        Ok(Newest {
            number: row.get(0)?,
            published_ms: row.get(1)?,
            published_by: row.get(2)?,
            content_sha256: row.get(3)?,
        })
    })
    .transpose()
}
