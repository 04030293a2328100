//! Keeps the snapshot young: every 250 ms one row says whether anything has changed.
//!
//! A snapshot that was not confirmed for a second decides nothing. Ages are measured with the monotonic
//! clock, from before the question was asked.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use registry_runtime::{Secret, random_bytes};
use tokio::time::MissedTickBehavior;

use super::Builder;
use crate::error::IdentityError;
use crate::identity::{Identity, Inner};
use crate::store;
use crate::tokens::KEY_LIFE_MS;

/// For how long a confirmed snapshot may decide.
pub(crate) const FRESH_FOR: Duration = Duration::from_secs(1);

const EVERY: Duration = Duration::from_millis(250);
const HOUSEKEEPING_EVERY_MS: i64 = 60 * 60 * 1000;
const WRITE_USES_EVERY_MS: i64 = 60 * 1000;

impl Identity {
    /// Loads what has changed since the last refresh. After a write by another hand than this `Identity`,
    /// this is done within 250 ms anyway.
    ///
    /// # Errors
    /// The database's, or a sealed value that does not open; then the snapshot stays as it is.
    pub async fn refresh(&self) -> Result<(), IdentityError> {
        let inner = self.inner();
        // One at a time, so that an older snapshot never replaces a newer one.
        let _turn = inner.refreshing.lock().await;
        let asked_at = inner.clock.monotonic();
        let generation = inner.database.point(|tx| store::security_generation(tx)).await?;
        let previous = inner.directory.load_full();
        if generation != previous.security_generation {
            let builder = Builder {
                account: inner.config.account_id.clone(),
                sealer: Arc::clone(&inner.sealer),
                previous,
            };
            // Compiling takes a while after a large change: it happens where the reading does.
            let directory = inner.database.read(move |tx| builder.build(store::load::tables(tx)?)).await?;
            inner.directory.store(directory.into());
        }
        inner.confirmed_at_ms.store(milliseconds(asked_at), Ordering::Release);
        Ok(())
    }

    /// Makes sure of a snapshot that was not confirmed for a second, as after the machine slept or had no turn for
    /// this process: a request is not refused because it came to run before the refresher did. Waits for a second
    /// at most; whether the snapshot may decide shows when it is asked.
    pub async fn confirm(&self) {
        if self.directory().is_none() {
            // The refresher says what is wrong.
            let _ = tokio::time::timeout(FRESH_FOR, self.refresh()).await;
        }
    }

    /// Makes a new token key when the newest has signed for long enough.
    pub(crate) async fn rotate_token_keys(&self) -> Result<(), IdentityError> {
        let inner = self.inner();
        let now_ms = inner.clock.now_ms();
        let newest = inner.directory.load().token_keys.newest_created_ms();
        if newest.is_some_and(|created_ms| now_ms - created_ms < KEY_LIFE_MS) {
            return Ok(());
        }
        let secret = Secret::new(random_bytes::<32>().to_vec());
        let sealer = inner.sealer.clone();
        inner
            .database
            .write(move |tx| {
                let newest = store::keys::newest_token_key(tx)?;
                if newest.is_some_and(|(_, created_ms)| now_ms - created_ms < KEY_LIFE_MS) {
                    return Ok::<_, IdentityError>(());
                }
                let id = newest.map_or(1, |(id, _)| id + 1);
                let sealed =
                    sealer.seal(store::keys::TOKEN_KEY_COLUMN, &[&id.to_be_bytes()], secret.expose());
                store::keys::insert_token_key(tx, id, &sealed, now_ms)?;
                store::bump(tx)?;
                Ok(())
            })
            .await?;
        self.refresh().await
    }

    pub(crate) async fn forget_expired(&self) -> Result<(), IdentityError> {
        let now_ms = self.now_ms();
        let database = &self.inner().database;
        while database.write(move |tx| store::refresh::forget_expired(tx, now_ms)).await? {}
        database.write(move |tx| store::sessions::forget_expired(tx, now_ms)).await?;
        Ok(())
    }
}

/// Refreshes until the last `Identity` is gone or closed.
pub(crate) fn spawn(inner: Weak<Inner>) {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut failing = false;
        let mut housekeeping_ms = 0;
        let mut uses_written_ms = 0;
        loop {
            ticks.tick().await;
            let Some(identity) = inner.upgrade().map(Identity::from_inner) else { return };
            if identity.is_closed() {
                return;
            }
            let mut result = identity.refresh().await;
            if result.is_ok() {
                result = identity.rotate_token_keys().await;
            }
            if result.is_ok() && identity.now_ms() - uses_written_ms >= WRITE_USES_EVERY_MS {
                uses_written_ms = identity.now_ms();
                result = identity.write_uses().await;
            }
            if result.is_ok() && identity.now_ms() - housekeeping_ms >= HOUSEKEEPING_EVERY_MS {
                housekeeping_ms = identity.now_ms();
                result = identity.forget_expired().await;
            }
            if identity.is_closed() {
                return;
            }
            match result {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("policies are refreshed again");
                }
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(error = &error as &dyn std::error::Error, "policies cannot be refreshed");
                }
                Ok(()) | Err(_) => {}
            }
        }
    });
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
