//! Join tokens: kept as their hashes, for the token itself is known to its bearer only.

use registry_sql::{Row, Tx, params};

use super::{Enrolment, Store, StoreError};
use crate::ids::{ClusterName, InstanceId};
use crate::model::Attribute;

/// An invitation to join.
#[derive(Clone, Debug)]
pub(crate) struct JoinToken {
    /// SHA-256 of the token, in hexadecimal.
    pub(crate) hash: String,
    pub(crate) created_at: i64,
    /// ARN of who made it.
    pub(crate) created_by: String,
    pub(crate) expires_at: i64,
    /// How many hosts it admits, and how many it has.
    pub(crate) uses: i64,
    pub(crate) used: i64,
    pub(crate) revoked_at: Option<i64>,
    /// The instance whose host it lets join again; None: any host.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) enrolment: Enrolment,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Valid,
    Expired,
    Used,
    Revoked,
}

/// How long a token is told from one that never was, after its end.
const KEEP_ENDED_MS: i64 = 24 * 3600 * 1000;
/// Characters of a hash that name its token.
const ID_LENGTH: usize = 12;

/// The columns of [`JoinToken::from_row`].
macro_rules! columns {
    () => {
        "cluster, zone, attributes, max_cpu, max_memory, hash, created_at, created_by, expires_at, uses, used, \
         revoked_at, instance"
    };
}

impl JoinToken {
    /// What operators call it: the beginning of its hash, of which nothing about the token follows.
    pub(crate) fn id(&self) -> &str {
        self.hash.get(..ID_LENGTH).unwrap_or(&self.hash)
    }

    pub(crate) fn standing(&self, now_ms: i64) -> Standing {
        if self.revoked_at.is_some() {
            Standing::Revoked
        } else if self.used >= self.uses {
            Standing::Used
        } else if self.expires_at <= now_ms {
            Standing::Expired
        } else {
            Standing::Valid
        }
    }

    fn from_row(row: &Row) -> Result<JoinToken, StoreError> {
        Ok(JoinToken {
            enrolment: Enrolment::from_row(row)?,
            hash: row.get(5)?,
            created_at: row.get(6)?,
            created_by: row.get(7)?,
            expires_at: row.get(8)?,
            uses: row.get(9)?,
            used: row.get(10)?,
            revoked_at: row.get(11)?,
            instance: row.get::<Option<String>>(12)?.map(|id| InstanceId::new(&id)),
        })
    }
}

