//! One fetch: from the upstream's answer to the commit.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use policies_identity::{Caller, RequestContext};
use registry_core::{BodyError, CoreError, ManifestPush, NewUpload, PullThroughRule, PushTarget, Repository};
use registry_types::{Algorithm, Digest, Reference, RepositoryName};
use sha2::{Digest as _, Sha256, Sha512};

use super::client::Source;
use super::error::UpstreamError;
use super::{CREATE, IMPORT, Inner, Part, Wanted, below};

const OPERATION: &str = "oci:ImportUpstreamImage";
const CONTENT_DIGEST: &str = "docker-content-digest";

type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

impl Inner {
    /// What a rule means for one repository.
    pub(super) fn source(&self, rule: &PullThroughRule, name: &str) -> Result<Source, UpstreamError> {
        let place = super::Place::parse(&rule.upstream_url, &self.config.private_hosts)
            .map_err(|error| UpstreamError::Refused(format!("{} {error}", rule.upstream_url)))?;
        let rest = below(&rule.prefix, name).unwrap_or_default();
        let repository = match rule.upstream_prefix.as_str() {
            "" => rest.to_owned(),
            prefix if rest.is_empty() => prefix.to_owned(),
            prefix => format!("{prefix}/{rest}"),
        };
        let rule_version = (rule.prefix.clone(), rule.updated_at_ms);
        Ok(Source { place, repository, credentials: rule.credentials.clone(), rule: rule_version })
    }

    pub(super) async fn import(
        &self,
        rule: &PullThroughRule,
        wanted: &Wanted,
        caller: &Caller,
        context: &RequestContext,
    ) -> Result<(), UpstreamError> {
        let source = self.source(rule, wanted.name.as_str())?;
        let existing = self.registry.repository(&wanted.name).await?;
        self.allow(IMPORT, &wanted.name, existing.as_ref(), caller, context)?;
        if existing.is_none() {
            self.allow(CREATE, &wanted.name, None, caller, context)?;
        }
        match (&wanted.part, existing) {
            (Part::Manifest(reference), existing) => {
                let target =
                    existing.map_or_else(|| PushTarget::New(wanted.name.clone()), PushTarget::Existing);
                self.import_manifest(&source, &target, reference).await
            }
            (Part::Blob(digest), Some(repository)) => {
                self.import_blob(&source, repository, digest, caller.principal_uid()).await
            }
            (Part::Blob(_), None) => Err(UpstreamError::Missing),
        }
    }

    pub(super) fn allow(
        &self,
        action: &'static str,
        name: &RepositoryName,
        repository: Option<&Repository>,
        caller: &Caller,
        context: &RequestContext,
    ) -> Result<(), UpstreamError> {
        let check = self.access.check(action, name, repository);
        let allowed = self.identity.authorize(context, caller, OPERATION, &check);
        allowed.map(drop).map_err(|denied| UpstreamError::Denied(denied.to_string()))
    }

    async fn import_manifest(
        &self,
        source: &Source,
        target: &PushTarget,
        reference: &Reference,
    ) -> Result<(), UpstreamError> {
        let text = reference.to_string();
        let mut held = None;
        if let (PushTarget::Existing(repository), Reference::Tag(tag)) = (target, reference)
            && let Some(known) = self.registry.upstream_tag(repository, tag).await?
        {
            // Somebody pushed it here meanwhile.
            if known.checked_at_ms.is_none() {
                return Ok(());
            }
            // Most upstreams count a HEAD for nothing.
            match self.client.manifest(source, Method::HEAD, &text).await {
                Ok(answer) if claimed(answer.headers()).is_some_and(|digest| digest == known.digest) => {
                    return Ok(self.registry.note_upstream_tag(repository, tag, &known.digest).await?);
                }
                // It changed, or the upstream does not say what it has without sending it.
                Ok(_) | Err(UpstreamError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
            held = Some((repository, tag, known.digest));
        }
        let answer = self.client.manifest(source, Method::GET, &text).await?;
        let claimed = claimed(answer.headers());
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let bytes = self.registry.receive_manifest(stream(answer, u64::MAX)).await?;
        if let Some(claimed) = claimed
            && hash(claimed.algorithm(), &bytes) != claimed
        {
            return Err(UpstreamError::Wrong(format!("its manifest does not have the digest {claimed}")));
        }
        let push = ManifestPush {
            target,
            reference: reference.clone(),
            tags: Vec::new(),
            content_type: &content_type,
            bytes,
        };
        match (self.registry.put_upstream_manifest(push).await, held) {
            // It stays where it is, and need not be compared again with each pull.
            (Err(CoreError::TagImmutable { .. }), Some((repository, tag, digest))) => {
                Ok(self.registry.note_upstream_tag(repository, tag, &digest).await?)
            }
            (put, _) => Ok(put.map(drop)?),
        }
    }

    /// Fetches what a manifest of the repository names, and nothing else.
    async fn import_blob(
        &self,
        source: &Source,
        repository: Repository,
        digest: &Digest,
        principal: &str,
    ) -> Result<(), UpstreamError> {
        let stated = self.registry.stated_size(&repository, digest).await?.ok_or(UpstreamError::Missing)?;
        self.registry.check_room(&repository.name, stated).await?;
        let answer = self.client.blob(source, digest.as_str()).await?;
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length != stated) {
            return Err(UpstreamError::Wrong(format!("{digest} does not have {stated} bytes there")));
        }
        let target = PushTarget::Existing(repository);
        let new = NewUpload { target: &target, principal, algorithm: digest.algorithm() };
        self.registry.upload_whole(new, stream(answer, stated), digest).await?;
        Ok(())
    }
}

/// The digest that an upstream says its manifest has.
fn claimed(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

/// An answer's body, broken off after `limit` bytes: nothing that is too long is stored.
fn stream(answer: Response<Incoming>, limit: u64) -> Body {
    let mut left = limit;
    Box::pin(answer.into_body().into_data_stream().map(move |piece| {
        let piece = piece.map_err(|_| BodyError)?;
        left = left.checked_sub(piece.len() as u64).ok_or(BodyError)?;
        Ok(piece)
    }))
}

fn hash(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::from_hash(algorithm, &Sha256::digest(bytes)),
        Algorithm::Sha512 => Digest::from_hash(algorithm, &Sha512::digest(bytes)),
    }
}
