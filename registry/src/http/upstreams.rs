//! Berth's own operation on upstreams: the credentials that a pull-through cache rule logs in with.

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, RequestContext};
use registry_aws::AwsError;
use registry_core::{Registry, UpstreamCredentials};
use registry_runtime::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::berth::{core, read};
use crate::pull_through::PullThrough;

const OPERATION: &str = "PutUpstreamCredentials";
/// Longest user name and password.
const LONGEST: usize = 16 * 1024;

/// `Berth_20261101.PutUpstreamCredentials`.
pub struct BerthUpstreams {
    registry: Registry,
    pull_through: PullThrough,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutUpstreamCredentials {
    ecr_repository_prefix: String,
    /// Both or none: without them what was there is removed.
    username: Option<String>,
    password: Option<SecretString>,
}

impl BerthUpstreams {
    pub const OPERATIONS: &'static [&'static str] = &[OPERATION];

    pub fn new(registry: Registry, pull_through: PullThrough) -> Self {
        Self { registry, pull_through }
    }

    async fn put(&self, ctx: &RequestContext, request: PutUpstreamCredentials) -> Result<Value, AwsError> {
        // Like a login: one that others could read on its way counts for nothing.
        if request.password.is_some() && !ctx.confidential {
            return Err(AwsError::invalid_parameter("The password is taken over TLS or loopback only."));
        }
        let credentials = match (request.username, request.password) {
            (None, None) => None,
            (Some(username), Some(password)) => {
                let fits = !username.is_empty() && username.len() + password.expose().len() <= LONGEST;
                if !fits || username.contains(':') {
                    return Err(AwsError::invalid_parameter(
                        "username must be given and hold no colon; it and the password may have 16384 bytes.",
                    ));
                }
                Some(UpstreamCredentials { username, password })
            }
            _ => return Err(AwsError::invalid_parameter("username and password go together.")),
        };
        let username = credentials.as_ref().map(|credentials| credentials.username.clone());
        let given = &request.ecr_repository_prefix;
        let prefix = if given == "ROOT" { "" } else { given.trim_end_matches('/') };
        let rule = self
            .registry
            .set_upstream_credentials(prefix, credentials)
            .await
            .map_err(|error| core(&error))?;
        if rule.is_none() {
            return Err(AwsError::invalid_parameter(format!(
                "There is no pull through cache rule for {given:?}."
            )));
        }
        self.pull_through.refresh().await.map_err(|error| core(&error))?;
        Ok(json!({ "ecrRepositoryPrefix": given, "username": username }))
    }
}

#[async_trait]
impl AwsApi for BerthUpstreams {
    fn operations(&self) -> &'static [&'static str] {
        Self::OPERATIONS
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        _operation: &str,
        _input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        Ok(vec![Check::any("berth:PutUpstreamCredentials")])
    }

    async fn call(
        &self,
        ctx: &RequestContext,
        _caller: &Caller,
        _operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        self.put(ctx, read(input)?).await
    }
}
