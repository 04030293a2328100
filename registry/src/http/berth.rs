//! Berth's own operations on the content store and its keys: replicas, scrub, repair, findings, epochs.

mod operation;
mod render;

use std::error::Error;

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, RequestContext};
use registry_aws::AwsError;
use registry_blob::StoreError;
use registry_core::{CoreError, CreateKeyError, FindingKind, Registry, ReplicaError, ShredError, Upkeep};
use registry_runtime::KeyError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use operation::Operation;

pub(super) use render::status as store_status;

/// Findings of one page, and the most of them.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1000;
/// Locations that one call adds.
const MOST_LOCATIONS: usize = 16;

/// `Berth_20261101`, as far as the content store serves it.
#[derive(Clone)]
pub struct BerthStore {
    registry: Registry,
    upkeep: Upkeep,
}

impl BerthStore {
    /// Every operation's name.
    pub const OPERATIONS: &'static [&'static str] = Operation::NAMES;

    pub fn new(registry: Registry, upkeep: Upkeep) -> Self {
        Self { registry, upkeep }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListStoreFindings {
    kind: Option<String>,
    max_results: Option<u32>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PurgeStore {
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
struct AddReplica {
    locations: Vec<String>,
}

#[derive(Deserialize)]
struct DrainReplica {
    replica: String,
}

#[derive(Deserialize)]
struct RemoveReplica {
    replica: String,
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
struct CreateKey {
    name: String,
}

#[derive(Deserialize)]
struct OfDomain {
    domain: Option<String>,
}

impl OfDomain {
    fn domain(&self) -> &str {
        self.domain.as_deref().unwrap_or("default")
    }
}

#[async_trait]
impl AwsApi for BerthStore {
    fn operations(&self) -> &'static [&'static str] {
        Operation::NAMES
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        _input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        Ok(vec![Check::any(Operation::parse(operation)?.action())])
    }

    async fn call(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        match Operation::parse(operation)? {
            Operation::GetStoreStatus => {
                Ok(store_status(&self.upkeep.status().await.map_err(|error| core(&error))?))
            }
            Operation::ListStoreFindings => self.list_store_findings(read(input)?).await,
            Operation::StartScrub => {
                let scrub = self.upkeep.start_scrub().await.map_err(|error| core(&error))?;
                Ok(json!({ "scrub": render::scrub(&scrub) }))
            }
            Operation::StopScrub => {
                let scrub = self.upkeep.stop_scrub().await.map_err(|error| core(&error))?;
                Ok(json!({ "scrub": scrub.as_ref().map(render::scrub) }))
            }
            Operation::StartRepair => {
                self.upkeep.hurry_repairs().await.map_err(|error| core(&error))?;
                Ok(json!({}))
            }
            Operation::PurgeStore => self.purge_store(read(input)?).await,
            Operation::AddReplica => self.add_replica(read(input)?).await,
            Operation::DrainReplica => {
                let DrainReplica { replica } = read(input)?;
                self.upkeep.drain_replica(&replica).await.map_err(|error| of_replica(&error))?;
                Ok(json!({ "replica": replica }))
            }
            Operation::RemoveReplica => {
                let RemoveReplica { replica, force } = read(input)?;
                self.upkeep.remove_replica(&replica, force).await.map_err(|error| of_replica(&error))?;
                Ok(json!({ "replica": replica }))
            }
            Operation::ListKeys => {
                let epochs = self.registry.key_epochs().await.map_err(|error| core(&error))?;
                Ok(json!({ "epochs": epochs.iter().map(render::epoch).collect::<Vec<_>>() }))
            }
            Operation::CreateKey => self.create_key(read(input)?).await,
            Operation::RotateKey => self.rotate_key(&read::<OfDomain>(input)?).await,
            Operation::ShredKey => self.shred_key(&read::<OfDomain>(input)?).await,
        }
    }
}

impl BerthStore {
    async fn list_store_findings(&self, request: ListStoreFindings) -> Result<Value, AwsError> {
        let kind = match request.kind.as_deref() {
            None => FindingKind::Damaged,
            Some(text) => {
                FindingKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
                    AwsError::invalid_parameter("kind must be one of damaged, missing and unknown.")
                })?
            }
        };
        let limit = request.max_results.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(AwsError::invalid_parameter("maxResults must be between 1 and 1000."));
        }
        let page = self.upkeep.findings(kind, request.next_token.as_deref(), limit).await;
        let page = page.map_err(|error| core(&error))?;
        let mut output = json!({ "findings": page.items.iter().map(render::finding).collect::<Vec<_>>() });
        if let Some(next) = page.next {
            output["nextToken"] = next.into();
        }
        Ok(output)
    }

    async fn purge_store(&self, request: PurgeStore) -> Result<Value, AwsError> {
        match self.upkeep.purge(request.dry_run).await.map_err(|error| core(&error))? {
            Some(purged) => Ok(json!({
                "dryRun": request.dry_run,
                "objects": purged.objects,
                "bytes": purged.bytes,
                "registered": purged.registered,
                "unreachable": purged.unreachable,
            })),
            None => Err(refused(
                "What was restored was not adopted yet: nothing is deleted before berth store adopt.",
            )),
        }
    }

    async fn add_replica(&self, request: AddReplica) -> Result<Value, AwsError> {
        if request.locations.is_empty() || request.locations.len() > MOST_LOCATIONS {
            return Err(AwsError::invalid_parameter("locations must name 1 to 16 places."));
        }
        let added = self.upkeep.add_replicas(&request.locations).await.map_err(|error| of_replica(&error))?;
        Ok(json!({ "replicas": added }))
    }

    async fn create_key(&self, request: CreateKey) -> Result<Value, AwsError> {
        match self.registry.create_key(&request.name).await {
            Ok(()) => Ok(json!({ "domain": request.name, "epoch": 1 })),
            Err(CreateKeyError::Core(error)) => Err(core(&error)),
            Err(error @ CreateKeyError::Name) => Err(AwsError::invalid_parameter(sentence(&error))),
            Err(error @ CreateKeyError::Exists) => Err(refused(sentence(&error))),
        }
    }

    async fn rotate_key(&self, request: &OfDomain) -> Result<Value, AwsError> {
        let domain = request.domain();
        match self.registry.rotate_key(domain).await.map_err(|error| core(&error))? {
            Some(epoch) => Ok(json!({ "domain": domain, "epoch": epoch })),
            None => Err(AwsError::invalid_parameter(format!("There is no key domain {domain:?}."))),
        }
    }

    async fn shred_key(&self, request: &OfDomain) -> Result<Value, AwsError> {
        let domain = request.domain();
        match self.registry.shred_keys(domain).await {
            Ok(epochs) => Ok(json!({ "domain": domain, "destroyedEpochs": epochs })),
            Err(ShredError::Core(error)) => Err(core(&error)),
            Err(error @ ShredError::Unknown(_)) => Err(AwsError::invalid_parameter(sentence(&error))),
            Err(error @ (ShredError::NothingOld | ShredError::StillWrapped(_) | ShredError::NotAdopted)) => {
                Err(refused(sentence(&error)))
            }
            Err(error @ ShredError::OldCopies(_)) => Err(refused(of_a_name(&error))),
        }
    }
}

