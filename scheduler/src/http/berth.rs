//! Berth's own operations on clusters: join tokens, and cutting a host off.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, RequestContext};
use registry_aws::AwsError;
use registry_aws::timestamp::epoch_seconds;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ecs::error::{instance_not_found, invalid};
use super::ecs::{active_cluster, deregister, read, text};
use crate::agents::create_token;
use crate::core::Core;
use crate::model::Attribute;
use crate::store::Enrolment;

const CREATE_JOIN_TOKEN: &str = "CreateJoinToken";
const REVOKE_INSTANCE: &str = "RevokeInstance";
pub(crate) const OPERATIONS: &[&str] = &[CREATE_JOIN_TOKEN, REVOKE_INSTANCE];
const DEFAULT_LIFE_SECONDS: i64 = 3600;
const LONGEST_LIFE_SECONDS: i64 = 7 * 24 * 3600;

pub(crate) struct BerthClusters {
    core: Arc<Core>,
}

impl BerthClusters {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateJoinToken {
    cluster: Option<String>,
    availability_zone: Option<String>,
    #[serde(default)]
    attributes: Vec<Attribute>,
    expires_in_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RevokeInstance {
    cluster: Option<String>,
    container_instance: String,
}

#[async_trait]
impl AwsApi for BerthClusters {
    fn signing_name(&self) -> &'static str {
        "berth"
    }

    fn target_prefix(&self) -> &'static str {
        "Berth_20261101"
    }

    fn operations(&self) -> &'static [&'static str] {
        OPERATIONS
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        let names = &self.core.names;
        let cluster = names.parse_cluster(text(input, "cluster")).ok();
        if operation == CREATE_JOIN_TOKEN {
            let action = "berth:CreateJoinToken";
            return Ok(vec![
                cluster.map_or_else(|| Check::any(action), |one| Check::on(action, names.cluster(&one))),
            ]);
        }
        let action = "berth:RevokeInstance";
        let instance = cluster.zip(text(input, "containerInstance")).and_then(|(cluster, text)| {
            let id = names.parse_instance(text, &cluster).ok()?;
            Some(names.instance(&cluster, &id))
        });
        Ok(vec![instance.map_or_else(|| Check::any(action), |arn| Check::on(action, arn))])
    }

    async fn call(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        match operation {
            CREATE_JOIN_TOKEN => self.create_join_token(input).await,
            REVOKE_INSTANCE => self.revoke_instance(input).await,
            _ => Err(AwsError::unknown_operation()),
        }
    }
}

impl BerthClusters {
    async fn create_join_token(&self, input: Value) -> Result<Value, AwsError> {
        let request: CreateJoinToken = read(input)?;
        let cluster = self.core.names.parse_cluster(request.cluster.as_deref())?;
        active_cluster(&self.core.ledger.read(), &cluster)?;
        let seconds = request.expires_in_seconds.unwrap_or(DEFAULT_LIFE_SECONDS);
        if !(1..=LONGEST_LIFE_SECONDS).contains(&seconds) {
            return Err(invalid("expiresInSeconds must be between 1 second and 7 days."));
        }
        let well_formed = |text: &str| {
            !text.is_empty()
                && text.len() <= 128
                && text.chars().all(|one| one.is_ascii_graphic() || one == ' ')
        };
        let texts = request.attributes.iter().flat_map(|one| [Some(&one.name), one.value.as_ref()]);
        if texts.chain([request.availability_zone.as_ref()]).flatten().any(|text| !well_formed(text)) {
            return Err(invalid("Zones and attributes have 1 to 128 printable characters."));
        }
        let enrolment = Enrolment {
            cluster: cluster.clone(),
            zone: request.availability_zone,
            attributes: request.attributes,
        };
        let life = Duration::from_secs(seconds.unsigned_abs());
        let (token, expires_at) = create_token(&self.core, enrolment, life).await?;
        let mut output = json!({
            "token": token,
            "clusterArn": self.core.names.cluster(&cluster),
            "expiresAt": epoch_seconds(expires_at),
        });
        if let Some(endpoint) = &self.core.config.endpoint {
            output["endpoint"] = json!(endpoint);
        }
        Ok(output)
    }

    /// The host's key works nowhere within a second, its instance is gone, its tasks are replaced.
    async fn revoke_instance(&self, input: Value) -> Result<Value, AwsError> {
        let request: RevokeInstance = read(input)?;
        let cluster = self.core.names.parse_cluster(request.cluster.as_deref())?;
        let id = self.core.names.parse_instance(&request.container_instance, &cluster)?;
        let of_change = id.clone();
        let instance = self
            .core
            .ledger
            .change(move |draft| {
                let found = draft.state().instance(&of_change).filter(|found| found.cluster == cluster);
                let found = found.cloned().ok_or_else(instance_not_found)?;
                Ok::<_, AwsError>(deregister(draft, &of_change, "Host revoked by user").unwrap_or(found))
            })
            .await?;
        if let Some(host) = &instance.host {
            self.core.identity.delete_instance_principal(host).await.map_err(|error| {
                tracing::error!(error = %error, "a host's principal could not be deleted");
                AwsError::server()
            })?;
        }
        Ok(json!({ "containerInstanceArn": self.core.names.instance(&instance.cluster, &instance.id) }))
    }
}
