//! What every part of the scheduler shares.

use std::sync::Arc;

use policies_identity::Identity;
use registry_aws::AwsError;
use registry_runtime::{Clock, Sealer};
use tokio_util::sync::CancellationToken;

use crate::addresses::Directory;
use crate::agents::{Liveness, Sessions};
use crate::config::SchedulerConfig;
use crate::ids::ClusterName;
use crate::images::{ImageError, Images, WantedImage};
use crate::launch::effective_roles;
use crate::model::{ImagePin, PinnedImage, TaskDefinition, TaskOverrides};
use crate::names::Names;
use crate::state::Ledger;
use crate::store::Store;

pub(crate) struct Core {
    pub(crate) config: SchedulerConfig,
    pub(crate) names: Names,
    pub(crate) ledger: Ledger,
    pub(crate) store: Store,
    pub(crate) identity: Identity,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) clock: Clock,
    pub(crate) sessions: Sessions,
    pub(crate) liveness: Liveness,
    /// Where services listen and what is behind them, as agents are told.
    pub(crate) directory: Directory,
    /// Cancelled when the server stops: connections end, so that agents look for it again.
    pub(crate) stopping: CancellationToken,
}

impl Core {
    /// Pins the image of every container, in the definition's order. `default_role` is the cluster's execution role.
    ///
    /// # Errors
    /// ServerException when the registry does not answer: then nothing is known, and nothing is started.
    pub(crate) async fn pin_images(
        &self,
        definition: &TaskDefinition,
        overrides: &TaskOverrides,
        default_role: Option<&str>,
    ) -> Result<Vec<ImagePin>, AwsError> {
        let (_, execution_role) = effective_roles(definition, overrides, default_role);
        let arn = self.names.definition(&definition.key).to_string();
        let containers = &definition.content.container_definitions;
        let mut pins = Vec::with_capacity(containers.len());
        for container in containers {
            let wanted = WantedImage {
                name: &container.image,
                execution_role: execution_role.as_deref(),
                definition: &arn,
            };
            let pin = match self.images.resolve(wanted).await {
                Ok(None) => ImagePin::Foreign,
                Ok(Some(image)) => {
                    ImagePin::Pinned(PinnedImage { repository: image.repository, digest: image.digest })
                }
                Err(ImageError::NotFound(message)) => {
                    ImagePin::Missing(format!("CannotPullContainerError: {message}"))
                }
                Err(error @ ImageError::Unavailable(_)) => {
                    tracing::error!(error = %error, image = container.image, "an image could not be resolved");
                    return Err(AwsError::server());
                }
            };
            pins.push(pin);
        }
        Ok(pins)
    }

    /// The same for a service of a cluster, which overrides nothing.
    ///
    /// # Errors
    /// As [`Core::pin_images`].
    pub(crate) async fn pin_images_in(
        &self,
        cluster: &ClusterName,
        definition: &TaskDefinition,
    ) -> Result<Vec<ImagePin>, AwsError> {
        let default_role = {
            let state = self.ledger.read();
            state.cluster(cluster).and_then(|found| found.default_execution_role().map(str::to_owned))
        };
        self.pin_images(definition, &TaskOverrides::default(), default_role.as_deref()).await
    }
}
