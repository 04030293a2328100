//! The seams between scheduler and registry: which manifest an image name means at this moment, and which images
//! run, so that the registry keeps them.

use async_trait::async_trait;
use policies_identity::{Identity, RequestContext, TaskRole};
use registry::{NotProvided, PullThrough};
use registry_core::{CoreError, PinnedDigests, Pins, Registry, Source};
use registry_runtime::Clock;
use scheduler::{ImageError, Images, ResolvedImage, Scheduler, WantedImage};

use crate::names::{Names, OwnImage};

/// Resolves Berth's own image names in its registry.
pub(crate) struct RegistryImages {
    pub(crate) registry: Registry,
    pub(crate) names: Names,
    pub(crate) identity: Identity,
    pub(crate) pull_through: PullThrough,
    pub(crate) clock: Clock,
}

#[async_trait]
impl Images for RegistryImages {
    async fn resolve(&self, image: WantedImage<'_>) -> Result<Option<ResolvedImage>, ImageError> {
        let own = self.names.parse(image.name).map_err(|error| ImageError::NotFound(error.to_string()))?;
        let Some(own) = own else { return Ok(None) };
        self.provide(&own, image).await?;
        let not_found = |what: &str| ImageError::NotFound(format!("{}: {what} not found", image.name));
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

impl RegistryImages {
    /// Has an image fetched whose repository has an upstream, by the rights of the role that is to pull it.
    async fn provide(&self, own: &OwnImage, image: WantedImage<'_>) -> Result<(), ImageError> {
        let caller = match (image.execution_role, image.definition.parse()) {
            (Some(role_arn), Ok(definition)) => {
                let Ok(role_arn) = role_arn.parse() else { return Ok(()) };
                let role = TaskRole { role_arn: &role_arn, task_arn: &definition };
                // A role that cannot be had is told when the task is to have it.
                let Ok(caller) = self.identity.definition_caller(role) else { return Ok(()) };
                caller
            }
            _ => self.identity.anonymous(),
        };
        let context = RequestContext { secure_transport: true, ..RequestContext::local(self.clock.now_ms()) };
        let provided = self.pull_through.provide(&own.repository, &own.reference, &caller, &context).await;
        provided.map_err(|error| match error {
            NotProvided::Refused(why) => ImageError::NotFound(format!("{}: {why}", image.name)),
            NotProvided::Own(error) => unavailable(error),
        })
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
