//! When access keys were last used, and for which service; and when sessions of roles were.
//!
//! Noting a use costs a comparison, and a store when the minute or the service is another one: no lock and no
//! transaction. What was noted is written down once a minute, for the answer of every server.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use registry_sql::Tx;

use crate::error::IdentityError;
use crate::identity::Identity;
use crate::store;

/// Services that requests are signed for; a place in this list fits a byte.
const SERVICES: [&str; 8] = ["berth", "ecr", "ecs", "iam", "logs", "secretsmanager", "ssm", "sts"];

const MINUTE_MS: i64 = 60_000;

/// So many are written in one transaction.
const BATCH: usize = 500;

/// What the use of a role's session is noted as: of a role nobody asks for the service.
pub(crate) const ROLE: &str = "sts";

/// The last use of one key or role; shared by every directory that has it.
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

/// An id, and a use of it that is not written down.
type Noted = (Arc<str>, Arc<UseLog>, i64);
type Note = fn(&Tx<'_>, &str, i64, &str) -> Result<(), registry_sql::Error>;

fn noted<'a>(uses: impl Iterator<Item = (&'a Arc<str>, &'a Arc<UseLog>)>) -> Vec<Noted> {
    let noted = uses.filter_map(|(id, log)| {
        let used = log.latest.load(Ordering::Relaxed);
        let is_new = used != log.written.load(Ordering::Relaxed);
        is_new.then(|| (Arc::clone(id), Arc::clone(log), used))
    });
    noted.collect()
}

impl Identity {
    /// Writes down the uses that were noted since the last time.
    pub(crate) async fn write_uses(&self) -> Result<(), IdentityError> {
        let directory = self.inner().directory.load_full();
        let keys = directory.keys.iter().map(|(id, key)| (id, &key.use_log));
        self.write_down(noted(keys), store::keys::note_use).await?;
        let roles = directory.roles.values().map(|role| (&role.uid, &role.use_log));
        let role = |tx: &Tx<'_>, uid: &str, at_ms: i64, _: &str| store::entities::note_use(tx, uid, at_ms);
        self.write_down(noted(roles), role).await
    }

    async fn write_down(&self, noted: Vec<Noted>, note: Note) -> Result<(), IdentityError> {
        for batch in noted.chunks(BATCH) {
            let rows: Vec<_> =
                batch.iter().filter_map(|(id, _, used)| Some((id.to_string(), read(*used)?))).collect();
            let written = self.inner().database.write(move |tx| {
                rows.iter().try_for_each(|(id, (at_ms, service))| note(tx, id, *at_ms, service))
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
