//! The tables of identity, and the only code that speaks to them.
//!
//! Everything here is a function over a transaction, free of side effects; time, ids and random values
//! come in as arguments. Invariant: whoever changes what decides about requests calls [`bump`] in the
//! same transaction, so that every server notices within 250 ms.

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod entities;
pub(crate) mod files;
pub(crate) mod generations;
pub(crate) mod instance_profiles;
pub(crate) mod keys;
mod level;
pub(crate) mod load;
mod migrations;
pub(crate) mod policies;
pub(crate) mod principals;
pub(crate) mod providers;
pub(crate) mod refresh;
pub(crate) mod sessions;

use registry_sql::{Error, Tx, params};

pub(crate) use level::Level;
pub(crate) use migrations::{MIGRATIONS, NAMESPACE};

/// Who may change a row: the IAM API, or the policy files alone, or nobody but Berth itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Api,
    Files,
    Berth,
}

impl Owner {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Owner::Api => "api",
            Owner::Files => "files",
            Owner::Berth => "berth",
        }
    }

    /// What is stored; a word that no release wrote is nobody's to change.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "api" => Owner::Api,
            "files" => Owner::Files,
            _ => Owner::Berth,
        }
    }
}

/// Raises the security generation: every server loads what changed before it decides again.
pub(crate) fn bump(tx: &Tx<'_>) -> Result<i64, Error> {
    tx.query_one(
        "UPDATE identity_security SET generation = generation + 1 WHERE id = 1 RETURNING generation",
        &[],
    )?
    .get(0)
}

/// The security generation as the database has it.
pub(crate) fn security_generation(tx: &Tx<'_>) -> Result<i64, Error> {
    let row = tx.query_optional("SELECT generation FROM identity_security WHERE id = 1", params![])?;
    row.map_or(Ok(0), |row| row.get(0))
}
