//! Looks again for images that were missing when a deployment was created.

use std::sync::Arc;

use registry_aws::AwsError;

use crate::core::Core;
use crate::ids::ServiceKey;
use crate::model::{ImagePin, Service, ServiceStatus};

/// Resolves them; a deployment whose images are all there now starts its tasks when it next may.
pub(crate) async fn resolve_missing_images(core: &Core) -> Result<(), AwsError> {
    let waiting: Vec<Arc<Service>> = {
        let state = core.ledger.read();
        let waits = |service: &&Arc<Service>| {
            service.status == ServiceStatus::Active
                && service.primary().images.iter().any(|pin| matches!(pin, ImagePin::Missing(_)))
        };
        state.services().filter(waits).cloned().collect()
    };
    for service in waiting {
        let deployment = service.primary();
        let definition = core.ledger.read().definition(&deployment.definition).cloned();
        let Some(definition) = definition else { continue };
        let images = core.pin_images_in(&service.key.cluster, &definition).await?;
        if images == deployment.images {
            continue;
        }
        let (key, id): (ServiceKey, _) = (service.key.clone(), deployment.id.clone());
        core.ledger
            .change(move |draft| {
                draft.edit_service(&key, |service| {
                    if let Some(deployment) = service.deployment_mut(&id) {
                        deployment.images = images;
                    }
                });
                Ok::<_, AwsError>(())
            })
            .await?;
    }
    Ok(())
}