impl Store {
    /// Stores a token, and forgets those that ended long ago. What it fixes is the operators' from now on.
    pub(crate) async fn put_join_token(&self, token: JoinToken) -> Result<(), StoreError> {
        let forgotten = token.created_at - KEEP_ENDED_MS;
        let attributes = token.enrolment.attributes_json();
        self.database
            .write(move |tx| {
                let enrolment = &token.enrolment;
                tx.execute("DELETE FROM join_tokens WHERE expires_at < $1", params![forgotten])?;
                tx.execute(
                    "INSERT INTO join_tokens (hash, cluster, zone, attributes, max_cpu, max_memory, instance,
                         created_at, created_by, expires_at, uses)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                    params![
                        &token.hash,
                        enrolment.cluster.as_str(),
                        enrolment.zone.clone(),
                        &attributes,
                        enrolment.max_cpu,
                        enrolment.max_memory,
                        token.instance.as_ref().map(|id| id.as_str().to_owned()),
                        token.created_at,
                        &token.created_by,
                        token.expires_at,
                        token.uses
                    ],
                )?;
                claim_attributes(tx, &enrolment.cluster, &enrolment.attributes)
            })
            .await
    }

    /// The names are operators' from now on, for a host that needs no token.
    pub(crate) async fn claim_attributes(&self, enrolment: &Enrolment) -> Result<(), StoreError> {
        let enrolment = enrolment.clone();
        self.database.write(move |tx| claim_attributes(tx, &enrolment.cluster, &enrolment.attributes)).await
    }

    /// A token by its hash. Whoever guesses tokens costs a read, and never a place in the writer's queue.
    pub(crate) async fn join_token(&self, hash: &str) -> Result<Option<JoinToken>, StoreError> {
        let hash = hash.to_owned();
        self.database
            .point(move |tx| {
                let row = tx.query_optional(
                    concat!("SELECT ", columns!(), " FROM join_tokens WHERE hash = $1"),
                    params![&hash],
                )?;
                row.map(|row| JoinToken::from_row(&row)).transpose()
            })
            .await
    }

    /// The tokens of a cluster that are not forgotten yet, the newest first.
    pub(crate) async fn join_tokens(&self, cluster: &ClusterName) -> Result<Vec<JoinToken>, StoreError> {
        let cluster = cluster.clone();
        self.database
            .read(move |tx| {
                let rows = tx.query(
                    concat!(
                        "SELECT ",
                        columns!(),
                        " FROM join_tokens WHERE cluster = $1 ORDER BY created_at DESC, hash"
                    ),
                    params![cluster.as_str()],
                )?;
                rows.iter().map(JoinToken::from_row).collect()
            })
            .await
    }

    /// Uses a token: of all who try at once, as many succeed as it has uses left.
    pub(crate) async fn redeem(&self, hash: &str, now_ms: i64) -> Result<bool, StoreError> {
        let hash = hash.to_owned();
        self.database
            .write(move |tx| {
                let changed = tx.execute(
                    "UPDATE join_tokens SET used = used + 1, used_at = $2
                     WHERE hash = $1 AND used < uses AND expires_at > $2 AND revoked_at IS NULL",
                    params![&hash, now_ms],
                )?;
                Ok(changed > 0)
            })
            .await
    }

    /// Ends a token before its time; hosts that joined by it stay. None when there is no such token.
    pub(crate) async fn revoke_join_token(
        &self,
        cluster: &ClusterName,
        id: &str,
        now_ms: i64,
    ) -> Result<Option<JoinToken>, StoreError> {
        let known = self.join_tokens(cluster).await?;
        let Some(hash) = known.into_iter().find(|token| token.id() == id).map(|token| token.hash) else {
            return Ok(None);
        };
        self.database
            .write(move |tx| {
                let row = tx.query_optional(
                    concat!(
                        "UPDATE join_tokens SET revoked_at = coalesce(revoked_at, $2) WHERE hash = $1 RETURNING ",
                        columns!()
                    ),
                    params![&hash, now_ms],
                )?;
                row.map(|row| JoinToken::from_row(&row)).transpose()
            })
            .await
    }
}

fn claim_attributes(tx: &Tx<'_>, cluster: &ClusterName, attributes: &[Attribute]) -> Result<(), StoreError> {
    for attribute in attributes {
        tx.execute(
            "INSERT INTO operator_attributes (cluster, name) VALUES ($1, $2) ON CONFLICT (cluster, name) DO NOTHING",
            params![cluster.as_str(), &attribute.name],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{JoinToken, Standing};
    use crate::ids::ClusterName;
    use crate::store::Enrolment;

    #[test]
    fn a_token_says_why_it_is_good_for_nothing() {
        let fresh = JoinToken {
            hash: "0123456789abcdef".into(),
            created_at: 0,
            created_by: String::new(),
            expires_at: 10,
            uses: 2,
            used: 1,
            revoked_at: None,
            instance: None,
            enrolment: Enrolment::of_cluster(ClusterName::new("default")),
        };
        assert_eq!((fresh.id(), fresh.standing(9)), ("0123456789ab", Standing::Valid));
        assert_eq!(fresh.standing(10), Standing::Expired);
        let used = JoinToken { used: 2, ..fresh.clone() };
        assert_eq!(used.standing(10), Standing::Used);
        assert_eq!(JoinToken { revoked_at: Some(3), ..used }.standing(10), Standing::Revoked);
    }
}
