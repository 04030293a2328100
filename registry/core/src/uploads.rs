//! Uploads of blobs: sessions that several requests fill, and the one transaction that ends them.
//!
//! A session belongs to one incarnation of a repository and to one principal; to anybody else it does not
//! exist. Offset and state move only by compare-and-set on the lease.
//!
//! A session is not synced: it is there for everybody and outlives the process, but a power cut takes it away or back to
//! where it stood before, as it does with the bytes that it stands for. Only its end is durable, before that is
//! acknowledged; and its object is registered durably before the session takes it (`reservations`).

use registry_blob::{BlobError, DataKey, FileId, SuspendedUpload, Upload};
use registry_metadata::{Repository, Tx, UploadRow, UploadUid, blobs, garbage, repositories, uploads};
use registry_runtime::random_id;
use registry_types::{Algorithm, Digest};

use crate::commit::{Content, EpochRolled};
use crate::error::CoreError;
use crate::lease::Lease;
use crate::quotas::{self, Room};
use crate::receive::{Body, ContentRange, receive};
use crate::registry::{Registry, blob_domain};
use crate::repositories::{PreparedTarget, PushTarget};
use crate::reservations::{self, Reserved};

/// How often something is wrapped anew whose key epoch was rolled meanwhile; each time takes another roll.
const ATTEMPTS: u32 = 16;

/// What an upload begins with.
#[derive(Clone, Debug)]
pub struct NewUpload<'a> {
    pub target: &'a PushTarget,
    /// Unique id of the caller's principal.
    pub principal: &'a str,
    /// The algorithm that the content is hashed with while it comes; the digest that ends the upload may
    /// name another one at the price of reading the content back.
    pub algorithm: Algorithm,
}

/// Where an upload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    pub uid: UploadUid,
    /// Bytes received.
    pub offset: u64,
}

/// A blob that is committed and visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedUpload {
    pub digest: Digest,
    pub size: u64,
}

/// An upload that this request holds.
struct Held {
    lease: Lease,
    upload: Upload,
    row: UploadRow,
    /// What the session may hold at most, as its request began.
    room: Option<Room>,
}

impl Registry {
    /// Begins a session.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `RepositoryExists`: see [`PushTarget`].
    pub async fn start_upload(&self, new: NewUpload<'_>) -> Result<UploadStatus, CoreError> {
        let now_ms = self.now_ms();
        let target = PreparedTarget::new(new.target, now_ms);
        let row = new_row(&new, &target, now_ms);
        let uid = row.uid.clone();
        // A repository that is made is not the session's alone.
        self.move_session(target.is_new(), move |tx| {
            let repository = target.resolve(tx)?;
            let row = UploadRow { repository: repository.uid, domain: repository.domain, ..row.clone() };
            Ok(uploads::insert(tx, &row)?)
        })
        .await?;
        Ok(UploadStatus { uid, offset: 0 })
    }

    /// Runs a transaction that moves a session, and that a power cut may undo unless it is to be `durable`.
    async fn move_session<T, F>(&self, durable: bool, body: F) -> Result<T, CoreError>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, CoreError> + Send + 'static,
        T: Send + 'static,
    {
        let metadata = &self.inner.metadata;
        if durable { metadata.write(body).await } else { metadata.write_unsynced(body).await }
    }

    /// # Errors
    /// `UploadNotFound`, also for the session of another repository or principal.
    pub async fn upload_status(
        &self,
        repository: &Repository,
        uid: &UploadUid,
        principal: &str,
    ) -> Result<UploadStatus, CoreError> {
        let row = self.upload_row(repository, uid, principal).await?;
        Ok(UploadStatus { uid: row.uid, offset: row.offset.unsigned_abs() })
    }

