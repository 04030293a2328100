//! Keys: rolled to a new epoch while everything goes on, and old epochs destroyed.
//!
//! Rolling touches key rows alone and no content. The old epoch stays readable until it is shredded, which
//! nothing but an operator's word does, and only when no row is wrapped under it any more.

use std::collections::VecDeque;

use registry_blob::{BlobError, FileId, SuspendedUpload};
use registry_metadata::epochs::{self, Epoch, EpochState, OldUpload, Place, PlacedKey};
use registry_metadata::{Domain, KeyRow, adoption, blobs};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::commit::blob_key;
use crate::error::CoreError;
use crate::registry::{Registry, blob_domain};

/// Rows that are being wrapped anew: where the batch ends, and how many there were.
type Batch = (Option<Place>, JoinHandle<Result<u64, CoreError>>);

/// A domain's first epoch.
const FIRST: u32 = 1;
/// Longest name of a key (that of ECR's `kmsKey`).
const LONGEST_NAME: usize = 2048;
/// Rows of one transaction.
const BATCH: u32 = 1000;
/// Batches under way at a time: one is wrapped while another is written.
const AHEAD: usize = 4;
/// Batches after which it is noted how far the walk came.
const NOTED_AFTER: usize = 20;

/// Why nothing was shredded.
#[derive(Debug, Error)]
pub enum ShredError {
    #[error("there is no key domain {0}")]
    Unknown(String),
    #[error("the keys of this domain were never rotated: there is no old epoch to destroy")]
    NothingOld,
    #[error("{0} keys and more are still wrapped under an old epoch")]
    StillWrapped(u64),
    /// After a restore nothing is destroyed before an operator is content with it.
    #[error("what was restored was not adopted yet: nothing is destroyed before `berth store adopt`")]
    NotAdopted,
    /// What they hold of the database is older than the keys that are about to go.
    #[error("{0} cannot be given a new copy of the database: see `berth status`, and try again")]
    OldCopies(String),
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// Why no key was made.
#[derive(Debug, Error)]
pub enum CreateKeyError {
    #[error(
        "a key's name has 1 to 48 letters, digits, '-' and '_', or is the ARN or alias of a KMS key; `system` is taken"
    )]
    Name,
    #[error("there is a key of this name already")]
    Exists,
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl Registry {
    /// Makes a key domain: what is pushed to its repositories is sealed under keys of its own, and lost with them.
    ///
    /// # Errors
    /// The provider's, when it cannot make a secret: nothing is changed then.
    pub async fn create_key(&self, name: &str) -> Result<(), CreateKeyError> {
        if !is_key_name(name) {
            return Err(CreateKeyError::Name);
        }
        let domain = Domain::new(name);
        self.inner.content.prepare_epoch(&blob_domain(&domain), FIRST).await.map_err(CoreError::from)?;
        let (of_row, now_ms) = (domain.clone(), self.now_ms());
        let is_new: bool = self
            .inner
            .metadata
            .write(move |tx| {
                let is_new = !epochs::is_known(tx, &of_row)?;
                if is_new {
                    epochs::note(tx, &of_row, FIRST, now_ms)?;
                }
                Ok::<_, CoreError>(is_new)
            })
            .await?;
        if !is_new {
            return Err(CreateKeyError::Exists);
        }
        self.follow_epoch(&domain).await?;
        Ok(())
    }

    /// Every epoch of every key domain.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_epochs(&self) -> Result<Vec<Epoch>, CoreError> {
        self.inner.metadata.read(|tx| Ok(epochs::all(tx)?)).await
    }

    /// Makes a new epoch the active one of a domain. The rows of the old one are wrapped anew by
    /// [`Registry::rewrap_keys`]. Gives the new epoch; `None` when there is no such domain.
    ///
    /// # Errors
    /// The provider's, when it has no secret for the new epoch and cannot make one: nothing is changed then.
    pub async fn rotate_key(&self, domain: &str) -> Result<Option<u32>, CoreError> {
        let domain = Domain::new(domain);
        let known = self.key_epochs().await?;
        let active = known.iter().find(|one| one.domain == domain && one.state == EpochState::Active);
        let Some(epoch) = active.map(|active| active.epoch) else { return Ok(None) };
        self.inner.content.prepare_epoch(&blob_domain(&domain), epoch + 1).await?;
        let (of_row, now_ms) = (domain.clone(), self.now_ms());
        self.inner
            .metadata
            .write(move |tx| Ok::<_, CoreError>(epochs::roll(tx, &of_row, epoch, now_ms)?))
            .await?;
        // Where another server was faster, its epoch is the new one.
        Ok(Some(self.follow_epoch(&domain).await?))
    }

    /// Lets this process wrap under the epoch that is active now.
    pub(crate) async fn follow_epoch(&self, domain: &Domain) -> Result<u32, CoreError> {
        let of_row = domain.clone();
        let active =
            self.inner.metadata.point(move |tx| Ok::<_, CoreError>(blobs::active_epoch(tx, &of_row)?));
        let active = active.await?;
        self.inner.content.follow_epoch(&blob_domain(domain), active).await?;
        Ok(active)
    }

    /// Follows what other servers did: wraps under the active epochs, drops the keys of destroyed ones. To be
    /// called every second. One domain's trouble keeps no other one back.
    ///
    /// # Errors
    /// The database's, or when the secret of an epoch that is not destroyed is not in this server's key directory.
    pub async fn follow_keys(&self) -> Result<(), CoreError> {
        // First the active ones: while an old epoch goes, the new one is there to wrap under.
        let (active, old): (Vec<_>, Vec<_>) =
            self.key_epochs().await?.into_iter().partition(|one| one.state == EpochState::Active);
        let mut outcome = Ok(());
        for epoch in active.iter().chain(&old) {
            // A key that this server lacks keeps no other from being followed, or destroyed.
            outcome = outcome.and(self.follow(epoch).await);
        }
        outcome
    }

    async fn follow(&self, epoch: &Epoch) -> Result<(), CoreError> {
        let domain = blob_domain(&epoch.domain);
        match epoch.state {
            EpochState::Active => Ok(self.inner.content.follow_epoch(&domain, epoch.epoch).await?),
            EpochState::Retiring => Ok(self.inner.content.check_epoch(&domain, epoch.epoch).await?),
            EpochState::Destroying => self.destroy(epoch).await,
            // Each server has a key directory of its own.
            EpochState::Destroyed => {
                let key = (epoch.domain.clone(), epoch.epoch);
                if !self.inner.destroyed.lock().contains(&key) {
                    self.inner.content.destroy_epoch(&domain, epoch.epoch).await?;
                    self.inner.destroyed.lock().insert(key);
                }
                Ok(())
            }
        }
    }

    /// Wraps what is under old epochs anew, in transactions of at most 1,000 rows. Goes on where an earlier
    /// call, or another server, stopped.
    ///
    /// # Errors
    /// The database's or the provider's.
    pub async fn rewrap_keys(&self) -> Result<u64, CoreError> {
        let mut done = 0;
        for epoch in self.key_epochs().await? {
            if let (EpochState::Active, Some(after)) = (epoch.state, &epoch.rewrapped_after) {
                self.follow_epoch(&epoch.domain).await?;
                done += self.rewrap_uploads(&epoch).await?;
                done += self.rewrap_rows(&epoch, after.clone()).await?;
            }
        }
        Ok(done)
    }

    async fn rewrap_rows(&self, epoch: &Epoch, mut after: Place) -> Result<u64, CoreError> {
        let mut under_way: VecDeque<Batch> = VecDeque::new();
        let (mut done, mut is_over, mut unnoted) = (0, false, 0);
        while !is_over || !under_way.is_empty() {
            if !is_over && under_way.len() < AHEAD {
                let (domain, from) = (epoch.domain.clone(), after.clone());
                let page = self
                    .inner
                    .metadata
                    .read(move |tx| Ok::<_, CoreError>(epochs::keys_after(tx, &domain, &from, BATCH)?));
                let page = page.await?;
                let last = page.last().filter(|_| page.len() == BATCH as usize).map(PlacedKey::place);
                match &last {
                    Some(last) => after.clone_from(last),
                    None => is_over = true,
                }
                let (registry, domain, active) = (self.clone(), epoch.domain.clone(), epoch.epoch);
                let batch = tokio::spawn(async move { registry.rewrap_batch(&domain, active, page).await });
                under_way.push_back((last, batch));
                continue;
            }
            let Some((last, batch)) = under_way.pop_front() else { break };
            done += batch.await.map_err(|_| CoreError::internal("a batch of keys ended by a panic"))??;
            unnoted += 1;
            if last.is_some() && unnoted < NOTED_AFTER {
                continue;
            }
            unnoted = 0;
            let (domain, active) = (epoch.domain.clone(), epoch.epoch);
            let noted = self.inner.metadata.write(move |tx| {
                Ok::<_, CoreError>(epochs::set_rewrapped(tx, &domain, active, last.as_ref())?)
            });
            noted.await?;
        }
        Ok(done)
    }

    /// Wraps the rows of a page that are under an old epoch.
    async fn rewrap_batch(
        &self,
        domain: &Domain,
        active: u32,
        mut page: Vec<PlacedKey>,
    ) -> Result<u64, CoreError> {
        page.retain(|placed| placed.key.epoch != active);
        let mut wrapped = Vec::with_capacity(page.len());
        while let Some(epoch) = page.first().map(|placed| placed.key.epoch) {
            let old: Vec<PlacedKey> = page.extract_if(.., |placed| placed.key.epoch == epoch).collect();
            let rows: Vec<_> =
                old.iter().map(|placed| (placed.digest.clone(), blob_key(domain, &placed.key))).collect();
            let new = self.inner.content.rewrap_all(&blob_domain(domain), epoch, &rows).await?;
            for (old, new) in old.into_iter().zip(new) {
                match new {
                    Some(new) if new.epoch == active => wrapped.push((old, new)),
                    // Rolled again meanwhile: the next walk comes by.
                    Some(_) => {}
                    None => tracing::error!(
                        blob.digest = %old.digest,
                        object.file_id = %FileId::from_bytes(old.key.file_id),
                        key.epoch = epoch,
                        "a key row does not open and keeps its epoch"
                    ),
                }
            }
        }
        let (domain, count) = (domain.clone(), wrapped.len() as u64);
        if count > 0 {
            self.inner
                .metadata
                .write(move |tx| {
                    for (old, new) in &wrapped {
                        let key = KeyRow {
                            epoch: new.epoch,
                            wrap_nonce: new.wrap_nonce,
                            wrapped: new.wrapped,
                            ..old.key.clone()
                        };
                        epochs::rewrap(tx, &domain, old, &key)?;
                    }
                    Ok::<_, CoreError>(())
                })
                .await?;
        }
        Ok(count)
    }

    async fn rewrap_uploads(&self, epoch: &Epoch) -> Result<u64, CoreError> {
        let mut done = 0;
        loop {
            let (domain, active) = (epoch.domain.clone(), epoch.epoch);
            let page = self
                .inner
                .metadata
                .read(move |tx| Ok::<_, CoreError>(epochs::old_uploads(tx, &domain, active, BATCH)?))
                .await?;
            let mut wrapped: Vec<(OldUpload, SuspendedUpload)> = Vec::new();
            for old in page {
                let suspended = SuspendedUpload {
                    file_id: FileId::from_bytes(old.file_id),
                    epoch: old.epoch,
                    sealed: old.sealed_state.clone(),
                };
                let domain = blob_domain(&epoch.domain);
                match self.inner.content.rewrap_upload(&domain, &suspended, old.uid.as_str()).await {
                    Ok(new) => wrapped.push((old, new)),
                    // Another release's: nobody can go on with it, and it expires.
                    Err(BlobError::UploadUnknown) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if wrapped.is_empty() {
                return Ok(done);
            }
            done += wrapped.len() as u64;
            self.inner
                .metadata
                .write(move |tx| {
                    for (old, new) in &wrapped {
                        epochs::rewrap_upload(tx, old, new.epoch, &new.sealed)?;
                    }
                    Ok::<_, CoreError>(())
                })
                .await?;
        }
    }

    /// Destroys every old epoch of a domain: from no earlier copy of database and content can anything be read
    /// that only these wrapped. Gives the epochs.
    ///
    /// # Errors
    /// While rows are left under one of them, and before what was restored is adopted.
    pub async fn shred_keys(&self, domain: &str) -> Result<Vec<u32>, ShredError> {
        let domain = Domain::new(domain);
        let known: Vec<Epoch> =
            self.key_epochs().await?.into_iter().filter(|one| one.domain == domain).collect();
        if known.is_empty() {
            return Err(ShredError::Unknown(domain.as_str().to_owned()));
        }
        let old: Vec<Epoch> = known
            .iter()
            .filter(|one| matches!(one.state, EpochState::Retiring | EpochState::Destroying))
            .cloned()
            .collect();
        if old.is_empty() {
            return Err(ShredError::NothingOld);
        }
        let left = self.count_left(&known).await?;
        if left > 0 {
            return Err(ShredError::StillWrapped(left));
        }
        let not_renewed = self.inner.metadata.renew_change_log().await;
        if !not_renewed.is_empty() {
            return Err(ShredError::OldCopies(not_renewed.join(", ")));
        }
        let (of_row, now_ms) = (domain.clone(), self.now_ms());
        let epochs_of: Vec<u32> = old.iter().map(|one| one.epoch).collect();
        let destroying = epochs_of.clone();
        let adopted = self
            .inner
            .metadata
            .write(move |tx| {
                if adoption::pending(tx)?.is_some() {
                    return Ok(false);
                }
                for epoch in &destroying {
                    epochs::set_state(tx, &of_row, *epoch, EpochState::Destroying, now_ms)?;
                }
                Ok::<_, CoreError>(true)
            })
            .await?;
        if !adopted {
            return Err(ShredError::NotAdopted);
        }
        for epoch in &old {
            self.destroy(epoch).await?;
        }
        Ok(epochs_of)
    }

    /// Rows that are not under the active epoch, in pages; none can come to be meanwhile.
    async fn count_left(&self, known: &[Epoch]) -> Result<u64, CoreError> {
        let Some(active) = known.iter().find(|one| one.state == EpochState::Active).cloned() else {
            return Err(CoreError::internal("a key domain has no active epoch"));
        };
        let (mut left, mut after) = (0, Place::start());
        loop {
            let (domain, from) = (active.domain.clone(), after.clone());
            let page = self
                .inner
                .metadata
                .read(move |tx| Ok::<_, CoreError>(epochs::keys_after(tx, &domain, &from, BATCH)?))
                .await?;
            left += page.iter().filter(|placed| placed.key.epoch != active.epoch).count() as u64;
            match page.last().filter(|_| page.len() == BATCH as usize) {
                Some(last) => after = last.place(),
                None => break,
            }
        }
        let uploads = self.inner.metadata.read(move |tx| {
            Ok::<_, CoreError>(epochs::old_uploads(tx, &active.domain, active.epoch, BATCH)?.len())
        });
        Ok(left + uploads.await? as u64)
    }

    async fn destroy(&self, epoch: &Epoch) -> Result<(), CoreError> {
        self.inner.content.destroy_epoch(&blob_domain(&epoch.domain), epoch.epoch).await?;
        let (epoch, now_ms) = (epoch.clone(), self.now_ms());
        let noted = self.inner.metadata.write(move |tx| {
            epochs::set_state(tx, &epoch.domain, epoch.epoch, EpochState::Destroyed, now_ms)?;
            tracing::info!(key.domain = %epoch.domain, key.epoch = epoch.epoch, "a key epoch was destroyed");
            Ok::<_, CoreError>(())
        });
        noted.await
    }
}

/// Whether a key domain may be called so: a word, or what KMS calls a key. `system` seals the database's secrets.
fn is_key_name(name: &str) -> bool {
    let is_word = name.len() <= 48 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let is_of_kms = (name.starts_with("arn:") && name.contains(":kms:")) || name.starts_with("alias/");
    let is_plain = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    is_plain && (is_word || is_of_kms) && name != "system"
}
