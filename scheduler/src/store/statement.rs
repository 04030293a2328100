//! Changes as SQL statements with their parameters.

use registry_runtime::Sealer;
use registry_sql::{Value, params};
use serde::{Deserialize, Serialize};

use crate::model::{DefinitionStatus, Service, Tag, Task, TaskDefinition};
use crate::state::{Change, Key, Record};

pub(super) const CONTENT_COLUMN: &str = "task_definitions.content";
pub(super) const OVERRIDES_COLUMN: &str = "tasks.overrides";

type Statement = (&'static str, Vec<Value>);

/// The part of a task definition that is not sealed.
#[derive(Serialize, Deserialize)]
pub(super) struct DefinitionRow {
    pub(super) status: DefinitionStatus,
    pub(super) requires_attributes: Vec<crate::model::Attribute>,
    pub(super) registered_at: i64,
    pub(super) deregistered_at: Option<i64>,
    pub(super) registered_by: String,
    pub(super) tags: Vec<Tag>,
}

pub(super) fn statements(change: &Change, sealer: &Sealer) -> Vec<Statement> {
    match change {
        Change::Put(record) => put(record, sealer),
        Change::Remove(key) => remove(key),
    }
}

fn put(record: &Record, sealer: &Sealer) -> Vec<Statement> {
    match record {
        Record::Cluster(cluster) => vec![(
            "INSERT INTO clusters (name, document) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET document = excluded.document",
            params![cluster.name.as_str(), json(&**cluster)].to_vec(),
        )],
        Record::Definition(definition) => vec![put_definition(definition, sealer)],
        Record::Instance(instance) => vec![(
            "INSERT INTO container_instances (id, cluster, principal, document) VALUES ($1, $2, $3, $4)
             ON CONFLICT (id) DO UPDATE SET document = excluded.document",
            params![
                instance.id.as_str(),
                instance.cluster.as_str(),
                &instance.principal,
                json(&**instance)
            ]
            .to_vec(),
        )],
        Record::Service(service) => put_service(service),
        Record::Event(key, event) => vec![(
            "INSERT INTO service_events (id, cluster, service, created_at, message) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO NOTHING",
            params![&event.id, key.cluster.as_str(), key.name.as_str(), event.created_at, &event.message].to_vec(),
        )],
        Record::Task(task) => vec![put_task(task, sealer)],
        Record::Outbox(entry) => vec![(
            "INSERT INTO agent_outbox (instance, sequence, task, errand) VALUES ($1, $2, $3, $4)
             ON CONFLICT (instance, sequence) DO NOTHING",
            params![entry.instance.as_str(), entry.sequence, entry.task.as_str(), entry.errand.as_str()].to_vec(),
        )],
        Record::Token(token) => vec![(
            "INSERT INTO client_tokens (key, fingerprint, tasks, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (key) DO UPDATE
             SET fingerprint = excluded.fingerprint, tasks = excluded.tasks, created_at = excluded.created_at",
            params![&token.key, &token.fingerprint, json(&token.tasks), token.created_at].to_vec(),
        )],
    }
}

fn put_definition(definition: &TaskDefinition, sealer: &Sealer) -> Statement {
    let row = DefinitionRow {
        status: definition.status,
        requires_attributes: definition.requires_attributes.clone(),
        registered_at: definition.registered_at,
        deregistered_at: definition.deregistered_at,
        registered_by: definition.registered_by.clone(),
        tags: definition.tags.clone(),
    };
    let (family, revision) = (definition.key.family.as_str(), definition.key.revision);
    let aad = [family.as_bytes(), &revision.to_be_bytes()];
    let content = sealer.seal(CONTENT_COLUMN, &aad, json(&definition.content).as_bytes());
    (
        // The content of a revision never changes: only its status and tags do.
        "INSERT INTO task_definitions (family, revision, document, content) VALUES ($1, $2, $3, $4)
         ON CONFLICT (family, revision) DO UPDATE SET document = excluded.document",
        params![family, revision, json(&row), content].to_vec(),
    )
}

fn put_task(task: &Task, sealer: &Sealer) -> Statement {
    let id = task.id.as_str();
    // The overrides of a task never change: they are sealed once, with its first version.
    if task.version == 1 {
        let overrides = sealer.seal(OVERRIDES_COLUMN, &[id.as_bytes()], json(&*task.overrides).as_bytes());
        return (
            "INSERT INTO tasks (id, cluster, document, overrides) VALUES ($1, $2, $3, $4)
             ON CONFLICT (id) DO UPDATE SET document = excluded.document",
            params![id, task.cluster.as_str(), json(task), overrides].to_vec(),
        );
    }
    ("UPDATE tasks SET document = $2 WHERE id = $1", params![id, json(task)].to_vec())
}

fn put_service(service: &Service) -> Vec<Statement> {
    let (cluster, name) = (service.key.cluster.as_str(), service.key.name.as_str());
    let mut statements = vec![
        (
            "INSERT INTO services (cluster, name, document) VALUES ($1, $2, $3)
             ON CONFLICT (cluster, name) DO UPDATE SET document = excluded.document",
            params![cluster, name, json(service)].to_vec(),
        ),
        (
            "DELETE FROM deployments WHERE cluster = $1 AND service = $2 AND place >= $3",
            params![cluster, name, service.deployments.len() as i64].to_vec(),
        ),
    ];
    for (place, deployment) in service.deployments.iter().enumerate() {
        statements.push((
            "INSERT INTO deployments (cluster, service, place, document) VALUES ($1, $2, $3, $4)
             ON CONFLICT (cluster, service, place) DO UPDATE SET document = excluded.document",
            params![cluster, name, place as i64, json(deployment)].to_vec(),
        ));
    }
    statements
}

fn remove(key: &Key) -> Vec<Statement> {
    let statement = match key {
        Key::Cluster(name) => ("DELETE FROM clusters WHERE name = $1", params![name.as_str()].to_vec()),
        Key::Definition(key) => (
            "DELETE FROM task_definitions WHERE family = $1 AND revision = $2",
            params![key.family.as_str(), key.revision].to_vec(),
        ),
        Key::Instance(id) => ("DELETE FROM container_instances WHERE id = $1", params![id.as_str()].to_vec()),
        Key::Service(key) => {
            let of_service = params![key.cluster.as_str(), key.name.as_str()].to_vec();
            return vec![
                ("DELETE FROM services WHERE cluster = $1 AND name = $2", of_service.clone()),
                ("DELETE FROM deployments WHERE cluster = $1 AND service = $2", of_service),
            ];
        }
        Key::Event(_, id) => ("DELETE FROM service_events WHERE id = $1", params![id].to_vec()),
        Key::Task(id) => ("DELETE FROM tasks WHERE id = $1", params![id.as_str()].to_vec()),
        Key::Outbox(instance, sequence) => (
            "DELETE FROM agent_outbox WHERE instance = $1 AND sequence = $2",
            params![instance.as_str(), *sequence].to_vec(),
        ),
        Key::Token(key) => ("DELETE FROM client_tokens WHERE key = $1", params![key].to_vec()),
    };
    vec![statement]
}

fn json<T: Serialize + ?Sized>(record: &T) -> String {
    serde_json::to_string(record).expect("records hold nothing that JSON cannot write")
}
