//! What every part of the scheduler shares.

use std::sync::Arc;

use policies_identity::Identity;
use registry_aws::AwsError;
use registry_runtime::{Clock, Sealer};
use tokio_util::sync::CancellationToken;

use crate::addresses::Directory;
use crate::agents::{Liveness, Sessions};
use crate::config::SchedulerConfig;
use crate::images::{ImageError, Images};
use crate::model::{DefinitionContent, ImagePin, PinnedImage};
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
    /// Pins the image of every container, in the definition's order.
    ///
    /// # Errors
    /// ServerException when the registry does not answer: then nothing is known, and nothing is started.
    pub(crate) async fn pin_images(&self, content: &DefinitionContent) -> Result<Vec<ImagePin>, AwsError> {
        let mut pins = Vec::with_capacity(content.container_definitions.len());
        for container in &content.container_definitions {
            let pin = match self.images.resolve(&container.image).await {
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
}
