//! Applies lifecycle policies: every image that goes has its line in the audit log, in the same transaction.

use std::sync::Arc;

use policies_identity::Identity;
use registry_core::{CoreError, Expiring, LifecycleRun, Registry};
use registry_runtime::Shutdown;

use crate::access::Access;

/// The name of the operation in the audit log, and the action that a person would need.
const OPERATION: &str = "PolicyExecutionEvent";
const ACTION: &str = "ecr:BatchDeleteImage";

/// Applies the lifecycle policies of a registry's repositories.
#[derive(Clone)]
pub struct Lifecycle {
    registry: Registry,
    identity: Identity,
    access: Arc<Access>,
}

impl Lifecycle {
    pub fn new(registry: Registry, identity: Identity, access: Arc<Access>) -> Self {
        Self { registry, identity, access }
    }

    /// Computes the previews that wait and applies the policies that are due, one after the other. What one server
    /// is at, the others leave.
    ///
    /// # Errors
    /// The database's, or that nobody can tell what runs; everything is tried again later.
    pub async fn run(&self, shutdown: &Shutdown) -> Result<(), CoreError> {
        if !self.registry.is_lifecycle_due().await? {
            return Ok(());
        }
        while !shutdown.has_begun() && self.registry.compute_lifecycle_preview().await? {}
        while !shutdown.has_begun() {
            let Some(run) = self.registry.begin_lifecycle_run().await? else { break };
            self.apply(run, shutdown).await?;
        }
        Ok(())
    }

    async fn apply(&self, mut run: LifecycleRun, shutdown: &Shutdown) -> Result<(), CoreError> {
        let mut expired = 0;
        while let Some(page) = run.next().await? {
            let mut waiting = page;
            while let Some(image) = waiting.pop() {
                if shutdown.has_begun() {
                    return Ok(());
                }
                if let Some(artifacts) = self.expire(&run, &image).await? {
                    expired += 1;
                    waiting.extend(artifacts);
                }
            }
        }
        if expired > 0 {
            let repository = &run.repository().name;
            tracing::info!(repository.name = %repository, images = expired, "a lifecycle policy expired images");
        }
        run.finish().await
    }

    async fn expire(&self, run: &LifecycleRun, image: &Expiring) -> Result<Option<Vec<Expiring>>, CoreError> {
        let repository = self.access.repository_arn(&run.repository().name);
        let rule = format!("rule {} expires {}", image.rule_priority, image.digest);
        let recorded = self.identity.recorded(async {
            if !self.identity.record_own(OPERATION, ACTION, &repository, &rule) {
                return Ok(None);
            }
            run.expire(image).await
        });
        recorded.await
    }
}
