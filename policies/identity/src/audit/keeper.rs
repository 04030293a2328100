//! Keeps the chain: opens it where it stood, signs checkpoints, forgets records that are in the log.
//!
//! The keys that continue a chain lie sealed in the metadata, those of before nowhere. Invariant: a checkpoint is
//! in the metadata before its line is in the log, and the lines it covers are durable before either.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use registry_runtime::{SealError, Sealer, durable};
use registry_sql::Database;
use thiserror::Error;

use super::AuditLog;
use super::chain::{Checkpoint, LineKey, SigningKey};
use super::places::{CheckpointPlaces, Mirror};
use super::recover::{self, Found};
use super::writer::{self, Signed, Writer};
use crate::store::audit::{self, ChainRow};

/// Records that are written or forgotten in one transaction.
const RECORDS_AT_ONCE: usize = 500;

/// Why the log could not be opened, signed or verified.
#[derive(Debug, Error)]
pub enum AuditError {
    #[error("the audit log cannot be opened")]
    File(#[from] std::io::Error),
    #[error(transparent)]
    Database(#[from] registry_sql::Error),
    #[error("the keys of the audit log do not open")]
    Sealed(#[from] SealError),
    #[error("the audit log's state in the metadata is damaged")]
    Damaged,
}

/// Who looks after the log.
pub(crate) struct Keeper {
    database: Database,
    sealer: Arc<Sealer>,
    log: AuditLog,
    /// Where checkpoints are kept besides the metadata.
    mirror: OnceLock<Mirror>,
}

/// The secrets that continue a chain.
pub(super) struct Keys {
    pub(super) line: LineKey,
    signing: SigningKey,
}

impl Keeper {
    /// Opens the log at `path`, and the chain whose name lies beside it; begins one where there is none.
    pub(crate) async fn open(
        database: Database,
        sealer: Arc<Sealer>,
        path: &Path,
        now_ms: i64,
    ) -> Result<(Self, AuditLog), AuditError> {
        let chain = chain_name(path)?;
        let row = begin(&database, &sealer, &chain, now_ms).await?;
        let checkpoint: Checkpoint =
            serde_json::from_str(&row.checkpoint).map_err(|_| AuditError::Damaged)?;
        let keys = Keys::open(&sealer, &row)?;
        let (file, found) = {
            let (path, line) = (path.to_owned(), keys.line.clone());
            let (checkpoint, offset) = (checkpoint.clone(), u64::try_from(row.offset).unwrap_or_default());
            let opened = tokio::task::spawn_blocking(move || {
                let file = writer::open(&path)?;
                recover::cut_half_line(&file)?;
                let found = recover::find(&path, &checkpoint, offset, &line)?;
                Ok::<_, std::io::Error>((file, found))
            });
            opened.await.map_err(|_| AuditError::Damaged)??
        };
        let begins_file = file.metadata()?.len() == 0;
        let Found { position, checkpoint_number, records } = found;
        let last_record =
            last_record(&database, &chain).await?.max(records.iter().max().copied().unwrap_or(0));
        let number = checkpoint_number.unwrap_or(position.number + 1);
        let log = AuditLog::start(chain, last_record, Writer::new(path, file, position, number))?;
        if checkpoint_number.is_none() {
            // The line is in the metadata and did not reach the log any more.
            log.append(None, checkpoint.begun_line());
        }
        let keeper = Self { database, sealer, log: log.clone(), mirror: OnceLock::new() };
        keeper.replay(&records).await?;
        if begins_file && checkpoint_number.is_some() {
            keeper.tend(now_ms, true).await?;
        }
        Ok((keeper, log))
    }

    /// Names the places that keep the checkpoints from now on.
    pub(crate) fn keep_at(&self, places: Arc<dyn CheckpointPlaces>) {
        // Places that are set stay.
        let _ = self.mirror.set(Mirror::new(places));
    }

    /// Brings the places up to what the metadata has. To be called by one task only.
    pub(crate) async fn mirror(&self) -> Result<(), AuditError> {
        match self.mirror.get() {
            Some(mirror) => mirror.run(&self.database, self.log.chain()).await,
            None => Ok(()),
        }
    }

    /// What is wrong with the places, for people.
    pub(crate) fn problem(&self) -> Option<String> {
        self.mirror.get().and_then(Mirror::problem)
    }

    /// Appends the records of changes that a crash kept from the log.
    async fn replay(&self, logged: &std::collections::HashSet<i64>) -> Result<(), AuditError> {
        let mut after = 0;
        loop {
            let chain = self.log.chain().to_owned();
            let limit = RECORDS_AT_ONCE as i64;
            let records = self.database.read(move |tx| audit::records(tx, &chain, after, limit)).await?;
            let Some((last, _)) = records.last() else { return Ok(()) };
            after = *last;
            let (there, missing): (Vec<_>, Vec<_>) =
                records.into_iter().partition(|(number, _)| logged.contains(number));
            for (number, line) in missing {
                self.log.append(Some(number), line);
            }
            self.forget(there.into_iter().map(|(number, _)| number).collect()).await?;
        }
    }

    /// Forgets what is in the log, and signs a checkpoint when one is due, or when `checkpoint` asks for it and
    /// there is anything that none covers.
    pub(crate) async fn tend(&self, now_ms: i64, checkpoint: bool) -> Result<(), AuditError> {
        let Some(tending) = self.log.tend(checkpoint).await else { return Ok(()) };
        if let Some(due) = tending.due {
            let signed = self.sign(now_ms, due.covers, due.offset, due.begins_file).await;
            // The writer waits: it is told before anything else is done.
            let signed = signed.map(|signed| due.answer.send(signed).is_ok());
            self.forget(tending.logged).await?;
            return signed.map(drop);
        }
        self.forget(tending.logged).await
    }

    async fn sign(
        &self,
        now_ms: i64,
        covers: (u64, super::chain::Head),
        offset: u64,
        begins_file: bool,
    ) -> Result<Signed, AuditError> {
        let chain = self.log.chain().to_owned();
        let row = self.database.read(move |tx| audit::chain(tx, &chain)).await?.ok_or(AuditError::Damaged)?;
        let last: Checkpoint = serde_json::from_str(&row.checkpoint).map_err(|_| AuditError::Damaged)?;
        let keys = Keys::open(&self.sealer, &row)?;
        let next = Keys::random();
        let checkpoint = last.following(now_ms, covers, *keys.line.expose(), &keys.signing, &next.signing);
        let signed = Signed { line: checkpoint.begun_line(), key: next.line.clone() };
        let row = next.row(&self.sealer, &checkpoint, offset);
        self.database
            .write(move |tx| {
                audit::put_chain(tx, &row)?;
                if begins_file { audit::put_anchor(tx, &row) } else { Ok(()) }
            })
            .await?;
        Ok(signed)
    }

    async fn forget(&self, records: Vec<i64>) -> Result<(), AuditError> {
        for records in records.chunks(RECORDS_AT_ONCE) {
            let (chain, records) = (self.log.chain().to_owned(), records.to_vec());
            self.database.write(move |tx| audit::forget_records(tx, &chain, &records)).await?;
        }
        Ok(())
    }
}

impl Keys {
    fn random() -> Self {
        Self { line: LineKey::random(), signing: SigningKey::random() }
    }

    pub(super) fn open(sealer: &Sealer, row: &ChainRow) -> Result<Self, AuditError> {
        let keys =
            sealer.open(audit::KEYS_COLUMN, &audit::aad(&row.chain, &row.number.to_be_bytes()), &row.keys)?;
        let (line, seed) = keys.expose().split_first_chunk::<32>().ok_or(AuditError::Damaged)?;
        let seed: [u8; 32] = seed.try_into().map_err(|_| AuditError::Damaged)?;
        Ok(Self { line: LineKey::new(*line), signing: SigningKey::from_seed(seed) })
    }

    fn row(&self, sealer: &Sealer, checkpoint: &Checkpoint, offset: u64) -> ChainRow {
        let number = i64::try_from(checkpoint.checkpoint).unwrap_or(i64::MAX);
        let keys = zeroize::Zeroizing::new([*self.line.expose(), *self.signing.seed()].concat());
        let aad = number.to_be_bytes();
        ChainRow {
            number,
            checkpoint: checkpoint.begun_line() + "}",
            offset: i64::try_from(offset).unwrap_or_default(),
            keys: sealer.seal(audit::KEYS_COLUMN, &audit::aad(&checkpoint.chain, &aad), &keys),
            chain: checkpoint.chain.clone(),
        }
    }
}

/// The chain's row; makes it where there is none.
async fn begin(
    database: &Database,
    sealer: &Sealer,
    chain: &str,
    now_ms: i64,
) -> Result<ChainRow, AuditError> {
    let keys = Keys::random();
    let row = keys.row(sealer, &Checkpoint::genesis(chain, now_ms, &keys.signing), 0);
    let row = database
        .write(move |tx| {
            if let Some(row) = audit::chain(tx, &row.chain)? {
                return Ok::<_, registry_sql::Error>(row);
            }
            audit::put_chain(tx, &row)?;
            audit::put_anchor(tx, &row)?;
            Ok(row.clone())
        })
        .await?;
    Ok(row)
}

async fn last_record(database: &Database, chain: &str) -> Result<i64, registry_sql::Error> {
    let chain = chain.to_owned();
    database.read(move |tx| audit::last_record(tx, &chain)).await
}

/// The name of the chain of the log at `path`; None where none was begun.
pub(super) fn existing_chain_name(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(path.with_extension("chain")) {
        Ok(name) => Ok(Some(name.trim().to_owned()).filter(|name| !name.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of this server's chain: random, and kept beside the log.
fn chain_name(path: &Path) -> Result<String, AuditError> {
    let file = path.with_extension("chain");
    match durable::create_file_atomically(&file, registry_runtime::random_id().as_bytes(), 0o600) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    existing_chain_name(path)?.ok_or(AuditError::Damaged)
}
