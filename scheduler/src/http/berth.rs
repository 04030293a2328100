//! Berth's own operations on clusters: join tokens, keys for hosts, and cutting a host off.

mod hosts;
mod join_tokens;

use std::sync::Arc;

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, RequestContext};
use registry_aws::AwsError;
use serde_json::Value;

use super::ecs::text;
use crate::core::Core;

const CREATE_JOIN_TOKEN: &str = "CreateJoinToken";
const LIST_JOIN_TOKENS: &str = "ListJoinTokens";
const REVOKE_JOIN_TOKEN: &str = "RevokeJoinToken";
const ENROL_HOST: &str = "EnrolHost";
const REVOKE_INSTANCE: &str = "RevokeInstance";
pub(crate) const OPERATIONS: &[&str] =
    &[CREATE_JOIN_TOKEN, LIST_JOIN_TOKENS, REVOKE_JOIN_TOKEN, ENROL_HOST, REVOKE_INSTANCE];

pub(crate) struct BerthClusters {
    core: Arc<Core>,
}

impl BerthClusters {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    fn on_cluster(&self, action: &'static str, input: &Value) -> Check {
        let cluster = self.core.names.parse_cluster(text(input, "cluster")).ok();
        cluster.map_or_else(|| Check::any(action), |one| Check::on(action, self.core.names.cluster(&one)))
    }

    /// The instance that the request names; everything, when it names none that could be.
    fn on_instance(&self, action: &'static str, input: &Value) -> Check {
        let names = &self.core.names;
        let cluster = names.parse_cluster(text(input, "cluster")).ok();
        let instance = cluster.zip(text(input, "containerInstance")).and_then(|(cluster, text)| {
            let id = names.parse_instance(text, &cluster).ok()?;
            Some(names.instance(&cluster, &id))
        });
        instance.map_or_else(|| Check::any(action), |arn| Check::on(action, arn))
    }

    /// Whoever makes a key or token for a host that is there takes its identity: the cluster is not enough.
    fn on_cluster_and_named_instance(&self, action: &'static str, input: &Value) -> Vec<Check> {
        let mut checks = vec![self.on_cluster(action, input)];
        if text(input, "containerInstance").is_some() {
            checks.push(self.on_instance(action, input));
        }
        checks
    }
}

#[async_trait]
impl AwsApi for BerthClusters {
    fn signing_name(&self) -> &'static str {
        "berth"
    }

    fn target_prefix(&self) -> &'static str {
        "Berth_20261101"
    }

    fn operations(&self) -> &'static [&'static str] {
        OPERATIONS
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        Ok(match operation {
            CREATE_JOIN_TOKEN => self.on_cluster_and_named_instance("berth:CreateJoinToken", input),
            LIST_JOIN_TOKENS => vec![self.on_cluster("berth:ListJoinTokens", input)],
            REVOKE_JOIN_TOKEN => vec![self.on_cluster("berth:RevokeJoinToken", input)],
            ENROL_HOST => self.on_cluster_and_named_instance("berth:EnrolHost", input),
            _ => vec![self.on_instance("berth:RevokeInstance", input)],
        })
    }

    async fn call(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        let core = &self.core;
        match operation {
            CREATE_JOIN_TOKEN => join_tokens::create_join_token(core, ctx, caller, input).await,
            LIST_JOIN_TOKENS => join_tokens::list_join_tokens(core, input).await,
            REVOKE_JOIN_TOKEN => join_tokens::revoke_join_token(core, input).await,
            ENROL_HOST => hosts::enrol_host(core, ctx, input).await,
            REVOKE_INSTANCE => hosts::revoke_instance(core, input).await,
            _ => Err(AwsError::unknown_operation()),
        }
    }
}
