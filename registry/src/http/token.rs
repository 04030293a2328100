//! Docker's token endpoint, `/token`: from an access key, an ECR token, a refresh token or nothing to a bearer
//! token (distribution's "Token Authentication" and "OAuth2" pages).
//!
//! A token names who asked and carries no rights: its scope is an upper bound, and every request is decided
//! anew. Credentials that are not accepted are a 401, never the anonymous caller; a bearer token buys no other.

mod scope;

#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use policies_identity::{
    AuthenticationError, Caller, DeniedKind, Identity, IdentityError, RefreshToken, RequestContext, Scope,
};
use registry_aws::timestamp;
use registry_runtime::Served;
use serde_json::{Value, json};

/// Largest form; an ECR token is the longest thing in it.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// How long a form may take to arrive: nobody has proven yet who sends it.
const FORM_TIME: Duration = Duration::from_secs(10);

/// What the client wants besides being let in.
struct Asked {
    scope: Scope,
    /// Whether to give a refresh token too.
    refresh: bool,
}

/// Why no token is given.
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// The token endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    identity: Identity,
}

impl Tokens {
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }

    /// `/token`, to be merged into the front door's router.
    pub fn router(self) -> Router {
        Router::new().route("/token", any(token)).with_state(self)
    }
}

async fn token(
    State(Tokens { identity }): State<Tokens>,
    Extension(ctx): Extension<RequestContext>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut served = Served::of("oci", "Token");
    let given = match parts.method {
        Method::GET => get(&identity, &ctx, &parts, &mut served).await,
        Method::POST => post(&identity, &ctx, &parts, body, &mut served).await,
        _ => Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "use GET or POST")),
    };
    let mut response = match given {
        Ok(answer) => respond(StatusCode::OK, &answer),
        Err(refused) => refused.into_response(),
    };
    response.extensions_mut().insert(served);
    response
}

/// The form of Docker: parameters in the query, credentials in the Authorization header.
async fn get(
    identity: &Identity,
    ctx: &RequestContext,
    parts: &Parts,
    served: &mut Served,
) -> Result<Value, Refused> {
    let form = Form::decode(parts.uri.query().unwrap_or_default().as_bytes());
    let asked = form.asked()?;
    let caller = identity.authenticate_token_request(&parts.headers, ctx)?;
    served.principal = Some(caller.shared_arn());
    grant(identity, &caller, &asked, None).await
}

/// The form of OAuth2: parameters and credentials in the body.
async fn post(
    identity: &Identity,
    ctx: &RequestContext,
    parts: &Parts,
    body: Body,
    served: &mut Served,
) -> Result<Value, Refused> {
    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refused::bad_request("the body must be a form"));
    }
    let body = tokio::time::timeout(FORM_TIME, to_bytes(body, MAX_FORM_BYTES)).await;
    let late =
        |_| Refused::new(StatusCode::REQUEST_TIMEOUT, "UNSUPPORTED", "the form did not arrive in time");
    let body = body.map_err(late)?;
    let body = body.map_err(|_| Refused::bad_request("the form cannot be read or is too long"))?;
    let form = Form::decode(&body);
    let asked = form.asked()?;
    match form.get("grant_type") {
        Some("password") => {
            let user = form.get("username").unwrap_or_default();
            let password = form.get("password").unwrap_or_default();
            let caller = identity.authenticate_token_request(&basic(user, password)?, ctx)?;
            served.principal = Some(caller.shared_arn());
            grant(identity, &caller, &asked, None).await
        }
        Some("refresh_token") => {
            let token = form.get("refresh_token").unwrap_or_default();
            let (caller, next) = identity.exchange_refresh_token(token, ctx).await?;
            served.principal = Some(caller.shared_arn());
            grant(identity, &caller, &asked, Some(next)).await
        }
        Some(_) | None => Err(Refused::bad_request("grant_type must be password or refresh_token")),
    }
}

