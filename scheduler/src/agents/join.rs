//! How a host joins: a token becomes a key of the host's own.
//!
//! The token is known to its bearer alone; the database holds its hash. What the operator fixed with it
//! (cluster, zone, attributes, bounds) is bound to the principal and cannot be changed by the host. A refusal
//! says what is wrong with the token, which only its bearer can ask, and changes nothing.

use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use policies_identity::{AuthenticationError, RequestContext};
use registry_aws::AwsError;
use registry_aws::timestamp::iso8601;
use scheduler_protocol::{JoinRequest, JoinResponse};
use sha2::{Digest, Sha256};

use super::host::{Host, HostError, enrol, known_by_machine, known_by_token};
use crate::core::Core;
use crate::ids::InstanceId;
use crate::lead::Lead;
use crate::store::{Enrolment, JoinToken, Standing};

const LARGEST_REQUEST: usize = 8 * 1024;
/// How long a request may take to arrive: nobody has proven yet who sends it.
const REQUEST_TIME: Duration = Duration::from_secs(10);
const PREFIX: &str = "berth-join-";
/// Hexadecimal digits of a token's secret, and of what names a machine.
const DIGITS: usize = 64;
/// What hosts sign the exchange for when they have a key already.
const SERVICE: &str = "ecs";

/// What a token is to be good for.
pub(crate) struct Invitation {
    pub(crate) enrolment: Enrolment,
    pub(crate) life: Duration,
    /// How many hosts it admits.
    pub(crate) uses: i64,
    /// The instance whose host it lets join again.
    pub(crate) instance: Option<InstanceId>,
    /// ARN of who makes it.
    pub(crate) created_by: String,
}

/// Makes a token.
///
/// # Errors
/// The database's.
pub(crate) async fn create_token(
    core: &Core,
    invitation: Invitation,
) -> Result<(String, JoinToken), AwsError> {
    let secret = hex::encode(registry_runtime::random_bytes::<32>());
    let life_ms = i64::try_from(invitation.life.as_millis()).unwrap_or(i64::MAX);
    let now_ms = core.clock.now_ms();
    let token = JoinToken {
        hash: hash(&secret),
        created_at: now_ms,
        created_by: invitation.created_by,
        expires_at: now_ms.saturating_add(life_ms),
        uses: invitation.uses,
        used: 0,
        revoked_at: None,
        instance: invitation.instance,
        enrolment: invitation.enrolment,
    };
    core.store.put_join_token(token.clone()).await.map_err(|error| {
        tracing::error!(error = %error, "a join token could not be stored");
        AwsError::server()
    })?;
    let suffix = core.config.ca_fingerprint.as_ref().map(|hash| format!(".{hash}")).unwrap_or_default();
    Ok((format!("{PREFIX}{secret}{suffix}"), token))
}

/// `POST /join`: needs no other credential than the token. Whoever signs it besides keeps its identity.
pub(crate) async fn join(State(lead): State<Lead>, request: Request) -> Response {
    let Some(core) = lead.present() else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "Another server leads the scheduler. Try again.");
    };
    let (mut parts, body) = request.into_parts();
    // The front door leaves one in every request.
    let Some(ctx) = parts.extensions.remove::<RequestContext>() else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "An internal error occurred.");
    };
    let Ok(body) = tokio::time::timeout(REQUEST_TIME, to_bytes(body, LARGEST_REQUEST)).await else {
        return refusal(StatusCode::REQUEST_TIMEOUT, "The request did not arrive in time.");
    };
    let Ok(body) = body else {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "The request is too large.");
    };
    match exchange(&core, &parts, &body, &ctx).await {
        Ok(answer) => match serde_json::to_string(&answer) {
            Ok(body) => respond(StatusCode::OK, body),
            Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "An internal error occurred."),
        },
        Err(HostError::Malformed(message)) => refusal(StatusCode::BAD_REQUEST, message),
        Err(HostError::Refused(message)) => refusal(StatusCode::FORBIDDEN, &message),
        Err(error) => {
            tracing::error!(error = %error, "a host could not join");
            refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "An internal error occurred. Try again, with a new token if this one is used up.",
            )
        }
    }
}

