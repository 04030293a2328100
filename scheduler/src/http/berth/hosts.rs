//! Keys for hosts whose agent does not know the exchange, and the end of a host.

use std::sync::Arc;

use policies_identity::RequestContext;
use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::join_tokens::{Limits, confidential};
use crate::agents::enrol_directly;
use crate::core::Core;
use crate::http::ecs::error::instance_not_found;
use crate::http::ecs::{deregister, read};

/// What the exchange of a token answers, for an agent that cannot do it: Amazon's.
pub(super) async fn enrol_host(core: &Core, ctx: &RequestContext, input: Value) -> Result<Value, AwsError> {
    let limits: Limits = read(input)?;
    let (enrolment, instance) = limits.check(core)?;
    confidential(ctx)?;
    let key = enrol_directly(core, &enrolment, instance.as_ref()).await?;
    let mut output = json!({
        "clusterArn": core.names.cluster(&enrolment.cluster),
        "cluster": enrolment.cluster,
        "region": core.names.region.to_string(),
        "accessKeyId": key.access_key_id,
        "secretAccessKey": key.secret_access_key.expose(),
    });
    for (name, value) in [("endpoint", &core.config.endpoint), ("caCertificate", &core.config.ca_certificate)]
    {
        if let Some(value) = value {
            output[name] = json!(value);
        }
    }
    Ok(output)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RevokeInstance {
    cluster: Option<String>,
    container_instance: String,
}

/// The host's key works nowhere within a second, its instance is gone, its tasks are replaced.
pub(super) async fn revoke_instance(core: &Arc<Core>, input: Value) -> Result<Value, AwsError> {
    let request: RevokeInstance = read(input)?;
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    let id = core.names.parse_instance(&request.container_instance, &cluster)?;
    let of_change = id.clone();
    let instance = core
        .ledger
        .change(move |draft| {
            let found = draft.state().instance(&of_change).filter(|found| found.cluster == cluster);
            let found = found.cloned().ok_or_else(instance_not_found)?;
            Ok::<_, AwsError>(deregister(draft, &of_change, "Host revoked by user").unwrap_or(found))
        })
        .await?;
    core.sessions.close(&id);
    if let Some(host) = &instance.host {
        core.identity.delete_instance_principal(host).await.map_err(|error| {
            tracing::error!(error = %error, "a host's principal could not be deleted");
            AwsError::server()
        })?;
        core.store.forget_enrolment(host).await.map_err(|error| {
            tracing::error!(error = %error, "a revoked host's enrolment could not be deleted");
            AwsError::server()
        })?;
    }
    Ok(json!({ "containerInstanceArn": core.names.instance(&instance.cluster, &instance.id) }))
}