    /// Adds the body to the session.
    ///
    /// # Errors
    /// `UploadNotFound`, `UploadBusy`, `OffsetMismatch`, `SizeMismatch`, `BodyInterrupted`, `BlobTooLarge`: the session
    /// stays as it was; `QuotaExceeded`, after which it is gone.
    pub async fn append_upload(
        &self,
        repository: &Repository,
        uid: &UploadUid,
        principal: &str,
        range: Option<ContentRange>,
        body: Body,
    ) -> Result<UploadStatus, CoreError> {
        let mut held = self.hold(repository, uid, principal, range).await?;
        let received =
            receive(&mut held.upload, &mut held.lease, body, range, held.room.as_ref(), &self.inner.config)
                .await;
        if let Err(error) = received {
            self.give_up(held.lease, &held.row.uid, &error).await;
            return Err(error);
        }
        let Held { lease, upload, row, .. } = held;
        let offset = upload.offset();
        match self.suspend(upload, &row, lease.number()).await {
            Ok(saved) => {
                lease.given_back();
                if saved { Ok(UploadStatus { uid: uid.clone(), offset }) } else { Err(CoreError::UploadBusy) }
            }
            Err(error) => {
                lease.give_back().await;
                Err(error)
            }
        }
    }

    /// Saves what came, which gives the lease back. False when that was lost.
    async fn suspend(&self, upload: Upload, row: &UploadRow, lease: i64) -> Result<bool, CoreError> {
        let (offset, key) = (upload.offset(), upload.data_key());
        let mut suspended = upload.suspend(&Lease::text(lease)).await?;
        let now_ms = self.now_ms();
        let mut attempt = 1;
        loop {
            let (of_row, state) = (row.clone(), suspended.clone());
            let saved = self.move_session(false, move |tx| {
                if blobs::active_epoch(tx, &of_row.domain)? != state.epoch {
                    return Err(CoreError::Unavailable(Box::new(EpochRolled)));
                }
                let progress = uploads::Progress {
                    lease,
                    offset_before: of_row.offset,
                    offset: i64::try_from(offset).unwrap_or(i64::MAX),
                    sealed_state: &state.sealed,
                    sealed_epoch: state.epoch,
                };
                Ok(uploads::save(tx, &of_row.uid, &progress, now_ms)?)
            });
            match saved.await {
                Err(error) if EpochRolled::is(&error) && attempt < ATTEMPTS => {
                    attempt += 1;
                    self.follow_epoch(&row.domain).await?;
                    let (domain, uid) = (blob_domain(&row.domain), row.uid.as_str());
                    let content = &self.inner.content;
                    suspended = content.wrap_upload_anew(&domain, &suspended, uid, &key).await?;
                }
                saved => return saved,
            }
        }
    }

    /// Adds the body, which may be empty, and makes the whole a visible blob if it has the digest
    /// `expected`.
    ///
    /// # Errors
    /// As [`Registry::append_upload`]; `DigestMismatch`, after which the session is gone;
    /// `RepositoryNotFound` when the repository was deleted meanwhile.
    pub async fn finish_upload(
        &self,
        repository: &Repository,
        uid: &UploadUid,
        principal: &str,
        range: Option<ContentRange>,
        body: Body,
        expected: &Digest,
    ) -> Result<FinishedUpload, CoreError> {
        let held = self.hold(repository, uid, principal, range).await?;
        self.complete(held, range, body, expected).await
    }

    /// A whole blob in one request.
    ///
    /// # Errors
    /// As [`Registry::start_upload`] and [`Registry::finish_upload`].
    pub async fn upload_whole(
        &self,
        new: NewUpload<'_>,
        body: Body,
        expected: &Digest,
    ) -> Result<FinishedUpload, CoreError> {
        let now_ms = self.now_ms();
        let target = PreparedTarget::new(new.target, now_ms);
        let mut row = new_row(&new, &target, now_ms);
        let name = target.repository().name.clone();
        let room = self.inner.metadata.point(move |tx| quotas::room(tx, &name)).await?;
        let (reserved, upload) = self.begin_object(&row).await?;
        row.file_id = Some(*reserved.file_id.as_bytes());
        row.lease = 1;
        row.lease_expires_at_ms = now_ms + self.inner.config.lease_ms;
        let inserted = self.move_session(target.is_new(), move |tx| {
            let repository = target.resolve(tx)?;
            let row = UploadRow { repository: repository.uid, ..row.clone() };
            reservations::take(tx, reserved.file_id)?;
            uploads::insert(tx, &row)?;
            Ok(row)
        });
        let row = self.or_return(inserted.await, Some(reserved))?;
        let lease = Lease::taken(self, &row.uid, row.lease);
        let uid = row.uid.clone();
        let result = self.complete(Held { lease, upload, row, room }, None, body, expected).await;
        if result.is_err() {
            // Nobody knows this session, so nobody would continue it.
            self.discard(&uid, 1).await;
        }
        result
    }