async fn exchange(
    core: &Core,
    parts: &Parts,
    body: &Bytes,
    ctx: &RequestContext,
) -> Result<JoinResponse, HostError> {
    let Ok(JoinRequest { token, machine }) = serde_json::from_slice(body) else {
        return Err(HostError::Malformed("The request has no token."));
    };
    if machine.as_ref().is_some_and(|machine| !is_hexadecimal(machine)) {
        return Err(HostError::Malformed("A machine is named by 64 hexadecimal digits."));
    }
    if !ctx.confidential {
        return Err(HostError::refused("A join token counts over TLS or loopback only. Join by https://."));
    }
    let secret = token.strip_prefix(PREFIX).map(|rest| rest.split('.').next().unwrap_or_default());
    let secret = secret.filter(|secret| is_hexadecimal(secret));
    let secret = secret.ok_or_else(|| HostError::refused("That is no join token."))?;
    let hash_of_token = hash(secret);
    let now_ms = core.clock.now_ms();
    let token = valid(core, &hash_of_token, now_ms).await?;
    let proven = proven(core, parts, body, ctx).await?;
    // Kept as a hash: who reads the database cannot pass for the machine.
    let machine = machine.map(|machine| hash(&machine));
    let host = match (known_by_token(core, &token, proven).await?, &machine) {
        (Host::New, Some(machine)) => known_by_machine(core, &token.enrolment.cluster, machine).await?,
        (host, _) => host,
    };
    if !core.store.redeem(&hash_of_token, now_ms).await? {
        // Somebody else was quicker.
        valid(core, &hash_of_token, now_ms).await?;
        return Err(HostError::refused("The join token is used up."));
    }
    let (principal, key) = enrol(core, &host, &token.enrolment, machine.as_deref()).await?;
    let endpoint = core.config.endpoint.clone().or_else(|| {
        let scheme = if ctx.secure_transport { "https" } else { "http" };
        Some(format!("{scheme}://{}", ctx.host.as_ref()?))
    });
    Ok(JoinResponse {
        cluster: token.enrolment.cluster.to_string(),
        region: core.names.region.to_string(),
        account_id: core.names.account.to_string(),
        endpoint,
        access_key_id: key.access_key_id,
        secret_access_key: key.secret_access_key.expose().to_owned(),
        principal: Some(principal),
        max_cpu: token.enrolment.max_cpu,
        max_memory: token.enrolment.max_memory,
    })
}

async fn valid(core: &Core, hash: &str, now_ms: i64) -> Result<JoinToken, HostError> {
    let known = core.store.join_token(hash).await?;
    let Some(token) = known else {
        return Err(HostError::refused(
            "This server does not know the join token: another server made it, or it ended long ago.",
        ));
    };
    let why = match token.standing(now_ms) {
        Standing::Valid => return Ok(token),
        Standing::Expired => format!("The join token expired at {}.", iso8601(token.expires_at)),
        Standing::Used if token.uses == 1 => "The join token has been used.".to_owned(),
        Standing::Used => format!("The join token has been used {} times, as often as it may.", token.uses),
        Standing::Revoked => "The join token was revoked.".to_owned(),
    };
    Err(HostError::Refused(why))
}

/// The host that signed the request with the key it has. A key that is void proves nothing, and is no error.
async fn proven(
    core: &Core,
    parts: &Parts,
    body: &Bytes,
    ctx: &RequestContext,
) -> Result<Option<String>, HostError> {
    if !signed(&parts.headers) {
        return Ok(None);
    }
    match core.identity.authenticate_aws(parts, body, &[SERVICE], ctx).await {
        Ok(caller) => Ok(caller.instance().map(str::to_owned)),
        Err(AuthenticationError::Mismatch | AuthenticationError::InvalidToken) => Ok(None),
        Err(error) => Err(HostError::Refused(error.to_aws().message)),
    }
}

fn signed(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
}

fn is_hexadecimal(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn refusal(status: StatusCode, message: &str) -> Response {
    respond(status, serde_json::json!({ "message": message }).to_string())
}

fn respond(status: StatusCode, body: String) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}
