//! How a host joins: a token, used once, becomes a key of the host's own.
//!
//! The token is known to its bearer alone; the database holds its hash. What the operator fixed with it
//! (cluster, zone, attributes) is bound to the principal and cannot be changed by the host.

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use policies_identity::RequestContext;
use registry_aws::AwsError;
use scheduler_protocol::{JoinRequest, JoinResponse};
use sha2::{Digest, Sha256};

use crate::core::Core;
use crate::store::{Enrolment, JoinToken};

const LARGEST_REQUEST: usize = 8 * 1024;
/// How long a request may take to arrive: nobody has proven yet who sends it.
const REQUEST_TIME: Duration = Duration::from_secs(10);
const PREFIX: &str = "berth-join-";

/// Makes a token that admits one host, for so long.
///
/// # Errors
/// The database's.
pub(crate) async fn create_token(
    core: &Core,
    enrolment: Enrolment,
    life: Duration,
) -> Result<(String, i64), AwsError> {
    let secret = hex::encode(registry_runtime::random_bytes::<32>());
    let life_ms = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
    let now_ms = core.clock.now_ms();
    let expires_at = now_ms.saturating_add(life_ms);
    let token = JoinToken { hash: hash(&secret), expires_at, enrolment };
    core.store.put_join_token(token, now_ms).await.map_err(|error| {
        tracing::error!(error = %error, "a join token could not be stored");
        AwsError::server()
    })?;
    let suffix = core.config.ca_fingerprint.as_ref().map(|hash| format!(".{hash}")).unwrap_or_default();
    Ok((format!("{PREFIX}{secret}{suffix}"), expires_at))
}

/// `POST /join`: needs no other credential than the token.
pub(crate) async fn join(State(core): State<Arc<Core>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let host = parts.extensions.remove::<RequestContext>();
    let refused = || answer(StatusCode::FORBIDDEN, &message("The join token is unknown, used or too old."));
    let Ok(body) = tokio::time::timeout(REQUEST_TIME, to_bytes(body, LARGEST_REQUEST)).await else {
        return answer(StatusCode::REQUEST_TIMEOUT, &message("The request did not arrive in time."));
    };
    let Ok(body) = body else {
        return answer(StatusCode::PAYLOAD_TOO_LARGE, &message("The request is too large."));
    };
    let Ok(JoinRequest { token }) = serde_json::from_slice(&body) else {
        return answer(StatusCode::BAD_REQUEST, &message("The request has no token."));
    };
    let secret = token.strip_prefix(PREFIX).map(|rest| rest.split('.').next().unwrap_or_default());
    let Some(secret) = secret.filter(|secret| secret.len() == 64) else { return refused() };
    let endpoint = core.config.endpoint.clone().or_else(|| {
        let context = host?;
        let scheme = if context.secure_transport { "https" } else { "http" };
        Some(format!("{scheme}://{}", context.host?))
    });
    match enrol(&core, secret).await {
        Ok(Some((enrolment, key))) => {
            let response = JoinResponse {
                cluster: enrolment.cluster.to_string(),
                region: core.names.region.to_string(),
                account_id: core.names.account.to_string(),
                endpoint,
                access_key_id: key.access_key_id,
                secret_access_key: key.secret_access_key.expose().to_owned(),
            };
            match serde_json::to_string(&response) {
                Ok(body) => answer(StatusCode::OK, &body),
                Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, &message("An internal error occurred.")),
            }
        }
        Ok(None) => refused(),
        Err(error) => {
            tracing::error!(error = %error, "a host could not join");
            answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                &message("An internal error occurred. Ask for a new token."),
            )
        }
    }
}

type JoinError = Box<dyn std::error::Error + Send + Sync>;

async fn enrol(
    core: &Core,
    secret: &str,
) -> Result<Option<(Enrolment, policies_identity::AccessKey)>, JoinError> {
    let now_ms = core.clock.now_ms();
    let Some(enrolment) = core.store.redeem(&hash(secret), now_ms).await? else { return Ok(None) };
    let principal = format!("host-{}", registry_runtime::random_id());
    // The enrolment stands before the key exists: a key that works is always bound.
    core.store.enrol(&principal, &enrolment, now_ms).await?;
    let key = core.identity.create_instance_principal(&principal).await?;
    tracing::info!(cluster.name = %enrolment.cluster, principal.name = principal, "a host joined");
    Ok(Some((enrolment, key)))
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn message(text: &str) -> String {
    serde_json::json!({ "message": text }).to_string()
}

fn answer(status: StatusCode, body: &str) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_owned()).into_response()
}
