//! Reads of repositories that are filled from an upstream: what they lack is fetched first.
//!
//! What is here and may be old is served with a warning when the upstream cannot be asked.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use registry_core::{CoreError, PullThroughRule, Repository};
use registry_types::{Digest, Reference, RepositoryName};

use super::error::OciError;
use super::gate::Gate;
use super::{Service, plain};
use crate::pull_through::{NotReady, Part, Ready, UpstreamError};

/// What a read is of.
#[derive(Clone, Copy)]
pub(super) enum Read<'a> {
    Manifest(&'a Reference),
    Blob(&'a Digest),
}

impl Read<'_> {
    fn part(self) -> Part {
        match self {
            Self::Manifest(reference) => Part::Manifest(reference.clone()),
            Self::Blob(digest) => Part::Blob(digest.clone()),
        }
    }
}

/// The repository of a read, and what its answer is to warn of.
pub(super) struct Readable {
    pub(super) repository: Repository,
    warning: Option<HeaderValue>,
}

impl Readable {
    pub(super) fn warn(&self, response: &mut Response) {
        if let Some(warning) = &self.warning {
            response.headers_mut().insert(header::WARNING, warning.clone());
        }
    }
}

impl Service {
    /// The repository of a name, once the operation is allowed on it, and what is read was fetched where it has an
    /// upstream.
    ///
    /// # Errors
    /// As [`Gate::repository`]; why nothing came from the upstream.
    pub(super) async fn readable(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        read: Read<'_>,
    ) -> Result<Readable, OciError> {
        match self.pull_through.rule(name) {
            None => Ok(Readable { repository: gate.repository(name).await?, warning: None }),
            // Boxed: fetching needs room that every other read would have to hold too.
            Some(rule) => Box::pin(self.read_through(gate, name, read.part(), rule)).await,
        }
    }

    async fn read_through(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        part: Part,
        rule: Arc<PullThroughRule>,
    ) -> Result<Readable, OciError> {
        let existing = self.registry.repository(name).await?;
        gate.allow(name, existing.as_ref())?;
        match self.pull_through.read(gate, &rule, name, existing, part.clone()).await {
            Ok(Ready::Fresh(repository)) => Ok(Readable { repository, warning: None }),
            Ok(Ready::Stale(repository, why)) => {
                Ok(Readable { repository, warning: Some(may_be_older(&rule, &why)) })
            }
            Ok(Ready::Made) => Ok(Readable { repository: gate.repository(name).await?, warning: None }),
            Ok(Ready::Unnamed(Some(_))) => Err(CoreError::BlobNotFound.into()),
            Ok(Ready::Unnamed(None)) => Err(OciError::repository_unknown()),
            Err(NotReady::Refused(refusal)) => Err(refusal),
            Err(NotReady::Upstream(error)) => Err(refusal(error, &part, &rule)),
            Err(NotReady::Own(error)) => Err(error.into()),
        }
    }
}

/// What warns of an answer that the upstream has no part in.
pub(super) fn may_be_older(rule: &PullThroughRule, why: &str) -> HeaderValue {
    let why: String =
        why.chars().filter(|letter| (' '..='~').contains(letter) && *letter != '"').take(300).collect();
    plain(&format!("299 - \"this may be older than at {}: {why}\"", rule.upstream_url))
}

/// Why there is no answer, as the protocol says it.
fn refusal(error: UpstreamError, part: &Part, rule: &PullThroughRule) -> OciError {
    let code = match part {
        Part::Manifest(_) => "MANIFEST_UNKNOWN",
        Part::Blob(_) => "BLOB_UNKNOWN",
    };
    let upstream = &rule.upstream_url;
    let message = format!("{upstream}: {error}");
    match error {
        UpstreamError::Missing | UpstreamError::Refused(_) => {
            OciError::new(StatusCode::NOT_FOUND, code, message)
        }
        UpstreamError::TooMany { retry_after } => {
            OciError::too_many_requests(retry_after.unwrap_or_default()).because(message)
        }
        UpstreamError::Away(_) | UpstreamError::Wrong(_) => {
            OciError::new(StatusCode::BAD_GATEWAY, code, message)
        }
        UpstreamError::Denied(why) | UpstreamError::Bounded(why) => {
            OciError::new(StatusCode::FORBIDDEN, "DENIED", why)
        }
        UpstreamError::Busy | UpstreamError::Own => OciError::unavailable(),
    }
}
