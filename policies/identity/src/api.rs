//! The one way into every AWS-style API: read, authenticate, authorize, call, render.
//!
//! An API says what an operation needs and what it does; nothing is called before the gate has allowed
//! every check, and an operation without checks is refused unless its API declares it open.

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::Method;
use http::request::Parts;
use registry_aws::sigv4::Signed;
use registry_aws::{AwsError, json, query, sigv4, target};
use registry_runtime::{OperationName, Served};
use serde_json::Value;
use tokio::sync::SemaphorePermit;

use crate::audit::{Line, Outcome};
use crate::caller::Caller;
use crate::check::Check;
use crate::context::RequestContext;
use crate::identity::Identity;

mod receive;

#[cfg(test)]
mod tests;

pub(crate) use receive::BodyBudget;
use receive::Received;

/// How requests and answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// JSON 1.1, operation in `X-Amz-Target`.
    Json,
    /// A form with an `Action`, answered in XML of this namespace.
    Query { namespace: &'static str },
}

/// An AWS-style API: one of AWS's services, or where it does not name one, a part of Berth's own.
#[async_trait]
pub trait AwsApi: Send + Sync {
    /// The service name in signatures, such as `ecs`.
    fn signing_name(&self) -> &'static str {
        "berth"
    }

    /// What stands before the operation in `X-Amz-Target`; for Query services the API version.
    fn target_prefix(&self) -> &'static str {
        "Berth_20261101"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Json
    }

    /// The operations that are served. Others answer with the protocol's own error.
    fn operations(&self) -> &'static [&'static str];

    /// Operations that everybody with credentials may call; every other one needs at least one check.
    fn open_operations(&self) -> &'static [&'static str] {
        &[]
    }

    /// Operations whose requests bear a proof of their own in place of a signature.
    fn unsigned_operations(&self) -> &'static [&'static str] {
        &[]
    }

    /// Who proves to be whom by the request to such an operation.
    ///
    /// # Errors
    /// When the proof does not hold.
    async fn authenticate_unsigned(
        &self,
        _ctx: &RequestContext,
        _operation: &str,
        _input: &Value,
    ) -> Result<Caller, AwsError> {
        Err(AwsError::missing_token())
    }

    /// Whether a request may be received only once: its replay is refused.
    fn single_use(&self, _operation: &str) -> bool {
        false
    }

    /// Whether the answer holds a secret. It is then given over TLS or on this machine alone, unless the operator lets
    /// everything cross the network in clear.
    fn answers_with_secret(&self, _operation: &str) -> bool {
        false
    }

    /// Largest request body, in bytes.
    fn body_limit(&self) -> usize {
        1024 * 1024
    }

    /// What must be allowed before `call`. Must not depend on whether a resource exists, except that a
    /// resource's own policy and tags are given along when it does.
    ///
    /// # Errors
    /// Of a request that is malformed, in the API's own words.
    async fn checks(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<Check>, AwsError>;

    /// Does what was asked; everything in `checks` has been allowed.
    ///
    /// # Errors
    /// The API's own exceptions.
    async fn call(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError>;
}

/// What a request asks for, as far as headers or form say.
struct Asked {
    operation: String,
    input: Value,
}

/// Serves one request of `api`.
///
/// The request's [`RequestContext`] comes as an extension from the front door; nothing is served without it.
pub async fn serve_aws(identity: &Identity, api: &dyn AwsApi, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(ctx) = parts.extensions.remove::<RequestContext>() else {
        tracing::error!("a request came past the front door: it has no context");
        return render_error(api, "", &AwsError::server());
    };
    let mut served = Served::of(api.signing_name(), OperationName::UNKNOWN.name);
    let mut response = match serve(identity, api, &ctx, &parts, body, &mut served).await {
        Ok((operation, result)) => render(api, &ctx, &operation, &result),
        Err(error) => render_error(api, &ctx.request_id, &error),
    };
    response.extensions_mut().insert(served);
    response
}

async fn serve(
    identity: &Identity,
    api: &dyn AwsApi,
    ctx: &RequestContext,
    parts: &Parts,
    body: Body,
    served: &mut Served,
) -> Result<(String, Value), AwsError> {
    let (caller, signed, Asked { operation, input }, _share) =
        match unsigned(identity, api, ctx, parts, body).await? {
            Unsigned::Proven(caller, asked) => (caller, None, asked, None),
            Unsigned::Signed(body) => {
                let (caller, (signed, asked), share) = signer(identity, api, ctx, parts, body).await?;
                (caller, Some(signed), asked, share)
            }
        };
    served.principal = Some(caller.shared_arn());
    identity.admit(ctx, &caller).map_err(|_| AwsError::throttling())?;
    let known = api.operations().iter().find(|known| **known == operation);
    served.operation.name = known.ok_or_else(AwsError::unknown_operation)?;
    let checks = api.checks(ctx, &caller, &operation, &input).await?;
    if checks.is_empty() {
        let open = api.open_operations().contains(&operation.as_str());
        if !open {
            tracing::error!(operation, "an operation has no authorization case and is refused");
            return Err(AwsError::access_denied(format!(
                "User: {} is not authorized to perform: {operation}",
                caller.arn()
            )));
        }
        audit_open(identity, ctx, &caller, &operation)?;
    }
    for check in &checks {
        identity.authorize(ctx, &caller, &operation, check)?;
    }
    if api.answers_with_secret(&operation) {
        identity.may_answer_with_secret(ctx)?;
    }
    // Last, so that only those who may call it fill the memory of signatures.
    if let Some(signed) = signed.filter(|_| api.single_use(&operation)) {
        identity.refuse_replay(ctx, &signed)?;
    }
    let result = api.call(ctx, &caller, &operation, input).await?;
    Ok((operation, result))
}

/// What a request turned out to be.
enum Unsigned {
    Proven(Caller, Asked),
    /// Signed, or claims to be nobody.
    Signed(Body),
}

/// A request without a signature, if it is one of the few that need none.
async fn unsigned(
    identity: &Identity,
    api: &dyn AwsApi,
    ctx: &RequestContext,
    parts: &Parts,
    body: Body,
) -> Result<Unsigned, AwsError> {
    if api.unsigned_operations().is_empty() || !matches!(sigv4::parse(parts), Ok(None)) {
        return Ok(Unsigned::Signed(body));
    }
    let received = identity.inner().bodies.receive_unsigned(body).await?;
    match asked(api, parts, &received.bytes) {
        Ok(asked) if api.unsigned_operations().contains(&asked.operation.as_str()) => {
            let caller = api.authenticate_unsigned(ctx, &asked.operation, &asked.input).await?;
            Ok(Unsigned::Proven(caller, asked))
        }
        Ok(_) | Err(_) => Ok(Unsigned::Signed(Body::empty())),
    }
}

/// Who signed what, and the share in memory of what was sent.
type SignedRequest<'a> = (Caller, (Signed, Asked), Option<SemaphorePermit<'a>>);

