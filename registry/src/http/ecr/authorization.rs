//! GetAuthorizationToken: what `aws ecr get-login-password` hands to `docker login`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policies_identity::{Caller, RequestContext};
use registry_aws::{AwsError, timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::invalid;
use super::{Ecr, input};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GetAuthorizationTokenRequest {
    registry_ids: Option<Vec<String>>,
}

impl Ecr {
    /// The token is `AWS:` and a password that names the caller's session; it carries no rights of its own.
    pub(super) fn get_authorization_token(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        input: Value,
    ) -> Result<Value, AwsError> {
        let request: GetAuthorizationTokenRequest = input::parse(input)?;
        let home = self.access.account();
        let others = request.registry_ids.iter().flatten().any(|id| id != home.as_str());
        if others {
            return Err(invalid("registryIds", &format!("the only registry here is '{home}'")));
        }
        let minted = self.identity.mint_ecr_token(caller).map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "no ECR token can be made");
            AwsError::unavailable("The server cannot make tokens at the moment. Try again.")
        })?;
        let endpoint = ctx.base_url(self.advertise.as_deref());
        Ok(json!({
            "authorizationData": [{
                "authorizationToken": STANDARD.encode(format!("AWS:{}", minted.token.expose())),
                "expiresAt": timestamp::epoch_seconds(minted.expires_ms),
                "proxyEndpoint": endpoint.unwrap_or_else(|| format!("https://{}", self.host(ctx))),
            }]
        }))
    }
}
