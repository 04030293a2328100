//! What tasks can ask their host: metadata (v4) and the credentials of their role, at 169.254.170.2.
//!
//! Each container and each task has an address of its own with 256 random bits in it, and the question must
//! come from the task's own network besides. Nothing here listens where a neighbour of the host could knock.

mod address;
mod credentials;
mod metadata;
mod source;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use parking_lot::RwLock;
use registry_runtime::Peer;
use scheduler_protocol::RoleType;
use serde_json::json;

use crate::engine::Engine;
use crate::task::context::TaskContext;

pub(crate) use address::serve_at;

const HOST: &str = "http://169.254.170.2";

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Endpoints(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    cluster: String,
    /// Set once the address is served; until then, why it is not.
    available: RwLock<Result<(), String>>,
    entries: RwLock<HashMap<String, Entry>>,
}

#[derive(Clone)]
enum Entry {
    Credentials(Arc<TaskContext>),
    Container(Arc<TaskContext>, usize),
}

impl Endpoints {
    pub(crate) fn new(engine: Arc<dyn Engine>, cluster: &str) -> Self {
        let inner = Inner {
            engine,
            cluster: cluster.to_owned(),
            available: RwLock::new(Err("the task endpoint is off in this agent's configuration".into())),
            entries: RwLock::default(),
        };
        Self(Arc::new(inner))
    }

    pub(crate) fn set_available(&self, available: Result<(), String>) {
        *self.0.available.write() = available;
    }

    /// Why tasks of this host get no metadata and no credentials.
    pub(crate) fn unavailable(&self) -> Option<String> {
        self.0.available.read().as_ref().err().cloned()
    }

    pub(crate) fn add(&self, context: &Arc<TaskContext>) {
        let mut entries = self.0.entries.write();
        entries.insert(context.accepted.credentials_id.clone(), Entry::Credentials(context.clone()));
        for (index, id) in context.accepted.metadata_ids.iter().enumerate() {
            entries.insert(id.clone(), Entry::Container(context.clone(), index));
        }
    }

    pub(crate) fn forget(&self, context: &TaskContext) {
        let mut entries = self.0.entries.write();
        entries.remove(&context.accepted.credentials_id);
        for id in &context.accepted.metadata_ids {
            entries.remove(id);
        }
    }

    /// The variables by which a container finds its endpoints.
    pub(crate) fn environment(&self, context: &TaskContext, index: usize) -> Vec<(String, String)> {
        let mut variables = vec![("AWS_EXECUTION_ENV".to_owned(), "AWS_ECS_EC2".to_owned())];
        if self.unavailable().is_some() || context.task().network_mode == "none" {
            return variables;
        }
        let id = &context.accepted.metadata_ids[index];
        for (name, value) in [
            ("ECS_CONTAINER_METADATA_URI", format!("{HOST}/v3/{id}")),
            ("ECS_CONTAINER_METADATA_URI_V4", format!("{HOST}/v4/{id}")),
            ("ECS_AGENT_URI", format!("{HOST}/api/{id}")),
        ] {
            variables.push((name.to_owned(), value));
        }
        if context.credentials(RoleType::TaskApplication).is_some() {
            let path = format!("/v2/credentials/{}", context.accepted.credentials_id);
            variables.push(("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI".to_owned(), path));
        }
        variables
    }

    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/v2/credentials/{id}", get(credentials::get_credentials))
            .route("/v3/{id}", get(metadata::container))
            .route("/v3/{id}/task", get(metadata::task))
            .route("/v3/{id}/stats", get(metadata::stats))
            .route("/v4/{id}", get(metadata::container))
            .route("/v4/{id}/task", get(metadata::task))
            .route("/v4/{id}/taskWithTags", get(metadata::task_with_tags))
            .route("/v4/{id}/stats", get(metadata::stats))
            .route("/v4/{id}/task/stats", get(metadata::task_stats))
            .fallback(unknown)
            .with_state(self.clone())
    }

    /// The entry of an id, for a caller inside that very task. The same answer for whoever is not.
    async fn entry(&self, id: &str, peer: Peer) -> Result<Entry, Response> {
        let entry = self.0.entries.read().get(id).cloned().ok_or_else(refused)?;
        let context = match &entry {
            Entry::Credentials(context) | Entry::Container(context, _) => context,
        };
        if source::is_inside(&*self.0.engine, context, peer.0.ip()).await {
            Ok(entry)
        } else {
            tracing::warn!(task.arn = context.arn(), peer.address = %peer.0, "a question about a task came from elsewhere");
            Err(refused())
        }
    }

    async fn container_entry(&self, id: &str, peer: Peer) -> Result<(Arc<TaskContext>, usize), Response> {
        match self.entry(id, peer).await? {
            Entry::Container(context, index) => Ok((context, index)),
            Entry::Credentials(_) => Err(refused()),
        }
    }
}

fn refused() -> Response {
    let body = json!({ "code": "InvalidIdInRequest", "message": "there is nothing under this id for you", "HTTPErrorCode": 400 });
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

async fn unknown() -> Response {
    let body = json!({ "code": "UnsupportedOperation", "message": "this agent does not serve that" });
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

type Id = (State<Endpoints>, Path<String>, axum::Extension<Peer>);

#[cfg(test)]
mod tests;
