//! `GET /ws`: from a signed request to a control or telemetry connection.
//!
//! Which of the two it is, is told by its parameters, as both live at one path. The refusals bear the names
//! that Amazon's agent knows and reacts to.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{StatusCode, Uri};
use policies_identity::{Caller, Check, RequestContext};
use registry_aws::AwsError;
use scheduler_protocol::{PollQuery, TelemetryQuery, VersionInfo};

use super::bound_instance;
use super::control::Control;
use super::telemetry::Telemetry;
use crate::core::Core;
use crate::ids::{ClusterName, InstanceId};
use crate::lead::Lead;
use crate::model::InstanceStatus;

/// The largest frame of an agent: a telemetry frame has at most a mebibyte.
const LARGEST_FRAME: usize = 2 * 1024 * 1024;

#[derive(Clone, Copy)]
enum Kind {
    Control,
    Telemetry,
}

/// Who connected as what.
struct Admitted {
    kind: Kind,
    caller: Caller,
    ctx: RequestContext,
    check: Check,
    cluster: ClusterName,
    instance: InstanceId,
    versions: VersionInfo,
}

pub(crate) async fn websocket(State(lead): State<Lead>, request: Request) -> Response {
    let core = match lead.core() {
        Ok(core) => core,
        Err(error) => return refusal(&error),
    };
    let (mut parts, _) = request.into_parts();
    spell_out_spaces(&mut parts);
    let admitted = match admit(&core, &mut parts).await {
        Ok(admitted) => admitted,
        Err(error) => return refusal(&error),
    };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.max_message_size(LARGEST_FRAME).max_frame_size(LARGEST_FRAME),
        Err(rejection) => return rejection.into_response(),
    };
    let Admitted { kind, caller, ctx, check, cluster, instance, versions } = admitted;
    upgrade.on_upgrade(move |socket| async move {
        match kind {
            Kind::Control => {
                Control { core, socket, cluster, instance, caller, ctx, check, versions }.run().await
            }
            Kind::Telemetry => Telemetry { core, socket, cluster, instance, caller, ctx, check }.run().await,
        }
    })
}

/// Amazon's agent signs a space of its query as `%20` and sends it as `+`. No agent sends a plus sign as itself.
fn spell_out_spaces(parts: &mut Parts) {
    let Some(path_and_query) = parts.uri.path_and_query().filter(|whole| whole.as_str().contains('+')) else {
        return;
    };
    let spelt = path_and_query.as_str().replace('+', "%20");
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = spelt.parse().ok();
    if let Ok(uri) = Uri::from_parts(uri) {
        parts.uri = uri;
    }
}

async fn admit(core: &Core, parts: &mut Parts) -> Result<Admitted, AwsError> {
    // The front door leaves one in every request.
    let ctx = parts.extensions.remove::<RequestContext>().ok_or_else(AwsError::server)?;
    let caller =
        core.identity.authenticate_aws(parts, &[], &["ecs"], &ctx).await.map_err(|error| error.to_aws())?;
    let invalid = |_| AwsError::client("BadRequestException", "The parameters cannot be read.");
    let Query(poll) = Query::<PollQuery>::try_from_uri(&parts.uri).map_err(invalid)?;
    // Amazon's agent says here, and not when it registers, what it is.
    let versions = VersionInfo {
        agent_version: poll.agent_version,
        agent_hash: poll.agent_hash,
        docker_version: poll.docker_version,
    };
    let (kind, cluster, instance, action, operation) = if poll.container_instance_arn.is_empty() {
        let Query(query) = Query::<TelemetryQuery>::try_from_uri(&parts.uri).map_err(invalid)?;
        (
            Kind::Telemetry,
            query.cluster,
            query.container_instance,
            "ecs:StartTelemetrySession",
            "StartTelemetrySession",
        )
    } else {
        (Kind::Control, poll.cluster_arn, poll.container_instance_arn, "ecs:Poll", "Poll")
    };
    let (cluster, instance) = identify(core, &cluster, &instance)?;
    let check = Check::on(action, core.names.instance(&cluster, &instance))
        .with("ecs:cluster", core.names.cluster(&cluster).as_str());
    core.identity.authorize(&ctx, &caller, operation, &check).map_err(|denied| denied.to_aws())?;
    {
        let state = core.ledger.read();
        if state.instance(&instance).is_none_or(|found| found.cluster != cluster) {
            return Err(AwsError::client(
                "InvalidInstanceException",
                "The container instance is not registered.",
            ));
        }
        let bound = bound_instance(&state, &caller, &instance)?;
        if bound.status == InstanceStatus::Inactive {
            return Err(AwsError::client(
                "InactiveInstanceException",
                "The container instance is deregistered.",
            ));
        }
    }
    Ok(Admitted { kind, caller, ctx, check, cluster, instance, versions })
}

fn identify(core: &Core, cluster: &str, instance: &str) -> Result<(ClusterName, InstanceId), AwsError> {
    let named = Some(cluster).filter(|cluster| !cluster.is_empty());
    let renamed = |code: &'static str| move |error: AwsError| AwsError::client(code, error.message);
    let cluster = core.names.parse_cluster(named).map_err(renamed("InvalidClusterException"))?;
    let instance =
        core.names.parse_instance(instance, &cluster).map_err(renamed("InvalidInstanceException"))?;
    Ok((cluster, instance))
}

/// `{"NAME": "message"}`, as the agent reads it.
fn refusal(error: &AwsError) -> Response {
    let body = serde_json::json!({ &*error.code: error.message }).to_string();
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}
