//! Pushing a manifest: everything that is checked, stored and written for it.
//!
//! What a manifest names must be visible in the same repository and have the size that is stated; a subject
//! may be absent. One transaction writes the manifest, what it names, its place among referrers and its tags.

use std::sync::Arc;

use bytes::Bytes;
use registry_blob::BlobError;
use registry_metadata::{
    KeyRow, Manifest, ReferrerKey, Repository, TagMutability, Tx, blobs, manifests, referrers,
};
use registry_runtime::Sealer;
use registry_types::{Algorithm, Digest, Reference, Tag};
use sha2::{Digest as _, Sha256, Sha512};

use super::contents;
use crate::commit::{Content, EpochRolled, blob_key};
use crate::error::CoreError;
use crate::manifest::{ParsedManifest, parse};
use crate::pull_through::{is_own, note_tag, own_tag};
use crate::quotas::{self, NearlyFull};
use crate::referrers::sealed_annotations;
use crate::registry::{Registry, blob_domain};
use crate::repositories::{PreparedTarget, PushTarget};
use crate::reservations;
use crate::tags::{check_count, may_move, move_tag};

/// How often a push looks again after another push of the same manifest replaced its object.
const ATTEMPTS: usize = 5;

/// A manifest to be stored.
#[derive(Clone, Debug)]
pub struct ManifestPush<'a> {
    pub target: &'a PushTarget,
    /// A tag to set, or the digest that the bytes must have.
    pub reference: Reference,
    /// Further tags to set: all or none.
    pub tags: Vec<Tag>,
    pub content_type: &'a str,
    pub bytes: Bytes,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedManifest {
    pub digest: Digest,
    /// The manifest that this one refers to, whether it exists or not.
    pub subject: Option<Digest>,
    /// Every tag that points at it through this push.
    pub tags: Vec<Tag>,
    /// False when the repository held this manifest already.
    pub created: bool,
    /// False when neither the manifest nor any tag changed.
    pub changed: bool,
    /// The fullest quota of the repository, once it is nearly full.
    pub nearly_full: Option<NearlyFull>,
}

/// Where a manifest comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Client,
    Upstream,
}

/// Where the bytes of a push are.
#[derive(Clone)]
enum Stored {
    /// In the object of the key row, which was read back and found good.
    Verified([u8; 16]),
    /// In a new object, which is reserved.
    New(Box<Content>),
}

impl Registry {
    /// Stores a manifest and sets its tags, in one transaction.
    ///
    /// # Errors
    /// `ManifestTooLarge`, `ManifestInvalid`, `DigestMismatch`, `ContentsMissing`, `TooManyTags`,
    /// `TooManyTagsOfImage`, `TagImmutable`; `RepositoryNotFound`, `RepositoryExists`: see [`PushTarget`].
    pub async fn put_manifest(&self, push: ManifestPush<'_>) -> Result<PushedManifest, CoreError> {
        self.put(push, Origin::Client).await
    }

    /// The same for a manifest that came from an upstream: what it names may be absent, to be fetched once somebody
    /// asks for it, and its tags are noted to be as the upstream has them.
    ///
    /// # Errors
    /// As [`Registry::put_manifest`].
    pub async fn put_upstream_manifest(&self, push: ManifestPush<'_>) -> Result<PushedManifest, CoreError> {
        self.put(push, Origin::Upstream).await
    }

    async fn put(&self, push: ManifestPush<'_>, origin: Origin) -> Result<PushedManifest, CoreError> {
        let require_contents = self.inner.config.require_contents && origin == Origin::Client;
        let parsed = Arc::new(parse(push.content_type, &push.bytes, &self.inner.config.limits)?);
        let (digest, tags) = self.names(&push)?;
        let target = PreparedTarget::new(push.target, self.now_ms());
        for _ in 0..ATTEMPTS {
            let present =
                self.check_before_storing(&target, &parsed, &digest, &tags, require_contents).await?;
            let stored = self.store(&target, present, &digest, &push.bytes).await?;
            let commit = Commit {
                target: target.clone(),
                parsed: Arc::clone(&parsed),
                size: push.bytes.len() as u64,
                digest: digest.clone(),
                tags: tags.clone(),
                stored: stored.clone(),
                require_contents,
                tags_per_image: self.inner.config.limits.tags_per_image,
                origin,
                sealer: Arc::clone(&self.inner.sealer),
                now_ms: self.now_ms(),
            };
            let committed = self.inner.metadata.write(move |tx| commit.run(tx)).await;
            if let (Err(_), Stored::New(content)) = (&committed, &stored) {
                self.give_up_object(content.file_id()).await;
            }
            if let Err(error) = &committed
                && EpochRolled::is(error)
            {
                self.follow_epoch(&target.repository().domain).await?;
                continue;
            }
            if let Some(Committed { created, changed, nearly_full }) = committed? {
                let key = (target.repository().domain.clone(), digest.clone());
                self.inner.manifests.insert(key, push.bytes);
                let subject = parsed.subject.clone();
                return Ok(PushedManifest { digest, subject, tags, created, changed, nearly_full });
            }
        }
        Err(CoreError::unavailable("a manifest was replaced again and again while it was pushed"))
    }

