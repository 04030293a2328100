//! Images that are fetched for whoever is about to run them, before anything is pulled.
//!
//! A scheduler asks again and again for what is missing. Invariant: an upstream is asked for the same missing image
//! once a minute at most.

use std::time::{Duration, Instant};

use policies_identity::{Caller, RequestContext};
use registry_core::CoreError;
use registry_types::{Reference, RepositoryName};
use thiserror::Error;

use super::{CREATE, Held, IMPORT, Part, PullThrough, UpstreamError, Wanted};

/// How long an answer that there is nothing holds, and how many of them are remembered.
const AGAIN: Duration = Duration::from_secs(60);
const REMEMBERED: usize = 1000;

/// Why an image that an upstream may have is not here.
#[derive(Debug, Error)]
pub enum NotProvided {
    /// What the upstream, or the gate, said.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Own(#[from] CoreError),
}

impl PullThrough {
    /// Sees to it that a manifest is here and as its upstream has it, if its repository has an upstream and the caller
    /// may import from it. What is here is good enough where the upstream cannot be asked.
    ///
    /// # Errors
    /// When nothing is here, and why nothing came.
    pub async fn provide(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        caller: &Caller,
        context: &RequestContext,
    ) -> Result<(), NotProvided> {
        let Some(rule) = self.rule(name) else { return Ok(()) };
        let existing = self.inner.registry.repository(name).await?;
        let wanted = Wanted { name: name.clone(), part: Part::Manifest(reference.clone()) };
        let is_here = match self.held(&rule, existing.as_ref(), &wanted.part).await? {
            Held::Fresh | Held::Stale | Held::Unnamed => return Ok(()),
            Held::Due => true,
            Held::Absent => false,
        };
        if !is_here && let Some(reason) = self.lately_absent(&wanted) {
            return Err(NotProvided::Refused(reason));
        }
        let mut allowed = self.inner.allow(IMPORT, name, existing.as_ref(), caller, context);
        if existing.is_none() {
            allowed = allowed.and_then(|()| self.inner.allow(CREATE, name, None, caller, context));
        }
        let fetched = match allowed {
            Ok(()) => self.fetch(&rule, wanted.clone(), caller, context).await,
            Err(denied) => Err(denied),
        };
        match fetched {
            Ok(()) => Ok(()),
            Err(UpstreamError::Denied(_)) if is_here => Ok(()),
            Err(_) if is_here => {
                self.note_stale();
                Ok(())
            }
            // Whoever changes a policy need not wait.
            Err(UpstreamError::Denied(why)) => Err(NotProvided::Refused(why)),
            Err(error) => {
                let reason = format!("{}: {error}", rule.upstream_url);
                if !matches!(error, UpstreamError::Busy | UpstreamError::Own) {
                    self.note_absent(wanted, reason.clone());
                }
                Err(NotProvided::Refused(reason))
            }
        }
    }

    fn lately_absent(&self, wanted: &Wanted) -> Option<String> {
        let absent = self.inner.absent.lock();
        let (since, reason) = absent.get(wanted)?;
        (since.elapsed() < AGAIN).then(|| format!("{reason} (it is asked again after a minute)"))
    }

    fn note_absent(&self, wanted: Wanted, reason: String) {
        let mut absent = self.inner.absent.lock();
        absent.retain(|_, (since, _)| since.elapsed() < AGAIN);
        if absent.len() < REMEMBERED {
            absent.insert(wanted, (Instant::now(), reason));
        }
    }
}
