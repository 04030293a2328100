//! Reads of repositories that are filled from an upstream, as the API has them: what they lack is fetched first, by
//! the rights that the same read needs at `/v2/`.

use policies_identity::{Caller, RequestContext};
use registry_aws::AwsError;
use registry_core::{PullThroughRule, Repository};
use registry_types::RepositoryName;

use super::Ecr;
use super::error::repository_not_found;
use super::operation::Operation;
use crate::pull_through::{NotReady, Part, Reader, Ready, UpstreamError};

/// A request that reads.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) ecr: &'a Ecr,
    pub(super) ctx: &'a RequestContext,
    pub(super) caller: &'a Caller,
    pub(super) operation: Operation,
}

impl Reader for Asking<'_> {
    type Refusal = AwsError;

    fn require(
        &self,
        action: &'static str,
        name: &RepositoryName,
        repository: Option<&Repository>,
    ) -> Result<(), AwsError> {
        let check = self.ecr.access.check(action, name, repository);
        let allowed = self.ecr.identity.authorize(self.ctx, self.caller, self.operation.name(), &check);
        Ok(allowed.map(drop)?)
    }

    fn may(&self, action: &'static str, name: &RepositoryName, repository: Option<&Repository>) -> bool {
        let check = self.ecr.access.check(action, name, repository);
        self.ecr.identity.probe(self.ctx, self.caller, &check).is_ok()
    }

    fn asker(&self) -> (&Caller, &RequestContext) {
        (self.caller, self.ctx)
    }
}

/// Why a part of a repository is not here.
pub(super) enum Absent {
    /// There is no such repository.
    Repository,
    /// There is none, and its upstream does not have the part: there is nothing to make one for.
    Nowhere,
    /// The upstream, the gate or this registry does not give it.
    Failed(AwsError),
}

impl Asking<'_> {
    /// The repository of a read, once a part of it was fetched that it lacks and its upstream has.
    pub(super) async fn repository_with(
        &self,
        name: &RepositoryName,
        part: Part,
    ) -> Result<Repository, Absent> {
        let ecr = self.ecr;
        let failed = |error| Absent::Failed(ecr.subject(name).error(error));
        let existing = ecr.registry.repository(name).await.map_err(failed)?;
        let Some(rule) = ecr.pull_through.rule(name) else { return existing.ok_or(Absent::Repository) };
        let code = match &part {
            Part::Manifest(_) => "UnableToGetUpstreamImageException",
            Part::Blob(_) => "UnableToGetUpstreamLayerException",
        };
        // Boxed: fetching needs room that every other read would have to hold too.
        match Box::pin(ecr.pull_through.read(self, &rule, name, existing.clone(), part)).await {
            Ok(Ready::Fresh(repository) | Ready::Stale(repository, _)) => Ok(repository),
            Ok(Ready::Made) => ecr.registry.repository(name).await.map_err(failed)?.ok_or(Absent::Repository),
            Ok(Ready::Unnamed(repository)) => repository.ok_or(Absent::Repository),
            Err(NotReady::Upstream(UpstreamError::Missing)) => existing.ok_or(Absent::Nowhere),
            Err(NotReady::Upstream(error)) => Err(Absent::Failed(exception(error, &rule, code))),
            Err(NotReady::Refused(refused)) => Err(Absent::Failed(refused)),
            Err(NotReady::Own(error)) => Err(failed(error)),
        }
    }

    /// What a request is answered whose one part is not here.
    pub(super) fn not_here(&self, name: &RepositoryName, absent: Absent) -> AwsError {
        match absent {
            Absent::Repository | Absent::Nowhere => {
                repository_not_found(self.ecr.access.account().as_str(), name)
            }
            Absent::Failed(error) => error,
        }
    }
}

/// The exception for what an upstream did not give, by the name that the operation has for it.
pub(super) fn exception(error: UpstreamError, rule: &PullThroughRule, code: &'static str) -> AwsError {
    match error {
        UpstreamError::Denied(why) => AwsError::access_denied(why),
        UpstreamError::Busy | UpstreamError::Own => {
            AwsError::unavailable("The server cannot fetch this at the moment. Try again.")
        }
        UpstreamError::Missing
        | UpstreamError::Refused(_)
        | UpstreamError::TooMany { .. }
        | UpstreamError::Away(_)
        | UpstreamError::Wrong(_)
        | UpstreamError::Bounded(_) => AwsError::client(code, format!("{}: {error}", rule.upstream_url)),
    }
}
