//! The seams between scheduler and registry: which manifest an image name means at this moment, and which images
//! run, so that the registry keeps them.

use async_trait::async_trait;
use registry_core::{CoreError, PinnedDigests, Pins, Registry, Source};
use scheduler::{ImageError, Images, ResolvedImage, Scheduler};

use crate::names::Names;

/// Resolves Berth's own image names in its registry.
pub(crate) struct RegistryImages {
    pub(crate) registry: Registry,
    pub(crate) names: Names,
}

#[async_trait]
impl Images for RegistryImages {
    async fn resolve(&self, image: &str) -> Result<Option<ResolvedImage>, ImageError> {
        let own = self.names.parse(image).map_err(|error| ImageError::NotFound(error.to_string()))?;
        let Some(own) = own else { return Ok(None) };
        let not_found = |what: &str| ImageError::NotFound(format!("{image}: {what} not found"));
        let repository = self.registry.repository(&own.repository).await.map_err(unavailable)?;
        let repository = repository.ok_or_else(|| not_found("repository"))?;
        let digest = match self.registry.resolve(&repository, &own.reference).await {
            Ok(digest) => digest,
            Err(CoreError::ManifestNotFound) => return Err(not_found("tag")),
            Err(error) => return Err(unavailable(error)),
        };
        Ok(Some(ResolvedImage {
            repository: own.repository.as_str().to_owned(),
            digest: digest.as_str().to_owned(),
        }))
    }
}

/// What runs, as the scheduler knows it.
pub(crate) struct RunningImages(pub(crate) Scheduler);

#[async_trait]
impl Pins for RunningImages {
    async fn pinned_digests(&self) -> Result<PinnedDigests, Source> {
        let images = self.0.pinned_images().await?;
        let parsed = images.iter().map(|image| Ok((image.repository.parse()?, image.digest.parse()?)));
        parsed.collect()
    }
}

fn unavailable(error: CoreError) -> ImageError {
    ImageError::Unavailable(Box::new(error))
}
