//! Keys: one secret per (domain, epoch) from the provider, data keys wrapped locally under it.
//!
//! The provider is asked once per epoch and process, never per blob.

pub(crate) mod wrap;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use registry_runtime::{KeyError, KeyProvider, Secret};

use crate::error::BlobError;
use crate::key_row::Domain;
use wrap::Kek;

/// The key-encrypting keys in use, and the epoch that is active in each domain.
pub(crate) struct KeyRing {
    provider: Arc<dyn KeyProvider>,
    keks: Mutex<HashMap<(Domain, u32), Arc<Kek>>>,
    active: Mutex<HashMap<Domain, u32>>,
}

impl KeyRing {
    pub(crate) fn new(provider: Arc<dyn KeyProvider>) -> Self {
        Self { provider, keks: Mutex::default(), active: Mutex::default() }
    }

    /// Makes `epoch` the active one of `domain`, creating its secret if there is none yet.
    pub(crate) async fn activate(&self, domain: &Domain, epoch: u32) -> Result<(), BlobError> {
        self.load(domain, epoch, |provider, name, epoch| provider.create(name, epoch)).await?;
        self.active.lock().insert(domain.clone(), epoch);
        Ok(())
    }

    /// Makes an epoch the active one whose secret is there already, made by whoever rolled the key.
    pub(crate) async fn follow(&self, domain: &Domain, epoch: u32) -> Result<(), BlobError> {
        self.get(domain, epoch).await?;
        self.active.lock().insert(domain.clone(), epoch);
        Ok(())
    }

    /// Makes the secret of an epoch that is to be the next one.
    pub(crate) async fn prepare(&self, domain: &Domain, epoch: u32) -> Result<(), BlobError> {
        self.load(domain, epoch, |provider, name, epoch| provider.create(name, epoch)).await.map(drop)
    }

    /// Destroys the secret of an epoch at the provider, and drops its key.
    pub(crate) async fn destroy(&self, domain: &Domain, epoch: u32) -> Result<(), BlobError> {
        let (provider, name) = (Arc::clone(&self.provider), domain.name().to_owned());
        let destroyed = tokio::task::spawn_blocking(move || provider.destroy(&name, epoch))
            .await
            .map_err(|source| BlobError::Key { epoch, source: source.into() })?;
        // Last, so that nobody loads it again in between.
        self.forget(domain, epoch);
        destroyed.map_err(|source| BlobError::Key { epoch, source: source.into() })
    }

    /// The active epoch of a domain, with its key.
    pub(crate) async fn active(&self, domain: &Domain) -> Result<(u32, Arc<Kek>), BlobError> {
        let mut epoch = self.active_epoch(domain)?;
        loop {
            let error = match self.get(domain, epoch).await {
                Ok(kek) => return Ok((epoch, kek)),
                Err(error) => error,
            };
            // It may have been rolled, and destroyed, since it was looked up.
            let newer = self.active_epoch(domain)?;
            if newer == epoch {
                return Err(error);
            }
            epoch = newer;
        }
    }

    fn active_epoch(&self, domain: &Domain) -> Result<u32, BlobError> {
        self.active.lock().get(domain).copied().ok_or_else(|| BlobError::Key {
            epoch: 0,
            source: format!("no epoch of key domain {domain:?} was activated").into(),
        })
    }

    pub(crate) async fn get(&self, domain: &Domain, epoch: u32) -> Result<Arc<Kek>, BlobError> {
        let known = self.keks.lock().get(&(domain.clone(), epoch)).cloned();
        match known {
            Some(kek) => Ok(kek),
            None => self.load(domain, epoch, |provider, name, epoch| provider.secret(name, epoch)).await,
        }
    }

    /// Drops the key of an epoch that was destroyed.
    fn forget(&self, domain: &Domain, epoch: u32) {
        self.keks.lock().remove(&(domain.clone(), epoch));
        let mut active = self.active.lock();
        if active.get(domain) == Some(&epoch) {
            active.remove(domain);
        }
    }

    /// Asks the provider, which may read a file or call a service.
    async fn load(
        &self,
        domain: &Domain,
        epoch: u32,
        ask: fn(&dyn KeyProvider, &str, u32) -> Result<Secret, KeyError>,
    ) -> Result<Arc<Kek>, BlobError> {
        let provider = Arc::clone(&self.provider);
        let name = domain.name().to_owned();
        let secret = tokio::task::spawn_blocking(move || ask(provider.as_ref(), &name, epoch))
            .await
            .map_err(|source| BlobError::Key { epoch, source: source.into() })?
            .map_err(|source| BlobError::Key { epoch, source: source.into() })?;
        let kek = Arc::new(Kek::derive(secret.expose(), domain.id(), epoch));
        self.keks.lock().insert((domain.clone(), epoch), Arc::clone(&kek));
        Ok(kek)
    }
}
