//! Makes sure that an image is there, for a task that may have it.
//!
//! Pulls of one image by one role that are under way at the same time share one transfer. What is returned
//! is the engine's id of the image: names can be moved, ids cannot.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use registry_runtime::Clock;
use scheduler_protocol::BerthImage;

use crate::engine::{Engine, EngineError};
use crate::pull::foreign::ForeignImage;
use crate::pull::grants::Grants;
use crate::pull::rights::{Allowed, Rights};
use crate::pull::sweep::ImageUse;
use crate::pull::upstream::{Access, UpstreamError};
use crate::task::event::{Failure, PulledImage};

const CANNOT_PULL: &str = "CannotPullContainerError";

/// An image for a container of a task.
#[derive(Clone, Debug)]
pub(crate) struct ImageRequest {
    pub(crate) task_arn: String,
    /// The task definition's string.
    pub(crate) image: String,
    /// Set when the image is Berth's own.
    pub(crate) own: Option<BerthImage>,
    pub(crate) access: Access,
}

type Pull = Shared<BoxFuture<'static, Result<PulledImage, Failure>>>;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Images(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    rights: Rights,
    grants: Grants,
    uses: ImageUse,
    pull_port: u16,
    clock: Clock,
    pulling: Mutex<HashMap<String, Pull>>,
}

