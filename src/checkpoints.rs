//! Where the audit log's signed checkpoints are kept besides the metadata: on the replicas of the content.

use std::sync::Arc;

use async_trait::async_trait;
use policies_identity::CheckpointPlaces;
use registry_blob::ReplicaId;
use registry_core::{Places, Upkeep};

/// The replicas that a server works with.
pub(crate) struct Replicas(pub(crate) Upkeep);

/// Replicas by their places, each of which has its marker; for commands beside a server, or without one.
pub(crate) struct Roots {
    places: Arc<dyn Places>,
    /// Name, location and id; the error where it cannot be asked.
    roots: Vec<(String, Result<ReplicaId, String>)>,
}

#[async_trait]
impl CheckpointPlaces for Replicas {
    async fn names(&self) -> Vec<String> {
        self.0.replica_locations().into_iter().map(|(id, _)| id).collect()
    }

    async fn read(&self, place: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        let location = self.location(place)?;
        let read = self.0.places().note(&location, &ReplicaId::new(place), name).await;
        read.map_err(|error| error.to_string())
    }

    async fn write(&self, place: &str, name: &str, text: Vec<u8>) -> Result<(), String> {
        let location = self.location(place)?;
        let written = self.0.places().keep_note(&location, &ReplicaId::new(place), name, text).await;
        written.map_err(|error| error.to_string())
    }
}

impl Replicas {
    fn location(&self, place: &str) -> Result<String, String> {
        let all = self.0.replica_locations();
        let found = all.into_iter().find(|(id, _)| id == place);
        found.map(|(_, location)| location).ok_or_else(|| "it is no replica any more".to_owned())
    }
}

impl Roots {
    pub(crate) async fn find(places: Arc<dyn Places>, locations: Vec<String>) -> Self {
        let mut roots = Vec::new();
        for location in locations {
            let id = match places.marker(&location).await {
                Ok(Some(marker)) if marker.cluster == places.cluster() => Ok(ReplicaId::new(&marker.replica)),
                Ok(Some(_)) => Err("it belongs to another installation".to_owned()),
                Ok(None) => Err("it carries no marker: it is not mounted".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            roots.push((location, id));
        }
        Self { places, roots }
    }
}

#[async_trait]
impl CheckpointPlaces for Roots {
    async fn names(&self) -> Vec<String> {
        self.roots.iter().map(|(location, _)| location.clone()).collect()
    }

    async fn read(&self, place: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        let root = self.roots.iter().find(|(location, _)| location == place);
        let id = root.map(|(_, id)| id.clone()).ok_or_else(|| "it is no replica".to_owned())??;
        self.places.note(place, &id, name).await.map_err(|error| error.to_string())
    }

    async fn write(&self, _place: &str, _name: &str, _text: Vec<u8>) -> Result<(), String> {
        Err("nothing is written here".to_owned())
    }
}
