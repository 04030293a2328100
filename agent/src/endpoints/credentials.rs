//! The credentials of a task's role, in the shape that every SDK of AWS reads.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use scheduler_protocol::RoleType;
use serde_json::json;

use super::{Entry, Id, refused};

pub(super) async fn get_credentials((State(endpoints), Path(id), axum::Extension(peer)): Id) -> Response {
    let context = match endpoints.entry(&id, peer).await {
        Ok(Entry::Credentials(context)) => context,
        Ok(Entry::Container(..)) => return refused(),
        Err(refusal) => return refusal,
    };
    let Some(credentials) = context.credentials(RoleType::TaskApplication) else {
        return refused();
    };
    let body = json!({
        "RoleArn": credentials.role_arn,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": credentials.expiration,
    });
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
