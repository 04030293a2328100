//! Identity and Access Management, over the Query protocol.
//!
//! No operation is served yet: users, roles and policies are administered as files. What is here answers
//! IAM's clients in IAM's own words, and tells what is not offered only to those who might use it.

use std::sync::LazyLock;

use async_trait::async_trait;
use registry_aws::AwsError;
use serde_json::Value;

use crate::api::{AwsApi, Protocol};
use crate::caller::Caller;
use crate::check::Check;
use crate::context::RequestContext;

/// Every operation of IAM and its action. Passing a role is a right and no operation.
static ACTIONS: LazyLock<Vec<(&'static str, String)>> = LazyLock::new(|| {
    let operations = policies::actions_of("iam").filter(|name| *name != "PassRole");
    operations.map(|name| (name, format!("iam:{name}"))).collect()
});

static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| ACTIONS.iter().map(|(name, _)| *name).collect());

/// `iam`, version 2010-05-08.
#[derive(Clone, Copy, Debug, Default)]
pub struct Iam;

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
        &NAMES
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        _input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        let found = ACTIONS.iter().find(|(name, _)| *name == operation);
        found.map(|(_, action)| vec![Check::any(action)]).ok_or_else(AwsError::unknown_operation)
    }

    async fn call(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        _input: Value,
    ) -> Result<Value, AwsError> {
        let what =
            format_args!("IAM's {operation}; users, roles and policies are files: berth policy --help");
        Err(AwsError::unsupported(what))
    }
}
