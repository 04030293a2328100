//! Reads everything into memory when a term begins.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use registry_sql::{Database, Row, params};
use serde::de::DeserializeOwned;

use super::statement::{CONTENT_COLUMN, DefinitionRow, OVERRIDES_COLUMN};
use super::{Store, StoreError};
use crate::ids::{ClusterName, DefinitionKey, Family, InstanceId, ServiceKey, ServiceName, TaskId};
use crate::images::ResolvedImage;
use crate::model::{
    ClientToken, Cluster, Deployment, Errand, Event, ImagePin, Instance, OutboxEntry, Service, Task,
    TaskDefinition,
};
use crate::state::{Change, Record, State};

impl Store {
    /// Everything, as it is once nobody else can write any more.
    pub(crate) async fn load(&self) -> Result<State, StoreError> {
        let mut records = Vec::new();
        for row in self.rows("SELECT document FROM clusters").await? {
            records.push(Record::Cluster(Arc::new(document::<Cluster>(&row, 0, "clusters")?)));
        }
        for row in self.rows("SELECT family, revision, document, content FROM task_definitions").await? {
            records.push(Record::Definition(Arc::new(self.definition(&row)?)));
        }
        for row in self.rows("SELECT document FROM container_instances").await? {
            records.push(Record::Instance(Arc::new(document::<Instance>(&row, 0, "container_instances")?)));
        }
        for row in self.rows("SELECT id, document, overrides FROM tasks").await? {
            records.push(Record::Task(Arc::new(self.task(&row)?)));
        }
        let mut services = self.services().await?;
        records.extend(services.drain(..).map(|service| Record::Service(Arc::new(service))));
        let events =
            "SELECT cluster, service, id, created_at, message FROM service_events ORDER BY created_at";
        for row in self.rows(events).await? {
            let event = Event { id: row.get(2)?, created_at: row.get(3)?, message: row.get(4)? };
            records.push(Record::Event(service_key(&row)?, Arc::new(event)));
        }
        for row in self.rows("SELECT instance, sequence, task, errand FROM agent_outbox").await? {
            records.push(Record::Outbox(Arc::new(OutboxEntry {
                instance: InstanceId::new(&row.get::<String>(0)?),
                sequence: row.get(1)?,
                task: TaskId::new(&row.get::<String>(2)?),
                errand: if row.get::<String>(3)? == Errand::Stop.as_str() {
                    Errand::Stop
                } else {
                    Errand::Start
                },
            })));
        }
        for row in self.rows("SELECT tasks, key, fingerprint, created_at FROM client_tokens").await? {
            records.push(Record::Token(Arc::new(ClientToken {
                tasks: document(&row, 0, "client_tokens")?,
                key: row.get(1)?,
                fingerprint: row.get(2)?,
                created_at: row.get(3)?,
            })));
        }
        let mut state = State::default();
        for record in records {
            state.apply(&Change::Put(record));
        }
        Ok(state)
    }

    async fn rows(&self, sql: &'static str) -> Result<Vec<Row>, StoreError> {
        self.database.read(move |tx| tx.query(sql, params![]).map_err(StoreError::from)).await
    }

    fn definition(&self, row: &Row) -> Result<TaskDefinition, StoreError> {
        let broken = StoreError::Record { table: "task_definitions" };
        let (family, revision): (String, i64) = (row.get(0)?, row.get(1)?);
        let open: DefinitionRow = document(row, 2, "task_definitions")?;
        let aad = [family.as_bytes(), &revision.to_be_bytes()];
        let content = self.sealer.open(CONTENT_COLUMN, &aad, &row.get::<Vec<u8>>(3)?);
        let Some(content) = content.ok().and_then(|secret| serde_json::from_slice(secret.expose()).ok())
        else {
            return Err(broken);
        };
        Ok(TaskDefinition {
            key: DefinitionKey { family: Family::new(&family), revision },
            status: open.status,
            content,
            requires_attributes: open.requires_attributes,
            registered_at: open.registered_at,
            deregistered_at: open.deregistered_at,
            registered_by: open.registered_by,
            tags: open.tags,
        })
    }

    fn task(&self, row: &Row) -> Result<Task, StoreError> {
        let id: String = row.get(0)?;
        let mut task: Task = document(row, 1, "tasks")?;
        let overrides = self.sealer.open(OVERRIDES_COLUMN, &[id.as_bytes()], &row.get::<Vec<u8>>(2)?);
        let overrides = overrides.ok().and_then(|secret| serde_json::from_slice(secret.expose()).ok());
        task.overrides = Arc::new(overrides.ok_or(StoreError::Record { table: "tasks" })?);
        Ok(task)
    }

    async fn services(&self) -> Result<Vec<Service>, StoreError> {
        let mut services: Vec<Service> = Vec::new();
        for row in self.rows("SELECT document FROM services ORDER BY cluster, name").await? {
            services.push(document(&row, 0, "services")?);
        }
        let deployments =
            "SELECT cluster, service, document FROM deployments ORDER BY cluster, service, place";
        for row in self.rows(deployments).await? {
            let key = service_key(&row)?;
            let deployment: Deployment = document(&row, 2, "deployments")?;
            if let Some(service) = services.iter_mut().find(|service| service.key == key) {
                service.deployments.push(deployment);
            }
        }
        if services.iter().any(|service| service.deployments.is_empty()) {
            return Err(StoreError::Record { table: "deployments" });
        }
        Ok(services)
    }
}

/// The tasks that are over and still remembered.
pub(crate) async fn stopped_tasks(database: &Database) -> Result<HashSet<TaskId>, StoreError> {
    let rows = database.read(|tx| tx.query("SELECT id, document FROM tasks", params![])).await?;
    let mut stopped = HashSet::new();
    for row in rows {
        if document::<Task>(&row, 1, "tasks")?.is_stopped() {
            stopped.insert(TaskId::new(&row.get::<String>(0)?));
        }
    }
    Ok(stopped)
}

/// The images that live tasks and the deployments of active services run.
pub(crate) async fn pinned_images(database: &Database) -> Result<BTreeSet<ResolvedImage>, StoreError> {
    database
        .read(|tx| {
            let mut pinned = BTreeSet::new();
            for row in tx.query("SELECT document FROM tasks", params![])? {
                let task: Task = document(&row, 0, "tasks")?;
                pinned.extend(task.image_pins().filter_map(ImagePin::resolved));
            }
            let deployments = "SELECT d.document, s.document FROM deployments d \
                               JOIN services s ON s.cluster = d.cluster AND s.name = d.service";
            for row in tx.query(deployments, params![])? {
                let mut service: Service = document(&row, 1, "services")?;
                service.deployments = vec![document(&row, 0, "deployments")?];
                pinned.extend(service.image_pins().filter_map(ImagePin::resolved));
            }
            Ok(pinned)
        })
        .await
}

/// The key in the first two columns.
fn service_key(row: &Row) -> Result<ServiceKey, StoreError> {
    let (cluster, name): (String, String) = (row.get(0)?, row.get(1)?);
    Ok(ServiceKey { cluster: ClusterName::new(&cluster), name: ServiceName::new(&name) })
}

fn document<T: DeserializeOwned>(row: &Row, column: usize, table: &'static str) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|_| StoreError::Record { table })
}