    /// Ends a session without a blob.
    ///
    /// # Errors
    /// `UploadNotFound`; `UploadBusy` while a request writes it.
    pub async fn cancel_upload(
        &self,
        repository: &Repository,
        uid: &UploadUid,
        principal: &str,
    ) -> Result<(), CoreError> {
        let row = self.upload_row(repository, uid, principal).await?;
        let now_ms = self.now_ms();
        if row.lease_expires_at_ms > now_ms {
            return Err(CoreError::UploadBusy);
        }
        self.inner
            .metadata
            .write(move |tx| {
                if !uploads::delete(tx, &row.uid, row.lease)? {
                    return Err(CoreError::UploadBusy);
                }
                if let Some(file_id) = &row.file_id {
                    garbage::condemn(tx, file_id, now_ms)?;
                }
                Ok(())
            })
            .await
    }

    /// Ends every hold on an upload. For a server that starts and that there can be no other of: whoever held one died
    /// with it, and a client that goes on with its upload need not wait until the hold runs out.
    ///
    /// # Errors
    /// The database's; holds run out by themselves then.
    pub async fn end_upload_holds(&self) -> Result<(), CoreError> {
        let now_ms = self.now_ms();
        self.inner
            .metadata
            .write_unsynced(move |tx| Ok::<_, CoreError>(uploads::end_leases(tx, now_ms)?))
            .await
    }

    async fn upload_row(
        &self,
        repository: &Repository,
        uid: &UploadUid,
        principal: &str,
    ) -> Result<UploadRow, CoreError> {
        let uid = uid.clone();
        let row = self.inner.metadata.point(move |tx| Ok::<_, CoreError>(uploads::by_uid(tx, &uid)?)).await?;
        of_caller(row, repository, principal)
    }

    /// Takes the lease and opens the upload where its last complete request left it.
    async fn hold(
        &self,
        repository: &Repository,
        uid: &UploadUid,
        principal: &str,
        range: Option<ContentRange>,
    ) -> Result<Held, CoreError> {
        let (of_row, name) = (uid.clone(), repository.name.clone());
        let read = self
            .inner
            .metadata
            .point(move |tx| Ok::<_, CoreError>((uploads::by_uid(tx, &of_row)?, quotas::room(tx, &name)?)));
        let (row, room) = read.await?;
        let row = of_caller(row, repository, principal)?;
        let offset = row.offset.unsigned_abs();
        if let Some(range) = range {
            range.check(offset)?;
        }
        // Without saved state there is nothing to continue: a new object, which becomes the session's with the lease.
        let (reserved, fresh) = match &row.sealed_state {
            None => self.begin_object(&row).await.map(|(reserved, upload)| (Some(reserved), Some(upload)))?,
            Some(_) => (None, None),
        };
        let taken = self.take_lease(&row, reserved.map(|reserved| reserved.file_id)).await;
        let lease = Lease::taken(self, uid, self.or_return(taken, reserved)?);
        let upload = match fresh {
            Some(upload) => Ok(upload),
            None => self.resume(&row).await,
        };
        match upload {
            Ok(upload) => Ok(Held { lease, upload, row, room }),
            Err(error) => {
                lease.give_back().await;
                Err(error)
            }
        }
    }

