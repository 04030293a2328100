//! OIDC providers.

use registry_sql::{Error, Row, Tx, params};

use super::Owner;
use super::entities::tags_of;
use super::principals::tags_text;

#[derive(Clone, Debug)]
pub(crate) struct ProviderRow {
    /// The issuer's URL without `https://`.
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) client_ids: Vec<String>,
    pub(crate) thumbprints: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) created_ms: i64,
    /// Raised by whatever takes trust away.
    pub(crate) generation: i64,
    pub(crate) owner: Owner,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT name, uid, client_ids, thumbprints, tags, created_ms, generation, owner \
             FROM identity_oidc_providers ",
            $rest
        )
    };
}

pub(crate) fn find(tx: &Tx<'_>, name: &str) -> Result<Option<ProviderRow>, Error> {
    tx.query_optional(select!("WHERE name = $1"), params![name])?.as_ref().map(provider).transpose()
}

/// All, in the order of their names.
pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<ProviderRow>, Error> {
    tx.query(select!("ORDER BY name"), &[])?.iter().map(provider).collect()
}

/// Writes a provider as it is, new or known.
pub(crate) fn put(tx: &Tx<'_>, row: &ProviderRow) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO identity_oidc_providers \
         (name, uid, client_ids, thumbprints, tags, created_ms, generation, owner) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (name) DO UPDATE SET client_ids = EXCLUDED.client_ids, thumbprints = EXCLUDED.thumbprints, \
         tags = EXCLUDED.tags, generation = EXCLUDED.generation",
        params![
            row.name.as_str(),
            row.uid.as_str(),
            list_text(&row.client_ids),
            list_text(&row.thumbprints),
            tags_text(&row.tags),
            row.created_ms,
            row.generation,
            row.owner.as_str()
        ],
    )?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, name: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM identity_oidc_providers WHERE name = $1", params![name])?;
    Ok(())
}

fn provider(row: &Row) -> Result<ProviderRow, Error> {
    Ok(ProviderRow {
        name: row.get(0)?,
        uid: row.get(1)?,
        client_ids: list_of(&row.get::<String>(2)?),
        thumbprints: list_of(&row.get::<String>(3)?),
        tags: tags_of(&row.get::<String>(4)?),
        created_ms: row.get(5)?,
        generation: row.get(6)?,
        owner: Owner::parse(&row.get::<String>(7)?),
    })
}

fn list_text(list: &[String]) -> String {
    serde_json::to_string(list).expect("texts have a JSON form")
}

fn list_of(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_default()
}
