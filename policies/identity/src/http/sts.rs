//! The Security Token Service, over the Query protocol.

mod input;
mod operation;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use registry_aws::AwsError;
use registry_aws::timestamp::iso8601;
use serde_json::{Value, json};

use crate::api::{AwsApi, Protocol};
use crate::caller::Caller;
use crate::check::Check;
use crate::context::RequestContext;
use crate::credentials::TemporaryCredentials;
use crate::identity::Identity;
use operation::Operation;

/// `sts`, version 2011-06-15.
#[derive(Clone)]
pub struct Sts {
    identity: Identity,
}

impl Sts {
    /// Every operation's name, offered or not.
    pub const OPERATIONS: &'static [&'static str] = Operation::NAMES;

    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }
}

#[async_trait]
impl AwsApi for Sts {
    fn signing_name(&self) -> &'static str {
        "sts"
    }

    fn target_prefix(&self) -> &'static str {
        "2011-06-15"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Query { namespace: "https://sts.amazonaws.com/doc/2011-06-15/" }
    }

    fn operations(&self) -> &'static [&'static str] {
        Operation::NAMES
    }

    /// AWS allows these always, whatever policies say.
    fn open_operations(&self) -> &'static [&'static str] {
        &["GetCallerIdentity", "GetSessionToken"]
    }

    fn unsigned_operations(&self) -> &'static [&'static str] {
        &["AssumeRoleWithWebIdentity"]
    }

    async fn authenticate_unsigned(
        &self,
        ctx: &RequestContext,
        _operation: &str,
        input: &Value,
    ) -> Result<Caller, AwsError> {
        let request = input::assume_role_with_web_identity(input)?;
        self.identity.web_identity(ctx, request.token.expose()).await
    }

    fn single_use(&self, operation: &str) -> bool {
        matches!(operation, "AssumeRole" | "GetSessionToken")
    }

    fn answers_with_secret(&self, operation: &str) -> bool {
        matches!(operation, "AssumeRole" | "AssumeRoleWithWebIdentity" | "GetSessionToken")
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        match Operation::parse(operation)? {
            Operation::AssumeRole => {
                Ok(self.identity.assume_role_checks(caller, &input::assume_role(input)?))
            }
            Operation::AssumeRoleWithWebIdentity => {
                let request = input::assume_role_with_web_identity(input)?;
                Ok(self.identity.web_identity_checks(caller, &request))
            }
            Operation::GetCallerIdentity | Operation::GetSessionToken => Ok(Vec::new()),
            Operation::Unsupported(action) => Ok(vec![Check::any(action)]),
        }
    }

    async fn call(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        match Operation::parse(operation)? {
            Operation::AssumeRole => self.assume_role(ctx, caller, &input),
            Operation::AssumeRoleWithWebIdentity => self.assume_role_with_web_identity(ctx, caller, &input),
            Operation::GetCallerIdentity => Ok(get_caller_identity(caller)),
            Operation::GetSessionToken => self.get_session_token(caller, &input),
            Operation::Unsupported(_) => Err(AwsError::unsupported(format_args!("STS's {operation}"))),
        }
    }
}

impl Sts {
    fn assume_role(&self, ctx: &RequestContext, caller: &Caller, input: &Value) -> Result<Value, AwsError> {
        let request = input::assume_role(input)?;
        let credentials = self.identity.session_of_role(ctx, caller, &request)?;
        Ok(json!({
            "AssumedRoleUser": {
                "AssumedRoleId": credentials.assumed_role_id,
                "Arn": credentials.assumed_role_arn,
            },
            "Credentials": render(&credentials),
            "SourceIdentity": request.source_identity,
        }))
    }

    fn assume_role_with_web_identity(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        input: &Value,
    ) -> Result<Value, AwsError> {
        // Whoever signs such a request has no token that was looked at.
        let identity = caller.web_identity.as_ref().ok_or_else(|| {
            AwsError::client("ValidationError", "AssumeRoleWithWebIdentity is called without a signature.")
        })?;
        let request = input::assume_role_with_web_identity(input)?;
        let request = request.for_bearer(caller);
        let credentials = self.identity.session_of_role(ctx, caller, &request)?;
        Ok(json!({
            "SubjectFromWebIdentityToken": identity.subject,
            "AssumedRoleUser": {
                "AssumedRoleId": credentials.assumed_role_id,
                "Arn": credentials.assumed_role_arn,
            },
            "Credentials": render(&credentials),
            "Provider": &*identity.provider.arn,
            "Audience": identity.audience,
            "SourceIdentity": request.source_identity,
        }))
    }

    fn get_session_token(&self, caller: &Caller, input: &Value) -> Result<Value, AwsError> {
        let credentials = self.identity.session_of_user(caller, input::get_session_token(input)?)?;
        Ok(json!({ "Credentials": render(&credentials) }))
    }
}

fn render(credentials: &TemporaryCredentials) -> Value {
    json!({
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key.expose(),
        "SessionToken": credentials.session_token.expose(),
        "Expiration": iso8601(credentials.expires_ms.div_euclid(1000) * 1000),
    })
}

fn get_caller_identity(caller: &Caller) -> Value {
    json!({
        "Arn": caller.arn(),
        "UserId": caller.user_id(),
        "Account": caller.account_id().as_str(),
    })
}
