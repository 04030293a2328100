//! When access keys were last used, and for which service.
//!
//! Noting a use costs a comparison, and a store when the minute or the service is another one: no lock and no
//! transaction. What was noted is written down once a minute, for the answer of every server.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::error::IdentityError;
use crate::identity::Identity;
use crate::store;

/// Services that requests are signed for; a place in this list fits a byte.
const SERVICES: [&str; 8] = ["berth", "ecr", "ecs", "iam", "logs", "secretsmanager", "ssm", "sts"];

const MINUTE_MS: i64 = 60_000;

/// So many are written in one transaction.
const BATCH: usize = 500;

/// The last use of one key; shared by every directory that has it.
#[derive(Debug, Default)]
pub(crate) struct UseLog {
    /// The minute, and in its last byte the service; 0 for never.
    latest: AtomicI64,
    written: AtomicI64,
}

impl UseLog {
    pub(crate) fn note(&self, now_ms: i64, service: &str) {
        let Some(place) = SERVICES.iter().position(|known| *known == service) else { return };
        let used = now_ms.div_euclid(MINUTE_MS) << 8 | i64::try_from(place).unwrap_or(0);
        if self.latest.load(Ordering::Relaxed) != used {
            self.latest.store(used, Ordering::Relaxed);
        }
    }

    /// The minute in milliseconds since the Unix epoch, and the service.
    pub(crate) fn latest(&self) -> Option<(i64, &'static str)> {
        read(self.latest.load(Ordering::Relaxed))
    }
}

fn read(used: i64) -> Option<(i64, &'static str)> {
    let service = SERVICES.get(usize::try_from(used & 0xff).ok()?)?;
    (used != 0).then_some(((used >> 8) * MINUTE_MS, *service))
}

impl Identity {
    /// Writes down the uses that were noted since the last time.
    pub(crate) async fn write_uses(&self) -> Result<(), IdentityError> {
        let mut noted = Vec::new();
        for (id, key) in &self.inner().directory.load().keys {
            let used = key.use_log.latest.load(Ordering::Relaxed);
            if used != key.use_log.written.load(Ordering::Relaxed) {
                noted.push((std::sync::Arc::clone(id), std::sync::Arc::clone(&key.use_log), used));
            }
        }
        for batch in noted.chunks(BATCH) {
            let rows: Vec<_> =
                batch.iter().filter_map(|(id, _, used)| Some((id.to_string(), read(*used)?))).collect();
            let written = self.inner().database.write(move |tx| {
                rows.iter()
                    .try_for_each(|(id, (at_ms, service))| store::keys::note_use(tx, id, *at_ms, service))
            });
            written.await.map_err(IdentityError::from)?;
            for (_, log, used) in batch {
                log.written.store(*used, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::UseLog;

    #[test]
    fn a_use_is_known_by_its_minute_and_service() {
        let log = UseLog::default();
        assert_eq!(log.latest(), None);
        log.note(1_795_406_412_345, "ecs");
        assert_eq!(log.latest(), Some((1_795_406_400_000, "ecs")));
        log.note(1_795_406_412_345, "unheard-of");
        assert_eq!(log.latest(), Some((1_795_406_400_000, "ecs")));
    }
}