    /// The digest and all tags of a push.
    fn names(&self, push: &ManifestPush<'_>) -> Result<(Digest, Vec<Tag>), CoreError> {
        let mut tags = Vec::new();
        let digest = match &push.reference {
            Reference::Tag(tag) => {
                tags.push(tag.clone());
                hash(Algorithm::Sha256, &push.bytes)
            }
            Reference::Digest(expected) => {
                let actual = hash(expected.algorithm(), &push.bytes);
                if actual != *expected {
                    return Err(CoreError::DigestMismatch { expected: expected.clone(), actual });
                }
                actual
            }
        };
        for tag in &push.tags {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        let limit = self.inner.config.limits.tags_per_push;
        if tags.len() > limit { Err(CoreError::TooManyTags { limit }) } else { Ok((digest, tags)) }
    }

    /// Refuses what the transaction would refuse, before anything is written. Gives the key of an object that holds
    /// the manifest already.
    async fn check_before_storing(
        &self,
        target: &PreparedTarget,
        parsed: &Arc<ParsedManifest>,
        digest: &Digest,
        tags: &[Tag],
        required: bool,
    ) -> Result<Option<KeyRow>, CoreError> {
        let repository = target.repository().clone();
        let (parsed, digest, tags) = (Arc::clone(parsed), digest.clone(), tags.to_vec());
        let few = parsed.contents.len() <= 64;
        let check = move |tx: &mut Tx<'_>| {
            contents::check(tx, &repository, &digest, &parsed.contents, required)?;
            tags.iter().try_for_each(|tag| may_move(tx, &repository, tag, &digest).map(drop))?;
            Ok(blobs::key(tx, &repository.domain, &digest)?)
        };
        let metadata = &self.inner.metadata;
        if few { metadata.point(check).await } else { metadata.read(check).await }
    }

    /// Makes the bytes durable. An object that holds them is read back rather than trusted, so that a new
    /// push heals a rotten one.
    async fn store(
        &self,
        target: &PreparedTarget,
        present: Option<KeyRow>,
        digest: &Digest,
        bytes: &Bytes,
    ) -> Result<Stored, CoreError> {
        let domain = &target.repository().domain;
        if let Some(key) = present
            && self.holds(&blob_key(domain, &key), digest, bytes).await
        {
            return Ok(Stored::Verified(key.file_id));
        }
        let file_id = self.reserve_object().await?.file_id;
        let stored = async {
            let content = &self.inner.content;
            let mut upload =
                content.begin_reserved(&blob_domain(domain), file_id, "", digest.algorithm()).await?;
            upload.write(bytes.clone()).await?;
            upload.finish(digest).await
        };
        match stored.await {
            Ok(sealed) => Ok(Stored::New(Box::new(Content::new(domain, sealed)))),
            Err(error) => {
                self.give_up_object(file_id).await;
                Err(error.into())
            }
        }
    }

    async fn holds(&self, key: &registry_blob::KeyRow, digest: &Digest, bytes: &Bytes) -> bool {
        let read = async {
            let blob = self.inner.content.open(key, digest).await?;
            blob.read_all(bytes.len() as u64).await
        };
        let found: Result<Bytes, BlobError> = read.await;
        found.is_ok_and(|found| found == *bytes)
    }
}

/// Everything one push writes, ready to be run more than once.
struct Commit {
    target: PreparedTarget,
    parsed: Arc<ParsedManifest>,
    size: u64,
    digest: Digest,
    tags: Vec<Tag>,
    stored: Stored,
    require_contents: bool,
    tags_per_image: u32,
    origin: Origin,
    sealer: Arc<Sealer>,
    now_ms: i64,
}

/// What a push changed.
struct Committed {
    created: bool,
    changed: bool,
    nearly_full: Option<NearlyFull>,
}