    /// Begins an upload to an object that is registered and not taken yet.
    async fn begin_object(&self, row: &UploadRow) -> Result<(Reserved, Upload), CoreError> {
        let reserved = self.reserve_object().await?;
        let (domain, uid) = (blob_domain(&row.domain), row.uid.as_str());
        let begun = self.inner.content.begin_reserved(&domain, reserved.file_id, uid, row.algorithm).await;
        let upload = begun.inspect_err(|_| self.return_object(reserved))?;
        Ok((reserved, upload))
    }

    /// What came of taking an object, which is returned when its taker was refused. After any other error it may be
    /// taken all the same.
    fn or_return<T>(&self, taken: Result<T, CoreError>, reserved: Option<Reserved>) -> Result<T, CoreError> {
        let refused = matches!(
            taken,
            Err(CoreError::UploadBusy
                | CoreError::UploadNotFound
                | CoreError::RepositoryNotFound
                | CoreError::RepositoryExists)
        );
        if let Some(reserved) = reserved.filter(|_| refused) {
            self.return_object(reserved);
        }
        taken
    }

    /// Opens a held upload where its saved state left it.
    async fn resume(&self, row: &UploadRow) -> Result<Upload, CoreError> {
        match self.resume_from(row).await? {
            Err(BlobError::Key { .. }) => {}
            resumed => return Ok(resumed?),
        }
        // The key was rolled, and its old epoch destroyed, since the row was read.
        let uid = row.uid.clone();
        let row = self.inner.metadata.point(move |tx| Ok::<_, CoreError>(uploads::by_uid(tx, &uid)?));
        Ok(self.resume_from(&row.await?.ok_or(CoreError::UploadNotFound)?).await??)
    }

    async fn resume_from(&self, row: &UploadRow) -> Result<Result<Upload, BlobError>, CoreError> {
        let (Some(file_id), Some(sealed)) = (&row.file_id, &row.sealed_state) else {
            return Err(CoreError::internal("an upload has state but no object"));
        };
        let state = SuspendedUpload {
            file_id: FileId::from_bytes(*file_id),
            epoch: row.sealed_epoch,
            sealed: sealed.clone(),
        };
        let (domain, sealed_lease) = (blob_domain(&row.domain), Lease::text(row.sealed_lease));
        let (content, offset) = (&self.inner.content, row.offset.unsigned_abs());
        Ok(content.resume(&domain, &state, row.uid.as_str(), &sealed_lease, offset).await)
    }

    /// Takes the lease, and with it the object `fresh` in the place of the one that the session had.
    async fn take_lease(&self, row: &UploadRow, fresh: Option<FileId>) -> Result<i64, CoreError> {
        let now_ms = self.now_ms();
        let expires_at_ms = now_ms + self.inner.config.lease_ms;
        let (row, file_id) = (row.clone(), fresh.map(|fresh| *fresh.as_bytes()));
        let replaced = row.file_id.filter(|_| fresh.is_some());
        // The collector deletes what is condemned, so that must not be forgotten.
        self.move_session(replaced.is_some(), move |tx| {
            let Some(lease) = uploads::take_lease(tx, &row, file_id.as_ref(), now_ms, expires_at_ms)? else {
                let gone = uploads::by_uid(tx, &row.uid)?.is_none();
                return Err(if gone { CoreError::UploadNotFound } else { CoreError::UploadBusy });
            };
            if let Some(fresh) = fresh {
                reservations::take(tx, fresh)?;
            }
            if let Some(replaced) = &replaced {
                garbage::condemn(tx, replaced, now_ms)?;
            }
            Ok(lease)
        })
        .await
    }

