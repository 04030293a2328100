//! `GetStatus`: how this server is, in one answer.

use std::sync::Arc;

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, RequestContext};
use registry_aws::AwsError;
use registry_core::{CoreError, Registry, Upkeep};
use serde_json::{Value, json};

use super::berth::store_status;

const OPERATION: &str = "GetStatus";

/// What only the binary knows of the server.
pub trait Facts: Send + Sync {
    fn version(&self) -> &'static str;

    fn is_ready(&self) -> bool;

    /// What somebody should look at.
    fn problems(&self) -> Vec<String>;

    /// How the changes of the database reach the replicas, or null where they do not.
    fn change_log(&self) -> Value;

    /// Counts of the scheduler, or null where another server leads it.
    fn scheduler(&self) -> Value;
}

/// `Berth_20261101.GetStatus`.
pub struct BerthStatus {
    registry: Registry,
    upkeep: Upkeep,
    facts: Arc<dyn Facts>,
}

impl BerthStatus {
    pub const OPERATIONS: &'static [&'static str] = &[OPERATION];

    pub fn new(registry: Registry, upkeep: Upkeep, facts: Arc<dyn Facts>) -> Self {
        Self { registry, upkeep, facts }
    }

    async fn status(&self) -> Result<Value, CoreError> {
        let (store, census) = (self.upkeep.status().await?, self.registry.census().await?);
        Ok(json!({
            "version": self.facts.version(),
            "ready": self.facts.is_ready(),
            "problems": self.facts.problems(),
            "repositories": census.repositories,
            "images": census.usage.images,
            "bytes": census.usage.bytes,
            "openUploads": census.uploads,
            "store": store_status(&store),
            "changeLog": self.facts.change_log(),
            "scheduler": self.facts.scheduler(),
        }))
    }
}

#[async_trait]
impl AwsApi for BerthStatus {
    fn operations(&self) -> &'static [&'static str] {
        Self::OPERATIONS
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        _operation: &str,
        _input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        Ok(vec![Check::any("berth:GetStatus")])
    }

    async fn call(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        _operation: &str,
        _input: Value,
    ) -> Result<Value, AwsError> {
        self.status().await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the status cannot be read");
            AwsError::unavailable("The server's state cannot be read at the moment; its log says why.")
        })
    }
}
