//! What was found: listed, and, where no row names it, purged at an operator's word.

use registry_blob::{FileId, ReplicaId};
use registry_metadata::scrubs::{self, Finding, FindingKind};
use registry_metadata::{adoption, blobs};

use super::Upkeep;
use crate::error::CoreError;
use crate::registry::Page;

const BATCH: u32 = 200;

/// What a purge deleted, or would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub objects: u64,
    pub bytes: u64,
    /// Objects that a row names by now; they stay, and are no finding any more.
    pub registered: u64,
    /// Objects whose replica could not be asked; they stay findings.
    pub unreachable: u64,
}

impl Upkeep {
    /// One page of findings of a kind; repaired ones are shown for a month.
    ///
    /// # Errors
    /// The database's.
    pub async fn findings(
        &self,
        kind: FindingKind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Finding>, CoreError> {
        let after = after.and_then(parse_cursor);
        let metadata = &self.registry.inner.metadata;
        let items = metadata.read(move |tx| {
            let after = after.as_ref().map(|(file_id, replica)| (&file_id[..], replica.as_str()));
            Ok::<_, CoreError>(scrubs::findings_after(tx, kind, after, limit)?)
        });
        let items = items.await?;
        let next = items.last().filter(|_| items.len() == limit as usize);
        let next = next.map(|last| format!("{}.{}", FileId::from_bytes(last.file_id), last.replica));
        Ok(Page { items, next })
    }

    /// Deletes the objects that scrub found and no row names; with `dry_run` only counts them. Each is
    /// looked up again first. Gives `None`, with nothing done, before what was restored is adopted.
    pub async fn purge(&self, dry_run: bool) -> Result<Option<Purged>, CoreError> {
        let metadata = &self.registry.inner.metadata;
        let restored = metadata.point(|tx| Ok::<_, CoreError>(adoption::pending(tx)?)).await?;
        if restored.is_some() && !dry_run {
            return Ok(None);
        }
        let replicas = self.registry.inner.content.replicas();
        let mut purged = Purged::default();
        let mut after: Option<(Vec<u8>, String)> = None;
        loop {
            let from = after.clone();
            let page = metadata.read(move |tx| {
                let from = from.as_ref().map(|(file_id, replica)| (&file_id[..], replica.as_str()));
                Ok::<_, CoreError>(scrubs::findings_after(tx, FindingKind::Unknown, from, BATCH)?)
            });
            let page = page.await?;
            for finding in &page {
                let file_id = finding.file_id;
                let registered =
                    metadata.point(move |tx| Ok::<_, CoreError>(blobs::is_registered(tx, &file_id)?)).await?;
                if registered {
                    purged.registered += 1;
                } else {
                    if !dry_run {
                        let store = replicas.store(&ReplicaId::new(&finding.replica));
                        let deleted = match store {
                            Some(store) => store.delete(FileId::from_bytes(file_id)).await.is_ok(),
                            // A replica that is gone took its objects with it.
                            None => true,
                        };
                        if !deleted {
                            purged.unreachable += 1;
                            continue;
                        }
                        tracing::info!(
                            object.file_id = %FileId::from_bytes(file_id),
                            object.size_bytes = finding.size,
                            replica.id = %finding.replica,
                            "an object that no row names was purged"
                        );
                    }
                    purged.objects += 1;
                    purged.bytes += finding.size;
                }
                if !dry_run {
                    let replica = finding.replica.clone();
                    metadata
                        .write(move |tx| Ok::<_, CoreError>(scrubs::delete_finding(tx, &file_id, &replica)?))
                        .await?;
                }
            }
            match page.last().filter(|_| page.len() == BATCH as usize) {
                Some(last) => after = Some((last.file_id.to_vec(), last.replica.clone())),
                None => return Ok(Some(purged)),
            }
        }
    }
}

fn parse_cursor(text: &str) -> Option<(Vec<u8>, String)> {
    let (file_id, replica) = text.split_once('.')?;
    let file_id: FileId = file_id.parse().ok()?;
    Some((file_id.as_bytes().to_vec(), replica.to_owned()))
}
