//! The queries over a real SQLite file whose closures are run twice at random.

mod candidates;
mod content;
mod migrations;
mod quotas;
mod repositories;
mod reservations;
mod uploads;

use std::sync::Arc;

use registry_sql::Database;
use registry_types::{Algorithm, Digest, MediaType};
use tempfile::TempDir;

use crate::{
    Domain, EncryptionType, Error, KeyRow, Manifest, Metadata, Repository, RepositoryUid, TagMutability, Tx,
};

struct World {
    metadata: Metadata,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open_rerunning(&test_support::database_in(folder.path()), 11).await.unwrap();
        Self { metadata: Metadata::open(database).await.unwrap(), _folder: folder }
    }

    async fn write<T: Send + 'static>(
        &self,
        closure: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> T {
        self.metadata.write(closure).await.unwrap()
    }
}

fn uid(text: &str) -> RepositoryUid {
    RepositoryUid::new(text)
}

fn domain() -> Domain {
    Domain::new("default")
}

fn digest(byte: u8) -> Digest {
    Digest::from_hash(Algorithm::Sha256, &[byte; 32])
}

fn repository(name: &str) -> Repository {
    Repository {
        uid: uid(&format!("uid-{name}")),
        name: name.parse().unwrap(),
        created_at_ms: 5,
        domain: domain(),
        encryption_type: EncryptionType::Aes256,
        tag_mutability: TagMutability::Mutable,
        policy: None,
        resource_tags: [("team".to_owned(), "blue".to_owned())].into(),
        scan_on_push: false,
    }
}

fn key(file: u8) -> KeyRow {
    KeyRow {
        file_id: [file; 16],
        dek_id: [1; 16],
        total_len: 10,
        object_len: 500,
        footer_sha256: [2; 32],
        epoch: 1,
        wrap_nonce: [3; 12],
        wrapped: [4; 48],
    }
}

fn manifest(byte: u8, subject: Option<Digest>) -> Manifest {
    Manifest {
        digest: digest(byte),
        media_type: MediaType::from_content_type(MediaType::OCI_MANIFEST),
        size: 7,
        artifact_type: None,
        config_media_type: Some("application/x".to_owned()),
        subject,
        image_size: 70,
        pushed_at_ms: 9,
        last_pulled_at_ms: None,
    }
}

/// Text shared between a closure and its test.
fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}
