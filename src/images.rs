//! The seam between scheduler and registry: which manifest an image name means, at this moment.

use async_trait::async_trait;
use registry_core::{CoreError, Registry};
use registry_types::Reference;
use scheduler::{ImageError, Images, ResolvedImage};

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
        let digest = match own.reference {
            Reference::Digest(digest) => digest,
            reference @ Reference::Tag(_) => match self.registry.manifest_info(&repository, &reference).await
            {
                Ok(info) => info.digest,
                Err(CoreError::ManifestNotFound) => return Err(not_found("tag")),
                Err(error) => return Err(unavailable(error)),
            },
        };
        Ok(Some(ResolvedImage {
            repository: own.repository.as_str().to_owned(),
            digest: digest.as_str().to_owned(),
        }))
    }
}

fn unavailable(error: CoreError) -> ImageError {
    ImageError::Unavailable(Box::new(error))
}