/// The input of an operation of Berth's own.
pub(super) fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    T::deserialize(input).map_err(AwsError::malformed)
}

/// What cannot be done in the state that things are in.
fn refused(message: impl Into<String>) -> AwsError {
    AwsError::client("InvalidStateException", message)
}

/// The error of an operation that only our own trouble can keep from being done.
pub(super) fn core(error: &CoreError) -> AwsError {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    if let Some(missing @ KeyError::NotShared { .. }) = causes.filter_map(<dyn Error>::downcast_ref).next() {
        return refused(of_a_name(missing));
    }
    tracing::error!(error = error as &dyn Error, "an operation of Berth's own failed");
    match error {
        CoreError::Unavailable(_) | CoreError::Full(_) => {
            AwsError::unavailable("The server cannot do this at the moment; its log says why.")
        }
        _ => AwsError::server(),
    }
}

fn of_replica(error: &ReplicaError) -> AwsError {
    match error {
        ReplicaError::Core(error) => core(error),
        ReplicaError::Store { source: StoreError::Io(system), .. } => {
            AwsError::invalid_parameter(format!("{error}: {system}."))
        }
        ReplicaError::Store { source, .. } => AwsError::invalid_parameter(format!("{error}: {source}.")),
        ReplicaError::Location(_) | ReplicaError::OtherInstallation { .. } => {
            AwsError::invalid_parameter(of_a_name(error))
        }
        ReplicaError::Unknown(_) | ReplicaError::Quorum { .. } => {
            AwsError::invalid_parameter(sentence(error))
        }
        ReplicaError::Same { .. } | ReplicaError::Inside { .. } => {
            AwsError::invalid_parameter(of_a_name(error))
        }
        ReplicaError::InUse { .. } | ReplicaError::Twice { .. } => refused(of_a_name(error)),
        ReplicaError::State { .. } | ReplicaError::LastCopies { .. } | ReplicaError::Meanwhile => {
            refused(sentence(error))
        }
    }
}

/// An error's text with a capital and a full stop.
fn sentence(error: &dyn Error) -> String {
    let mut text = of_a_name(error);
    text[..1].make_ascii_uppercase();
    text
}

/// The text of an error that begins with a name that somebody gave, which stays as it is; with a full stop.
fn of_a_name(error: &dyn Error) -> String {
    format!("{error}.")
}

#[cfg(test)]
mod tests {
    use registry_core::{CreateKeyError, ReplicaError};

    use super::{of_replica, sentence};

    #[test]
    fn a_sentence_begins_with_a_capital_unless_with_a_name_that_somebody_gave() {
        let location = || "rel".to_owned();
        for (error, expected) in [
            (ReplicaError::Location("rel is no place".to_owned()), "rel is no place."),
            (
                ReplicaError::OtherInstallation { location: location() },
                "rel belongs to another installation.",
            ),
            (
                ReplicaError::InUse { location: location(), id: "replica0".to_owned() },
                "rel is replica replica0 already.",
            ),
            (ReplicaError::Unknown("rel".to_owned()), "There is no replica rel."),
        ] {
            assert_eq!(of_replica(&error).message, expected);
        }
        assert_eq!(sentence(&CreateKeyError::Exists), "There is a key of this name already.");
    }
}