impl Commit {
    /// `None`, with nothing written, when the object that was read back is no longer the manifest's.
    fn run(&self, tx: &Tx<'_>) -> Result<Option<Committed>, CoreError> {
        if let Stored::Verified(file_id) = &self.stored {
            let key = blobs::key(tx, &self.target.repository().domain, &self.digest)?;
            if key.is_none_or(|key| key.file_id != *file_id) {
                return Ok(None);
            }
        }
        let repository = self.target.resolve(tx)?;
        let contents = &self.parsed.contents;
        let image_size = contents::check(tx, &repository, &self.digest, contents, self.require_contents)?;
        if let Stored::New(content) = &self.stored {
            reservations::take(tx, content.file_id())?;
            content.commit(tx, self.now_ms)?;
        }
        let created = self.insert(tx, &repository, image_size)?;
        let nearly_full = if created {
            quotas::check(tx, &repository.name, 0)?
        } else {
            // What adds nothing is never refused.
            quotas::nearly_full(tx, &repository.name)?
        };
        let mut changed = created || self.renew(tx, &repository, image_size)?;
        for tag in &self.tags {
            match self.origin {
                // Where it stands still, it follows its upstream no more.
                Origin::Client => {
                    changed |= move_tag(tx, &repository, tag, &self.digest, self.now_ms)?
                        || own_tag(tx, &repository, tag)?;
                }
                // Whoever pushed it here meanwhile keeps it.
                Origin::Upstream if is_own(tx, &repository, tag)? => {}
                Origin::Upstream => {
                    changed |= move_tag(tx, &repository, tag, &self.digest, self.now_ms)?;
                    note_tag(tx, &repository, tag, &self.digest, self.now_ms)?;
                }
            }
        }
        if changed && !created {
            check_count(tx, &repository, &self.digest, self.tags_per_image)?;
        }
        Ok(Some(Committed { created, changed, nearly_full }))
    }

    fn insert(&self, tx: &Tx<'_>, repository: &Repository, image_size: u64) -> Result<bool, CoreError> {
        let parsed = &self.parsed;
        let manifest = Manifest {
            digest: self.digest.clone(),
            media_type: parsed.media_type.clone(),
            size: self.size,
            artifact_type: parsed.artifact_type.clone(),
            config_media_type: parsed.config_media_type.clone(),
            subject: parsed.subject.clone(),
            image_size,
            pushed_at_ms: self.now_ms,
            last_pulled_at_ms: None,
        };
        if !manifests::insert(tx, &repository.uid, &manifest)? {
            return Ok(false);
        }
        manifests::insert_contents(tx, &repository.uid, &self.digest, &parsed.contents)?;
        // An index that came from an upstream is here before its images, whoever brings these.
        contents::tell_indexes(tx, repository, &self.digest, image_size)?;
        if let Some(subject) = &parsed.subject {
            let sealed = sealed_annotations(&self.sealer, repository, subject, &self.digest, parsed)?;
            let referrer = ReferrerKey {
                digest: self.digest.clone(),
                media_type: parsed.media_type.clone(),
                size: self.size,
                artifact_type: parsed.referrer_artifact_type().to_owned(),
                annotations_len: sealed.as_ref().map_or(0, |(len, _)| *len),
            };
            let annotations = sealed.as_ref().map(|(_, sealed)| sealed.as_slice());
            referrers::insert(tx, &repository.uid, subject, &referrer, annotations)?;
        }
        Ok(true)
    }

    /// Brings the row of a manifest that the repository holds up to what is known now. True when it is of another
    /// media type than before: a manifest that does not say its own is of the one that a client pushed it with last,
    /// where tags may move.
    fn renew(&self, tx: &Tx<'_>, repository: &Repository, image_size: u64) -> Result<bool, CoreError> {
        let held = manifests::by_digest(tx, &repository.uid, &self.digest)?;
        let held = held.ok_or_else(|| CoreError::internal("a manifest that is held has no row"))?;
        // Images of an index may have come since.
        if held.image_size < image_size && manifests::widen(tx, &repository.uid, &self.digest, image_size)? {
            contents::tell_indexes(tx, repository, &self.digest, image_size)?;
        }
        // No tag of the repository may be one that is to serve what it always did.
        let may_renew =
            self.origin == Origin::Client && matches!(repository.tag_mutability, TagMutability::Mutable);
        let renewed = may_renew && held.media_type != self.parsed.media_type;
        if renewed {
            manifests::set_media_type(tx, &repository.uid, &held, &self.parsed.media_type)?;
        }
        Ok(renewed)
    }
}

fn hash(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::from_hash(algorithm, &Sha256::digest(bytes)),
        Algorithm::Sha512 => Digest::from_hash(algorithm, &Sha512::digest(bytes)),
    }
}