async fn grant(
    identity: &Identity,
    caller: &Caller,
    asked: &Asked,
    exchanged: Option<RefreshToken>,
) -> Result<Value, Refused> {
    let bearer = identity.mint_bearer(caller, &asked.scope)?;
    let refresh = match exchanged {
        None if asked.refresh => identity.mint_refresh_token(caller).await.map(Some).or_else(without)?,
        exchanged => exchanged,
    };
    let token = bearer.token.expose();
    let mut answer = json!({
        "token": token,
        "access_token": token,
        "expires_in": bearer.expires_ms.saturating_sub(bearer.issued_ms) / 1000,
        "issued_at": timestamp::iso8601(bearer.issued_ms),
    });
    if let Some(refresh) = refresh {
        answer["refresh_token"] = refresh.token.expose().into();
    }
    Ok(answer)
}

/// Whoever may have no refresh token gets the bearer token alone.
fn without(error: IdentityError) -> Result<Option<RefreshToken>, IdentityError> {
    match error {
        IdentityError::Invalid(_) => Ok(None),
        other => Err(other),
    }
}

/// The header that says the same as a form's user name and password.
fn basic(user: &str, password: &str) -> Result<HeaderMap, Refused> {
    if user.contains(':') {
        return Err(Refused::bad_request("a user name holds no colon"));
    }
    let encoded = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut value =
        HeaderValue::from_str(&encoded).map_err(|_| Refused::bad_request("malformed credentials"))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// The parameters of a query or form, in order.
struct Form(Vec<(String, String)>);

impl Form {
    fn decode(text: &[u8]) -> Self {
        let part = |part: &[u8]| {
            let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            percent_encoding::percent_decode(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let split = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
                    (part(&pair[..split]), part(pair.get(split + 1..).unwrap_or_default()))
                })
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn asked(&self) -> Result<Asked, Refused> {
        let scope = scope::union(self.all("scope")).ok_or_else(|| Refused::bad_request("too many scopes"))?;
        // Refresh tokens are spent by their use. docker and nerdctl store the one they get at login and would
        // present it again for ever, so `offline_token` and `access_type` alone do not ask for one:
        // a client says that it keeps the next one.
        let offline = self.get("offline_token") == Some("true") || self.get("access_type") == Some("offline");
        Ok(Asked { scope, refresh: offline && self.get("rotation") == Some("true") })
    }
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
    }

    fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "the credentials were not accepted")
    }

    fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "TOOMANYREQUESTS",
            "the server cannot decide about requests at the moment, try again",
        )
    }

    fn into_response(self) -> Response {
        let body = json!({ "errors": [{ "code": self.code, "message": self.message }] });
        let mut response = respond(self.status, &body);
        let mut add =
            |name: HeaderName, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
        match self.status {
            StatusCode::UNAUTHORIZED => drop(add(WWW_AUTHENTICATE, "Basic realm=\"berth\"")),
            StatusCode::SERVICE_UNAVAILABLE => drop(add(RETRY_AFTER, "1")),
            StatusCode::METHOD_NOT_ALLOWED => drop(add(ALLOW, "GET, POST")),
            _ => {}
        }
        response
    }
}

impl From<AuthenticationError> for Refused {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Missing
            | AuthenticationError::Malformed(_)
            | AuthenticationError::Mismatch
            | AuthenticationError::InvalidToken
            | AuthenticationError::Expired => Self::unauthorized(),
            AuthenticationError::InsecureTransport => {
                Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", error.to_string())
            }
            AuthenticationError::Denied(denied) => match denied.kind() {
                DeniedKind::Policy => Self::new(StatusCode::FORBIDDEN, "DENIED", denied.message()),
                DeniedKind::Revoked | DeniedKind::Expired => Self::unauthorized(),
                DeniedKind::Unavailable => Self::unavailable(),
            },
            AuthenticationError::Unavailable => Self::unavailable(),
        }
    }
}

impl From<IdentityError> for Refused {
    fn from(error: IdentityError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "no bearer token can be made");
        Self::unavailable()
    }
}

fn respond(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
