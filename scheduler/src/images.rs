//! The seam to the registry: what an image's name stands for at this moment.

use async_trait::async_trait;
use thiserror::Error;

/// An image of Berth's own registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResolvedImage {
    pub repository: String,
    /// `sha256:…`
    pub digest: String,
}

#[derive(Debug, Error)]
pub enum ImageError {
    /// One of Berth's own names, with nothing behind it. The text goes into the container's reason.
    #[error("{0}")]
    NotFound(String),
    /// No answer at the moment; nothing is known about the image.
    #[error("the registry does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a container is to run, and by whose rights.
#[derive(Clone, Copy, Debug)]
pub struct WantedImage<'a> {
    /// As the task definition has it.
    pub name: &'a str,
    /// ARN of the role that is to pull it; without one nobody's rights count.
    pub execution_role: Option<&'a str>,
    /// ARN of the task definition.
    pub definition: &'a str,
}

/// Resolves image names. Asked once for each container of a task or deployment; the answer is pinned.
#[async_trait]
pub trait Images: Send + Sync {
    /// Repository and digest of one of Berth's own names; `None` for a name of elsewhere, which the agent
    /// pulls as it stands. What comes from an upstream is fetched, if the role may import it.
    ///
    /// # Errors
    /// `NotFound` for an own name without an image, `Unavailable` when that cannot be told.
    async fn resolve(&self, image: WantedImage<'_>) -> Result<Option<ResolvedImage>, ImageError>;
}