    async fn complete(
        &self,
        mut held: Held,
        range: Option<ContentRange>,
        body: Body,
        expected: &Digest,
    ) -> Result<FinishedUpload, CoreError> {
        let received =
            receive(&mut held.upload, &mut held.lease, body, range, held.room.as_ref(), &self.inner.config)
                .await;
        if let Err(error) = received {
            self.give_up(held.lease, &held.row.uid, &error).await;
            return Err(error);
        }
        let Held { lease, upload, row, .. } = held;
        let key = upload.data_key();
        let sealed = match upload.finish(expected).await {
            Ok(sealed) => sealed,
            Err(error) => {
                let error = CoreError::from(error);
                self.give_up(lease, &row.uid, &error).await;
                return Err(error);
            }
        };
        let content = Content::new(&row.domain, sealed);
        let finished = FinishedUpload { digest: content.digest.clone(), size: content.size() };
        match self.commit(content, &key, &row, lease.number()).await {
            Ok(()) => {
                lease.given_back();
                Ok(finished)
            }
            Err(error) => {
                self.give_up(lease, &row.uid, &error).await;
                Err(error)
            }
        }
    }

    /// Gives back a session whose request failed; ends it, and with it what it takes up, where nothing comes of it any more.
    async fn give_up(&self, lease: Lease, uid: &UploadUid, error: &CoreError) {
        match error {
            CoreError::DigestMismatch { .. }
            | CoreError::QuotaExceeded { .. }
            | CoreError::RepositoryNotFound => {
                self.discard(uid, lease.number()).await;
                lease.given_back();
            }
            _ => lease.give_back().await,
        }
    }

    /// Makes the content a visible blob and ends its session, in one transaction.
    async fn commit(
        &self,
        mut content: Content,
        key: &DataKey,
        row: &UploadRow,
        lease: i64,
    ) -> Result<(), CoreError> {
        let now_ms = self.now_ms();
        let mut attempt = 1;
        loop {
            let (row, of_commit) = (row.clone(), content.clone());
            let committed = self.inner.metadata.write(move |tx| {
                if !uploads::delete(tx, &row.uid, lease)? {
                    return Err(CoreError::UploadBusy);
                }
                let repository =
                    repositories::by_uid(tx, &row.repository)?.ok_or(CoreError::RepositoryNotFound)?;
                of_commit.commit(tx, now_ms)?;
                if blobs::put_link(tx, &row.repository, &of_commit.digest, of_commit.size(), now_ms)? {
                    quotas::check(tx, &repository.name, 0)?;
                }
                Ok(())
            });
            match committed.await {
                Err(error) if EpochRolled::is(&error) && attempt < ATTEMPTS => {
                    attempt += 1;
                    content = content.wrapped_anew(self, key).await?;
                }
                committed => return committed,
            }
        }
    }

    /// Removes a session that ended badly and condemns its object. Should this fail, it expires.
    pub(crate) async fn discard(&self, uid: &UploadUid, lease: i64) {
        let (uid, now_ms) = (uid.clone(), self.now_ms());
        let discarded: Result<(), CoreError> = self
            .inner
            .metadata
            .write(move |tx| {
                let file_id = uploads::by_uid(tx, &uid)?.and_then(|row| row.file_id);
                if uploads::delete(tx, &uid, lease)?
                    && let Some(file_id) = file_id
                {
                    garbage::condemn(tx, &file_id, now_ms)?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = discarded {
            tracing::debug!(error = %error, "an upload that failed is left to expire");
        }
    }
}

/// The session, if it is of this repository and principal.
fn of_caller(
    row: Option<UploadRow>,
    repository: &Repository,
    principal: &str,
) -> Result<UploadRow, CoreError> {
    row.filter(|row| row.repository == repository.uid && row.principal == principal)
        .ok_or(CoreError::UploadNotFound)
}

fn new_row(new: &NewUpload<'_>, target: &PreparedTarget, now_ms: i64) -> UploadRow {
    let repository = target.repository();
    UploadRow {
        uid: UploadUid::new(uuid_text(&random_id())),
        repository: repository.uid.clone(),
        domain: repository.domain.clone(),
        principal: new.principal.to_owned(),
        algorithm: new.algorithm,
        lease: 0,
        lease_expires_at_ms: 0,
        offset: 0,
        file_id: None,
        sealed_state: None,
        sealed_epoch: 0,
        sealed_lease: 0,
        updated_at_ms: now_ms,
    }
}

/// 32 hex digits grouped as a UUID, which some clients look for in an upload's URL.
fn uuid_text(hex: &str) -> String {
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
