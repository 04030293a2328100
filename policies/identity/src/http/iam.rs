//! Identity and Access Management, over the Query protocol.
//!
//! No operation is served yet: users, roles and policies are administered as files. What is here answers
//! IAM's clients in IAM's own words, instead of leaving them to another service's.

use async_trait::async_trait;
use registry_aws::AwsError;
use serde_json::Value;

use crate::api::{AwsApi, Protocol};
use crate::caller::Caller;
use crate::check::Check;
use crate::context::RequestContext;

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
        &[]
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        _operation: &str,
        _input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        Err(AwsError::unknown_operation())
    }

    async fn call(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        _operation: &str,
        _input: Value,
    ) -> Result<Value, AwsError> {
        Err(AwsError::unknown_operation())
    }
}
