//! Join tokens and what came of them: kept in the database alone, for both are used once.

use registry_sql::{Row, params};

use super::{Store, StoreError};
use crate::ids::ClusterName;
use crate::model::Attribute;

/// An invitation to join; the token itself is known to its bearer only.
#[derive(Clone, Debug)]
pub(crate) struct JoinToken {
    /// SHA-256 of the token, in hexadecimal.
    pub(crate) hash: String,
    pub(crate) expires_at: i64,
    pub(crate) enrolment: Enrolment,
}

/// What the operator fixed for a host. An agent cannot change any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Enrolment {
    pub(crate) cluster: ClusterName,
    pub(crate) zone: Option<String>,
    pub(crate) attributes: Vec<Attribute>,
}

const KEEP_EXPIRED_MS: i64 = 24 * 3600 * 1000;

impl Store {
    /// Stores a token, and forgets those that expired long ago.
    pub(crate) async fn put_join_token(&self, token: JoinToken, now_ms: i64) -> Result<(), StoreError> {
        let forgotten = now_ms - KEEP_EXPIRED_MS;
        let attributes = attributes_json(&token.enrolment);
        self.database
            .write(move |tx| {
                tx.execute("DELETE FROM join_tokens WHERE expires_at < $1", params![forgotten])?;
                tx.execute(
                    "INSERT INTO join_tokens (hash, cluster, zone, attributes, expires_at, used_at)
                     VALUES ($1, $2, $3, $4, $5, NULL)",
                    params![
                        &token.hash,
                        token.enrolment.cluster.as_str(),
                        token.enrolment.zone.clone(),
                        &attributes,
                        token.expires_at
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// Uses a token up: of all who try, one gets the enrolment. None for a token that is unknown, used or too old.
    pub(crate) async fn redeem(&self, hash: &str, now_ms: i64) -> Result<Option<Enrolment>, StoreError> {
        // Whoever guesses tokens costs a read, and never a place in the writer's queue.
        let (hash, looked_up) = (hash.to_owned(), hash.to_owned());
        let known = self.database.point(move |tx| {
            let row =
                tx.query_optional("SELECT used_at FROM join_tokens WHERE hash = $1", params![&looked_up])?;
            Ok::<_, StoreError>(row.is_some())
        });
        if !known.await? {
            return Ok(None);
        }
        self.database
            .write(move |tx| {
                let row = tx.query_optional(
                    "UPDATE join_tokens SET used_at = $2 WHERE hash = $1 AND used_at IS NULL AND expires_at > $2
                     RETURNING cluster, zone, attributes",
                    params![&hash, now_ms],
                )?;
                row.map(|row| enrolment(&row)).transpose()
            })
            .await
    }

    /// Binds a principal to what its token fixed.
    pub(crate) async fn enrol(
        &self,
        principal: &str,
        enrolment: &Enrolment,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let (principal, enrolment) = (principal.to_owned(), enrolment.clone());
        let attributes = attributes_json(&enrolment);
        self.database
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO enrolments (principal, cluster, zone, attributes, created_at)
                     VALUES ($1, $2, $3, $4, $5)",
                    params![
                        &principal,
                        enrolment.cluster.as_str(),
                        enrolment.zone.clone(),
                        &attributes,
                        now_ms
                    ],
                )?;
                Ok(())
            })
            .await
    }

    pub(crate) async fn enrolment(&self, principal: &str) -> Result<Option<Enrolment>, StoreError> {
        let principal = principal.to_owned();
        self.database
            .read(move |tx| {
                let row = tx.query_optional(
                    "SELECT cluster, zone, attributes FROM enrolments WHERE principal = $1",
                    params![&principal],
                )?;
                row.map(|row| enrolment(&row)).transpose()
            })
            .await
    }
}

fn enrolment(row: &Row) -> Result<Enrolment, StoreError> {
    let attributes: String = row.get(2)?;
    Ok(Enrolment {
        cluster: ClusterName::new(&row.get::<String>(0)?),
        zone: row.get(1)?,
        attributes: serde_json::from_str(&attributes)
            .map_err(|_| StoreError::Record { table: "enrolments" })?,
    })
}

fn attributes_json(enrolment: &Enrolment) -> String {
    serde_json::to_string(&enrolment.attributes).expect("attributes are plain strings")
}