async fn signer<'a>(
    identity: &'a Identity,
    api: &dyn AwsApi,
    ctx: &RequestContext,
    parts: &Parts,
    body: Body,
) -> Result<SignedRequest<'a>, AwsError> {
    // Nobody's body is read who does not even claim to be somebody.
    let body = match sigv4::parse(parts) {
        Ok(Some(signed)) => {
            let keep = identity.knows_key(&signed);
            identity.inner().bodies.receive(body, api.body_limit(), keep).await?
        }
        Ok(None) | Err(_) => Received::nothing(),
    };
    let (caller, signed) =
        identity.authenticate_signature(parts, &body.sha256, &[api.signing_name()], ctx)?;
    let asked = asked(api, parts, &body.bytes)?;
    Ok((caller, (signed, asked), body.share))
}

fn asked(api: &dyn AwsApi, parts: &Parts, body: &[u8]) -> Result<Asked, AwsError> {
    match api.protocol() {
        Protocol::Json => {
            if parts.method != Method::POST {
                return Err(AwsError::unknown_operation());
            }
            let target = target::parse(&parts.headers)?.ok_or_else(AwsError::unknown_operation)?;
            if target.prefix != api.target_prefix() {
                return Err(AwsError::unknown_operation());
            }
            Ok(Asked { operation: target.operation, input: json::decode(body)? })
        }
        Protocol::Query { .. } => {
            let form = match parts.method {
                Method::GET => query::decode(parts.uri.query().unwrap_or_default().as_bytes())?,
                Method::POST if parts.uri.query().is_some_and(|query| query.contains("Action=")) => {
                    query::decode(parts.uri.query().unwrap_or_default().as_bytes())?
                }
                Method::POST => query::decode(body)?,
                _ => return Err(AwsError::unknown_operation()),
            };
            if form.version != api.target_prefix() {
                return Err(AwsError::client(
                    "InvalidAction",
                    format!("Could not find operation {} for version {}", form.action, form.version),
                ));
            }
            Ok(Asked { operation: form.action, input: form.input })
        }
    }
}

fn audit_open(
    identity: &Identity,
    ctx: &RequestContext,
    caller: &Caller,
    operation: &str,
) -> Result<(), AwsError> {
    let directory = identity.inner().directory.load();
    identity.audit(&Line {
        request: ctx,
        caller: caller.into(),
        operation,
        asked: None,
        outcome: Outcome::Open,
        generations: (directory.security_generation, directory.file_generation),
    })?;
    Ok(())
}

fn render(api: &dyn AwsApi, ctx: &RequestContext, operation: &str, result: &Value) -> Response {
    let response = match api.protocol() {
        Protocol::Json => json::response(result, &ctx.request_id),
        Protocol::Query { namespace } => query::response(operation, namespace, result, &ctx.request_id),
    };
    response.map(Body::from)
}

fn render_error(api: &dyn AwsApi, request_id: &str, error: &AwsError) -> Response {
    let response = match api.protocol() {
        Protocol::Json => error.to_json_response(request_id),
        Protocol::Query { .. } => error.to_query_xml_response(request_id),
    };
    response.map(Body::from)
}
