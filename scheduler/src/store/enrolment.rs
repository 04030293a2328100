//! What a token fixed for the principal that came out of it, and which attributes are the operators'.

use registry_sql::{Row, params};

use super::{Store, StoreError};
use crate::ids::ClusterName;
use crate::model::Attribute;

/// What the operator fixed for a host. An agent cannot change any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Enrolment {
    pub(crate) cluster: ClusterName,
    pub(crate) zone: Option<String>,
    pub(crate) attributes: Vec<Attribute>,
    /// Most CPU units that the host may register.
    pub(crate) max_cpu: Option<i64>,
    /// Most MiB that the host may register.
    pub(crate) max_memory: Option<i64>,
}

impl Enrolment {
    /// A place in a cluster, with nothing else fixed.
    pub(crate) fn of_cluster(cluster: ClusterName) -> Self {
        Self { cluster, zone: None, attributes: Vec::new(), max_cpu: None, max_memory: None }
    }

    /// The columns `cluster, zone, attributes, max_cpu, max_memory`, from the first one on.
    pub(super) fn from_row(row: &Row) -> Result<Enrolment, StoreError> {
        let attributes: String = row.get(2)?;
        Ok(Enrolment {
            cluster: ClusterName::new(&row.get::<String>(0)?),
            zone: row.get(1)?,
            attributes: serde_json::from_str(&attributes)
                .map_err(|_| StoreError::Record { table: "enrolments" })?,
            max_cpu: row.get(3)?,
            max_memory: row.get(4)?,
        })
    }

    pub(super) fn attributes_json(&self) -> String {
        serde_json::to_string(&self.attributes).expect("attributes are plain strings")
    }
}

impl Store {
    /// Binds a principal to what its token fixed, in place of what an earlier one did. `machine` is the hash by
    /// which its host is known again.
    pub(crate) async fn enrol(
        &self,
        principal: &str,
        enrolment: &Enrolment,
        machine: Option<&str>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let (principal, machine) = (principal.to_owned(), machine.map(str::to_owned));
        let (enrolment, attributes) = (enrolment.clone(), enrolment.attributes_json());
        self.database
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO enrolments
                         (principal, cluster, zone, attributes, max_cpu, max_memory, machine, created_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                     ON CONFLICT (principal) DO UPDATE SET cluster = excluded.cluster, zone = excluded.zone,
                         attributes = excluded.attributes, max_cpu = excluded.max_cpu,
                         max_memory = excluded.max_memory,
                         machine = coalesce(excluded.machine, enrolments.machine)",
                    params![
                        &principal,
                        enrolment.cluster.as_str(),
                        enrolment.zone.clone(),
                        &attributes,
                        enrolment.max_cpu,
                        enrolment.max_memory,
                        machine.clone(),
                        now_ms
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// Forgets a host that was cut off.
    pub(crate) async fn forget_enrolment(&self, principal: &str) -> Result<(), StoreError> {
        let principal = principal.to_owned();
        self.database
            .write(move |tx| {
                tx.execute("DELETE FROM enrolments WHERE principal = $1", params![&principal])?;
                Ok(())
            })
            .await
    }

    pub(crate) async fn enrolment(&self, principal: &str) -> Result<Option<Enrolment>, StoreError> {
        let principal = principal.to_owned();
        self.database
            .read(move |tx| {
                let row = tx.query_optional(
                    "SELECT cluster, zone, attributes, max_cpu, max_memory FROM enrolments WHERE principal = $1",
                    params![&principal],
                )?;
                row.map(|row| Enrolment::from_row(&row)).transpose()
            })
            .await
    }

    /// The principals that this machine has in a cluster, the newest first.
    pub(crate) async fn principals_of_machine(
        &self,
        cluster: &ClusterName,
        machine: &str,
    ) -> Result<Vec<String>, StoreError> {
        let (cluster, machine) = (cluster.clone(), machine.to_owned());
        self.database
            .read(move |tx| {
                let rows = tx.query(
                    "SELECT principal FROM enrolments WHERE machine = $1 AND cluster = $2
                     ORDER BY created_at DESC, principal",
                    params![&machine, cluster.as_str()],
                )?;
                rows.iter().map(|row| Ok(row.get(0)?)).collect()
            })
            .await
    }

    /// The names of the attributes that operators fix by tokens in a cluster.
    pub(crate) async fn operator_attributes(&self, cluster: &ClusterName) -> Result<Vec<String>, StoreError> {
        let cluster = cluster.clone();
        self.database
            .read(move |tx| {
                let rows = tx.query(
                    "SELECT name FROM operator_attributes WHERE cluster = $1",
                    params![cluster.as_str()],
                )?;
                rows.iter().map(|row| Ok(row.get(0)?)).collect()
            })
            .await
    }
}
