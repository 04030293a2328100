//! Identity and Access Management, over the Query protocol, as `aws iam` and the SDKs speak it.
//!
//! Users, groups, roles and policies that are made here lie beside those of the policy files, and decide alike.
//! What files own is read here and never changed. Every operation is a row (`operation`) that names its action, its
//! resource and its work; the work is a function over one transaction, which takes the audit lines along.

mod absent;
mod access_keys;
mod account;
mod attachments;
mod boundaries;
mod call;
mod details;
mod document;
mod error;
mod groups;
mod inline;
mod input;
mod instance_profiles;
mod managed;
mod oidc_providers;
mod operation;
mod page;
mod render;
mod reports;
mod roles;
mod simulate;
mod tags;
mod target;
mod users;
mod versions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use registry_aws::AwsError;
use serde_json::Value;

use crate::api::{AwsApi, Protocol};
use crate::caller::Caller;
use crate::check::Check;
use crate::context::RequestContext;
use crate::error::AuthenticationError;
use crate::identity::Identity;
use crate::store;
use call::Call;
use error::IamError;
use operation::{Effect, Named, On};

/// `iam`, version 2010-05-08.
#[derive(Clone)]
pub struct Iam {
    identity: Identity,
}

impl Iam {
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }

    /// Every operation's name, offered or not.
    pub fn operation_names() -> &'static [&'static str] {
        operation::names()
    }
}

#[async_trait]
impl AwsApi for Iam {
    fn signing_name(&self) -> &'static str {
        "iam"
    }

    fn target_prefix(&self) -> &'static str {
        "2010-05-08"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Query { namespace: "https://iam.amazonaws.com/doc/2010-05-08/" }
    }

    fn operations(&self) -> &'static [&'static str] {
        operation::names()
    }

    /// An answer with a new secret must not come twice.
    fn single_use(&self, operation: &str) -> bool {
        operation == "CreateAccessKey"
    }

    fn answers_with_secret(&self, operation: &str) -> bool {
        operation == "CreateAccessKey"
    }

    async fn checks(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        // AWS lets such sessions call IAM after a second factor only, which nobody has here: no session outlives its end
        // by a key that it makes.
        if caller.is_session_of_user() {
            let refused = AuthenticationError::InvalidToken;
            self.identity.audit_refused(ctx, caller.access_key_id(), &refused);
            return Err(refused.to_aws());
        }
        let operation = match operation::named(operation).ok_or_else(AwsError::unknown_operation)? {
            Named::Served(operation) => operation,
            Named::Unsupported(action) => return Ok(vec![Check::any(action)]),
        };
        if operation.on == On::Nothing {
            return Ok(vec![Check::any(operation.action)]);
        }
        let call = Call::new(&self.identity, caller, input.clone());
        let database = &self.identity.inner().database;
        Ok(database.read(move |tx| target::checks(&call, tx, operation)).await?)
    }

    async fn call(
        &self,
        _ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        let operation = match operation::named(operation).ok_or_else(AwsError::unknown_operation)? {
            Named::Served(operation) => operation,
            Named::Unsupported(_) => return Err(AwsError::unsupported(format_args!("IAM's {operation}"))),
        };
        let call = Arc::new(Call::new(&self.identity, caller, input));
        let database = &self.identity.inner().database;
        match operation.effect {
            Effect::Read => Ok(database.read(move |tx| (operation.work)(&call, tx)).await?),
            Effect::Change => {
                let changed = database.write(move |tx| {
                    let answer = (operation.work)(&call, tx)?;
                    store::bump(tx)?;
                    Ok::<_, IamError>(answer)
                });
                let answer = changed.await?;
                self.identity.refresh().await.map_err(|error| {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a change of IAM is stored and not loaded yet"
                    );
                    crate::error::unavailable()
                })?;
                Ok(answer)
            }
        }
    }
}
