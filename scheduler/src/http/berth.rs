//! Berth's own operations on clusters: join tokens, keys for hosts, and cutting a host off.

mod hosts;
mod join_tokens;

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, RequestContext};
use registry_aws::AwsError;
use serde_json::Value;

use super::ecs::text;
use crate::core::Core;
use crate::lead::Lead;

const CREATE_JOIN_TOKEN: &str = "CreateJoinToken";
const LIST_JOIN_TOKENS: &str = "ListJoinTokens";
const REVOKE_JOIN_TOKEN: &str = "RevokeJoinToken";
const ENROL_HOST: &str = "EnrolHost";
const REVOKE_INSTANCE: &str = "RevokeInstance";
pub(crate) const OPERATIONS: &[&str] =
    &[CREATE_JOIN_TOKEN, LIST_JOIN_TOKENS, REVOKE_JOIN_TOKEN, ENROL_HOST, REVOKE_INSTANCE];

pub(crate) struct BerthClusters {
    lead: Lead,
}

impl BerthClusters {
    pub(crate) fn new(lead: Lead) -> Self {
        Self { lead }
    }

    fn on_cluster(core: &Core, action: &'static str, input: &Value) -> Check {
        let cluster = core.names.parse_cluster(text(input, "cluster")).ok();
        cluster.map_or_else(|| Check::any(action), |one| Check::on(action, core.names.cluster(&one)))
    }

    /// The instance that the request names; everything, when it names none that could be.
    fn on_instance(core: &Core, action: &'static str, input: &Value) -> Check {
        let names = &core.names;
        let cluster = names.parse_cluster(text(input, "cluster")).ok();
        let instance = cluster.zip(text(input, "containerInstance")).and_then(|(cluster, text)| {
            let id = names.parse_instance(text, &cluster).ok()?;
            Some(names.instance(&cluster, &id))
        });
        instance.map_or_else(|| Check::any(action), |arn| Check::on(action, arn))
    }

    /// Whoever makes a key or token for a host that is there takes its identity: the cluster is not enough.
    fn on_cluster_and_named_instance(core: &Core, action: &'static str, input: &Value) -> Vec<Check> {
        let mut checks = vec![Self::on_cluster(core, action, input)];
        if text(input, "containerInstance").is_some() {
            checks.push(Self::on_instance(core, action, input));
        }
        checks
    }
}

#[async_trait]
impl AwsApi for BerthClusters {
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
        let core = &*self.lead.core()?;
        Ok(match operation {
            CREATE_JOIN_TOKEN => Self::on_cluster_and_named_instance(core, "berth:CreateJoinToken", input),
            LIST_JOIN_TOKENS => vec![Self::on_cluster(core, "berth:ListJoinTokens", input)],
            REVOKE_JOIN_TOKEN => vec![Self::on_cluster(core, "berth:RevokeJoinToken", input)],
            ENROL_HOST => Self::on_cluster_and_named_instance(core, "berth:EnrolHost", input),
            _ => vec![Self::on_instance(core, "berth:RevokeInstance", input)],
        })
    }

    async fn call(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        let core = &self.lead.core()?;
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
