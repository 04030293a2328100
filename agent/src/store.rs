//! The agent's state on disk: named values in one sealed log.
//!
//! A thread of its own appends; values that were put while it synced go into the next sync together. What
//! `put_durably` has answered survives a power cut, what `put` was given survives a kill of the process.

mod log;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use registry_runtime::{Hold, KeyProvider, LocalKeys, Sealer, durable};
use tokio::sync::{mpsc, oneshot};

use crate::error::AgentError;
use log::Log;

/// Every live value by its key, as found on disk.
pub(crate) type Values = BTreeMap<String, Vec<u8>>;

/// Put so that everything before it is synced.
const FLUSHED_KEY: &str = "flushed";

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    writes: mpsc::UnboundedSender<Write>,
    path: Arc<PathBuf>,
}

struct Write {
    key: String,
    /// `None` deletes.
    value: Option<Vec<u8>>,
    durable: Option<oneshot::Sender<Result<(), String>>>,
}

impl Store {
    /// Opens or creates the state in `data_dir` and returns what it holds.
    pub(crate) fn open(data_dir: &Path) -> Result<(Self, Values), AgentError> {
        durable::create_directory(data_dir, 0o700).map_err(|source| AgentError::io(data_dir, source))?;
        let lock = lock(data_dir)?;
        durable::sweep(data_dir);
        let path = data_dir.join("state.log");
        let unusable = |reason: String| AgentError::State { path: path.clone(), reason };
        let keys = LocalKeys::open(&data_dir.join("keys")).map_err(|error| unusable(error.to_string()))?;
        let secret = keys.create("agent", 1).map_err(|error| unusable(error.to_string()))?;
        let (log, values) = Log::open(&path, Sealer::new(&secret, 1)).map_err(unusable)?;
        let (writes, queue) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("agent-state".into())
            .spawn(move || {
                append(log, queue);
                // Held until the last write: two agents on one folder would fight over the host.
                drop(lock);
            })
            .map_err(|source| AgentError::io(&path, source))?;
        Ok((Self { writes, path: Arc::new(path) }, values))
    }

    /// Puts a value without waiting for the disk.
    pub(crate) fn put(&self, key: &str, value: Vec<u8>) {
        self.send(key, Some(value), None);
    }

    /// Puts a value and returns once it is durable.
    pub(crate) async fn put_durably(&self, key: &str, value: Vec<u8>) -> Result<(), AgentError> {
        let (durable, done) = oneshot::channel();
        self.send(key, Some(value), Some(durable));
        let answer = done.await.unwrap_or_else(|_| Err("the agent is shutting down".into()));
        answer.map_err(|reason| AgentError::State { path: (*self.path).clone(), reason })
    }

    /// Returns once everything that was put before is durable.
    pub(crate) async fn flush(&self) -> Result<(), AgentError> {
        self.put_durably(FLUSHED_KEY, Vec::new()).await
    }

    pub(crate) fn delete(&self, key: &str) {
        self.send(key, None, None);
    }

    fn send(&self, key: &str, value: Option<Vec<u8>>, durable: Option<oneshot::Sender<Result<(), String>>>) {
        // The thread ends only with the last sender.
        let _ = self.writes.send(Write { key: key.to_owned(), value, durable });
    }
}

fn lock(data_dir: &Path) -> Result<Hold, AgentError> {
    let path = data_dir.join("agent.lock");
    let hold = Hold::exclusive(&path).map_err(|source| AgentError::io(&path, source))?;
    hold.ok_or_else(|| AgentError::State {
        path: data_dir.to_owned(),
        reason: "another agent runs on this folder".into(),
    })
}

fn append(mut log: Log, mut queue: mpsc::UnboundedReceiver<Write>) {
    while let Some(first) = queue.blocking_recv() {
        let mut waiting = Vec::new();
        let mut batch = vec![first];
        while let Ok(next) = queue.try_recv() {
            batch.push(next);
        }
        let mut records = Vec::with_capacity(batch.len());
        for write in batch {
            records.push((write.key, write.value));
            waiting.extend(write.durable);
        }
        let result = log.append(records, !waiting.is_empty());
        if let Err(error) = &result {
            tracing::error!(%error, "the agent's state could not be saved");
        }
        for waiter in waiting {
            let _ = waiter.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Store;

    #[tokio::test]
    async fn what_was_put_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, values) = Store::open(folder.path()).unwrap();
        assert!(values.is_empty());
        store.put("a", b"first".to_vec());
        store.put("b", b"gone".to_vec());
        store.put("a", b"second".to_vec());
        store.delete("b");
        store.put_durably("c", b"canary".to_vec()).await.unwrap();
        assert!(Store::open(folder.path()).is_err(), "a second agent on the folder is refused");
        drop(store);
        let (_store, values) = reopen(folder.path());
        assert_eq!(
            values.into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), b"second".to_vec()), ("c".to_owned(), b"canary".to_vec())]
        );
        let bytes = std::fs::read(folder.path().join("state.log")).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
    }

    /// The lock goes with the last clone, the log with its thread.
    fn reopen(path: &std::path::Path) -> (Store, super::Values) {
        for _ in 0..200 {
            if let Ok(opened) = Store::open(path) {
                return opened;
            }
            std::thread::yield_now();
        }
        Store::open(path).unwrap()
    }
}