impl Images {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        rights: Rights,
        grants: Grants,
        uses: ImageUse,
        pull_port: u16,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner { engine, rights, grants, uses, pull_port, clock, pulling: Mutex::default() }))
    }

    /// The image, pulled when it is not there; only when the task may have it.
    pub(crate) async fn ensure(&self, request: &ImageRequest) -> Result<PulledImage, Failure> {
        match &request.own {
            Some(own) => self.ensure_own(request, own).await,
            None => self.ensure_foreign(request).await,
        }
    }

    /// Asks the registry once more, for a container that is created some time after its image was looked at.
    pub(crate) async fn still_allowed(&self, request: &ImageRequest) -> Result<(), Failure> {
        let Some(own) = &request.own else { return Ok(()) };
        let answer = self.0.rights.check(&request.access, &own.repository, &own.digest).await;
        answer.map(|_| ()).map_err(|error| refused(&request.image, error))
    }

    async fn ensure_own(&self, request: &ImageRequest, own: &BerthImage) -> Result<PulledImage, Failure> {
        let reference = format!("127.0.0.1:{}/{}@{}", self.0.pull_port, own.repository, own.digest);
        let (allowed, present) = tokio::join!(
            self.0.rights.check(&request.access, &own.repository, &own.digest),
            self.0.engine.image(&reference)
        );
        let allowed = allowed.map_err(|error| refused(&request.image, error))?;
        let present = present.map_err(|error| engine_failed(&request.image, &error))?;
        if let Some(present) = present {
            self.0.uses.note(&reference, &request.image);
            return Ok(PulledImage {
                image_id: present.id,
                image_digest: Some(own.digest.clone()),
                allowed_at_ms: self.0.clock.now_ms(),
                fetched: None,
            });
        }
        if allowed == Allowed::Noted {
            let why = format!(
                "{}: the registry cannot be reached and the image is not on this host",
                request.image
            );
            return Err(Failure::new(CANNOT_PULL, why));
        }
        let key = format!("{} {reference}", request.access.principal());
        let pull = {
            let mut pulling = self.0.pulling.lock();
            pulling.retain(|_, pull| pull.peek().is_none());
            let begin = || self.clone().pull_own(request.clone(), own.clone(), reference).boxed().shared();
            pulling.entry(key).or_insert_with(begin).clone()
        };
        pull.await
    }

    async fn pull_own(
        self,
        request: ImageRequest,
        own: BerthImage,
        reference: String,
    ) -> Result<PulledImage, Failure> {
        let inner = &self.0;
        let began_at_ms = inner.clock.now_ms();
        let issued =
            inner.grants.issue(&request.task_arn, &own.repository, &own.digest, request.access.clone());
        let pulled = inner.engine.pull(&reference, Some(issued.credentials.clone())).await;
        drop(issued);
        pulled.map_err(|error| engine_failed(&request.image, &error))?;
        let found =
            inner.engine.image(&reference).await.map_err(|error| engine_failed(&request.image, &error))?;
        let found = found.ok_or_else(|| {
            Failure::new(CANNOT_PULL, format!("{}: the engine pulled it and does not have it", request.image))
        })?;
        inner.uses.note(&reference, &request.image);
        self.tag_as_courtesy(&request.image, found.id.clone());
        let now_ms = inner.clock.now_ms();
        Ok(PulledImage {
            image_id: found.id,
            image_digest: Some(own.digest),
            allowed_at_ms: now_ms,
            fetched: Some((began_at_ms, now_ms)),
        })
    }

    /// Lets `docker images` show the name that the task definition has; nothing depends on it.
    fn tag_as_courtesy(&self, image: &str, image_id: String) {
        let Some((repository, tag)) = image.rsplit_once(':') else { return };
        if image.contains('@') || tag.contains('/') {
            return;
        }
        let (engine, repository, tag) = (self.0.engine.clone(), repository.to_owned(), tag.to_owned());
        tokio::spawn(async move {
            if let Err(error) = engine.tag(&image_id, &repository, &tag).await {
                tracing::debug!(image.name = repository, %error, "an image could not be tagged");
            }
        });
    }

    /// As ECS does by default: a name by digest that is present is used, a tag is pulled each time, and what
    /// is on the host serves when the pull fails.
    async fn ensure_foreign(&self, request: &ImageRequest) -> Result<PulledImage, Failure> {
        let image = &request.image;
        let foreign = ForeignImage::parse(image, self.0.pull_port)
            .map_err(|reason| Failure::new(CANNOT_PULL, reason))?;
        let began_at_ms = self.0.clock.now_ms();
        let mut pulled = Ok(());
        if !foreign.by_digest || self.present(&foreign).await?.is_none() {
            pulled = self.0.engine.pull(&foreign.reference, None).await;
        }
        let found = self.present(&foreign).await?;
        let Some((image_id, image_digest)) = found else {
            let error = pulled.err().unwrap_or(EngineError::NotFound("the engine does not have it".into()));
            return Err(engine_failed(image, &error));
        };
        if let Err(error) = pulled {
            tracing::info!(image.name = image, %error, "the pull failed; the host's copy is used");
        }
        let now_ms = self.0.clock.now_ms();
        Ok(PulledImage {
            image_id,
            image_digest,
            allowed_at_ms: now_ms,
            fetched: Some((began_at_ms, now_ms)),
        })
    }

    /// Id and digest of a foreign image on this host. What was pulled through Berth's endpoint is not given
    /// out under another name.
    async fn present(&self, foreign: &ForeignImage) -> Result<Option<(String, Option<String>)>, Failure> {
        let found = self.0.engine.image(&foreign.reference).await;
        let found = found.map_err(|error| engine_failed(&foreign.reference, &error))?;
        let own = format!("127.0.0.1:{}/", self.0.pull_port);
        Ok(found.filter(|image| !image.repo_digests.iter().any(|name| name.starts_with(&own))).map(|image| {
            let digest = image.repo_digests.first().and_then(|name| name.split_once('@'));
            let digest = digest.map(|(_, digest)| digest.to_owned());
            (image.id, digest)
        }))
    }
}

fn refused(image: &str, error: UpstreamError) -> Failure {
    match error {
        UpstreamError::Denied(why) => Failure::new(
            CANNOT_PULL,
            format!(
                "pull access denied for {image}, repository does not exist or may require authorization: {why}"
            ),
        ),
        UpstreamError::Missing(why) => {
            Failure::new(CANNOT_PULL, format!("failed to resolve ref {image}: not found: {why}"))
        }
        away @ UpstreamError::Away(_) => Failure::new(CANNOT_PULL, format!("{image}: {away}")),
    }
}

fn engine_failed(image: &str, error: &EngineError) -> Failure {
    match error {
        EngineError::Timeout => {
            Failure::new("DockerTimeoutError", format!("the pull of {image} made no progress"))
        }
        other => Failure::new(CANNOT_PULL, format!("{image}: {other}")),
    }
}
