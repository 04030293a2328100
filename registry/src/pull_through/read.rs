//! Reads that fetch what they lack first: the one order of questions and steps, whatever protocol reads.

use std::sync::Arc;

use policies_identity::{Caller, RequestContext};
use registry_core::{CoreError, PullThroughRule, Repository};
use registry_types::RepositoryName;

use super::{CREATE, Held, IMPORT, Part, PullThrough, UpstreamError, Wanted};

/// Who reads, and what the gate says about it in the words of the protocol. That the read itself is allowed was
/// asked before.
pub(crate) trait Reader: Sync {
    type Refusal;

    /// Asks for one more action, and leaves an audit line.
    fn require(
        &self,
        action: &'static str,
        name: &RepositoryName,
        repository: Option<&Repository>,
    ) -> Result<(), Self::Refusal>;

    /// Whether an action is allowed; leaves no audit line.
    fn may(&self, action: &'static str, name: &RepositoryName, repository: Option<&Repository>) -> bool;

    fn asker(&self) -> (&Caller, &RequestContext);
}

/// What there is to read.
pub(crate) enum Ready {
    /// As fresh as it has to be.
    Fresh(Repository),
    /// The upstream may have something newer; why it was not asked.
    Stale(Repository, String),
    /// The repository was made for what came.
    Made,
    /// A blob that no manifest here names, so that no upstream is meant.
    Unnamed(Option<Repository>),
}

/// Why there is nothing to read.
pub(crate) enum NotReady<R> {
    Refused(R),
    Upstream(UpstreamError),
    Own(CoreError),
}

impl PullThrough {
    /// Sees to it that a part of a repository with an upstream is here, if the reader may import it.
    ///
    /// # Errors
    /// When nothing is here, and why nothing came.
    pub(crate) async fn read<R: Reader>(
        &self,
        reader: &R,
        rule: &Arc<PullThroughRule>,
        name: &RepositoryName,
        existing: Option<Repository>,
        part: Part,
    ) -> Result<Ready, NotReady<R::Refusal>> {
        let held = self.held(rule, existing.as_ref(), &part).await.map_err(NotReady::Own)?;
        let (caller, context) = reader.asker();
        let wanted = Wanted { name: name.clone(), part };
        match (held, existing) {
            (Held::Fresh, Some(repository)) => Ok(Ready::Fresh(repository)),
            (Held::Stale, Some(repository)) => {
                self.note_stale();
                Ok(Ready::Stale(repository, "it could not be asked".to_owned()))
            }
            // As a push asks before it sends a blob.
            (Held::Unnamed, existing) => Ok(Ready::Unnamed(existing)),
            // Whoever may not import reads what is here.
            (Held::Due, Some(repository)) if !reader.may(IMPORT, name, Some(&repository)) => {
                Ok(Ready::Fresh(repository))
            }
            (Held::Due, Some(repository)) => match self.fetch(rule, wanted, caller, context).await {
                Ok(()) => Ok(Ready::Fresh(repository)),
                Err(error) => {
                    self.note_stale();
                    Ok(Ready::Stale(repository, error.to_string()))
                }
            },
            (_, existing) => {
                reader.require(IMPORT, name, existing.as_ref()).map_err(NotReady::Refused)?;
                if existing.is_none() {
                    reader.require(CREATE, name, None).map_err(NotReady::Refused)?;
                }
                self.fetch(rule, wanted, caller, context).await.map_err(NotReady::Upstream)?;
                Ok(existing.map_or(Ready::Made, Ready::Fresh))
            }
        }
    }
}
